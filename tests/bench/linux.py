# SPDX-License-Identifier: Apache-2.0
"""What Basalt costs Debian's Linux: the share of the host's instructions in its boot, and the time of work in it against the same
work on the same QEMU without Basalt. The guests' files are those of the tests; /init is tests/guest/bench/linux_init.c."""

import json
import re
import subprocess

import machines
import paths
import profile

from machines import SVM, TIME, TOP, config, image, start

import guests

GUEST = TOP / "build/guest"


class Counts:
    """What plugin.c counted up to a mark."""

    def __init__(self, kernel, dom0, others, entries):
        self.kernel, self.dom0, self.others, self.entries = kernel, dom0, others, entries

    @property
    def all(self):
        return self.kernel + self.dom0 + self.others

    def __sub__(self, other):
        return Counts(*(getattr(self, name) - getattr(other, name) for name in ("kernel", "dom0", "others", "entries")))

    def __repr__(self):
        return f"kernel {self.kernel} dom0 {self.dom0} others {self.others} entries {self.entries}"


MEMORY = 256  # MiB
DISK = 8 << 20
READS = 4096  # of 4 KiB, at each depth (tests/guest/bench/linux_init.c)
CMDLINE = "console=ttyS0 nokaslr"


def initrd(build):
    """The tests' RAM disk, with another /init."""
    out, source = build / "bench/initrd.img", TOP / "tests/guest/bench/linux_init.c"
    out.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["gcc", "-O2", "-static", "-Wall", "-Wextra", "-Wno-unused-result", "-o", build / "bench/linux_init", source],
                   check=True)
    archive = guests.Cpio(build / "bench/init.cpio")
    archive.entry("init", 0o100755, (build / "bench/linux_init").read_bytes())
    archive.close()
    out.write_bytes((GUEST / "initrd.img").read_bytes() + (build / "bench/init.cpio").read_bytes())
    return out


def ticks(text):
    return {found[1]: int(found[2]) for found in re.finditer(r"^bench: (linux_\w+) (\d+)$", text, re.M)}


def bare(build, turn):
    """The work's ticks without Basalt."""
    with machines.Qemu(f"bench-linux-bare-{turn}", memory=f"{MEMORY}M", icount=0, timeout=600, extra=[
            "-rtc", f"base={TIME},clock=vm", "-seed", "1", "-kernel", GUEST / "vmlinuz", "-initrd", build / "bench/initrd.img",
            "-append", CMDLINE]) as machine:
        machine.expect(r"^bench: end")
        return ticks(machine.text)


def guest(build, turn):
    """The work's ticks in a guest, what the plugin counted at each mark, what the domains hold (dom0's `mem`), and what dom0
    printed at each ring of its doorbell."""
    name = f"bench-linux-{turn}"
    out = build / f"bench/{name}.trace"
    linux = config("linux", kernel="vmlinuz", memory=f"{MEMORY}M", cmdline=CMDLINE)
    linux += 'initrd = "initrd"\ndisk = "module:blk.img"\n'
    low = config("low", kernel="low", memory="1M", cmdline="idle", autostart="no")
    iso = image(build, name, {"linux": linux, "low": low}, ["low"], dom0="console=linux bench=count", modules=[
        (GUEST / "vmlinuz", "vmlinuz"), (build / "bench/initrd.img", "initrd"), (bytes(DISK), "blk.img")])
    with start(SVM, name, iso, memory=1024, timeout=900, extra=[
            "-seed", "1", "-plugin", f"{profile.plugin(build)},out={out},count=1"]) as machine:
        machine.expect(r"^bench: end$")
        counts = [Counts(*map(int, line.split()[1:])) for line in out.read_text().splitlines()]
        machine.send("\x1d0")
        for command in ("", "create low", "mem -j"):
            machine.expect(r"^basalt> ", timeout=60)
            machine.sendline(command)
        held = json.loads(machine.expect(r'^\[\{"what":"total".*\]$', timeout=60)[0])
        counters = [tuple(map(int, found[1].split())) for found in re.finditer(r"bench: counters ([\d ]+)$", machine.text, re.M)]
        machine.monitor("quit")
        machine.wait(10)
        return ticks(machine.text), counts, {row["what"]: row["bytes"] for row in held}, counters


def superpage_share(held):
    """How much of the guest's memory is mapped in pages of 2 MiB. The tables are what it holds beside its memory. The guest of
    1 MiB has one table of 4 KiB pages, with its devices' state behind its memory; so this one has one for the state alone, and
    what it holds beyond that guest are tables that cut its memory."""
    further = (held["linux"] - (MEMORY << 20) - held["low"] + (1 << 20)) // 4096
    return 1 - 2 * further / MEMORY


def linux(build, machine, turn):
    """Ratios to two or three digits: when QEMU's disk delivers is not the machine's time, and the guest's timer ticks fall on
    other instructions of its."""
    initrd(build)
    without = bare(build, turn)
    within, counts, held, counters = guest(build, turn)
    boot, work = counts[1] - counts[0], counts[3] - counts[2]
    bare_ticks, ticks_ = (sum(of[name] for name in ("linux_sha256", "linux_fork_exec")) for of in (without, within))
    yield "linux_boot_host_share", round((boot.kernel + boot.dom0) / boot.all, 3), "ratio"
    yield "linux_cpu_overhead", round(ticks_ / bare_ticks, 2), "ratio"
    yield "linux_exits_per_second", round(work.entries * 1e9 / ticks_, -2), "1/s"
    yield "linux_superpage_share", superpage_share(held), "ratio"
    for i, depth in enumerate((1, 32)):
        reads = counts[5 + 2 * i] - counts[4 + 2 * i]
        kicks = counters[2 * i + 1][0] - counters[2 * i][0] - 1  # the last ring is none of the disk's
        yield f"blk_kicks_qd{depth}", round(kicks / READS, 3), "per request"
        yield f"blk_irqs_qd{depth}", round(within[f"linux_irqs_qd{depth}"] / READS, 3), "per request"
        yield f"blk_insns_qd{depth}", round((reads.kernel + reads.dom0) / READS, -2), "instructions per request"
    yield from irqs_off(build, turn)


def stretches(build, *traces):
    """The kernel's stretches with interrupts off of more than 5000 instructions: {function that took most: the longest}."""
    found = [(int(length), int(address, 16)) for trace in traces
             for length, address in re.findall(r"^stretch (\d+) (\w+)$", (build / f"bench/{trace}.trace").read_text(), re.M)]
    chains = profile.functions(build, "k", {address for _, address in found}) if found else {}
    longest = {}
    for length, address in found:
        name = chains[address][-1]
        longest[name] = max(longest.get(name, 0), length)
    return longest


def irqs_off(build, turn):
    """While guests are made and ended, and while Linux boots and works. In whole hundreds, as where in a stretch the timer's
    interrupt is looked for is not the same each time."""
    name = f"bench-irqs-{turn}"
    option = f"{profile.plugin(build)},out={build}/bench/{name}.trace,count=1"
    with start(SVM, name, paths.create_image(build, name), timeout=600, extra=["-plugin", option]) as machine:
        machine.expect(r"^bench: end$")
        machine.monitor("quit")
        machine.wait(10)
    longest = stretches(build, name, f"bench-linux-{turn}")
    yield "irqs_off_max", -(-max(longest.values(), default=5000) // 100) * 100, "instructions"
    for function, length in sorted(longest.items()):
        yield f"irqs_off_in_{function}", -(-length // 100) * 100, "instructions"


linux.machines = (SVM,)
