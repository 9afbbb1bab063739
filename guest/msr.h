// SPDX-License-Identifier: Apache-2.0
//
// What guests' RDMSR and WRMSR do. What the processor holds is left to the backend, after the value was found legal
// here; the rest is emulated in struct msr_state or the vLAPIC; what has no rule is #GP. Follows the SDM,
// "Model-Specific Registers (MSRs)" and "Memory Type Range Registers (MTRRs)", the APM, "MSR Cross-Reference", and
// Linux' "KVM-specific MSRs".
#pragma once

#include "guest/vlapic.h"

#define MTRR_VARIABLE 8u
#define MTRR_COUNT    (1 + 11 + 2 * MTRR_VARIABLE) // default type; fixed ranges; base, mask, base, ...

struct vcpu;

/// One vCPU's emulated MSRs.
struct msr_state {
    u64 mtrrs[MTRR_COUNT];
    u64 tsc_adjust;
    u64 misc_enable;
    u64 system_time; // KVM clock: guest-physical address of the time page | 1 (enabled), or 0
    u64 wall_clock;  // KVM clock: where the wall clock was asked for last
};

void msr_init(struct msr_state *s);
/// RDMSR and WRMSR by a loaded vCPU; false: #GP, and nothing was changed. What a write asks of the local APIC's world is
/// put into *effect, to be carried out when the instruction is over.
must_check bool msr_read(struct vcpu *v, u32 index, u64 *value);
must_check bool msr_write(struct vcpu *v, u32 index, u64 value, struct vlapic_effect *effect);

// guest/mtrr.c: stored and validated, so that a guest's own view of its memory types is consistent. They have no effect
// on the second level: guest RAM is write-back, and devices are not memory.
/// What firmware leaves behind: MTRRs on, everything write-back. (Linux uses no PAT where they are off.)
void mtrr_init(u64 mtrrs[MTRR_COUNT]);
/// Reads or writes one; false for #GP.
must_check bool mtrr_read(const u64 mtrrs[MTRR_COUNT], u32 msr, u64 *value);
must_check bool mtrr_write(u64 mtrrs[MTRR_COUNT], u32 msr, u64 value, unsigned phys_bits);
/// True if `value` is legal in IA32_PAT.
bool pat_legal(u64 value);
