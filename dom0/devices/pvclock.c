// SPDX-License-Identifier: Apache-2.0
//
// The paravirtual clock's arithmetic (see pvclock.h).

#include "pvclock.h"

#define GHZ_IN_KHZ 1000000ull

struct pvclock_time pvclock_time(uint32_t tsc_khz) {
    uint64_t khz = tsc_khz ? tsc_khz : 1, numerator = GHZ_IN_KHZ << 32;
    int8_t left = 0, right = 0;

    // The shifted TSC is to run at more than 1 and at most 2 GHz: then mul uses all of its 32 bits.
    for (; khz <= GHZ_IN_KHZ; left++)
        khz <<= 1;
    for (; (khz >> right) > 2 * GHZ_IN_KHZ; right++)
        numerator <<= 1;
    return (struct pvclock_time){
        .version = 2,
        .tsc_to_system_mul = (uint32_t)(numerator / khz),
        .tsc_shift = (int8_t)(left - right),
        .flags = PVCLOCK_TSC_STABLE,
    };
}
