// SPDX-License-Identifier: Apache-2.0
//
// What guests' RDMSR and WRMSR do: one table of number, rule and reason. What the processor holds is left to the
// backend, after the value was found legal here; the rest is emulated in struct msr_state or the vLAPIC; what no row
// names is #GP. It never calls up: what a write causes elsewhere is returned as a struct msr_effect. Follows the SDM,
// "Model-Specific Registers (MSRs)", the APM, "MSR Cross-Reference", and Linux' "KVM-specific MSRs".
#pragma once

#include "guest/cpuid.h"
#include "guest/cr.h"
#include "guest/mtrr.h"
#include "guest/vlapic.h"

enum msr_result {
    MSR_DONE,    ///< read: *value is the result; write: carry out the effect
    MSR_FAULT,   ///< #GP(0); nothing was changed
    MSR_UNKNOWN, ///< #GP(0), and worth a line in the log: no row names this MSR
    MSR_BACKEND, ///< legal, and held by the backend: access_msr(); if it doesn't know it either, #GP
};

/// One vCPU's emulated MSRs.
struct msr_state {
    struct mtrr_state mtrr;
    u64 tsc_adjust;
    u64 misc_enable;
    u64 system_time; // KVM clock: guest-physical address of the time page | 1 (enabled), or 0
    u64 wall_clock;  // KVM clock: where the wall clock was asked for last
    u64 microcode;   // IA32_BIOS_SIGN_ID as shown
};

/// What else an access depends on.
struct msr_context {
    const struct cpuid_policy *policy;
    struct vlapic *vlapic;
    const struct cr_state *cr; // filled when `index` is MSR_EFER; may be NULL for others
    u64 efer;                  // the guest's EFER (read)
    u64 now;                   // guest TSC
};

/// What a write asks of the caller. All zero: nothing.
struct msr_effect {
    bool tsc;         // add tsc_delta to the TSC offset, and redo everything in guest time
    bool efer;        // commit cr: EFER
    bool system_time; // (un)register the time page: msr_state.system_time
    bool wall_clock;  // write the wall clock at msr_state.wall_clock
    bool host;        // write the value to the host's MSR of the same number (IBPB, L1D flush)
    u64 tsc_delta;
    struct cr_outcome cr;      // of EFER: value, flush
    struct vlapic_effect apic; // all zero unless an APIC register was written; `fault` is never set
};

void msr_init(struct msr_state *s);
must_check enum msr_result msr_read(struct msr_state *s, const struct msr_context *ctx, u32 index,
                                    u64 *value);
must_check enum msr_result msr_write(struct msr_state *s, const struct msr_context *ctx, u32 index,
                                     u64 value, struct msr_effect *effect);
