#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Puts what `make bench` measured into the documentation: the table of docs/specification.md, and docs/figures.svg."""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from targets import TARGETS, target  # noqa: E402

TOP = Path(__file__).resolve().parent.parent.parent
SUFFIXES = ("_svm", "_vmx", "")


def number(value):
    """Digits in groups of three; ratios as they are."""
    return f"{float(value):,.0f}".replace(",", " ") if float(value) >= 100 and float(value) == int(float(value)) else f"{float(value):g}"


def cell(values, metric):
    """A seen value, bold where it is over its limit."""
    if metric not in values:
        return ""
    limit, value = target(metric), float(values[metric])
    met = limit is None or (value <= limit if limit >= 0 else value >= -limit)
    return number(values[metric]) if met else f"**{number(values[metric])}**"


def limit_text(base):
    limits = {kind: target(base + kind) for kind in SUFFIXES if target(base + kind) is not None}
    kinds = list(dict.fromkeys(limits.values()))
    words = [("" if limit >= 0 else "at least ") + number(abs(limit)) for limit in kinds]
    return words[0] if len(words) == 1 else ", ".join(f"{kind[1:].upper()} {word}" for kind, word in zip(limits, words))


def table(values):
    bases = dict.fromkeys(re.sub("_(svm|vmx)$", "", metric) for metric in [*TARGETS, "linux_exits_per_second"])
    for base in bases:
        limit = limit_text(base) if any(target(base + kind) is not None for kind in SUFFIXES) else ""
        seen = [cell(values, base + kind) for kind in SUFFIXES]
        yield f"| `{base}` | {limit} | {seen[0] or seen[2]} | {seen[1]} |"


def main():
    rows = [line.split("\t") for line in (TOP / "build/bench.tsv").read_text().splitlines()[1:]]
    values = {row[0]: row[1] for row in rows}
    commit = subprocess.run(["git", "-C", TOP, "rev-parse", "--short", "HEAD"], stdout=subprocess.PIPE, text=True).stdout.strip()
    head = [f"Seen at {commit}, {time.strftime('%-d %B %Y', time.gmtime())}; **bold** is over the limit.", "",
            "| metric | at most | seen, SVM or both | seen, VMX |", "|---|---|---|---|"]
    page = TOP / "docs/specification.md"
    text = "\n".join([*head, *table(values)])
    page.write_text(re.sub(r"(<!-- figures -->).*?(<!-- end -->)", lambda m: f"{m[1]}\n{text}\n{m[2]}", page.read_text(), flags=re.S))
    shutil.copy(TOP / "build/bench.svg", TOP / "docs/figures.svg")


if __name__ == "__main__":
    main()
