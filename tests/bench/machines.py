# SPDX-License-Identifier: Apache-2.0
"""The machines that are measured, and the guest that measures (tests/guest/bench).

Both machines count instructions: QEMU with -icount shift=0 has an SVM processor whose TSC ticks once for each instruction, Bochs'
Haswell has VMX and does the same. Nothing of the host's comes in: the real-time clock is the machine's own, nobody types.
"""

import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(TOP / "tools"))

import image as images  # noqa: E402
from machine import Bochs, Qemu  # noqa: E402

GUEST = TOP / "tests/guest/bench"
TIME = "2026-01-01T00:00:00"
SVM, VMX = "qemu-svm", "bochs-haswell"
SUFFIX = {SVM: "_svm", VMX: "_vmx"}
GUEST_FLAGS = ("-O2 -g -ffreestanding -mgeneral-regs-only -fno-pic -fno-pie -mno-red-zone -fno-stack-protector "
               "-fno-asynchronous-unwind-tables -fcf-protection=none -Wall -Wextra -Werror -nostdlib -static -no-pie").split()


def guest(build, bits):
    """Builds the measuring guest; the path of its ELF file. Whether it is 32-bit unpaged code or 64-bit paged is a build of it."""
    out = build / f"bench/guest{bits}.elf"
    sources = [GUEST / "start.S", GUEST / "bench.c", GUEST / "bench.ld", Path(__file__)]
    if not out.exists() or out.stat().st_mtime < max(source.stat().st_mtime for source in sources):
        out.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["gcc", f"-m{bits}", *GUEST_FLAGS, "-Wl,--build-id=none,-z,noexecstack,--no-warn-rwx-segments",
                        f"-Wl,-z,max-page-size=4096,-T,{GUEST / 'bench.ld'}", "-o", out, *sources[:2]], check=True)
    return out


def image(build, name, words, bits=32, cmdline="", dom0="console=bench"):
    """A CD image with dom0 and one guest that does what `words` say."""
    config = f'name = "bench"\nmemory = 8M\nkernel = "bench"\nautostart = yes\non_reboot = destroy\ncmdline = "{words}"\n'
    return images.make_iso(build / f"bench/{name}.iso", build / "basalt.elf", cmdline,
                           [(build / "dom0.elf", f"dom0 {dom0}"), (guest(build, bits), "bench"),
                            (config.encode(), "bench.conf")])


def start(machine, name, iso, memory=256, **more):
    """Starts one of the two machines; use it in a `with`."""
    if machine == SVM:
        more["extra"] = ["-rtc", f"base={TIME},clock=vm", *more.get("extra", ())]
        return Qemu(name, iso=iso, memory=f"{memory}M", icount=0, **more)
    return Bochs(name, iso, memory=memory, time0="946681200", **more)
