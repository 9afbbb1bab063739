# SPDX-License-Identifier: Apache-2.0
"""The guests' kernel, initial RAM disk and root file system, without Basalt: they boot on a bare QEMU machine, so that a
failure of a guest under Basalt is not theirs."""

import re

from conftest import GUEST, Disk, Qemu, check_filesystem, guest_file, guest_prompt, guest_shell, power_button_works


def bare(name, cmdline, *disks, extra=()):
    return Qemu(name, memory="256M", disks=disks, timeout=120,
                extra=["-kernel", GUEST / "vmlinuz", "-initrd", GUEST / "initrd.img", "-append", f"console=ttyS0 {cmdline}",
                       *extra])


def test_selftest_and_persistence(disk_copy, tmp_path, test_name):
    disk = disk_copy()
    for boot in (1, 2):
        with bare(f"{test_name}-{boot}", "root=/dev/vda1 rw hostname=alone basalt.test=selftest", Disk(disk)) as machine:
            machine.expect(r"^basalt-guest: up as alone$")
            machine.expect(rf"^basalt-guest: boots {boot}$")
            machine.expect(r"^basalt-guest: selftest ok$")
            assert machine.wait() == 0
            assert bool(machine.seen(r"^basalt-guest: kept ok$")) == (boot == 2)
    assert guest_file(disk, "guest1-root", "/var/lib/basalt/boots", tmp_path) == b"2\n"
    check_filesystem(disk, "guest1-root", tmp_path)


def test_shell_and_power_button(disk_copy, test_name):
    with bare(test_name, "root=/dev/vda1 rw hostname=alone", Disk(disk_copy()),
              extra=["-device", "virtio-rng-pci"]) as machine:
        guest_prompt(machine, "alone")
        assert guest_shell(machine, "alone", "echo $((6 * 7)); tty").split() == ["42", "/dev/ttyS0"]
        assert "virtio" in guest_shell(machine, "alone", "cat /sys/class/misc/hw_random/rng_current")
        power_button_works(machine, "alone")
        machine.monitor("system_powerdown")
        machine.expect(r"the power button was pressed")
        machine.expect(r"^basalt-guest: down$")
        assert machine.wait() == 0


def test_virtio_console(test_name):
    """Without root= the RAM disk is the system; with a virtio console, the shell is there."""
    with bare(test_name, "hostname=small", extra=["-device", "virtio-serial-pci", "-chardev", "null,id=v", "-device",
                                                  "virtconsole,chardev=v"]) as machine:
        machine.expect(r"^basalt-guest: up as small$")
        assert not re.search(r"small:/root# ", machine.text)
