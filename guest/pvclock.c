// SPDX-License-Identifier: Apache-2.0
//
// The paravirtual clock's arithmetic (see pvclock.h).

#include "guest/pvclock.h"

#define GHZ_IN_KHZ 1000000ull

struct pvclock_time pvclock_time(u32 tsc_khz) {
    u64 khz = MAX(tsc_khz, 1u), numerator = GHZ_IN_KHZ << 32;
    i8 left = 0, right = 0;

    // The shifted TSC is to run at more than 1 and at most 2 GHz: then mul uses all of its 32 bits.
    for (; khz <= GHZ_IN_KHZ; left++)
        khz <<= 1;
    for (; (khz >> right) > 2 * GHZ_IN_KHZ; right++)
        numerator <<= 1;
    return (struct pvclock_time){
        .version = 2,
        .tsc_to_system_mul = (u32)(numerator / khz),
        .tsc_shift = (i8)(left - right),
        .flags = PVCLOCK_TSC_STABLE,
    };
}
