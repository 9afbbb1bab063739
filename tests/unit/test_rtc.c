// SPDX-License-Identifier: Apache-2.0
//
// The real-time clock: its formats, and the calendar against the C library's.
//
// sources: tests/unit/dom0_host.c dom0/drivers/rtc.c dom0/lib/timer.c dom0/lib/event.c
// sources: dom0/lib/log.c dom0/lib/console.c dom0/lib/kernel_log.c dom0/lib/boot.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "dom0_host.h"

#include "drivers/rtc.h"
#include "lib/ports.h"
#include "lib/timer.h"

#include <string.h>

// ---- A clock chip ----

static u8 registers[64], index_port;
static unsigned updating; // readings of register A until the update is over

u8 in8(u16 port) {
    assert_int_equal(port, 0x71);
    if (index_port == 0x0a)
        return updating && updating-- ? 0x80 : 0;
    host_advance(1000);
    return registers[index_port];
}

void out8(u16 port, u8 value) {
    assert_int_equal(port, 0x70);
    assert_true(value < sizeof(registers)); // bit 7 stays clear: NMIs are on
    index_port = value;
}

static void read_clock(const u8 fields[6], u8 mode, u64 expected) {
    static const u8 places[] = {0, 2, 4, 7, 8, 9};
    for (unsigned i = 0; i < 6; i++)
        registers[places[i]] = fields[i];
    registers[0x0b] = mode;
    updating = 3;
    host_reset();
    clock_init();
    assert_in_range(time_wall_ns(), expected * NS_PER_S, expected * NS_PER_S + NS_PER_MS);
}

static void test_formats(void **state) {
    (void)state;
    read_clock((u8[]){0x56, 0x34, 0x12, 0x25, 0x11, 0x26}, 2, 1795610096); // 2026-11-25 12:34:56
    read_clock((u8[]){56, 34, 12, 25, 11, 26}, 6, 1795610096);
    read_clock((u8[]){0x56, 0x34, 0x92, 0x25, 0x11, 0x26}, 0, 1795610096); // 12 pm
    read_clock((u8[]){56, 34, 12, 25, 11, 26}, 4, 1795566896);             // 12 am
    read_clock((u8[]){0x59, 0x59, 0x23, 0x31, 0x12, 0x99}, 2, 946684799);  // 1999
    read_clock((u8[]){0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 0xff, 0);       // no chip
}

static void test_every_day(void **state) {
    (void)state;
    for (time_t at = 0; at < 8000000000; at += 86400 - 7) { // to the year 2223, all times of day
        struct tm t;
        gmtime_r(&at, &t);
        assert_int_equal(clock_seconds((unsigned)t.tm_year + 1900, (unsigned)t.tm_mon + 1,
                                       (unsigned)t.tm_mday, (unsigned)t.tm_hour, (unsigned)t.tm_min,
                                       (unsigned)t.tm_sec),
                         at);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_day),
                                       cmocka_unit_test(test_formats)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
