# SPDX-License-Identifier: Apache-2.0
"""Disks that are missing, damaged, too short, read-only, claimed twice or dying: each is named on the console with what can be
done, and everything else runs on."""

import os
import struct
import zlib

import pytest
from conftest import PROMPT, Disk, guest_prompt, memory, shell, to_console, to_dom0

SECTOR = 512


def lives(machine, running=0):
    """dom0 answers at its shell, so many guests run, and nobody else has kept any memory."""
    machine.sendline()
    machine.expect(PROMPT)
    assert "guest" not in shell(machine, "version") and machine.running
    assert shell(machine, "list").count("running") == running
    if not running:
        assert memory(machine)["domains"] == 0


def patch(disk, offset, data):
    with open(disk, "r+b") as file:
        file.seek(offset)
        file.write(data)


def edit_header(disk, offset, data):
    """Changes the GPT's first header and puts its checksum right."""
    with open(disk, "r+b") as file:
        file.seek(SECTOR)
        header = bytearray(file.read(92))
        header[offset:offset + len(data)] = data
        header[16:20] = bytes(4)
        header[16:20] = struct.pack("<I", zlib.crc32(header))
        file.seek(SECTOR)
        file.write(header)


def blkdebug(tmp_path, disk, *rules):
    """A QEMU file name for the disk with faults injected."""
    config = tmp_path / f"faults{len(list(tmp_path.glob('faults*')))}.conf"
    config.write_text("\n".join("[inject-error]\n" + "\n".join(f'{key} = "{value}"' for key, value in rule.items())
                                for rule in rules) + "\n")
    return f"blkdebug:{config}:{disk}"


def test_no_disk(qemu, image):
    machine = qemu(image(guests={"guest1": {}}), memory="512M")
    machine.expect(r"^warning: disk: no disk found: give the machine a virtio-blk, AHCI or NVMe disk, or a module")
    machine.expect(r"guest1: is not started: .*there is no partition with the name .guest1-root.; there is no disk at all")
    lives(machine)


@pytest.mark.parametrize("kind, name", [("virtio", "vda"), ("ahci", "sda"), ("nvme", "nvme0n1")])
def test_disk_without_partition_table(qemu, image, tmp_path, kind, name):
    disk = tmp_path / "empty.img"
    disk.touch()
    os.truncate(disk, 64 << 20)
    machine = qemu(image(guests={"guest1": {}}), memory="512M", disks=[Disk(disk, kind)])
    machine.expect(rf"^warning: {name}: has no GUID partition table: .*sgdisk")
    machine.expect(rf"guest1: is not started: .*there is no partition with the name .guest1-root.; there is: {name}$")
    lives(machine)


def test_backup_table_is_used(qemu, image, disk_copy):
    disk = disk_copy()
    patch(disk, SECTOR + 56, b"\xff" * 16)
    machine = qemu(image(guests={"guest1": {}}), memory="512M", disks=[Disk(disk)])
    machine.expect(r"^warning: vda: the partition table's header has a wrong checksum")
    machine.expect(r"^warning: vda: its backup is used: repair it")
    machine.expect(r"guest1: runs")


def test_damaged_at_both_ends(qemu, image, disk_copy):
    disk = disk_copy()
    patch(disk, SECTOR + 56, b"\xff" * 16)
    patch(disk, os.path.getsize(disk) - SECTOR + 56, b"\xff" * 16)
    machine = qemu(image(linux=False), memory="256M", disks=[Disk(disk)])
    machine.expect(r"^warning: vda: has a partition table that is damaged at both ends: restore it")
    lives(machine)


def test_impossible_table(qemu, image, disk_copy):
    """A header with good checksums that describes a table of 4 GiB, and no backup."""
    disk = disk_copy()
    edit_header(disk, 80, struct.pack("<I", 0x2000000))
    patch(disk, os.path.getsize(disk) - SECTOR, bytes(SECTOR))
    machine = qemu(image(linux=False), memory="256M", disks=[Disk(disk)])
    machine.expect(r"^warning: vda: the partition table's header describes an impossible table")
    lives(machine)


def test_shorter_than_its_table(qemu, image, disk_copy):
    disk = disk_copy()
    os.truncate(disk, 200 << 20)  # guest2-root ends at 257 MiB
    machine = qemu(image(guests={"guest1": {}, "guest2": {}}), memory="768M", disks=[Disk(disk)])
    machine.expect(r"^warning: vda: the disk is shorter than its table says: the backup table should be at")
    machine.expect(r"^warning: vda: partition 2 ends at sector \d+, but the disk has only 409600: it is shorter")
    machine.expect(r"guest1: runs", timeout=60)
    machine.expect(r"guest2: is not started: .*there is no partition with the name .guest2-root.", timeout=60)
    lives(machine, running=1)


def test_read_only_disk(qemu, image, disk_copy):
    machine = qemu(image(guests={"guest1": {}}), memory="512M", disks=[Disk(disk_copy(), readonly=True)])
    machine.expect(r"^vda: .*read-only")
    machine.expect(r"guest1: is not started: .*vda1 is read-only")
    lives(machine)


def test_two_disks_on_one_line(qemu, image, disk_copy, tmp_path):
    """Without MSI-X, in slots whose INTA is the same line: the kernel lets a line ring one port, which the two share."""
    empty = tmp_path / "empty.img"
    empty.write_bytes(bytes(1 << 20))
    disks = [Disk(disk_copy(), device="vectors=0,addr=0x8"), Disk(empty, device="vectors=0,addr=0xc")]
    machine = qemu(image(guests={"guest1": {}}), memory="512M", disks=disks)
    machine.expect(r"^vda1: ")
    machine.expect(r"vdb: has no GUID partition table")
    machine.expect(r"^guest1: runs", timeout=60)
    assert not machine.seen(r"no interrupt")
    lives(machine, running=1)


def test_two_writers_of_one_partition(qemu, image, disk_copy):
    guests = {"guest1": {}, "guest2": {"disk": "gpt:guest1-root"}}
    machine = qemu(image(guests=guests), memory="1G", disks=[Disk(disk_copy())])
    machine.expect(r"guest1: runs", timeout=60)
    machine.expect(r'guest2: is not started: .*vda1 is in use: "guest1" writes to it', timeout=60)
    machine.expect(PROMPT)
    before = memory(machine)
    for _ in range(3):
        assert "vda1 is in use" in shell(machine, "create guest2")
    assert memory(machine) == before


@pytest.mark.parametrize("kind, name", [("virtio", "vda"), ("ahci", "sda")])
def test_table_that_cannot_be_read(qemu, image, disk_copy, tmp_path, kind, name):
    disk = blkdebug(tmp_path, disk_copy(), {"event": "read_aio", "errno": 5, "sector": 1},
                    {"event": "read_aio", "errno": 5, "sector": os.path.getsize(tmp_path / "disk0.img") // SECTOR - 1})
    machine = qemu(image(linux=False), memory="256M", disks=[Disk(disk, kind, drive="rerror=report,werror=report")])
    machine.expect(rf"^error: {name}: sector 1 can't be read: the disk reported an error")
    machine.expect(rf"^warning: {name}: could not be read: its partitions are not available")
    lives(machine)


EIO, ENOSPC = 5, 28


@pytest.mark.parametrize("kind, name, errno", [("virtio", "vda", EIO), ("ahci", "sda", EIO), ("virtio", "vda", ENOSPC)])
def test_errors_reach_the_guest_that_met_them(qemu, image, disk_copy, tmp_path, kind, name, errno):
    """Writes into the last megabytes of guest1's partition fail, with an error of the disk or for want of space behind it;
    guest1 sees I/O errors, guest2, which writes all the time, nothing: it can fill its own file system to the last byte, and
    empty it again."""
    rules = [{"event": "write_aio", "errno": errno, "sector": 2048 + 2048 * 120 + i} for i in range(0, 4096, 256)]
    disk = blkdebug(tmp_path, disk_copy(), *rules)
    machine = qemu(image(guests={"guest1": {}, "guest2": {}}), memory="1G",
                   disks=[Disk(disk, kind, drive="rerror=report,werror=report")])
    for guest in ("guest1", "guest2"):
        machine.expect(rf"{guest}: runs", timeout=60)
    to_console(machine, "guest2")
    guest_prompt(machine, "guest2", 120)
    machine.sendline("(until [ -e stop ]; do dd if=/dev/zero of=y bs=4k count=16 conv=fsync 2>&1 || break; done | grep error) &")
    to_dom0(machine)
    to_console(machine, "guest1")
    guest_prompt(machine, "guest1", 120)
    for i in range(10):
        machine.command(f"dd if=/dev/zero of=/dev/vda bs=4096 seek=30720 count=512 conv=fsync; echo ended {i} $?",
                        rf"^ended {i} [1-9]")
        machine.expect(r"guest1:/root# ")
    to_dom0(machine)
    assert f"{name}1: write at sector" in shell(machine, "log dom0")
    to_console(machine, "guest2")
    guest_prompt(machine, "guest2", 120)
    if errno == ENOSPC:
        machine.command("dd if=/dev/zero of=/root/fill bs=64k; echo ended $?", r"^ended [1-9]")
        assert machine.seen("No space left on device")
        machine.expect(r"guest2:/root# ")
        machine.command("rm /root/fill; sync; echo emptied $?", r"^emptied 0")
        machine.expect(r"guest2:/root# ")
    machine.command("touch stop; wait; sync; echo stopped $?; dmesg | grep -c 'I/O error'", r"^stopped 0\n0\n")
    machine.expect(r"guest2:/root# ")
    to_dom0(machine)
    for guest in ("guest1", "guest2"):
        assert f"{guest} is stopped: destroyed" in shell(machine, f"destroy {guest}")
    lives(machine)
