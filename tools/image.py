#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes images: a CD image with GRUB, a kernel and modules (make_iso), and a disk image with a GPT (make_disk).

    make_iso(out, kernel, cmdline, [(path or bytes, "name arguments"), ...])
    make_disk(out, [Partition(name, mib, source), ...])

The CD image boots from BIOS, from CD or written to a USB stick. GRUB's core image is made once and kept in build/grub; a CD
image then takes xorriso a fraction of a second, so that each test can have its own.
"""

import argparse
import binascii
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
BUILD = TOP / "build"
GRUB = Path("/usr/lib/grub/i386-pc")
GRUB_MODULES = "biosdisk iso9660 part_msdos multiboot2 multiboot normal configfile serial terminal echo boot test setpci".split()
SECTOR = 512


def run(*words, **options):
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode:
        raise RuntimeError(f"{words[0]} failed:\n{done.stdout}")
    return done.stdout


def grub_core():
    """GRUB's core image for El Torito, made once."""
    core = BUILD / f"grub/eltorito-{len(GRUB_MODULES)}.img"
    if not core.exists():
        core.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=core.parent, delete=False) as new:
            pass
        run("grub-mkimage", "-O", "i386-pc-eltorito", "-p", "/boot/grub", "-o", new.name, *GRUB_MODULES)
        os.rename(new.name, core)
    return core


def grub_config(cmdline, modules, serial):
    lines = ["set timeout=0", "set gfxpayload=text"]
    if serial:
        lines += ["serial --unit=0 --speed=115200", "terminal_input console serial", "terminal_output console serial"]
    lines += ['menuentry "Basalt" {', f"  multiboot2 /boot/kernel {cmdline}".rstrip()]
    lines += [f"  module2 /boot/module{i} {text}".rstrip() for i, text in enumerate(modules)]
    return "\n".join([*lines, "  boot", "}", ""])


def make_iso(out, kernel, cmdline="", modules=(), serial=True, config=None):
    """Writes a CD image whose GRUB loads `kernel` (a path) with `cmdline` and the modules: pairs of a path (or bytes) and
    the module's command line, whose first word is its name. `serial` lets GRUB speak on COM1 too (its messages then are in
    the log of a failed boot). `config` replaces the whole grub.cfg. Returns the path."""
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="basalt-iso-") as folder:
        folder = Path(folder)
        (folder / "grub.cfg").write_text(config or grub_config(cmdline, [text for _, text in modules], serial))
        grafts = [f"/boot/grub/eltorito.img={grub_core()}", f"/boot/grub/grub.cfg={folder / 'grub.cfg'}",
                  f"/boot/kernel={Path(kernel).resolve()}"]
        for i, (source, _) in enumerate(modules):
            if isinstance(source, (bytes, bytearray)):
                (folder / f"module{i}").write_bytes(source)
                source = folder / f"module{i}"
            grafts.append(f"/boot/module{i}={Path(source).resolve()}")
        new = out.with_name(f".{out.name}.{os.getpid()}")
        run("xorriso", "-as", "mkisofs", "-quiet", "-R", "-o", str(new), "-graft-points", "-b", "boot/grub/eltorito.img",
            "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", "--grub2-boot-info",
            "--grub2-mbr", str(GRUB / "boot_hybrid.img"), *grafts)
        os.rename(new, out)
    return out


@dataclass
class Partition:
    """A partition: its name, its size, and what it holds: a path, bytes, or nothing (zeros)."""
    name: str
    mib: int
    source: object = None
    type: str = "0fc63daf-8483-4772-8e79-3d69d8477de4"  # Linux file system data


def copy_sparse(source, target, offset):
    """Copies a file, or bytes, into an open file at offset, leaving holes where there are zeros."""
    if isinstance(source, (bytes, bytearray)):
        target.seek(offset)
        target.write(source)
        return
    with open(source, "rb") as file:
        end = os.fstat(file.fileno()).st_size
        position = 0
        while position < end:
            try:
                start = os.lseek(file.fileno(), position, os.SEEK_DATA)
            except OSError:
                return
            position = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            file.seek(start)
            target.seek(offset + start)
            left = position - start
            while left:
                block = file.read(min(left, 1 << 20))
                if block.strip(b"\0"):
                    target.write(block)
                else:
                    target.seek(len(block), os.SEEK_CUR)
                left -= len(block)


def gpt_headers(partitions, sectors, first_sector):
    """The primary and the backup header, each with its array of entries, as (sector, bytes) to be written."""
    entries = b""
    start = first_sector
    for partition in partitions:
        length = partition.mib * 2048
        unique = uuid.uuid5(uuid.NAMESPACE_URL, "basalt:" + partition.name)
        entries += struct.pack("<16s16sQQQ72s", uuid.UUID(partition.type).bytes_le, unique.bytes_le, start,
                               start + length - 1, 0, partition.name.encode("utf-16-le"))
        start += length
    entries = entries.ljust(128 * 128, b"\0")

    def header(here, other, table):
        def pack(crc):
            return struct.pack("<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, crc, 0, here, other, 34, sectors - 34,
                               uuid.uuid5(uuid.NAMESPACE_URL, "basalt:disk").bytes_le, table, 128, 128,
                               binascii.crc32(entries))
        return pack(binascii.crc32(pack(0))).ljust(SECTOR, b"\0")

    mbr = (b"\0" * 446 + struct.pack("<B3sB3sII", 0, b"\0\2\0", 0xee, b"\xff\xff\xff", 1, min(sectors - 1, 0xffffffff)))
    return [(0, mbr.ljust(510, b"\0") + b"\x55\xaa"), (1, header(1, sectors - 1, 2)), (2, entries),
            (sectors - 33, entries), (sectors - 1, header(sectors - 1, 1, sectors - 33))]


def make_disk(out, partitions):
    """Writes a sparse disk image with a GPT and the given partitions, each on a 1 MiB boundary. Returns the path."""
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    sectors = 2048 * (2 + sum(partition.mib for partition in partitions))
    new = out.with_name(f".{out.name}.{os.getpid()}")
    with open(new, "wb") as file:
        file.truncate(sectors * SECTOR)
        for sector, data in gpt_headers(partitions, sectors, 2048):
            file.seek(sector * SECTOR)
            file.write(data)
        start = 2048
        for partition in partitions:
            if partition.source is not None:
                copy_sparse(partition.source, file, start * SECTOR)
            start += partition.mib * 2048
    os.rename(new, out)
    return out


def partition_range(disk, name):
    """Where a partition of a disk image is: (offset, size) in bytes."""
    with open(disk, "rb") as file:
        file.seek(2 * SECTOR)
        entries = file.read(128 * 128)
    for i in range(128):
        kind, _, first, last, _, text = struct.unpack("<16s16sQQQ72s", entries[i * 128:(i + 1) * 128])
        if kind != b"\0" * 16 and text.decode("utf-16-le").rstrip("\0") == name:
            return first * SECTOR, (last - first + 1) * SECTOR
    raise KeyError(f"{disk} has no partition {name}")


def extract_partition(disk, name, out):
    """Copies a partition of a disk image into a file of its own (sparse)."""
    offset, size = partition_range(disk, name)
    with open(disk, "rb") as source, open(out, "wb") as target:
        target.truncate(size)
        source.seek(offset)
        position = 0
        while position < size:
            block = source.read(min(1 << 20, size - position))
            if block.strip(b"\0"):
                target.seek(position)
                target.write(block)
            position += len(block)
    return Path(out)


def make_fat(out, mib, files):
    """A FAT file system with the given files: pairs of a name and bytes. Returns the path."""
    out = Path(out)
    with open(out, "wb") as file:
        file.truncate(mib << 20)
    environment = dict(os.environ, MTOOLS_SKIP_CHECK="1")
    run("mformat", "-i", str(out), "-v", "BASALT", "-N", "ba5a1700", "::", env=environment)
    with tempfile.TemporaryDirectory(prefix="basalt-fat-") as folder:
        for name, data in files:
            (Path(folder) / name).write_bytes(data)
            run("mcopy", "-m", "-i", str(out), str(Path(folder) / name), "::" + name, env=environment)
    return out


def default_disk(out):
    """The disk that `make run` and the tests start from: a root file system for each of two guests, and their description."""
    root = BUILD / "guest/root.img"
    mib = root.stat().st_size >> 20
    config = make_fat(BUILD / "guest/config.img", 8,
                      [(path.name, path.read_bytes()) for path in sorted((TOP / "tools/guests").glob("*.conf"))])
    return make_disk(out, [Partition("guest1-root", mib, root), Partition("guest2-root", mib, root),
                           Partition("basalt-config", 8, config, "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7")])


def default_modules(build, dom0_cmdline="", configs=None):
    """The modules of the ordinary image: dom0, the guests' kernel and RAM disk, the domains' descriptions."""
    configs = sorted((TOP / "tools/guests").glob("*.conf")) if configs is None else configs
    return [(Path(build) / "dom0.elf", f"dom0 {dom0_cmdline}".strip()), (BUILD / "guest/vmlinuz", "vmlinuz"),
            (BUILD / "guest/initrd.img", "initrd"), *[(path, Path(path).name) for path in configs]]


# Bochs' host bridge: an Intel 440FX (12378086) without a subsystem ID, which QEMU's and real ones have.
GRUB_CHOICE = """set timeout=0
set gfxpayload=text
set default=disk
setpci -v bridge -s 00:00.0 0.l
setpci -v subsystem -s 00:00.0 2c.l
if [ "$bridge" = 12378086 -a "$subsystem" = 0 ]; then set default=ramdisk; fi
if [ "$bridge" = 12378086 -a "$subsystem" = 00000000 ]; then set default=ramdisk; fi
if [ "$default" = disk ]; then
  serial --unit=0 --speed=115200
  terminal_input console serial
  terminal_output console serial
fi
"""


def make_default_iso(out, build, cmdline="", dom0_cmdline=""):
    """The image that people boot: two guests whose root file systems are partitions of the machine's disk; on Bochs, which has
    no disk that dom0 drives, one guest with a RAM disk."""
    modules = default_modules(build, dom0_cmdline)
    common, configs = modules[:3], modules[3:]
    small = [(path, path.name) for path in sorted((TOP / "tools/guests/bochs").glob("*.conf"))]
    small.append((BUILD / "guest/small.img", "root.img"))
    files = [*modules, *small]

    def entry(name, title, wanted):
        lines = [f'menuentry "{title}" --id {name} {{', f"  multiboot2 /boot/kernel {cmdline}".rstrip()]
        lines += [f"  module2 /boot/module{files.index(m)} {m[1]}" for m in wanted]
        return "\n".join([*lines, "  boot", "}", ""])
    config = GRUB_CHOICE + entry("disk", "Basalt", common + configs) + entry("ramdisk", "Basalt (RAM disk)", common + small)
    return make_iso(out, Path(build) / "basalt.elf", cmdline, files, config=config)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    iso = commands.add_parser("iso", help="the image of `make run` and `make run-bochs`")
    iso.add_argument("--out", required=True)
    iso.add_argument("--build", default=BUILD)
    iso.add_argument("--cmdline", default="")
    iso.add_argument("--dom0-cmdline", default="")
    disk = commands.add_parser("disk", help="the disk that `make run` and the tests start from")
    disk.add_argument("--out", required=True)
    options = parser.parse_args()
    if options.command == "disk":
        default_disk(options.out)
        return
    make_default_iso(options.out, options.build, options.cmdline, options.dom0_cmdline)


if __name__ == "__main__":
    sys.exit(main())
