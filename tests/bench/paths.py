# SPDX-License-Identifier: Apache-2.0
"""Short paths: what one exit costs a guest, from its instruction to the next one, and how far it is to dom0 and back."""

import profile

from machines import SUFFIX, SVM, VMX, bench_image, config, image, measure

# Metrics of a 32-bit guest without paging; those of LONG once more in a 64-bit guest with four-level paging.
PATHS = ["hypercall_null", "exit_cpuid", "exit_cpuid_leaf1", "exit_rdmsr_apic_base", "exit_out_unclaimed", "lapic_mmio_read",
         "ioreq_roundtrip"]
LONG = ["hypercall_null", "exit_cpuid", "lapic_mmio_read"]


def exits(build, machine, turn):
    """The exit paths; the first time each with its count of costly instructions."""
    table = profile.mnemonics(build)
    for bits, names, long in ((32, PATHS, ""), (64, LONG, "_long")):
        name = f"bench-exits{bits}-{machine}-{turn}"
        found = measure(machine, name, bench_image(build, name, " ".join(names), bits))
        traces = profile.take(build, machine, names, bits) if turn == 1 else {}
        for path in names:
            counts = profile.expensive(traces.get(path, []), table)
            yield path + long + SUFFIX[machine], found[path][0], "instructions", counts


def exits_nomit(build, machine, turn):
    """The exit paths of a 32-bit guest without the controls of speculation."""
    name = f"bench-nomit-{machine}-{turn}"
    found = measure(machine, name, bench_image(build, name, " ".join(PATHS), cmdline="spec=off"))
    for path in PATHS:
        yield f"{path}_nomit{SUFFIX[machine]}", found[path][0], "instructions"


def events(build, machine, turn):
    """A doorbell's way to dom0, and an interrupt's way back: to a guest that waits for it, and to one that was about to."""
    name = f"bench-events-{machine}-{turn}"
    found = measure(machine, name, bench_image(build, name, "events waiting", dom0="bench=events"))
    for metric in ("doorbell", "irq_inject", "irq_inject_before_hlt"):
        yield metric + SUFFIX[machine], found[metric][0], "instructions"


def create_image(build, name):
    tiny = config("tiny", memory="1M", kernel="tiny", autostart="no", console="off")
    return image(build, name, {"tiny": tiny}, ["tiny"], dom0="bench=create loglvl=error")


def create(build, machine, turn):
    """A guest's creation and end. The median of 100: one takes half a million instructions and more."""
    name = f"bench-create-{machine}-{turn}"
    found = measure(machine, name, create_image(build, name))
    yield "create_destroy_tiny" + SUFFIX[machine], found["create_destroy_tiny"][0], "instructions"


def domain_memory(build, machine, turn):
    """What a domain of 32 MiB takes beside its memory: the mean over eight."""
    name = f"bench-memory-{machine}-{turn}"
    still = {f"still{i}": config(f"still{i}", memory="32M", kernel="bench32", cmdline="idle", autostart="no") for i in range(8)}
    found = measure(machine, name, image(build, name, still, dom0="bench=memory loglvl=error"), memory=512)
    for metric in ("mem_per_domain", "mem_per_domain_dom0"):
        yield metric + SUFFIX[machine], found[metric][0], "bytes"


for group in (exits, exits_nomit, events, create, domain_memory):
    group.machines = (SVM, VMX)
