#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Measures Basalt. Writes build/bench.tsv: metric, value, unit, machine; prints it as well.

A measurement is a function that yields (metric, value, unit, machine) rows and stands in the list MEASUREMENTS. Numbers that
depend on the host's speed say so in the name of their machine (`host`); those counted in guest instructions repeat exactly.
"""

import argparse
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(TOP / "tools"))


def size(build):
    """Lines of code of the kernel, and what is loaded into memory, by kind."""
    lines = subprocess.run([TOP / "tools/loc.sh", "--kernel"], check=True, stdout=subprocess.PIPE, text=True).stdout
    yield "loc_kernel", int(lines), "lines", "-"
    for name in ("basalt", "dom0"):
        image = build / f"{name}.elf"
        text, data, bss = subprocess.run(["size", image], check=True, stdout=subprocess.PIPE,
                                         text=True).stdout.splitlines()[1].split()[:3]
        yield f"size_{name}_text", int(text), "bytes", "-"
        yield f"size_{name}_data", int(data), "bytes", "-"
        yield f"size_{name}_bss", int(bss), "bytes", "-"


MEASUREMENTS = [size]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build")
    parser.add_argument("--only", help="measure only the function of this name")
    options = parser.parse_args()
    build = (TOP / options.build).resolve()
    rows = [row for measure in MEASUREMENTS if options.only in (None, measure.__name__) for row in measure(build)]
    out = TOP / "build/bench.tsv"
    out.write_text("metric\tvalue\tunit\tmachine\n" + "".join("\t".join(map(str, row)) + "\n" for row in rows))
    for metric, value, unit, machine in rows:
        print(f"{metric:32} {value:>14} {unit:12} {machine}")
    print(f"bench: {len(rows)} figures in {out.relative_to(TOP)}")


if __name__ == "__main__":
    main()
