#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Draws build/bench.tsv beside what Xen and KVM need for the same, as an SVG: chart.py [bench.tsv [out.svg]].

A block for each metric, a bar for each hypervisor, as long as its figure among those of the block; a line marks what is promised.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from targets import target  # noqa: E402

TOP = Path(__file__).resolve().parent.parent.parent
# Measured in the same emulators with the same instructions (issue 3): Xen 4.17 and KVM 6.1 with SVM, KVM 6.1 with VMX without
# mitigations.
OTHERS = {
    "hypercall_null": (2613, 2602, 960), "exit_cpuid": (2495, 2464, 974), "exit_rdmsr_apic_base": (2405, 2530, 1089),
    "exit_out_unclaimed": (1116, 3012, 3098), "lapic_mmio_read": (4762, 3456, 6604), "ioreq_roundtrip": (None, 3045, 3144),
    "boot_to_dom0": (4_900_000_000, None, None), "create_destroy_tiny": (110_000_000, 10_000_000, 6_800_000),
}
NAMES = ("Xen 4.17, SVM", "KVM 6.1, SVM", "KVM 6.1, VMX")
NOTES = {"create_destroy_tiny": "Xen: 32 MiB, creation alone; KVM, SVM: 5 to 15 M", "boot_to_dom0": "kernel entry to dom0's first instruction",
         "exit_out_unclaimed": "KVM: to its VMM and back"}
OURS, THEIRS, PROMISE = "#2a78d6", "#b9b8b2", "#c2410c"
LABEL, BAR, WIDTH, ROW, GAP = 150, 158, 430, 20, 34


def bars(metric, values):
    """(name, value, ours) for each bar of a metric's block."""
    rows = [(f"Basalt, {kind.upper()}", values[f"{metric}_{kind}"], True) for kind in ("svm", "vmx") if f"{metric}_{kind}" in values]
    return rows + [(name, value, False) for name, value in zip(NAMES, OTHERS[metric]) if value]


def text(x, y, words, anchor="start", more=""):
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}"{more}>{words}</text>'


def block(metric, values, y):
    """The lines of one block, and where it ends."""
    rows = bars(metric, values)
    longest = max(value for _, value, _ in rows)
    note = f' <tspan fill="#52514e" font-weight="normal">{NOTES[metric]}</tspan>' if metric in NOTES else ""
    lines = [text(0, y, metric + note, more=' font-weight="bold"')]
    y += 8
    for name, value, ours in rows:
        length = max(1, WIDTH * value / longest)
        lines += [text(LABEL, y + 13, name, "end"),
                  f'<rect x="{BAR}" y="{y + 2}" width="{length:.1f}" height="{ROW - 5}" rx="2" fill="{OURS if ours else THEIRS}"/>',
                  text(f"{BAR + length + 5:.1f}", y + 13, f"{value:,.0f}".replace(",", " "))]
        if ours and (limit := target(f"{metric}_{name[-3:].lower()}")):
            at = BAR + WIDTH * limit / longest
            lines.append(f'<path d="M{at:.1f} {y}v{ROW - 1}" stroke="{PROMISE}" stroke-width="2"/>')
        y += ROW
    return lines, y + GAP - 8


def draw(values):
    lines, y = [], 62
    for metric in OTHERS:
        if f"{metric}_svm" in values:
            more, y = block(metric, values, y)
            lines += more
    head = [text(0, 18, "Instructions, guest and hypervisor together: fewer is better", more=' font-size="15" font-weight="bold"'),
            text(0, 38, f'Counted in QEMU (SVM) and Bochs (VMX). <tspan fill="{PROMISE}">|</tspan> what Basalt promises at most')]
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-16 -8 720 {y}" font-family="sans-serif" font-size="12" '
                      f'fill="#0b0b0b">', f'<rect x="-16" y="-8" width="720" height="{y}" fill="#fcfcfb"/>', *head, *lines, "</svg>", ""])


def main():
    source, out = (*map(Path, sys.argv[1:]), *(TOP / "build/bench.tsv", TOP / "build/bench.svg")[len(sys.argv) - 1:])
    rows = [line.split("\t") for line in source.read_text().splitlines()[1:]]
    out.write_text(draw({row[0]: float(row[1]) for row in rows}))
    print(f"chart: {out}")


if __name__ == "__main__":
    main()
