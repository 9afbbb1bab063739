# SPDX-License-Identifier: Apache-2.0
"""A hostile dom0 (tests/guest/privileged) calls the kernel with all the rights that there are: the kernel must go on, and no frame
be lost."""

import re
import struct
import subprocess

import pytest
from conftest import TOP
from hostile import CORRUPTION

CFLAGS = ("-O2 -std=gnu17 -Wall -Wextra -Wshadow -Wconversion -Werror -ffreestanding -fno-pic -fno-pie -mcmodel=kernel -mno-red-zone "
          "-mgeneral-regs-only -mpopcnt -fno-stack-protector -fcf-protection=none -fno-asynchronous-unwind-tables -nostdlib -static -no-pie -Iinclude "
          "-Wl,--build-id=none,-z,noexecstack,-z,max-page-size=4096,-T,dom0/dom0.ld").split()


@pytest.fixture
def start(image, tmp_path):
    """start(machine fixture, options, ...) -> a machine with the hostile dom0."""
    def make(kind, options, **parameters):
        elf = tmp_path / "privileged.elf"
        subprocess.run(["gcc", *CFLAGS, "-o", elf, "dom0/start/start.S", "tests/guest/privileged/privileged.c"], check=True, cwd=TOP)
        return kind(image(linux=False, dom0=options, dom0_elf=elf), **parameters)
    return make


def check(machine, timeout):
    machine.expect(r"^privileged: done", timeout)
    text = machine.text
    bad = re.search(CORRUPTION, text, re.M) or re.search(r"^privileged: FAILED.*$", text, re.M)
    assert not bad, bad[0]
    succeeded = [int(n) for n in re.findall(r"^privileged: calls that succeeded: (\d+)", text, re.M)]
    assert min(succeeded) > 100, f"hardly a call succeeded: {succeeded}"


def test_privileged_on_qemu(qemu, start):
    check(start(qemu, "calls=10000 rounds=10", memory="256M"), timeout=100)


def test_ports_of_the_kernel(qemu, start, tmp_path):
    """An ACPI table says that the power management registers are where configuration space and the reset are."""
    table = bytearray(244 - 36)
    struct.pack_into("<IIIII", table, 64 - 36, 0xcf8, 0xcfa, 0, 0x608, 0)  # PM1a, PM1b, the timer
    table[91 - 36] = 4
    (tmp_path / "fadt").write_bytes(table)
    check(start(qemu, "calls=1000 rounds=1", memory="256M", extra=["-acpitable", f"sig=FACP,rev=1,data={tmp_path}/fadt"]), timeout=100)


@pytest.mark.bochs
def test_privileged_on_bochs(bochs, start):
    check(start(bochs, "calls=5000 rounds=4", cpu="corei7_haswell_4770", memory=256), timeout=100)


@pytest.mark.long
def test_privileged_long(qemu, start):
    check(start(qemu, "calls=1000000 rounds=10 states=50000", memory="256M"), timeout=3000)
