// SPDX-License-Identifier: Apache-2.0
//
// The shell's pure parts: command lines, words and options, sizes and times, listings as text and
// as JSON, and the search for ACPI's soft-off value.
//
// sources: dom0/toolstack/shell_parse.c dom0/toolstack/text.c dom0/toolstack/table.c
// sources: dom0/toolstack/power_s5.c dom0/toolstack/config.c dom0/toolstack/config_value.c
// sources: build/ext/src/cjson/cJSON.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "toolstack/config.h"
#include "toolstack/power.h"
#include "toolstack/shell.h"
#include "toolstack/table.h"
#include "toolstack/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum shell_result nothing(const struct shell_call *call) {
    (void)call;
    return SHELL_DONE;
}

const struct shell_command shell_commands[] = {
    {"list", "", "", nothing, 0, 0, true, SHELL_NO_COMPLETION},
    {"create", "<name>", "", nothing, 1, 1, false, SHELL_DOMAIN_NAMES},
    {"wait", "<name> [seconds]", "", nothing, 1, 2, false, SHELL_DOMAIN_NAMES},
    {NULL, NULL, NULL, NULL, 0, 0, false, SHELL_NO_COMPLETION},
};

// ---- command lines ----

static char line[256], error[160];
static char *words[SHELL_WORDS_MAX];
static struct shell_call call;

static const struct shell_command *parse(const char *text) {
    snprintf(line, sizeof(line), "%s", text);
    return shell_parse(line, words, &call, error, sizeof(error));
}

static void refused(const char *text, const char *sentence) {
    assert_null(parse(text));
    assert_string_equal(error, sentence);
}

static void test_commands(void **state) {
    (void)state;
    assert_string_equal(parse("list")->name, "list");
    assert_false(call.json);
    assert_string_equal(parse("  list   -j ")->name, "list");
    assert_true(call.json);
    assert_string_equal(parse("wait guest1 30")->name, "wait");
    assert_int_equal(call.count, 2);
    assert_string_equal(call.words[0], "guest1");
    assert_string_equal(call.words[1], "30");
    assert_string_equal(parse("create \"a name\"")->name, "create");
    assert_string_equal(call.words[0], "a name");
    refused("", "");
    refused("   ", "");
    refused("lits", "there is no command \"lits\"; did you mean \"list\"?");
    refused("xyzzy", "there is no command \"xyzzy\"; \"help\" lists them");
    refused("list all", "expected \"list\"");
    refused("create", "expected \"create <name>\"");
    refused("create a b", "expected \"create <name>\"");
    refused("wait", "expected \"wait <name> [seconds]\"");
    refused("create -j a", "create does not take -j");
    refused("create \"a", "expected a closing quote (\")");
    refused("wait 1 2 3 4 5 6 7 8 9", "too many words");
}

static void test_split(void **state) {
    (void)state;
    char *w[3], text[64];
    strcpy(text, " one\t\"two words\"  three ");
    assert_int_equal(text_split(text, w, 3), 3);
    assert_string_equal(w[1], "two words");
    assert_string_equal(w[2], "three");
    strcpy(text, "a b c d");
    assert_int_equal(text_split(text, w, 3), -2);
    strcpy(text, "a \"");
    assert_int_equal(text_split(text, w, 3), -1);
    strcpy(text, "\"\"");
    assert_int_equal(text_split(text, w, 3), 1);
    assert_string_equal(w[0], "");
}

static void test_options(void **state) {
    (void)state;
    char value[32];
    static const char cmdline[] =
        "dom0 autostart=no script=\"list; mem\" \"console=guest 1\" idle 'x=y z' e=\\\"q last=";
    assert_true(text_option(cmdline, "autostart", value, sizeof(value)));
    assert_string_equal(value, "no");
    assert_true(text_option(cmdline, "script", value, sizeof(value)));
    assert_string_equal(value, "list; mem");
    assert_true(text_option(cmdline, "console", value, sizeof(value)));
    assert_string_equal(value, "guest 1");
    assert_true(text_option(cmdline, "idle", value, sizeof(value)));
    assert_string_equal(value, "");
    assert_true(text_option(cmdline, "x", value, sizeof(value)));
    assert_string_equal(value, "y z");
    assert_true(text_option(cmdline, "e", value, sizeof(value)));
    assert_string_equal(value, "\"q");
    assert_true(text_option(cmdline, "last", value, sizeof(value)));
    assert_false(text_option(cmdline, "auto", value, sizeof(value)));
    assert_false(text_option(cmdline, "mem", value, sizeof(value)));
    assert_true(text_option("script=\"not closed", "script", value, sizeof(value)));
    assert_true(text_option(cmdline, "script", value, 5));
    assert_string_equal(value, "list");
    assert_false(text_option("", "a", value, sizeof(value)));
}

static void test_numbers(void **state) {
    (void)state;
    u64 value;
    assert_true(text_number("0", 9, &value));
    assert_true(text_number("4096", 4096, &value));
    assert_int_equal(value, 4096);
    static const char *const bad[] = {"",   "-1", "1x", "4097", "99999999999999999999999",
                                      " 1", "1 "};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_false(text_number(bad[i], 4096, &value));
}

static void test_sizes_and_times(void **state) {
    (void)state;
    char text[TEXT_SIZE_MAX];
    static const struct {
        u64 bytes;
        const char *text;
    } sizes[] = {{0, "0 B"},
                 {1023, "1023 B"},
                 {1024, "1 KiB"},
                 {256 * MIB, "256 MiB"},
                 {13 * MIB + 600 * KIB, "13.5 MiB"},
                 {6 * GIB, "6 GiB"},
                 {~0ull, "16777215 TiB"}};
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
        assert_string_equal(text_of_size(text, sizes[i].bytes), sizes[i].text);
    assert_string_equal(text_of_duration(text, 59999999999ull), "59 s");
    assert_string_equal(text_of_duration(text, 61000000000ull), "1 min 1 s");
    assert_string_equal(text_of_duration(text, 7260000000000ull), "2 h 1 min");
    text_of_duration(text, ~0ull);
}

// ---- listings ----

static char printed[4096];

static void print(const char *text) {
    size_t used = strlen(printed);
    snprintf(printed + used, sizeof(printed) - used, "%s\n", text);
}

static void fill(bool json) {
    static const struct table_column columns[] = {
        {"name", "NAME", false}, {"bytes", "SIZE", true}, {"note", "NOTE", false}};
    struct table t;
    printed[0] = 0;
    table_begin(&t, columns, ARRAY_SIZE(columns), json);
    table_text(&t, "guest1");
    table_value(&t, 268435456, "256 MiB");
    table_empty(&t);
    table_text(&t, "g \"2\"");
    table_number(&t, 7);
    table_text(&t, "x");
    table_end(&t, print);
}

static void test_table(void **state) {
    (void)state;
    fill(false);
    assert_string_equal(printed,
                        "NAME       SIZE  NOTE\nguest1  256 MiB  -\ng \"2\"         7  x\n");
    fill(true);
    assert_string_equal(printed, "[{\"name\":\"guest1\",\"bytes\":268435456,\"note\":null},"
                                 "{\"name\":\"g \\\"2\\\"\",\"bytes\":7,\"note\":\"x\"}]\n");
    cJSON *parsed = cJSON_Parse(printed);
    assert_non_null(parsed);
    assert_int_equal(cJSON_GetArraySize(parsed), 2);
    cJSON_Delete(parsed);
}

static void test_table_long(void **state) {
    (void)state;
    static const struct table_column column = {"n", "N", true};
    struct table t;
    char text[300];
    memset(text, 'x', sizeof(text) - 1);
    text[299] = 0;
    table_begin(&t, &column, 1, false);
    for (unsigned i = 0; i < 500; i++)
        table_text(&t, i == 250 ? text : "y");
    printed[0] = 0;
    table_end(&t, print);
    table_begin(&t, &column, 1, true);
    printed[0] = 0;
    table_end(&t, print);
    assert_string_equal(printed, "[]\n");
}

// ---- soft-off ----

static bool find_s5(const u8 *aml, size_t bytes, u8 *a, u8 *b) {
    u8 *copy = malloc(bytes ? bytes : 1);
    memcpy(copy, aml, bytes);
    bool found = power_find_s5(copy, bytes, a, b);
    free(copy);
    return found;
}

static void test_s5(void **state) {
    (void)state;
    u8 a = 99, b = 99;
    // QEMU: Name (_S5, Package (0x04) {0, 0, 0, 0})
    static const u8 qemu[] = {0x10, 0x08, '_', 'S', '5', '_', 0x12, 0x06, 0x04, 0, 0, 0, 0, 0x14};
    assert_true(find_s5(qemu, sizeof(qemu), &a, &b));
    assert_int_equal(a, 0);
    assert_int_equal(b, 0);
    // Real firmware: Name (\_S5, Package () {7, 5}) with byte prefixes and a long package length
    static const u8 real[] = {0x08, '_',  'S',  '5',  'x',  0x08, 0x5c, '_',  'S', '5',
                              '_',  0x12, 0x46, 0x01, 0x02, 0x0a, 7,    0x0a, 5};
    assert_true(find_s5(real, sizeof(real), &a, &b));
    assert_int_equal(a, 7);
    assert_int_equal(b, 5);
    // A method called _S5_, a value that can't be, one element only.
    static const u8 method[] = {0x14, '_', 'S', '5', '_', 0x12, 0x06, 0x04, 1, 1, 1, 1};
    assert_false(find_s5(method, sizeof(method), &a, &b));
    static const u8 wide[] = {0x08, '_', 'S', '5', '_', 0x12, 0x06, 0x02, 0x0a, 8, 0};
    assert_false(find_s5(wide, sizeof(wide), &a, &b));
    static const u8 one[] = {0x08, '_', 'S', '5', '_', 0x12, 0x06, 0x01, 0x0a, 5};
    assert_true(find_s5(one, sizeof(one), &a, &b));
    assert_int_equal(b, 5);
    for (size_t n = 0; n < sizeof(real) - 2; n++)
        assert_false(find_s5(real, n, &a, &b));
    static const u8 nothing_there[] = {1, 2, 3};
    assert_false(find_s5(nothing_there, 0, &a, &b));
    assert_false(find_s5(nothing_there, 3, &a, &b));
}

static void test_nearest(void **state) {
    (void)state;
    static const char *const names[] = {"list", "poweroff", "mem"};
    assert_string_equal(config_nearest("lsit", names, 3), "list");
    assert_string_equal(config_nearest("powerof", names, 3), "poweroff");
    assert_string_equal(config_nearest("power-off", names, 3), "poweroff");
    assert_string_equal(config_nearest("mm", names, 3), "mem");
    assert_null(config_nearest("reboot", names, 3));
    assert_null(config_nearest("", names, 0));
    assert_null(config_nearest("a-very-long-word-that-is-none", names, 3));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commands),        cmocka_unit_test(test_split),
        cmocka_unit_test(test_options),         cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_sizes_and_times), cmocka_unit_test(test_table),
        cmocka_unit_test(test_table_long),      cmocka_unit_test(test_s5),
        cmocka_unit_test(test_nearest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
