# SPDX-License-Identifier: Apache-2.0
"""The kernel's boot on every machine that is at hand, what it refuses and how it says so, and its own page tables."""

import re
import struct

import pytest
from conftest import BUILD, PROMPT, stop_idle, writable_and_executable

DOM0 = r"^dom0: \d+ MiB of memory"
REFUSED = 5  # isa-debug-exit makes 2 * 2 + 1 of EXIT_REFUSED


@pytest.mark.parametrize("chipset", ["q35", "pc"])
def test_svm_on_qemu(qemu, image, chipset):
    machine = qemu(image(linux=False), machine=chipset, memory="512M")
    machine.expect(r"^basalt: SVM with nested paging \(NPT\); in use: none; not in use:.* NRIP-save")
    machine.expect(DOM0)


@pytest.mark.parametrize("cpu, feature", [("corei7_haswell_4770", "APICv"), ("corei7_skylake_x", "VPID EPT-A/D preemption-timer")])
@pytest.mark.bochs
def test_vmx_on_bochs(bochs, image, cpu, feature):
    machine = bochs(image(linux=False), cpu=cpu)
    machine.expect(rf"^basalt: VMX with nested paging \(EPT\); in use:.* {feature}.*; not in use:")
    machine.expect(DOM0)


@pytest.mark.bochs
def test_svm_on_bochs(bochs, image):
    machine = bochs(image(linux=False), cpu="ryzen")
    machine.expect(r"^basalt: SVM with nested paging \(NPT\); in use: NRIP-save")
    machine.expect(DOM0)


@pytest.mark.parametrize("memory, megabytes", [("256M", 255), ("6G", 6143)])
def test_memory_sizes(qemu, image, memory, megabytes):
    machine = qemu(image(linux=False), memory=memory)
    found = machine.expect(r"^basalt: memory: (\d+) MiB in")
    assert abs(int(found[1]) - megabytes) <= 1
    machine.expect(DOM0)
    total = re.search(r"^basalt: memory: (\d+) KiB free of (\d+) KiB", machine.text, re.M)
    # What the kernel keeps: its image, the frame table (8 bytes a frame) and a pool.
    kept = int(total[2]) - int(total[1]) - 65536
    assert kept < 8 * 1024 + int(total[2]) * 4 // 1000


def test_nothing_is_writable_and_executable(qemu, image):
    """dom0 has nothing to do and waits, so the processor halts in the kernel, with the kernel's tables."""
    machine = qemu(image(linux=False), memory="512M")
    machine.expect(PROMPT)
    stop_idle(machine)
    text = machine.monitor("info tlb")
    assert len(re.findall(r"^[0-9a-f]{16}: ", text, re.M)) > 50
    assert writable_and_executable(machine) == []
    assert not re.search(r"^0000", text, re.M), "the low half is unmapped"


def test_devices_in_memory(qemu, image, tmp_path):
    """An ACPI table that says that an I/O APIC lies where the kernel's image does: nothing is written there."""
    table = tmp_path / "madt"
    table.write_bytes(struct.pack("<IIBBBBII", 0xfee00000, 0, 1, 12, 7, 0, 0x200000, 100))
    machine = qemu(image(linux=False), memory="256M", extra=["-acpitable", f"sig=APIC,rev=1,data={table}"])
    machine.expect(DOM0)
    assert re.search(r"^basalt: ioapic: lines 0 to 23", machine.text, re.M)
    assert not re.search(r"^basalt: ioapic: lines 100 to", machine.text, re.M)


def refusal(machine, missing, remedy):
    machine.expect(rf"^basalt: can't go on: .*{missing}")
    machine.expect(rf"^basalt: remedy: .*{remedy}")
    assert machine.wait() == REFUSED


def test_no_virtualization(qemu, image):
    refusal(qemu(image(cmdline="testexit", linux=False), cpu="max,-svm"), "neither VMX nor SVM", "AMD-V")


def test_no_nested_paging(qemu, image):
    refusal(qemu(image(cmdline="testexit", linux=False), cpu="max,-npt"), "nested paging", "processor")


def test_no_dom0(qemu, image):
    refusal(qemu(image(cmdline="testexit", linux=False, dom0_elf=False)), "there is no dom0", "module2")


@pytest.mark.parametrize("size, mib", [("200M", 200), ("0xffffffffffffffff", 4096)])
def test_too_little_memory(qemu, image, size, mib):
    refusal(qemu(image(cmdline=f"testexit dom0_mem={size}", linux=False), memory="128M"), f"{mib} MiB of contiguous memory",
            "dom0_mem=")


ELF = (BUILD / "dom0.elf").read_bytes() if (BUILD / "dom0.elf").exists() else b""


@pytest.mark.parametrize("what, data, says", [
    ("one page", ELF[:4096], "no image header"),
    ("header cut short", ELF[:4111], "no image header"),
    ("cut short", ELF[:20000], "cut short"),
    ("no dom0", b"#!/bin/sh\necho this is no kernel\n" * 1000, "no image header"),
    ("size zero", ELF[:4104] + struct.pack("<II", 0, 0) + ELF[4112:], "impossible size"),
    ("endless size", ELF[:4108] + b"\xff\xff\xff\xff" + ELF[4112:], "impossible size"),
], ids=lambda value: value if isinstance(value, str) and " " in value else "")
def test_corrupt_dom0(qemu, image, what, data, says):
    refusal(qemu(image(cmdline="testexit", linux=False, dom0_elf=data), memory="256M"), says, "dom0.elf")


def test_command_line(qemu, image):
    machine = qemu(image(cmdline="loglvl=debug nonsense dom0_mem=banana panic=maybe", linux=False), memory="256M")
    for option in ("nonsense", "dom0_mem=banana", "panic=maybe"):
        machine.expect(rf"basalt: command line: .*{option}.* ignored")
    machine.expect(DOM0)


def test_deferred_log(qemu, image):
    """dom0 prints the kernel's lines, all of them and before its own; where there is no dom0 the kernel does."""
    machine = qemu(image(cmdline="log=deferred", linux=False), memory="256M")
    machine.expect(r"^basalt: Basalt ")
    machine.expect(r"^basalt: memory: \d+ KiB free of")
    machine.expect(DOM0)
    machine.expect(PROMPT)
    machine.monitor("nmi")
    machine.expect(r"basalt: cpu: NMI on CPU 0")  # rung, not asked
    machine = qemu(image(cmdline="log=deferred testexit", linux=False, dom0_elf=False), memory="256M")
    machine.expect(r"^basalt: Basalt ")
    refusal(machine, "there is no dom0", "module2")
