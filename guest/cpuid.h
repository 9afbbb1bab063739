// SPDX-License-Identifier: Apache-2.0
//
// What guests see of CPUID: the host's leaves through one table of masks and rules, prepared once at boot, so that a
// guest's CPUID costs a table lookup and never a CPUID of the host's. Invariant: a feature bit that no row lets
// through is 0, and every feature that is shown has its MSRs, control bits and instructions virtualized. Follows the
// SDM, "CPUID - CPU Identification", and the APM, "Obtaining Processor Information Via the CPUID Instruction".
#pragma once

#include "arch/x86.h"

enum {
    CPUID_BASIC = 0x17,    ///< basic leaves 0 .. 0x16
    CPUID_EXTENDED = 0x22, ///< extended leaves 0x80000000 .. 0x80000021
    CPUID_ROWS = 32,       ///< subleaves that are kept
};

/// What the backend and the host can do, apart from CPUID itself.
struct cpuid_inputs {
    u32 tsc_khz;           // of the guest
    u8 phys_bits_max;      // widest guest-physical address of the second level; 0: no limit
    u64 xcr0;              // state components that the kernel switches
    bool invpcid;          // INVPCID runs in guests
    bool rdtscp;           // RDTSCP and RDPID run in guests, and IA32_TSC_AUX is switched
    u64 arch_capabilities; // the host's IA32_ARCH_CAPABILITIES, or 0
};

/// The prepared table: one per machine, read-only after setup.
struct cpuid_policy {
    u32 max_basic, max_extended;
    u32 tsc_khz;
    u8 phys_bits;         // guests' MAXPHYADDR
    bool amd;             // AMD or Hygon: the other vendor's MSRs fault
    bool rdtscp;          // IA32_TSC_AUX exists
    bool ibpb, l1d_flush; // commands of IA32_PRED_CMD, IA32_FLUSH_CMD
    u64 xcr0;             // bits that a guest may set
    u64 efer;             // bits of EFER that a guest may set
    u64 cr4;              // bits of CR4 that a guest may set
    u64 arch_capabilities;
    u8 basic[CPUID_BASIC]; // leaf -> its first row in the table + 1; 0: all zeros
    u8 extended[CPUID_EXTENDED];
    struct cpuid store[CPUID_ROWS]; // what the rows show
};

/// What of one vCPU shows in its leaves.
struct cpuid_vcpu {
    u32 apic_id; // = index
    u32 vcpus;   // of the domain, 1..
    u64 cr4, xcr0;
    bool apic_on; // IA32_APIC_BASE.EN
};

/// Reads one subleaf of the host: cpuid_count, or a model in tests.
typedef struct cpuid (*cpuid_host_fn)(u32 leaf, u32 subleaf);

/// Prepares *policy (any previous contents are lost).
void cpuid_setup(struct cpuid_policy *policy, const struct cpuid_inputs *inputs,
                 cpuid_host_fn host);
/// A guest's CPUID.
struct cpuid cpuid_guest(const struct cpuid_policy *policy, const struct cpuid_vcpu *vcpu, u32 leaf,
                         u32 subleaf);
