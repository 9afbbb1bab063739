#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Measures Basalt. Writes build/bench.tsv and prints it with the targets. Every measurement is made twice; if the two differ,
or one fails, so does the whole.

A measurement is a function (build, machine, turn) that yields rows (metric, value, unit) or (metric, value, unit, counts of
costly instructions by kind); its attribute `machines` says where it
is made. They stand in the list GROUPS. docs/specification.md says what each metric is.
"""

import argparse
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import chart  # noqa: E402
import linux  # noqa: E402
import machine_wide  # noqa: E402
import paths  # noqa: E402
from machines import TOP  # noqa: E402
from profile import EXPENSIVE  # noqa: E402
from targets import target  # noqa: E402


def size(build, machine, turn):
    """Lines of code of the kernel, and what is loaded into memory, by kind."""
    lines = subprocess.run([TOP / "tools/loc.sh", "--kernel"], check=True, stdout=subprocess.PIPE, text=True).stdout
    yield "loc_kernel", int(lines), "lines"
    for name in ("basalt", "dom0"):
        image = build / f"{name}.elf"
        numbers = subprocess.run(["size", image], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[1].split()
        for kind, number in zip(("text", "data", "bss"), numbers):
            yield f"size_{name}_{kind}", int(number), "bytes"


size.machines = ("-",)

GROUPS = [linux.linux, paths.exits, paths.exits_nomit, paths.events, paths.create, paths.domain_memory, machine_wide.boot,
          machine_wide.kernel_memory, size]  # the longest first


def measure(build, group, machine):
    """Both turns of a group on one machine; its rows, or raises."""
    first, second = (list(group(build, machine, turn)) for turn in (1, 2))
    if [row[:3] for row in first] != [row[:3] for row in second]:
        different = [f"{a[0]}: {a[1]}, then {b[1]}" for a, b in zip(first, second) if a[:3] != b[:3]]
        raise AssertionError(f"{group.__name__} on {machine} does not repeat: " + "; ".join(different or ["other rows"]))
    return [(row[0], row[1], row[2], machine, row[3] if len(row) > 3 else {}) for row in first]


def verdict(metric, value):
    limit = target(metric)
    if limit is None:
        return "", ""
    return f"<= {limit:g}" if limit >= 0 else f">= {-limit:g}", "met" if value <= limit or 0 > limit >= -value else "MISSED"


def write(out, rows):
    """One line for each figure; behind the machine a column for each kind of costly instruction, empty where not counted."""
    lines = ["\t".join(["metric", "value", "unit", "machine", *EXPENSIVE])]
    for *row, counts in rows:
        lines.append("\t".join(map(str, row + [counts.get(kind, "") for kind in EXPENSIVE])))
    out.write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build")
    parser.add_argument("--only", help="measure only the groups whose name contains this, or only on the machine of this name")
    options = parser.parse_args()
    build = (TOP / options.build).resolve()
    wanted = [(group, machine) for group in GROUPS for machine in group.machines
              if not options.only or options.only in group.__name__ or options.only in machine]
    rows, failed = [], 0
    with ThreadPoolExecutor(2) as pool:
        futures = [(group, machine, pool.submit(measure, build, group, machine)) for group, machine in wanted]
        for group, machine, future in futures:
            try:
                rows += future.result()
            except Exception:
                failed += 1
                print(f"bench: {group.__name__} on {machine} FAILED\n{traceback.format_exc()}", file=sys.stderr)
    if not options.only:
        write(build / "bench.tsv", rows)
        (build / "bench.svg").write_text(chart.draw({row[0]: row[1] for row in rows}))
    for metric, value, unit, machine, counts in rows:
        limit, met = verdict(metric, value)
        text = " ".join(f"{kind}={count}" for kind, count in counts.items() if count)
        print(f"{metric:28} {value:>14} {unit:13} {machine:14} {limit:>12} {met:6} {text}".rstrip())
    print(f"bench: {len(rows)} figures{'' if options.only else ' in build/bench.tsv'}; {failed} measurements failed")
    return 1 if failed or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
