# SPDX-License-Identifier: Apache-2.0
"""Short paths: what one exit costs a guest, from its instruction to the next one."""

import re

from machines import SUFFIX, SVM, VMX, image, start

# Metrics of a 32-bit guest without paging; those of LONG once more in a 64-bit guest with four-level paging.
PATHS = ["hypercall_null", "exit_cpuid", "exit_cpuid_leaf1", "exit_rdmsr_apic_base", "exit_out_unclaimed", "lapic_mmio_read"]
LONG = ["exit_cpuid", "lapic_mmio_read", "hypercall_null"]


def run(build, machine, turn, bits, words):
    """What the measuring guest printed: {name: (median, minimum, maximum)}."""
    name = f"bench-paths{bits}-{machine}-{turn}"
    with start(machine, name, image(build, name, " ".join(words), bits), timeout=300) as emulator:
        emulator.expect(r"^bench: end")
        return {found[1]: tuple(map(int, found[2].split()))
                for found in re.finditer(r"^bench: (\w+)((?: \d+){3})$", emulator.text, re.M)}


def exits(build, machine, turn):
    """The exit paths: rows of (metric, value, unit)."""
    suffix = SUFFIX[machine]
    for bits, names, long in ((32, PATHS, ""), (64, LONG, "_long")):
        medians = run(build, machine, turn, bits, names)
        for name in names:
            yield name + long + suffix, medians[name][0], "instructions"


exits.machines = (SVM, VMX)
