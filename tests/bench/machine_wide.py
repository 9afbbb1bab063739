# SPDX-License-Identifier: Apache-2.0
"""What Basalt costs a whole machine: instructions until dom0 runs, and memory."""

import json
import re
import subprocess
import time

import profile

from machines import SUFFIX, SVM, VMX, image, start

BOOT_UNIT = 100_000
DOM0_BASE = 0xffffffff80000000  # dom0's image is linked there, and loaded as a whole


def address(build, name, symbol):
    lines = subprocess.run(["nm", build / f"{name}.elf"], check=True, stdout=subprocess.PIPE, text=True).stdout
    return int(re.search(rf"^(\w+) \w {symbol}$", lines, re.M)[1], 16)


def boot_qemu(build, name, iso):
    """The plugin counts from the kernel's first instruction to the first one behind VMRUN."""
    out = build / f"bench/{name}.trace"
    out.unlink(missing_ok=True)
    option = f"{profile.plugin(build)},out={out},from={address(build, 'basalt', '_start')}"
    with start(SVM, name, iso, extra=["-plugin", option]) as machine:
        limit = time.monotonic() + 300
        while not (found := re.search(r"^count (\d+)$", out.read_text() if out.exists() else "", re.M)):
            if time.monotonic() > limit or not machine.running:
                raise machine._error("dom0 did not begin")
            time.sleep(0.1)
    return int(found[1])


def boot_bochs(build, name, iso, dom0):
    """Bochs' debugger stops at both instructions and tells the time."""
    log = build / f"bench/{name}.trace"
    entry = dom0 + address(build, "dom0", "_start") - DOM0_BASE
    script = f"pb {address(build, 'basalt', '_start'):#x}\nc\npb {entry:#x}\nc\nq\n"
    with start(VMX, name, iso, script=script, extra=f"debugger_log: {log}") as machine:
        machine.wait(300)
    times = re.findall(r"Breakpoint \d+,.*\nNext at t=(\d+)", log.read_text(errors="replace"))
    return int(times[1]) - int(times[0])


def boot(build, machine, turn):
    """From the kernel's entry to dom0's first instruction: nothing of the log goes to the console meanwhile. One boot, in whole
    BOOT_UNITs: when QEMU's disk delivers is not the machine's time, so the kernel's waits for the next tick of the ACPI timer differ
    by some dozens of instructions."""
    name = f"bench-boot-{machine}-{turn}"
    with start(machine, name, image(build, name, {}, cmdline="dom0_mem=64M")) as emulator:  # where dom0 lies
        dom0 = int(emulator.expect(r"dom0: 64 MiB at 0x(\w+),")[1], 16)
    iso = image(build, name, {}, cmdline="dom0_mem=64M console=none")
    count = boot_qemu(build, name, iso) if machine == SVM else boot_bochs(build, name, iso, dom0)
    yield "boot_to_dom0" + SUFFIX[machine], -(-count // BOOT_UNIT) * BOOT_UNIT, "instructions"


def kernel_memory(build, machine, turn):
    """What the kernel keeps for itself, its image included, once dom0 runs. QEMU does not reserve the host's memory for the
    machine's."""
    sizes = {"1g": 1024, "64g": 65536} if machine == SVM else {"1g": 1024}
    for size, mib in sizes.items():
        name = f"bench-memory{size}-{machine}-{turn}"
        more = {"machine": "q35,memory-backend=ram",
                "extra": ["-object", f"memory-backend-ram,id=ram,size={mib}M,reserve=off"]} if machine == SVM else {}
        with start(machine, name, image(build, name, {}, dom0='script="mem -j"'), memory=mib, timeout=600, **more) as emulator:
            rows = json.loads(emulator.expect(r'^\[\{"what":"total".*\]$')[0])
        suffix = SUFFIX[machine] if size == "1g" else ""  # there is one machine with that much
        yield f"mem_kernel_{size}{suffix}", next(row["bytes"] for row in rows if row["what"] == "kernel"), "bytes"


boot.machines = kernel_memory.machines = (SVM, VMX)
