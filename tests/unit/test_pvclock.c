// SPDX-License-Identifier: Apache-2.0
//
// The paravirtual clock: the guest's arithmetic must agree with exact arithmetic for every TSC frequency.
//
// sources: dom0/devices/pvclock.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dom0/devices/pvclock.h"

// What a guest does.
static uint64_t ns_of(const struct pvclock_time *t, uint64_t tsc) {
    uint64_t ticks = tsc - t->tsc_timestamp;
    uint64_t shifted = t->tsc_shift < 0 ? ticks >> -t->tsc_shift : ticks << t->tsc_shift;

    return t->system_time + (uint64_t)(((unsigned __int128)shifted * t->tsc_to_system_mul) >> 32);
}

static void scale_is_exact(void **state) {
    (void)state;
    srand(1);
    for (unsigned i = 0; i < 20000; i++) {
        uint32_t khz = i < 64 ? (i < 32 ? 1u << i : ~0u >> (i - 32))
                              : (uint32_t)rand() % 8000000 + 1;
        if (i == 64)
            khz = 1000000;
        if (i == 65)
            khz = 2000000;
        struct pvclock_time t = pvclock_time(khz);
        assert_true(t.tsc_to_system_mul >= 0x80000000u - 1);
        uint64_t ns = ns_of(&t, (uint64_t)khz * 1000 * 3600),
                 exact = 3600ull * 1000000000; // an hour
        uint64_t error = ns > exact ? ns - exact : exact - ns;
        assert_true(error <= (exact >> 30) + 2);
        assert_true(ns <= exact); // never ahead
    }
}

static void time_page(void **state) {
    struct pvclock_time t = pvclock_time(2500000);

    (void)state;
    assert_int_equal(t.version % 2, 0);
    assert_int_equal(t.flags, PVCLOCK_TSC_STABLE);
    assert_int_equal(ns_of(&t, 0), 0);
    assert_in_range(ns_of(&t, 1000 + 2500000000ull), 1000000000 + 400 - 2, 1000000000 + 400);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scale_is_exact),
        cmocka_unit_test(time_page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
