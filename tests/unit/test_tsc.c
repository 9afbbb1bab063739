// SPDX-License-Identifier: Apache-2.0
//
// The clock's measurement on a machine whose processor is taken away at any instruction, as below another hypervisor:
// a counter and the TSC are read together, and the frequency is found, however long the pauses are.
//
// sources: arch/tsc.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "arch/acpi.h"
#include "arch/cpu.h"
#include "kernel/log.h"
#include "kernel/panic.h"

#define PM_HZ   3579545ull
#define TSC_KHZ 2600000ull

u64 host_tsc;
struct cpu_features cpu_features;
struct acpi_info acpi;
static unsigned chance; // percent of the reads with a pause before or behind it
static bool stands_still;

void log_line(enum log_level level unused, const char *text unused, ...) {}
noreturn void panic_trap(const struct trap_frame *trap unused, const char *format unused, ...) {
    mock_assert(false, "panic", __FILE__, __LINE__);
    abort();
}

static void pass(void) {
    bool taken_away = (unsigned)rand() % 100 < chance;

    host_tsc += 300 + (taken_away ? (u64)rand() % (TSC_KHZ * 500) : 0);
}

u32 host_inl(u16 port) {
    assert_int_equal(port, 0x608);
    pass();
    u32 value = (u32)((unsigned __int128)host_tsc * PM_HZ / (TSC_KHZ * 1000));
    pass();
    return stands_still ? 0xab1234 : value; // some have more than 24 bits
}

static u32 tenth(void) {
    pass();
    u32 value = (u32)(host_tsc / 1000);
    pass();
    return value;
}

static void pair_belongs_together(void **state) {
    (void)state;
    chance = 20;
    unsigned apart = 0;
    for (unsigned i = 0; i < 10000; i++) {
        u64 tsc;
        u32 value = tenth(), pair = tsc_pair(tenth, &tsc);
        assert_true((u32)(pair - value) < 1u << 31); // it goes on
        apart += (u32)(tsc / 1000) - pair > 2;
    }
    assert_in_range(apart, 0, 300); // all tries of one were taken away
}

static void frequency_is_found(void **state) {
    (void)state;
    for (unsigned i = 0; i < 2000; i++) {
        chance = 0;
        host_tsc = (u64)rand() << 20 | 1;
        tsc_begin();
        chance = i % 2 ? 5 : 0;
        if (i % 3)
            host_tsc += (u64)rand() % (TSC_KHZ * 1000); // the boot goes on
        tsc_init();
        assert_in_range(tsc_khz, TSC_KHZ * 999 / 1000, TSC_KHZ * 1001 / 1000);
    }
}

static void dead_timer_is_refused(void **state) {
    (void)state;
    chance = 0;
    host_tsc = 1;
    stands_still = true;
    tsc_begin();
    expect_assert_failure(tsc_init());
    stands_still = false;
    acpi.pm_timer_port = 0;
    tsc_begin();
    expect_assert_failure(tsc_init());
    acpi.pm_timer_port = 0x608;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pair_belongs_together),
        cmocka_unit_test(frequency_is_found),
        cmocka_unit_test(dead_timer_is_refused),
    };
    acpi.pm_timer_port = 0x608;
    srand(1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
