# SPDX-License-Identifier: Apache-2.0
"""The main job: unmodified Debian Linux as Basalt's guests, served by dom0, on SVM (QEMU) and VMX (Bochs). Each guest has its own
partition as root; what it wrote is read back from outside; when it is gone, every frame is free again."""

import re

import pytest
from conftest import (GUEST, PROMPT, Disk, check_filesystem, config_text, guest_file, guest_shell, memory, shell, to_console,
                      to_dom0)

BOOT = 300  # seconds that a guest may take until its shell is there


@pytest.mark.parametrize("disk_kind", ["virtio", "ahci"])
def test_two_guests_keep_their_files(qemu, image, disk_copy, tmp_path, disk_kind):
    disk = disk_copy()
    guests = {"guest1": {}, "guest2": {}}
    for boot in (1, 2):
        machine = qemu(image(guests=guests), memory="1G", disks=[Disk(disk, disk_kind)])
        machine.expect(r"^guest1: runs", timeout=60)
        machine.expect(r"^guest2: runs", timeout=60)
        for name in guests:
            to_console(machine, name)
            machine.expect(rf"{name}:/root# ", timeout=120)
            kept = machine.command("cat /root/kept", rf"{name}:/root# ")
            assert (f"written by {name}" in kept) == (boot == 2)
            machine.command(f"echo written by {name} > /root/kept; sync", rf"{name}:/root# ")
            to_dom0(machine)
        listing = shell(machine, "list")
        assert len(re.findall(r"running", listing)) == 2
        machine.sendline("poweroff")
        assert machine.wait(90) == 0
        machine.close()
    for name in guests:
        assert guest_file(disk, f"{name}-root", "/root/kept", tmp_path) == f"written by {name}\n".encode()
        check_filesystem(disk, f"{name}-root", tmp_path)


def test_selftest_in_guest(qemu, image, disk_copy, tmp_path):
    """The guest's own view: files, interrupts, clock source, x2APIC."""
    disk = disk_copy()
    machine = qemu(image(dom0="console=guest1 exit-when-idle", guests={
        "guest1": {"cmdline": "console=ttyS0 root=/dev/vda rw hostname=guest1 basalt.test=selftest"}}),
        memory="1G", disks=[Disk(disk)])
    machine.expect(r"^basalt-guest: clocksource kvm-clock", timeout=120)
    machine.expect(r"^basalt-guest: selftest ok", timeout=60)
    assert machine.seen(r"x2apic|x2APIC")
    assert not machine.seen(r"^basalt-guest: trouble")
    assert machine.wait(60) == 0
    check_filesystem(disk, "guest1-root", tmp_path)


def test_every_frame_comes_back(qemu, image, disk_copy):
    """Power-off, reset, kill and a triple fault: named, cleaned up, and `mem` is the same to the byte."""
    machine = qemu(image(dom0="autostart=no", guests={"guest1": {"on_reboot": "destroy"}}), memory="1G",
                   disks=[Disk(disk_copy())])
    machine.expect(PROMPT, timeout=60)
    shell(machine, "create guest1")
    machine.expect(r"guest1: runs", timeout=30)
    shell(machine, "destroy guest1", timeout=30)
    before = memory(machine)
    for command, reason in (("poweroff", r"guest1: .*power"), ("reboot", r"guest1: .*res"),
                            (None, r"guest1: .*"), ("echo c > /proc/sysrq-trigger", None)):
        shell(machine, "create guest1", timeout=30)
        to_console(machine, "guest1")
        machine.expect(r"guest1:/root# ", timeout=120)
        if command and reason:
            machine.sendline(command)
            machine.expect(reason, timeout=60)
            to_dom0(machine)
        else:
            if command:
                machine.sendline(command)
                machine.expect(r"Kernel panic", timeout=60)
            to_dom0(machine)
            shell(machine, "destroy guest1", timeout=30)
        after = memory(machine)
        assert after["free"] == before["free"], command
        assert after["kernel"] == before["kernel"], command


@pytest.mark.bochs
def test_linux_on_vmx(bochs, image):
    machine = bochs(image(dom0="console=guest1", guests={
        "guest1": config_text("guest1", memory="128M", disk="module:root.img")},
        modules=[(GUEST / "small.img", "root.img")]), memory=512, timeout=400)
    machine.expect(r"VMX with nested paging", timeout=60)
    machine.expect(r"guest1:/root# ", timeout=360)
    answer = machine.command("echo $((6 * 7)); mount | grep ' / '", r"guest1:/root# ", timeout=60)
    assert "42" in answer and "/dev/vda" in answer
