# SPDX-License-Identifier: Apache-2.0
"""The main job: unmodified Debian Linux as Basalt's guests, served by dom0, on SVM (QEMU) and VMX (Bochs). Each guest has its own
partition as root; what it wrote is read back from outside; when it is gone, every frame is free again."""

import re

import pytest
from conftest import (GUEST, PROMPT, Disk, check_filesystem, guest_file, guest_prompt, guest_shell, memory,
                      power_button_works, shell, to_console, to_dom0)

BOOT = 300  # seconds that a guest may take until its shell is there


@pytest.mark.parametrize("disk_kind", ["virtio", "ahci"])
def test_two_guests_keep_their_files(qemu, image, disk_copy, tmp_path, disk_kind):
    """The main job: what a guest wrote is there after `poweroff` and another start of the machine, and from outside."""
    disk = disk_copy()
    iso = image(guests={"guest1": {}, "guest2": {}})
    for boot in (1, 2):
        machine = qemu(iso, memory="1G", disks=[Disk(disk, disk_kind)])
        machine.expect(r"^guest1: runs", timeout=60)
        machine.expect(r"^guest2: runs", timeout=60)
        machine.expect(PROMPT)
        for name in ("guest1", "guest2"):
            to_console(machine, name)
            guest_prompt(machine, name, BOOT)
            kept = guest_shell(machine, name, "cat /root/kept")
            assert (f"written by {name}" in kept) == (boot == 2)
            guest_shell(machine, name, f"echo written by {name} > /root/kept; sync")
            power_button_works(machine, name)
            to_dom0(machine)
        assert len(re.findall(r"running", shell(machine, "list"))) == 2
        machine.sendline("poweroff")
        machine.expect(r"^power: switching the machine off", timeout=90)
        assert machine.seen(r"^guest1: powered off after") and machine.seen(r"^guest2: powered off after")
        assert machine.wait(30) == 0
        machine.close()
    for name in ("guest1", "guest2"):
        assert guest_file(disk, f"{name}-root", "/root/kept", tmp_path) == f"written by {name}\n".encode()
        check_filesystem(disk, f"{name}-root", tmp_path)


@pytest.mark.parametrize("memory_size", ["256M", "6G"])
def test_selftest_in_guest(qemu, image, disk_copy, tmp_path, memory_size):
    """The guest's own view on the smallest and on a big machine: files, interrupts, clock source, x2APIC, no complaints."""
    disk = disk_copy()
    machine = qemu(image(dom0="console=guest1 exit-when-idle", cmdline="dom0_mem=48M", guests={
        "guest1": {"memory": "128M" if memory_size == "256M" else "4G",
                   "cmdline": "console=ttyS0 root=/dev/vda rw hostname=guest1 basalt.test=selftest"}}),
        memory=memory_size, disks=[Disk(disk)])
    machine.expect(r"^basalt-guest: files ok", timeout=BOOT)
    machine.expect(r"^basalt-guest: hwrng ok virtio_rng", timeout=60)
    machine.expect(r"^basalt-guest: clocksource kvm-clock", timeout=60)
    machine.expect(r"^basalt-guest: flags .*x2apic.*hypervisor", timeout=60)
    machine.expect(r"^basalt-guest: selftest ok", timeout=60)
    assert not machine.seen(r"^basalt-guest: trouble")
    machine.expect(r"^guest1: powered off", timeout=60)
    assert machine.wait(60) == 0
    assert guest_file(disk, "guest1-root", "/var/lib/basalt/boots", tmp_path) == b"1\n"
    check_filesystem(disk, "guest1-root", tmp_path)


def test_every_frame_comes_back(qemu, image, disk_copy):
    """Power-off, the power button, reset, panic and kill: named, cleaned up, and `mem` is the same to the byte."""
    machine = qemu(image(dom0="autostart=no", guests={"guest1": {"on_reboot": "destroy"}}), memory="1G",
                   disks=[Disk(disk_copy())])
    machine.expect(PROMPT, timeout=60)
    shell(machine, "create guest1")
    assert memory(machine)["domains"] > 192 << 20
    shell(machine, "destroy guest1")
    before = memory(machine)
    for line, says in (("poweroff", r"^guest1: powered off after"), ("reboot", r"^guest1: rebooted after"),
                       ("shutdown", r"^guest1: powered off after"), ("kill", None)):
        shell(machine, "create guest1")
        to_console(machine, "guest1")
        guest_prompt(machine, "guest1", BOOT)
        if line == "shutdown":
            power_button_works(machine, "guest1")
        if line in ("poweroff", "reboot"):
            machine.sendline(line)
        else:
            to_dom0(machine)
            shell(machine, "shutdown guest1" if line == "shutdown" else "destroy guest1")
        if says:
            machine.expect(says, timeout=BOOT)
            machine.expect(PROMPT)
        shell(machine, "wait guest1")
        assert "stopped" in shell(machine, "list")
        assert memory(machine) == before, line


@pytest.mark.bochs
@pytest.mark.parametrize("cmdline, apicv", [("", r"; in use:.* APICv"), ("noapicv", r"; not in use:.* APICv")])
def test_linux_on_vmx(bochs, image, cmdline, apicv):
    """Interrupts delivered by the processor (APICv), and by software."""
    machine = bochs(image(cmdline=cmdline, dom0="console=guest1", guests={"guest1": {"memory": "128M", "disk": "module:root.img"}},
                          modules=[(GUEST / "small.img", "root.img")]), memory=512, timeout=400)
    machine.expect(rf"VMX with nested paging.*{apicv}", timeout=60)
    guest_prompt(machine, "guest1", 600)
    answer = guest_shell(machine, "guest1", "echo $((6 * 7)); mount | grep ' / '")
    assert "42" in answer and "/dev/vda" in answer
    machine.sendline("poweroff")
    machine.expect(r"^guest1: powered off after", timeout=120)
