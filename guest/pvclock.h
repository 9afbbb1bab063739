// SPDX-License-Identifier: Apache-2.0
//
// The paravirtual clock that stock Linux knows as kvm-clock: the structures that a guest reads in its own memory. System
// time began when the guest's TSC was 0, and the TSC is constant and equal on all CPUs: so a time page is the same for
// all vCPUs at all times, and is written once per registration. Follows Linux' documentation, "KVM-specific MSRs".
#pragma once

#include "arch/types.h"

#define PVCLOCK_TSC_STABLE 0x1u

/// ns = system_time + (shift(tsc - tsc_timestamp) * tsc_to_system_mul) >> 32; shift is to the left, negative ones to the
/// right.
struct pvclock_time {
    u32 version; // even: no update is under way
    u32 pad0;
    u64 tsc_timestamp;
    u64 system_time;
    u32 tsc_to_system_mul;
    i8 tsc_shift;
    u8 flags;
    u8 pad[2];
} packed;
SIZE_ASSERT(struct pvclock_time, 32);

struct pvclock_wall {
    u32 version;
    u32 sec, nsec; // wall time at system_time 0
} packed;
SIZE_ASSERT(struct pvclock_wall, 12);

/// The time page for a TSC of `tsc_khz` (1 .. 2^32-1), exact to 2^-30.
struct pvclock_time pvclock_time(u32 tsc_khz);
