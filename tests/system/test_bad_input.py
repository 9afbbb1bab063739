# SPDX-License-Identifier: Apache-2.0
"""Bad input to the toolstack: damaged kernels, RAM disks and domain files that ask for what there is not. Each gets a message
that says what is wrong and what to do, everything else runs on, and the memory is as before, to the byte. (Disks: test_disks.)

One machine is started for many cases; a case is a domain that is not started until the test types `create`."""

import re
import struct

import pytest
from conftest import GUEST, PROMPT, hello_config, memory, shell

SECTOR = 512


def bzimage(size=8192, version=0x20f, syssize=None, init_size=1 << 20, xloadflags=1, boot_flag=0xaa55, setup_sects=1,
            alignment=1 << 21, cmdline_size=2047):
    """A file that looks like a small Linux kernel (Linux kernel documentation, "The Linux/x86 Boot Protocol")."""
    image = bytearray(size)
    syssize = (size - SECTOR * (setup_sects + 1)) // 16 if syssize is None else syssize
    for offset, layout, value in ((0x1f1, "B", setup_sects), (0x1f4, "I", syssize), (0x1fe, "H", boot_flag),
                                  (0x200, "H", 0x66eb), (0x202, "4s", b"HdrS"), (0x206, "H", version), (0x211, "B", 1),
                                  (0x22c, "I", 0x7fffffff), (0x230, "I", alignment), (0x234, "B", 1),
                                  (0x236, "H", xloadflags), (0x238, "I", cmdline_size), (0x258, "Q", 1 << 24),
                                  (0x260, "I", init_size)):
        struct.pack_into("<" + layout, image, offset, value)
    return bytes(image)


def elf(entry=0x100000, paddr=0x100000, file_bytes=64, memory_bytes=64, note=False, cut=None):
    """A 32-bit ELF file with one segment, and a Multiboot header in it."""
    code = struct.pack("<III", 0x1badb002, 0, -0x1badb002 & 0xffffffff).ljust(64, b"\xf4")
    header = b"\x7fELF\1\1\1".ljust(16, b"\0") + struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, entry, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    program = struct.pack("<IIIIIIII", 1, 84, paddr, paddr, file_bytes, memory_bytes, 7, 4096)
    return (header + program + code)[:cut]


# name of the module: (contents, settings of the domain, what is said)
KERNELS = {
    "too-old": (bzimage(version=0x206), {}, r'kernel "too-old" is too old: boot protocol 2\.06; 2\.12 .* is needed'),
    "no-64": (bzimage(xloadflags=0), {}, r"has no 64-bit entry: use one that was built for x86-64"),
    "flag": (bzimage(boot_flag=0x1234), {}, r"is damaged: its boot flag is 0x1234 instead of 0xaa55"),
    "cut-in-header": (bzimage()[:0x230], {}, r"is cut short: 560 bytes end within its header"),
    "cut-short": (bzimage()[:4096], {}, r"is cut short: 4096 of 8192 bytes are there; copy it again"),
    "says-more": (bzimage(syssize=0x1fffffff), {}, r"is cut short: 8192 of 8589935\d+ bytes are there"),
    "empty-code": (bzimage(syssize=0), {}, r"is cut short"),
    "too-big": (bzimage(init_size=1 << 30), {}, r"needs 1 GiB of contiguous memory to start, .* has 16 MiB in all: raise"),
    "size-of-all": (bzimage(init_size=0xffffffff), {}, r"needs .* of contiguous memory to start"),
    "misaligned": (bzimage(alignment=0x1001), {}, r"is damaged: it wants to be aligned to 0x1001"),
    "long-line": (bzimage(cmdline_size=10), {"cmdline": "x" * 11}, r"command line of 11 bytes is longer than .* takes \(10\)"),
    "no-kernel": (b"#!/bin/sh\necho no kernel\n", {}, r"\(25 bytes\) is no kernel that can be booted: expected a Linux bzImage"),
    "nothing": (b"\0" * 64, {}, r"is no kernel that can be booted"),
    "other-kind": (bzimage(), {"protocol": "pvh"}, r"protocol = pvh needs an ELF file with a PVH entry note, and this is none"),
    "elf-outside": (elf(paddr=0x7ff00000), {}, r"a segment of .* at 0x7ff00000\) doesn't fit into the guest's memory of 16 MiB"),
    "elf-low": (elf(paddr=0xa0000), {}, r"a segment of .* at 0xa0000\) doesn't fit into"),
    "elf-wraps": (elf(paddr=0xffffffc0), {}, r"doesn't fit into|make no sense"),
    "elf-sizes": (elf(memory_bytes=8), {}, r"is damaged: a segment's sizes make no sense"),
    "elf-cut": (elf(file_bytes=4096, memory_bytes=4096), {}, r"is cut short: a segment ends beyond the file"),
    "elf-header": (elf(cut=70), {}, r"no kernel that can be booted|cut short"),
}


def refused(machine, name, says):
    """`create name` is refused with a message, and says so once."""
    text = shell(machine, f"create {name}")
    assert re.search(rf"error: .*{says}", text), text
    shell(machine, f"wait {name}")
    assert "stopped" in next(line for line in shell(machine, "list").split("\n") if f" {name} " in line)


@pytest.mark.parametrize("half", [0, 1])
def test_kernels(qemu, image, hello, half):
    """KERNELS on one machine (half of them, as it takes 32 modules), beside a guest that runs through it all."""
    names = list(KERNELS)[half::2]
    guests = {name: hello_config(**{"kernel": name, "memory": "16M", **KERNELS[name][1]}) for name in names}
    guests["witness"] = hello_config("type poweroff", autostart="yes")
    machine = qemu(image(linux=False, guests=guests, modules=[
        (hello, "hello"), *[(KERNELS[name][0], name) for name in names]]), memory="512M")
    machine.expect(r"^witness: runs")
    machine.expect(PROMPT)
    before = memory(machine)
    for name in names:
        says = KERNELS[name][2]
        refused(machine, name, says)
    assert memory(machine) == before
    assert "running" in next(line for line in shell(machine, "list").split("\n") if " witness " in line)


def test_what_there_is_not(qemu, image, hello):
    """Modules that are missing, a RAM disk that doesn't fit, memory that the machine does not have."""
    cases = {
        "no-kernel": ({"kernel": "vmlinux"}, r'kernel "vmlinux": there is no boot module of this name'),
        "no-initrd": ({"initrd": "initrd.gz"}, r'initrd "initrd.gz": there is no boot module of this name'),
        "no-module": ({"module": "thing with words"}, r'module "thing": there is no boot module of this name'),
        "no-ramdisk": ({"disk": "module:hello"}, r'disk 1: there is no RAM disk "hello"'),
        "no-partition": ({"disk": "gpt:nowhere"}, r'disk 1: there is no partition with the name "nowhere"; there is'),
        "no-guid": ({"disk": "guid:01234567-89ab-cdef-0123-456789abcdef"}, r"disk 1: there is no"),
        "initrd-no-fit": ({"initrd": "big"}, r'"big" \(9 MiB\) doesn\'t fit beside "hello"'),
        "linux-initrd": ({"kernel": "linux", "initrd": "big", "memory": "9M"}, r'"big" \(9 MiB\) doesn\'t fit beside "linux"'),
        "linux-small": ({"kernel": "vmlinuz", "memory": "16M"}, r'"vmlinuz" needs .* of contiguous memory .* 16 MiB in all'),
        "tiny": ({"memory": "1M"}, r"a segment of .* doesn't fit into the guest's memory of 1 MiB: raise `memory`"),
        "greedy": ({"memory": "2G"}, r"not enough memory: it takes 2 GiB, .* are free. Lower `memory`, or end another domain"),
        "absurd": ({"memory": "1T"}, r"not enough memory: it takes 1 TiB"),
    }
    guests = {name: hello_config(**settings) for name, (settings, _) in cases.items()}
    guests["witness"] = hello_config("type", autostart="yes")
    machine = qemu(image(linux=False, guests=guests, modules=[
        (hello, "hello"), (b"\0" * (9 << 20), "big"), (bzimage(), "linux"), (GUEST / "vmlinuz", "vmlinuz")]), memory="512M")
    machine.expect(r"^witness: runs")
    machine.expect(PROMPT)
    before = memory(machine)
    for name, (_, says) in cases.items():
        refused(machine, name, says)
    assert memory(machine) == before


def test_more_guests_than_memory(qemu, image, hello):
    """Guests are started until no memory is left: the next is refused, those that run run on, and all comes back."""
    guests = {f"g{i}": hello_config("", memory="48M", autostart="yes") for i in range(6)}
    machine = qemu(image(linux=False, guests=guests, modules=[(hello, "hello")]), memory="256M")
    machine.expect(r"^g0: runs")
    says = machine.expect(r"^error: g(\d): is not started: not enough memory: it takes 48 MiB, .* [\d.]+ MiB are free")
    last = int(says[1])
    assert last >= 2
    machine.expect(r"^error: g5: is not started: not enough memory")
    machine.expect(PROMPT)
    listing = shell(machine, "list")
    assert listing.count("running") == last and listing.count("not started") == 6 - last
    full = memory(machine)
    assert full["free"] < 52 << 20
    for _ in range(3):
        assert "not enough memory" in shell(machine, "create g5")
    assert memory(machine) == full
    shell(machine, "destroy g0")
    assert "g5 runs" in shell(machine, "create g5")
    shell(machine, "destroy all")
    empty = memory(machine)
    assert empty["domains"] == 0
    shell(machine, "create g0")
    shell(machine, "destroy g0")
    assert memory(machine) == empty


# A domain file's line, and what is said about it.
MISTAKES = [
    ('name = "2nd"', r'name: expected a name that begins with a letter, found "2nd"'),
    ("memory = lots", r'memory: expected a size such as 256M, found "lots"'),
    ("memory", r'expected "key = value", found "memory"'),
    ("vcpus = 0", r'vcpus: expected a number from 1 to \d+, found "0"'),
    ("kernel =", r'kernel: expected a value after "=", found none'),
    ("initrd = two words", r'initrd: expected nothing more after the value, found "words" \(a value with spaces needs quotes\)'),
    ('cmdline = "open', r'cmdline: expected a closing quote \("\), found the end of the line'),
    ("cmdlin = x", r'cmdlin: no such key; did you mean "cmdline"\?'),
    ("colour = red", r"colour: no such key; docs/domain-file.md lists them"),
    ("disk = vda1", r"disk: expected gpt:PARTITION, guid:GUID, device:NAME or module:NAME"),
    ("disk = gpt:a,rx", r"disk: expected gpt:PARTITION"),
    ("console = maybe", r'console: expected yes or no \(or on, off\), found "maybe"'),
    ("on_crash = explode", r'on_crash: expected destroy, restart or preserve, found "explode"'),
    ("weight = 70000", r'weight: expected a number from 1 to 10000, found "70000"'),
    ("cap = -1", r'cap: expected a number from 0 to \d+, found "-1"'),
    ("protocol = efi", r'protocol: expected auto, linux, pvh, multiboot or multiboot2, found "efi"'),
    ("vcpus = 1", r"vcpus: given already in line 4"),
    ("= 5", r'expected "key = value", found "= 5"'),
    ("autostart = \x01", r"expected text, found a byte of value 0x01 in column 13"),
    ("# " + "x" * 5000, r"expected at most 4095 bytes in a line, found 5002"),
]


def test_domain_file_with_every_mistake(qemu, image, hello):
    """Every mistake of a file is named with file and line, at boot and by `create`; the file's domain is left out, others run."""
    files = {
        "wrong": "\n".join(line for line, _ in MISTAKES) + "\n",
        "empty": "# nothing\n",
        "no-memory": 'name = "x"\nkernel = "hello"\n',
        "nul": 'name = "nul"\0\nmemory = 8M\nkernel = "hello"\n',
        "huge-file": "# filler\n" * 8000,
        "reserved": 'name = "dom0"\nmemory = 8M\nkernel = "hello"\n',
        "units": 'name = "units"\nmemory = 8\nkernel = "hello"\n',
        "range": 'name = "range"\nmemory = 2T\nkernel = "hello"\n',
        "page": 'name = "page"\nmemory = 8193K\nkernel = "hello"\n',
        "many-disks": 'name = "many"\nmemory = 8M\nkernel = "hello"\n' + "disk = device:vda\n" * 17,
        "good": 'name = "good"\nmemory = 8M\nkernel = hello\ncmdline = "type"\nautostart = yes\n',
        "same-name": '\r\nname = "good"\r\nmemory = 8M\r\nkernel = "hello"\r\n',
    }
    machine = qemu(image(linux=False, guests=files, modules=[(hello, "hello")]), memory="256M")
    machine.expect(r"^good: runs")
    machine.expect(PROMPT)
    for number, (_, says) in enumerate(MISTAKES, 1):
        assert machine.seen(rf"^error: config: wrong.conf:{number}: {says}"), (number, says)
    assert machine.seen(rf"^error: config: wrong.conf: {len(MISTAKES) + 0} mistake\(s\): the domain is left out")
    for says in (r'empty.conf: the key "name" is missing', r'empty.conf: the key "memory" is missing',
                 r'empty.conf: the key "kernel" is missing', r'no-memory.conf: the key "memory" is missing',
                 r"nul.conf:1: expected text, found a byte of value 0x00 in column 13 \(a NUL\)",
                 r"huge-file.conf: expected at most 65536 bytes, found 72000",
                 r"reserved.conf:1: name: expected a name that is not dom0 or all",
                 r"units.conf:2: memory: expected a size with its unit, such as 256M",
                 r"range.conf:2: memory: expected a size from 1M to 1T", r"page.conf:2: memory: expected a multiple of 4K",
                 r"many-disks.conf:20: disk: expected at most 16 of them",
                 r'same-name.conf: the name "good" is taken by the domain that good.conf describes: change one'):
        assert machine.seen(rf"^error: config: {says}"), says
    before = memory(machine)
    text = shell(machine, "create wrong.conf")
    for number, (_, says) in enumerate(MISTAKES, 1):
        assert re.search(rf"^wrong.conf:{number}: {says}|wrong.conf:{number}: {says}", text, re.M), (number, text)
    assert 'no domain file "nowhere.conf"' in shell(machine, "create nowhere.conf")
    assert memory(machine) == before
    listing = shell(machine, "list")
    assert listing.count("running") == 1 and listing.count("\n") <= 3, listing
