// SPDX-License-Identifier: Apache-2.0
//
// Test of the calendar behind the wall clock, against the C library's.
//
// sources: drivers/rtc.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "arch/acpi.h"
#include "drivers/rtc.h"
#include "kernel/log.h"

struct acpi_info acpi;

void log_line(enum log_level level, const char *text, ...) {
    (void)level;
    (void)text;
}

static void test_every_day(void **state) {
    (void)state;
    for (time_t at = 0; at < 8000000000; at += 86400 - 7) { // to the year 2223, all times of day
        struct tm t;
        gmtime_r(&at, &t);
        assert_int_equal(rtc_seconds((unsigned)t.tm_year + 1900, (unsigned)t.tm_mon + 1,
                                     (unsigned)t.tm_mday, (unsigned)t.tm_hour, (unsigned)t.tm_min,
                                     (unsigned)t.tm_sec),
                         at);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_day)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
