# SPDX-License-Identifier: Apache-2.0
"""Machines with hostile guests: builds those of tests/guest that share lib/ into one ELF file for 32-bit and one for 64-bit code, and
runs attacks in them beside a neighbour. After each attack the guest is destroyed, and then dom0's shell must answer, nothing
may have been said that means corruption, the neighbour must have gone on undisturbed, and the memory must be the same to the
byte (Arena.check)."""

import re
import subprocess
from pathlib import Path

from conftest import PROMPT, TOP, hello_config, memory, shell, to_console, to_dom0

GUESTS = TOP / "tests/guest"
CFLAGS = ("-O2 -std=gnu17 -Wall -Wextra -Wshadow -Winit-self -Wno-array-bounds -Werror -ffreestanding -fno-strict-aliasing -fno-pic -fno-pie -mgeneral-regs-only "
          "-mno-red-zone -fno-stack-protector -fcf-protection=none -fno-asynchronous-unwind-tables -nostdlib -static -no-pie -Iinclude "
          "-Wl,--build-id=none,-z,noexecstack -Wl,--no-warn-rwx-segments,-z,max-page-size=4096").split()
# What the kernel or dom0 says only when something of its own is wrong.
CORRUPTION = r"^(?:basalt: )?.*(?:panic|assert|corrupt|\bleak|bytes are left|still charged|BUG).*$"

# Seconds of the machine's time in which dom0's shell and the neighbour's console answer while guests storm. QEMU counts its
# time in instructions there, Bochs does so anyway: how fast this computer is changes nothing. But while this test waits for
# a processor, to type the next line, the machine goes on: what was late is asked TRIES times.
WITHIN = 2
TRIES = 3
COUNTED = {"icount": 4}


def build(folder):
    """Builds both ELF files; returns their paths, by name (h32, h64)."""
    built = {}
    for bits in (32, 64):
        out = Path(folder) / f"h{bits}.elf"
        # start.S first: kvm-clock, which `msrs` has at every power of two, may write over code that is needed no more.
        sources = [GUESTS / "lib/start.S", *sorted(GUESTS.glob("lib/*.c")),
                   *(path for path in sorted(GUESTS.glob("*/*.[cS]")) if re.search(r"lib/(guest|ports|virtio)\.h", path.read_text()))]
        subprocess.run(["gcc", f"-m{bits}", *CFLAGS, f"-Wl,-T,{GUESTS}/lib/guest.ld", "-o", out, *sources], check=True, cwd=TOP)
        built[f"h{bits}"] = out
    return built


def config(name, bits, cmdline="", **settings):
    return hello_config(cmdline, **{"kernel": f"h{bits}", "vcpus": 2, "disk": "module:disk.img", **settings})


class Arena:
    """A machine that has booted and runs the neighbour; `patience` multiplies what is waited for an attack. (What a guest
    says is waited for to the line's end: a line that a console is left in is shown again when it is gone back to.)"""

    def __init__(self, machine, patience=1):
        self.machine = machine
        self.patience = patience
        self.began = 0
        machine.expect(PROMPT, timeout=300)
        shell(machine, "create neighbour", timeout=120)
        to_console(machine, "neighbour")
        machine.expect(r"^neighbour: ready.*\n", timeout=120)
        to_dom0(machine)
        for name in ("h32", "h64"):  # what dom0's own heap grows by at the first time
            self.start(name)
            to_dom0(machine)
            shell(machine, f"destroy {name}", timeout=120)
        self.memory = memory(machine)
        self.before = self.neighbour()

    def start(self, name):
        """Creates a guest and goes to its console."""
        machine = self.machine
        machine.sendline(f"create {name}")
        machine.expect(rf"^{name}: runs|{name} runs", timeout=120)
        machine.expect(PROMPT)
        to_console(machine, name, timeout=60 * self.patience)
        machine.expect(r"guest: \d+-bit, ready\n", timeout=120 * self.patience)

    def neighbour(self):
        """What the neighbour says now: (rounds, wrong words, ticks, milliseconds)."""
        to_console(self.machine, "neighbour")
        self.machine.sendline()
        said = self.machine.expect(r"^neighbour: (\d+) rounds, (\d+) wrong, (\d+) ticks in (\d+) ms\n", timeout=120)
        to_dom0(self.machine)
        return tuple(int(said[i]) for i in range(1, 5))

    def check(self, what, share=0.0):
        """All is well after an attack. `share`: of the ticks that the neighbour's timer should have had since the last check."""
        bad = re.search(CORRUPTION, self.machine.text[self.began:], re.M)
        assert not bad, f"{what}: {bad[0]}"
        assert memory(self.machine) == self.memory, f"{what}: memory is missing or left over"
        rounds, wrong, ticks, ms = self.neighbour()
        assert wrong == 0, f"{what}: {wrong} words of the neighbour's memory have changed"
        passed, due = ticks - self.before[2], (ms - self.before[3]) / 10
        assert passed > 0 and passed >= share * due, f"{what}: the neighbour had {passed} of {due:.0f} ticks"
        self.before = rounds, wrong, ticks, ms
        self.began = len(self.machine.text)

    def attack(self, name, line, timeout=60, share=0.0, keep=False):
        """Runs an attack in guest `name`; it must say that it is done. With keep=True the guest is left there, for more
        attacks, with its console shown."""
        if not keep or keep == "first":
            self.start(name)
        machine, attack = self.machine, line.split()[0]
        machine.sendline(line)
        start = machine.position
        said = machine.expect([rf"^{attack}: (done)\n", rf"^{attack}: (FAILED.*)\n", rf"^.*{name}: (crashed.*)\n",
                               r"^guest: (no attack.*)\n"], timeout * self.patience)
        assert said[1] == "done", f"{name}: {line}: {said[1]}"
        text = machine.text[start:said.end()]
        to_dom0(machine)
        shell(machine, f"destroy {name}", timeout=120)
        self.check(f"{name}: {line}", share)
        return text

    def death(self, name, line, says, timeout=20):
        """Runs an attack that must end the guest, in the way that `says` (a regular expression) tells."""
        self.start(name)
        machine = self.machine
        machine.sendline(line)
        machine.expect(rf"^warning: {name}: crashed after .*: (?:{says})", timeout * self.patience)
        machine.expect(PROMPT)
        shell(machine, f"wait {name}", timeout=120)
        self.check(f"{name}: {line}")

    def storm(self, name, line):
        """Begins an attack that never ends."""
        self.start(name)
        machine = self.machine
        machine.sendline(line)
        machine.expect(rf"^{line.split()[0]}: goes\n", timeout=20 * self.patience)
        to_dom0(machine, timeout=20 * self.patience)

    def goes_on(self, names, what):
        """The shell and the neighbour's console answer soon, and these guests run."""
        late = []
        while len(late) < TRIES:
            before = self.neighbour()
            said = shell(self.machine, "list", timeout=20 * self.patience)
            assert all(re.search(rf"^ *\d+ +{name} +running", said, re.M) for name in names), said
            took = (self.neighbour()[3] - before[3]) / 1000
            if took < WITHIN:
                return
            late.append(took)
        raise AssertionError(f"{what}: the consoles took {late} s of the machine's time to answer")

    def hang(self, name, line, seconds=1, share=0.0):
        """Runs an attack that never ends; after a while the guest is destroyed. All the time dom0 and the neighbour answer."""
        self.storm(name, line)
        shell(self.machine, f"sleep {seconds}", timeout=20 * self.patience)
        self.goes_on([name], f"{name}: {line}")
        shell(self.machine, f"destroy {name}", timeout=20 * self.patience)
        self.check(f"{name}: {line}", share)

    def crowd(self, lines, rounds=3):
        """Runs attacks that never end in several guests at once ({guest: line}). All the time dom0 and the neighbour answer."""
        for name, line in lines.items():
            self.storm(name, line)
        for _ in range(rounds):
            self.goes_on(lines, f"{lines}")
        for name in lines:
            shell(self.machine, f"destroy {name}", timeout=120)
        self.check(f"{lines}")


def arena_image(image, elves, **parameters):
    guests = {"big": config("big", 64, memory="160M", disk=None),
              "h32": config("h32", 32), "h64": config("h64", 64, disk="module:disk2.img"),
              "neighbour": config("neighbour", 64, "neighbour", vcpus=1, disk=None)}
    modules = [*((path, name) for name, path in elves.items()), *((b"\0" * 65536, name) for name in ("disk.img", "disk2.img"))]
    return image(linux=False, guests=guests, modules=modules, **parameters)
