# SPDX-License-Identifier: Apache-2.0
"""The machines that are measured, and the guests that measure (tests/guest/bench).

Both machines count instructions: QEMU with -icount shift=0 has an SVM processor whose TSC ticks once for each instruction, Bochs'
Haswell has VMX and does the same. Nothing of the host's comes in: the real-time clock is the machine's own, nobody types.
"""

import re
import subprocess
import threading
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(TOP / "tools"))

import image as images  # noqa: E402
from machine import Bochs, Qemu  # noqa: E402

GUEST = TOP / "tests/guest/bench"
TIME, BOCHS_TIME = "2026-01-01T00:00:00", "946681200"
SVM, VMX = "qemu-svm", "bochs-haswell"
SUFFIX = {SVM: "_svm", VMX: "_vmx"}
GUEST_FLAGS = ("-O2 -g -ffreestanding -mgeneral-regs-only -fno-pic -fno-pie -mno-red-zone -fno-stack-protector "
               "-fno-asynchronous-unwind-tables -fcf-protection=none -Wall -Wextra -Werror -nostdlib -static -no-pie "
               f"-Wl,--build-id=none,-z,noexecstack,--no-warn-rwx-segments,-z,max-page-size=4096,-T,{GUEST}/bench.ld").split()
# Whether the measuring guest is 32-bit unpaged code or 64-bit paged is a build of it; `tiny` ends at its first instruction.
# What they are linked at stands before the linker script.
GUESTS = {"bench32": ["-m32", GUEST / "start.S", GUEST / "bench.c"], "bench64": ["-m64", GUEST / "start.S", GUEST / "bench.c"],
          "low": ["-m32", "-Wl,--defsym=BASE=0x10000", GUEST / "start.S", GUEST / "bench.c"],
          "tiny": ["-m32", "-Wl,--defsym=BASE=0x10000", GUEST / "tiny.S"]}

BUILDING = threading.Lock()  # two machines are measured at a time, with the same guests


def guest(build, name):
    """Builds a guest; the path of its ELF file."""
    out = build / f"bench/{name}.elf"
    needs = [*GUEST.iterdir(), GUEST.parent / "lib/entry.h", Path(__file__)]
    with BUILDING:
        if not out.exists() or out.stat().st_mtime < max(path.stat().st_mtime for path in needs):
            out.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["gcc", *GUESTS[name], *GUEST_FLAGS, "-o", out], check=True)
    return out


def config(name, **settings):
    """The description of a domain that runs one of the guests."""
    values = {"memory": "8M", "autostart": "yes", "on_reboot": "destroy", **settings}
    return f'name = "{name}"\n' + "".join(f'{key} = "{value}"\n' if key in ("kernel", "cmdline") else f"{key} = {value}\n"
                                          for key, value in values.items())


def image(build, name, configs, guests=("bench32",), cmdline="", dom0="", modules=()):
    """A CD image with dom0, guests (modules of their names), descriptions of domains ({name: text}) and other modules."""
    everything = [(build / "dom0.elf", f"dom0 {dom0}".strip()), *[(guest(build, guest_), guest_) for guest_ in guests],
               *[(text.encode(), f"{domain}.conf") for domain, text in configs.items()], *modules]
    return images.make_iso(build / f"bench/{name}.iso", build / "basalt.elf", cmdline, everything)


def bench_image(build, name, words, bits=32, dom0="", cmdline=""):
    """A CD image with the guest that does what `words` say, on dom0's console."""
    kernel = f"bench{bits}"
    return image(build, name, {"bench": config("bench", kernel=kernel, cmdline=words)}, [kernel], cmdline,
                 f"console=bench {dom0}")


def start(kind, name, iso, memory=256, **more):
    """Starts one of the two machines; use it in a `with`."""
    if kind == SVM:
        more["extra"] = ["-rtc", f"base={TIME},clock=vm", *more.get("extra", ())]
        return Qemu(name, iso=iso, memory=f"{memory}M", icount=0, **more)
    return Bochs(name, iso, memory=memory, time0=BOCHS_TIME, **more)


def figures(text):
    """What guests and dom0 printed: {name: (median, minimum, maximum)}."""
    return {found[1]: tuple(map(int, found[2].split()))
            for found in re.finditer(r"bench: (\w+)((?: \d+){3})$", text, re.M)}


def measure(machine, name, iso, **more):
    """Runs a machine until the guest or dom0 has said that it is done; what was printed, as figures() tells it."""
    with start(machine, name, iso, timeout=600, **more) as emulator:
        emulator.expect(r"^bench: end")
        return figures(emulator.text)
