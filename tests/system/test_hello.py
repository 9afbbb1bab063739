# SPDX-License-Identifier: Apache-2.0
"""The tiny guest of tests/guest/hello on every machine: the boot protocols, changes of the processor's mode, and the ways in
which a guest can end."""

import re

import pytest
from conftest import PROMPT, hello_config, memory, shell, shell_json, to_console, to_dom0

PROTOCOLS = [("pvh", "PVH"), ("multiboot", "Multiboot 1"), ("multiboot2", "Multiboot 2")]


def protocols_and_modes(machine):
    """Starts the guest by each protocol; each time it goes through every mode and powers off."""
    machine.expect(PROMPT, timeout=300)
    for protocol, name in PROTOCOLS:
        machine.sendline(f"create {protocol}")
        machine.expect(rf'^{protocol}: kernel "hello" \({protocol} protocol\) loaded, 8 MiB', timeout=120)
        machine.expect(rf"^{protocol}: powered off after", timeout=300)
        shell(machine, f"wait {protocol}", timeout=120)
    before = memory(machine)
    machine.sendline("create show")
    machine.expect(r"^show: kernel .hello. \(pvh protocol\) loaded", timeout=120)
    machine.expect(PROMPT)
    machine.sendline("console show")
    for says in ("by PVH", "command line: module cpuid msr real paging long real type poweroff", "module first line",
                 "hypervisor KVMKVMKVM", "#GP for the MSR", "in real mode", "with paging", "in long mode", "in real mode",
                 "type"):
        machine.expect(rf"^hello: {says}", timeout=300)
    machine.sendline("a line")
    machine.expect(r"^a line\n+hello: type", timeout=120)
    to_dom0(machine)
    to_console(machine, "show")
    machine.sendline("end")
    machine.expect(r"^show: powered off after", timeout=120)
    machine.expect(PROMPT)
    assert memory(machine) == before


def hello_image(image, hello):
    modes = "cpuid msr real paging long real poweroff"
    guests = {protocol: hello_config(modes, protocol=protocol) for protocol, _ in PROTOCOLS}
    guests["show"] = hello_config(modes.replace("poweroff", "type poweroff").replace("cpuid", "module cpuid"),
                                  module="text")
    return image(linux=False, guests=guests, modules=[(hello, "hello"), (b"first line\nsecond line\n", "text")])


def test_hello_on_qemu(qemu, image, hello):
    protocols_and_modes(qemu(hello_image(image, hello), memory="256M"))


@pytest.mark.bochs
@pytest.mark.parametrize("cpu", ["corei7_haswell_4770", "corei7_skylake_x", "ryzen"])
def test_hello_on_bochs(bochs, image, hello, cpu):
    protocols_and_modes(bochs(hello_image(image, hello), cpu=cpu, memory=256))


def ends(machine, *spinning, triple_fault=True):
    """Every way in which a guest can end: named, with registers where there was a fault; nothing stays."""
    machine.expect(PROMPT, timeout=300)
    shell(machine, "create halts")
    shell(machine, "destroy halts")
    before = memory(machine)
    for name, says in (("poweroff", "powered off after"), ("reset", "rebooted after")):
        machine.sendline(f"create {name}")
        machine.expect(rf"^{name}: {says}", timeout=120)
        machine.expect(PROMPT)
    if triple_fault:
        machine.sendline("create triple")
        machine.expect(r"^warning: triple: crashed after .*: triple fault on vCPU 0", timeout=120)
        machine.expect(r"^triple:   rip 00000000001[0-9a-f]{5}")
        machine.expect(r"^triple:   rax 000000000badc0de")
        machine.expect(r"^triple:   instruction 0f 0b")
        machine.expect(r"^triple: \| hello: command line: triple")
        machine.expect(PROMPT)
    for name in ("halts", "waits", *spinning):
        shell(machine, f"create {name}")
        assert "running" in shell(machine, "list")
        shell(machine, f"destroy {name}", timeout=120)
    listing = shell(machine, "list")
    for name, last in (("poweroff", "powered off"), ("reset", "rebooted"), ("halts", "destroyed")):
        assert any(name in line and line.rstrip().endswith(last) for line in listing.split("\n")), listing
    assert memory(machine) == before


def ends_image(image, hello):
    guests = {name: hello_config(name) for name in ("poweroff", "reset", "triple")}
    guests |= {"halts": hello_config(""), "spins": hello_config("spin"), "deaf": hello_config("deaf"),
               "waits": hello_config("type")}
    return image(linux=False, guests=guests, modules=[(hello, "hello")])


def test_ends_on_qemu(qemu, image, hello):
    ends(qemu(ends_image(image, hello), memory="256M"), "spins", "deaf")


@pytest.mark.bochs
@pytest.mark.parametrize("cpu", ["corei7_haswell_4770", "ryzen"])
def test_ends_on_bochs(bochs, image, hello, cpu):
    # Bochs' SVM panics at a guest's triple fault instead of leaving the guest: QEMU has to show that one.
    ends(bochs(ends_image(image, hello), cpu=cpu, memory=256), "spins", triple_fault=cpu != "ryzen")


def illegal_state(machine, rule):
    """A guest whose state no processor enters: the kernel says what it saw, dom0 names the rule and the field."""
    machine.expect(PROMPT, timeout=300)
    machine.sendline("create illegal")
    machine.expect(r"^warning: illegal: crashed after .*: the processor refused its state on vCPU 0", timeout=120)
    machine.expect(rf"^illegal:   the rule: {rule}")
    machine.expect(r"^illegal:   rip 00000000001[0-9a-f]{5}")
    machine.expect(PROMPT)
    assert re.search(r"guest: domain \d+ vCPU 0: the processor refuses its state", shell(machine, "log"))


def illegal_image(image, hello):
    return image(linux=False, dom0="crash=guest", guests={"illegal": hello_config("poweroff")}, modules=[(hello, "hello")])


def test_illegal_state_on_qemu(qemu, image, hello):
    illegal_state(qemu(illegal_image(image, hello), memory="256M"),
                  r"CS.L and CS.D are set in long mode; field 0x410 is 0x")


@pytest.mark.bochs
def test_illegal_state_on_bochs(bochs, image, hello):
    illegal_state(bochs(illegal_image(image, hello), memory=256), r"CS: L and D; field 0x4816 is 0xe09b")


def test_policies(qemu, image, hello):
    """on_reboot and on_crash: restart (with a growing pause when ends come quickly), preserve, destroy."""
    guests = {"again": hello_config("reset", on_reboot="restart"), "crashes": hello_config("triple", on_crash="restart"),
              "kept": hello_config("triple", on_crash="preserve"), "halts": hello_config("")}
    machine = qemu(image(linux=False, guests=guests, modules=[(hello, "hello")]), memory="256M")
    machine.expect(PROMPT)
    shell(machine, "create halts")
    shell(machine, "destroy halts")
    before = memory(machine)
    for name in ("again", "crashes"):
        shell(machine, f"create {name}")
        for times, pause in ((1, 1), (2, 2)):
            machine.expect(rf"^{name}: ended after less than 10 s, {times} time\(s\) in a row: starts again in {pause} s")
        machine.expect(PROMPT)
        assert {"waiting", "running", "ending"} & {row["state"] for row in shell_json(machine, "list -j")}
        while "it can't be destroyed" in shell(machine, f"destroy {name}"):  # it ends once more just now
            pass
        shell(machine, f"wait {name}")
    shell(machine, "create kept")
    machine.expect(r'^kept: kept as it is; "destroy kept" gives its memory back')
    machine.expect(PROMPT)
    info = shell_json(machine, "info kept -j")
    assert info["state"] == "preserved" and info["end_reason"] == "triple fault"
    assert memory(machine)["free"] <= before["free"] - (8 << 20)
    shell(machine, "destroy kept")
    assert memory(machine) == before
