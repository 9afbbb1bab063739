# SPDX-License-Identifier: Apache-2.0
"""The figures that are promised: the most a metric may be; a negative number is the least it must be (without its sign)."""

TARGETS = {
    "hypercall_null": 200, "hypercall_null_nomit": 150,
    "exit_cpuid_svm": 400, "exit_cpuid_long_svm": 650, "exit_cpuid_vmx": 200, "exit_cpuid_long_vmx": 200,
    "exit_rdmsr_apic_base_svm": 400, "exit_rdmsr_apic_base_vmx": 200,
    "exit_out_unclaimed": 200,
    "lapic_mmio_read": 700, "lapic_mmio_read_long": 900,
    "ioreq_roundtrip": 2000, "doorbell": 1000, "irq_inject": 1000,
    "boot_to_dom0": 20_000_000, "create_destroy_tiny": 1_300_000,
    "mem_kernel_1g": 6 << 20, "mem_kernel_64g": (64 << 30) * 4 // 1000 + (4 << 20),
    "mem_per_domain": 96 << 10, "mem_per_domain_dom0": 64 << 10,
    "linux_boot_host_share": 0.05, "linux_cpu_overhead": 1.03, "linux_superpage_share": -0.99,
    "blk_kicks_qd1": 1, "blk_irqs_qd1": 1, "blk_kicks_qd32": 0.2, "blk_irqs_qd32": 0.2,
    "blk_insns_qd1": 12_000, "blk_insns_qd32": 5_000,
    "irqs_off_max": 20_000, "loc_kernel": 7_500,
}


def target(metric):
    """The target of a metric, with the backend's suffix or without; None where nothing is promised."""
    return TARGETS.get(metric, TARGETS.get(metric.removesuffix("_svm").removesuffix("_vmx")))
