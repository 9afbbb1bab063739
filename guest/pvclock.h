// SPDX-License-Identifier: Apache-2.0
//
// The paravirtual clock that stock Linux knows as kvm-clock: the structures that a guest reads in its own memory, and
// their computation. The TSC is constant and equal on all CPUs, so a page is written once per registration and not
// per entry. Protocol: the version is odd while an update is under way. Follows Linux' documentation, "KVM-specific
// MSRs".
#pragma once

#include "arch/types.h"

#define PVCLOCK_TSC_STABLE 0x1u

struct pvclock_time {
    u32 version;
    u32 pad0;
    u64 tsc_timestamp; // guest TSC ...
    u64 system_time;   // ... at which this many ns had passed since boot
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

/// What ns = (shift(tsc) * mul) >> 32 needs; shift is to the left, negative ones to the right.
struct pvclock_scale {
    u32 mul;
    i8 shift;
};

/// The scale for a TSC of `tsc_khz` (1 .. 2^32-1), exact to 2^-30.
struct pvclock_scale pvclock_scale(u32 tsc_khz);
/// ns that `tsc` ticks last, computed as a guest does.
u64 pvclock_ns(struct pvclock_scale scale, u64 tsc);
/// The time page's contents at guest TSC `tsc`; system time began when that was 0. *version (even) is advanced by 2.
struct pvclock_time pvclock_time(struct pvclock_scale scale, u32 *version, u64 tsc);
/// The wall clock's contents when system time 0 was `boot_ns` after the Unix epoch.
struct pvclock_wall pvclock_wall(u64 boot_ns);
