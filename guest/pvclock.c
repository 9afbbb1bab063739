// SPDX-License-Identifier: Apache-2.0
//
// The paravirtual clock's arithmetic (see pvclock.h).

#include "guest/pvclock.h"

#define NS_PER_SECOND 1000000000ull
#define GHZ_IN_KHZ    1000000ull

struct pvclock_scale pvclock_scale(u32 tsc_khz) {
    u64 khz = MAX(tsc_khz, 1u), numerator = GHZ_IN_KHZ << 32;
    i8 left = 0, right = 0;

    // The shifted TSC is to run at more than 1 and at most 2 GHz: then mul uses all of its 32 bits.
    for (; khz <= GHZ_IN_KHZ; left++)
        khz <<= 1;
    for (; (khz >> right) > 2 * GHZ_IN_KHZ; right++)
        numerator <<= 1;
    return (struct pvclock_scale){.mul = (u32)(numerator / khz), .shift = (i8)(left - right)};
}

u64 pvclock_ns(struct pvclock_scale scale, u64 tsc) {
    u64 shifted = scale.shift < 0 ? tsc >> -scale.shift : tsc << scale.shift;

    return (u64)(((unsigned __int128)shifted * scale.mul) >> 32);
}

struct pvclock_time pvclock_time(struct pvclock_scale scale, u32 *version, u64 tsc) {
    return (struct pvclock_time){
        .version = *version += 2,
        .tsc_timestamp = tsc,
        .system_time = pvclock_ns(scale, tsc),
        .tsc_to_system_mul = scale.mul,
        .tsc_shift = scale.shift,
        .flags = PVCLOCK_TSC_STABLE,
    };
}

struct pvclock_wall pvclock_wall(u64 boot_ns) {
    return (struct pvclock_wall){
        .version = 2,
        .sec = (u32)(boot_ns / NS_PER_SECOND),
        .nsec = (u32)(boot_ns % NS_PER_SECOND),
    };
}
