// SPDX-License-Identifier: Apache-2.0
//
// What guests see of CPUID: the host's leaves through one table of masks and rules, prepared once at boot, so that a
// guest's CPUID never costs a CPUID of the host's. Invariant: a feature bit that no row lets
// through is 0, and every feature that is shown has its MSRs, control bits and instructions virtualized. Follows the
// SDM, "CPUID - CPU Identification", and the APM, "Obtaining Processor Information Via the CPUID Instruction".
#pragma once

#include "arch/x86.h"

struct vcpu;

/// The prepared table: one per machine, read-only after setup.
struct cpuid_policy {
    u8 phys_bits; // guests' MAXPHYADDR
    bool amd;     // AMD or Hygon
    u64 xcr0;     // bits that a guest may set
    u64 efer;     // bits of EFER that a guest may set
    u64 cr4;      // bits of CR4 that a guest may set
    u64 arch_capabilities;
};

/// Reads one subleaf of the host: cpuid_count, or a model in tests.
typedef struct cpuid (*cpuid_host_fn)(u32 leaf, u32 subleaf);

/// Prepares guest_cpuid (any previous contents are lost). `xcr0`: the state components that the kernel switches;
/// `arch_capabilities`: the host's IA32_ARCH_CAPABILITIES, or 0.
void cpuid_setup(u64 xcr0, u64 arch_capabilities, cpuid_host_fn host);
extern struct cpuid_policy guest_cpuid;
/// A guest's CPUID, by the vCPU that runs on this CPU.
struct cpuid cpuid_guest(const struct vcpu *v, u32 leaf, u32 subleaf);
