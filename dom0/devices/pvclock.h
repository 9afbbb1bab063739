// SPDX-License-Identifier: Apache-2.0
//
// The paravirtual clock that stock Linux knows as kvm-clock: the structures that a guest reads in its own memory. System
// time began when the guest's TSC was 0, and the TSC is constant and equal on all CPUs: so a time page is the same for
// all vCPUs at all times, and is written once per registration. Follows Linux' documentation, "KVM-specific MSRs".
#pragma once

#include <stdint.h>

#define PVCLOCK_TSC_STABLE 0x1u

/// ns = system_time + (shift(tsc - tsc_timestamp) * tsc_to_system_mul) >> 32; shift is to the left, negative ones to the
/// right.
struct pvclock_time {
    uint32_t version; // even: no update is under way
    uint32_t pad0;
    uint64_t tsc_timestamp;
    uint64_t system_time;
    uint32_t tsc_to_system_mul;
    int8_t tsc_shift;
    uint8_t flags;
    uint8_t pad[2];
};
_Static_assert(sizeof(struct pvclock_time) == 32, "as guests read it");

struct pvclock_wall {
    uint32_t version;
    uint32_t sec, nsec; // wall time at system_time 0
};
_Static_assert(sizeof(struct pvclock_wall) == 12, "as guests read it");

/// The time page for a TSC of `tsc_khz` (1 .. 2^32-1), exact to 2^-30.
struct pvclock_time pvclock_time(uint32_t tsc_khz);
