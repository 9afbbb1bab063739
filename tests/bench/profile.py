#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Who spends what on one exit: takes one path once, instruction by instruction, and lists the functions of the kernel and of dom0
that the instructions belong to, with what was inlined into them.

QEMU tells what it executes through a plugin (plugin.c), Bochs through its debugger. The guest of tests/guest/bench marks where a
path begins and ends; each path is taken several times, and the last is the one that counts.
"""

import argparse
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from machines import SVM, TOP, VMX, bench_image, start  # noqa: E402

PARTS = {"events": ["doorbell", "irq_inject_before_hlt"], "waiting": ["irq_inject"]}  # words of the guest's that make several pieces each time
TIMES = 4  # MARKED in tests/guest/bench/bench.c
NOMIT = "_nomit"  # ends the name of a path that is taken with spec=off, as `make bench` names its figures
NAMES = {"k": "kernel", "d": "dom0", "g": "guest"}
IMAGES = {"k": "basalt.elf", "d": "dom0.elf"}
KERNEL_BASE = 0xffffffff80000000  # the kernel's image lies at its physical address above this
# Instructions that cost many cycles, though they count as one: what is counted beside each figure.
EXPENSIVE = {
    "vmentry": r"vmrun|vmresume|vmlaunch", "vmload_vmsave": r"vmload|vmsave", "vmread": r"vmread", "vmwrite": r"vmwrite",
    "wrmsr": r"wrmsr", "rdmsr": r"rdmsr", "xsave": r"xsave\w*", "xrstor": r"xrstor\w*", "xcr": r"x[gs]etbv",
    "clgi_stgi": r"clgi|stgi", "io": r"in|out", "rdtsc": r"rdtscp?", "flush": r"invept|invvpid|invlpga?|mov_cr3",
    "serialize": r"cpuid|mov_dr|mov_cr|lmsw|iretq?|lfence|verw", "locked": r"lock|xchg_mem",
}


def plugin(build):
    out, source = build / "bench/plugin.so", TOP / "tests/bench/plugin.c"
    if not out.exists() or out.stat().st_mtime < source.stat().st_mtime:
        out.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["gcc", "-std=gnu17", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror",
                        "-o", out, source], check=True)
    return out


def until_end(machine):
    machine.expect(r"^bench: end", timeout=300)
    if found := re.search(r"^bench: unknown: (\S+)", machine.text, re.M):
        raise AssertionError(f"there is no path {found[1]}; there are those of PATHS in tests/bench/paths.py, doorbell and irq_inject,"
                             f" each with {NOMIT} too")


def take_qemu(build, name, iso, _):
    out = build / f"bench/{name}.trace"
    with start(SVM, name, iso, extra=["-plugin", f"{plugin(build)},out={out}"]) as machine:
        until_end(machine)
        machine.monitor("quit")
    pieces = out.read_text().split("mark\n")[1::2]
    return [[(line[0], int(line[2:], 16)) for line in piece.splitlines()] for piece in pieces]


def take_bochs(build, name, iso, count):
    log = build / f"bench/{name}.trace"
    script = "c\n" + "trace on\nc\ntrace off\nc\n" * count
    with start(VMX, name, iso, script=script, extra=f"magic_break: enabled=1\ndebugger_log: {log}") as machine:
        until_end(machine)
    pieces = []
    for piece in log.read_text(errors="replace").split("Magic breakpoint")[1::2]:
        pieces.append([])
        for found in re.finditer(r"^\(0\)\.\[\d+\] \[0x([0-9a-f]+)\] [0-9a-f]+:([0-9a-f]+) .*?: (.{7})", piece, re.M):
            physical, address = int(found[1], 16), int(found[2], 16)
            if found[3] != "xchg bx":
                kernel = address - physical == KERNEL_BASE
                pieces[-1].append(("k" if kernel else "d" if address >> 63 else "g", address))
    return pieces


def take(build, machine, names, bits=32, turn="", cmdline=""):
    """Takes each path of `names`; {name: [(who, address), ...]}, one for each instruction executed."""
    words = list(dict.fromkeys(next((word for word, parts in PARTS.items() if name in parts), name) for name in names))
    label = f"bench-profile{bits}-{machine}{turn}"
    iso = bench_image(build, label, " ".join(["mark", *words]), bits, "bench=events", cmdline)
    count = TIMES * sum(len(PARTS.get(word, [word])) for word in words)
    pieces = (take_qemu if machine == SVM else take_bochs)(build, label, iso, count)
    if len(pieces) != count or not all(pieces):
        raise AssertionError(f"{label}: {len(pieces)} pieces are not what {words} make" +
                             ("; doorbell and irq_inject need a 32-bit guest" if bits == 64 else ""))
    traces = {}
    for word in words:
        parts = PARTS.get(word, [word])
        mine, pieces = pieces[:TIMES * len(parts)], pieces[TIMES * len(parts):]
        traces.update(zip(parts, mine[-len(parts):]))
    return {name: traces[name] for name in names}


def take_all(build, machine, names, bits):
    """As take(), where the names of paths may end in NOMIT."""
    plain = [name for name in names if not name.endswith(NOMIT)]
    nomit = [name.removesuffix(NOMIT) for name in names if name.endswith(NOMIT)]
    traces = take(build, machine, plain, bits) if plain else {}
    if nomit:
        found = take(build, machine, nomit, bits, NOMIT, "spec=off")
        traces.update((name + NOMIT, trace) for name, trace in found.items())
    return {name: traces[name] for name in names}


def mnemonics(build):
    """{(who, address): what the instruction is}, of both images; the operand is added where it makes the difference."""
    table = {}
    for who, name in IMAGES.items():
        text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", build / name], check=True, stdout=subprocess.PIPE,
                              text=True).stdout
        for found in re.finditer(r"^ *([0-9a-f]+):\t(\S+) *(.*)$", text, re.M):
            word = found[2]
            if word == "mov" and (register := re.search(r"%(cr3|cr|d[br])", found[3])):
                word = "mov_" + register[1].replace("db", "dr")
            if word == "xchg" and "(" in found[3]:
                word = "xchg_mem"
            table[who, int(found[1], 16)] = word
    return table


def expensive(trace, table):
    """How many of each kind of expensive instruction a trace has, in kernel and dom0."""
    counts = dict.fromkeys(EXPENSIVE, 0)
    for place in trace:
        for kind, pattern in EXPENSIVE.items():
            counts[kind] += re.fullmatch(pattern, table.get(place, "")) is not None
    return counts


def functions(build, who, addresses):
    """{address: the functions it belongs to, what is inlined last}."""
    done = subprocess.run(["addr2line", "-afi", "-e", build / IMAGES[who]], input="\n".join(map(hex, addresses)), check=True,
                          stdout=subprocess.PIPE, text=True).stdout
    chains, chain = {}, []
    lines = iter(done.splitlines())
    for line in lines:
        if line.startswith("0x"):
            chain = chains[int(line, 16)] = []
        else:
            chain.insert(0, line)
            next(lines)  # file and line
    return chains


def listing(build, trace, inlined=True):
    """Lines of text: instructions by function, most first; below each what was inlined into it."""
    total = Counter(who for who, _ in trace)
    yield f"{len(trace)} instructions: " + ", ".join(f"{NAMES[who]} {count}" for who, count in total.most_common())
    for who in ("k", "d"):
        counts = Counter(address for owner, address in trace if owner == who)
        chains = functions(build, who, counts) if counts else {}
        outer, inner = Counter(), {}
        for address, count in counts.items():
            chain = chains[address]
            outer[chain[0]] += count
            if len(chain) > 1:
                inner.setdefault(chain[0], Counter())[" > ".join(chain[1:])] += count
        for name, count in outer.most_common():
            yield f"{count:7} {NAMES[who]} {name}"
            for part, parts in inner.get(name, Counter()).most_common() if inlined else ():
                yield f"        {parts:7}   of it {part}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build")
    parser.add_argument("--bits", default=32, type=int, choices=(32, 64), help="the guest's mode")
    parser.add_argument("--machine", choices=("svm", "vmx"), help="one machine only")
    parser.add_argument("paths", nargs="+")
    options = parser.parse_args()
    build = (TOP / options.build).resolve()
    table = mnemonics(build)
    for machine in {"svm": [SVM], "vmx": [VMX]}.get(options.machine, [SVM, VMX]):
        try:
            traces = take_all(build, machine, options.paths, options.bits)
        except AssertionError as error:
            sys.exit(f"profile: {error}")
        for name, trace in traces.items():
            print(f"==== {name}, {options.bits}-bit guest, {machine}")
            print("\n".join(listing(build, trace)))
            print("  " + ", ".join(f"{kind} {count}" for kind, count in expensive(trace, table).items() if count))


if __name__ == "__main__":
    main()
