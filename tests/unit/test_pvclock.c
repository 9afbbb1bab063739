// SPDX-License-Identifier: Apache-2.0
//
// The paravirtual clock: the guest's arithmetic must agree with exact arithmetic for every TSC frequency, and the
// wall clock with the system time.
//
// sources: guest/pvclock.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest/pvclock.h"

static void scale_is_exact(void **state) {
    (void)state;
    srand(1);
    for (unsigned i = 0; i < 20000; i++) {
        u32 khz = i < 64 ? (i < 32 ? 1u << i : ~0u >> (i - 32)) : (u32)rand() % 8000000 + 1;
        if (i == 64)
            khz = 1000000;
        if (i == 65)
            khz = 2000000;
        struct pvclock_scale scale = pvclock_scale(khz);
        assert_true(scale.mul >= 0x80000000u - 1);
        u64 tsc = (u64)khz * 1000 * 3600; // an hour
        u64 ns = pvclock_ns(scale, tsc), exact = 3600ull * 1000000000;
        u64 error = ns > exact ? ns - exact : exact - ns;
        assert_true(error <= (exact >> 30) + 2);
        assert_true(ns <= exact); // never ahead
    }
}

static void time_page(void **state) {
    u32 version = 4;
    struct pvclock_scale scale = pvclock_scale(2500000);
    struct pvclock_time t = pvclock_time(scale, &version, 1000);

    (void)state;
    assert_int_equal(version, 6);
    assert_int_equal(t.version, 6);
    assert_int_equal(t.flags, PVCLOCK_TSC_STABLE);
    // What a guest does: system_time + ((tsc - timestamp) << shift) * mul >> 32.
    u64 now = t.system_time + pvclock_ns((struct pvclock_scale){t.tsc_to_system_mul, t.tsc_shift},
                                         1000 + 2500000000ull - t.tsc_timestamp);
    assert_in_range(now, 1000000000 + 400 - 2, 1000000000 + 400);
}

static void wall_clock(void **state) {
    struct pvclock_wall w = pvclock_wall(1699999999ull * 1000000000 + 5);

    (void)state;
    assert_int_equal(w.version, 2);
    assert_int_equal(w.sec, 1699999999);
    assert_int_equal(w.nsec, 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scale_is_exact),
        cmocka_unit_test(time_page),
        cmocka_unit_test(wall_clock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
