// SPDX-License-Identifier: Apache-2.0
//
// Tests of the kernel's command line and of its printf, the latter against the C library's.
//
// sources: kernel/cmdline.c kernel/format.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "kernel/cmdline.h"
#include "kernel/log.h"

static char last_line[256];
static unsigned log_lines;

void log_line(enum log_level level, const char *text, ...) {
    va_list args;
    (void)level;
    va_start(args, text);
    vsnprintf(last_line, sizeof(last_line), text, args);
    va_end(args);
    log_lines++;
}

static void given(const char *line) {
    char exact[256];
    options = (struct options){.loglvl = LOG_INFO};
    log_lines = 0;
    strcpy(exact, line);
    cmdline_parse(exact);
}

static void test_options(void **state) {
    (void)state;
    given("");
    assert_int_equal(log_lines, 0);
    given("  loglvl=debug\tdom0_mem=64M console=com2,9600 panic=halt testexit  ");
    assert_int_equal(log_lines, 0);
    assert_int_equal(options.loglvl, LOG_DEBUG);
    assert_int_equal(options.dom0_mem, 64 << 20);
    assert_int_equal(options.console_port, 0x2f8);
    assert_int_equal(options.console_baud, 9600);
    assert_true(options.panic_halt && options.testexit && !options.log_deferred);
    given("log=deferred console=none");
    assert_true(options.log_deferred && options.no_console);
    given("console=none console=0x2e8 log=deferred log=now");
    assert_true(options.console_port == 0x2e8 && options.console_baud == 115200);
    assert_false(options.log_deferred || options.no_console);
    assert_int_equal(log_lines, 0);
}

static void test_malformed(void **state) {
    static const char *const lines[] = {
        "loglvl",
        "loglvl=",
        "loglvl=loud",
        "dom0_mem=",
        "dom0_mem=12Q",
        "dom0_mem=1MM",
        "dom0_mem=M",
        "dom0_mem=0x",
        "dom0_mem=-1",
        "dom0_mem=99999999999999999999",
        "dom0_mem=17179869184G",
        "panic=",
        "panic=never",
        "testexit=1",
        "console=",
        "console=com5",
        "console=com1,",
        "console=com1,230400",
        "console=com1,100000",
        "console=0xfff9",
        "console=none,9600",
        "log=later",
        "unknown",
        "=",
        "=5",
        "console=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa=1",
    };
    struct options untouched = {.loglvl = LOG_INFO};
    (void)state;
    for (unsigned i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        given(lines[i]);
        if (log_lines != 1)
            fail_msg("%s: %u complaints", lines[i], log_lines);
        assert_memory_equal(&options, &untouched, sizeof(options));
    }
    given("loglvl=loud dom0_mem=1G");
    assert_int_equal(options.dom0_mem, 1 << 30);
}

static void test_sizes(void **state) {
    u64 value = 0;
    (void)state;
    assert_true(parse_size("0", &value) && value == 0);
    assert_true(parse_size("0x1fK", &value) && value == 0x1f << 10);
    assert_true(parse_size("18446744073709551615", &value) && value == ~0ull);
    assert_true(parse_size("3g", &value) && value == 3ull << 30);
    assert_false(parse_size("", &value));
    assert_false(parse_size("18446744073709551616", &value));
    assert_false(parse_size("18446744073709551615K", &value));
    assert_false(parse_size("12 ", &value));
}

#pragma GCC diagnostic ignored "-Wformat" // the cut texts are wanted
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wformat-truncation"
#endif

#define SAME(...)                                                                                  \
    do {                                                                                           \
        for (size_t size = 0; size < sizeof(wanted); size++) {                                     \
            memset(wanted, '#', sizeof(wanted));                                                   \
            memset(got, '#', sizeof(got));                                                         \
            assert_int_equal(snprintf(wanted, size, __VA_ARGS__), format(got, size, __VA_ARGS__)); \
            assert_memory_equal(wanted, got, sizeof(got));                                         \
        }                                                                                          \
    } while (0)

static void test_format(void **state) {
    char wanted[64], got[64];
    (void)state;
    SAME("plain");
    SAME("%s|%8s|%.2s", "abc", "abc", "abc");
    SAME("%u %5u| %05u", 1u, 7u, 42u);
    SAME("%u %x %08x %lx %016lx", ~0u, ~0u, 0xbeefu, ~0ul, 0xcafeul);
    SAME("%llu %zu", ~0ull, (size_t)77);
    SAME("%%");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_format),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
