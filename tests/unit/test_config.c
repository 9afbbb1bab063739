// SPDX-License-Identifier: Apache-2.0
//
// The parser of domain files: a whole file, each kind of mistake with its line, bounds, hints.
//
// sources: dom0/toolstack/config.c dom0/toolstack/config_value.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "toolstack/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BASE "name = g\nmemory = 64M\nkernel = k\n" // three lines

static char said[16384];
static struct domain_config config;

static void say(void *context, const char *sentence) {
    (void)context;
    size_t used = strlen(said);
    snprintf(said + used, sizeof(said) - used, "%s\n", sentence);
}

// Parses a copy that has exactly its size, so that the sanitizer sees every read beyond it.
static unsigned parse_bytes(const char *text, size_t bytes) {
    char *copy = malloc(bytes ? bytes : 1);
    memcpy(copy, text, bytes);
    said[0] = 0;
    unsigned mistakes = config_parse("f.conf", copy, bytes, &config, say, NULL);
    free(copy);
    return mistakes;
}

static unsigned parse(const char *text) { return parse_bytes(text, strlen(text)); }

// One line after BASE makes exactly one mistake, which is reported as `sentence`.
static void expect_mistake(const char *line, const char *sentence) {
    char text[8192], expected[600];
    snprintf(text, sizeof(text), BASE "%s\n", line);
    snprintf(expected, sizeof(expected), "f.conf:4: %s\n", sentence);
    assert_int_equal(parse(text), 1);
    assert_string_equal(said, expected);
}

static void test_whole_file(void **state) {
    (void)state;
    static const char text[] =
        "# a comment\n"
        "name = \"guest1\"\r\n"
        "\n"
        "memory=256M\n"
        "\tvcpus = 2   # two\n"
        "kernel = \"vmlinuz\"          # a boot module's name\n"
        "initrd = \"initrd\"\n"
        "cmdline = \"console=ttyS0 root=/dev/vda \\\"quoted\\\" \\\\ # not a comment\"\n"
        "disk = \"gpt:guest1-root\"\n"
        "disk = \"guid:1234-AB,ro\"\n"
        "disk = device:vda2,rw\n"
        "disk = \"module:ramdisk\"\n"
        "console = off\nautostart = yes\non_crash = preserve\non_reboot = destroy\n"
        "weight = 512\ncap = 50\nprotocol = pvh\n"
        "module = \"mod1 with words\"\nmodule = mod2"; // no end of line
    assert_int_equal(parse(text), 0);
    assert_string_equal(said, "");
    assert_string_equal(config.name, "guest1");
    assert_int_equal(config.memory, 256 * MIB);
    assert_int_equal(config.vcpus, 2);
    assert_string_equal(config.kernel, "vmlinuz");
    assert_string_equal(config.initrd, "initrd");
    assert_string_equal(config.cmdline,
                        "console=ttyS0 root=/dev/vda \"quoted\" \\ # not a comment");
    assert_int_equal(config.disk_count, 4);
    assert_int_equal(config.disks[0].source, CONFIG_DISK_LABEL);
    assert_string_equal(config.disks[0].name, "guest1-root");
    assert_false(config.disks[0].read_only);
    assert_int_equal(config.disks[1].source, CONFIG_DISK_GUID);
    assert_string_equal(config.disks[1].name, "1234-AB");
    assert_true(config.disks[1].read_only);
    assert_int_equal(config.disks[2].source, CONFIG_DISK_DEVICE);
    assert_string_equal(config.disks[2].name, "vda2");
    assert_false(config.disks[2].read_only);
    assert_int_equal(config.disks[3].source, CONFIG_DISK_MODULE);
    assert_false(config.console);
    assert_true(config.autostart);
    assert_int_equal(config.on_crash, CONFIG_PRESERVE);
    assert_int_equal(config.on_reboot, CONFIG_DESTROY);
    assert_int_equal(config.weight, 512);
    assert_int_equal(config.cap, 50);
    assert_int_equal(config.protocol, CONFIG_PVH);
    assert_int_equal(config.module_count, 2);
    assert_string_equal(config.modules[0].text, "mod1 with words");
    assert_string_equal(config.modules[1].text, "mod2");
}

static void test_defaults(void **state) {
    (void)state;
    assert_int_equal(parse(BASE), 0);
    assert_int_equal(config.vcpus, 1);
    assert_true(config.console);
    assert_false(config.autostart);
    assert_int_equal(config.on_crash, CONFIG_DESTROY);
    assert_int_equal(config.on_reboot, CONFIG_RESTART);
    assert_int_equal(config.weight, 256);
    assert_int_equal(config.cap, 0);
    assert_int_equal(config.protocol, CONFIG_AUTO);
    assert_int_equal(config.disk_count, 0);
    assert_string_equal(config.cmdline, "");
}

static void test_sizes(void **state) {
    (void)state;
    static const struct {
        const char *text;
        u64 bytes;
    } good[] = {{"1M", MIB},       {"1024K", MIB},     {"64m", 64 * MIB}, {"2G", 2 * GIB},
                {"3GiB", 3 * GIB}, {"64MB", 64 * MIB}, {"1T", MIB << 20}, {"1028K", 1028 * KIB}};
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        char text[128];
        snprintf(text, sizeof(text), "name = g\nkernel = k\nmemory = %s\n", good[i].text);
        assert_int_equal(parse(text), 0);
        assert_int_equal(config.memory, good[i].bytes);
    }
    static const char *const bad[] = {"lots", "M",    "-1M", "1.5G", "0x100M", "256 M",
                                      "1MM",  "1MBx", "1P",  "1E",   "256M,",  ""};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        char text[128];
        snprintf(text, sizeof(text), "name = g\nkernel = k\nmemory = \"%s\"\n", bad[i]);
        assert_int_equal(parse(text), 1);
        snprintf(text, sizeof(text),
                 "f.conf:3: memory: expected a size such as 256M, found \"%s\"\n", bad[i]);
        assert_string_equal(said, text);
    }
    assert_int_equal(parse("name = g\nkernel = k\nmemory = 256\n"), 1);
    assert_string_equal(
        said, "f.conf:3: memory: expected a size with its unit, such as 256M, found \"256\"\n");
    static const char *const range[] = {"0M",
                                        "512K",
                                        "2T",
                                        "1023K",
                                        "99999999999999T",
                                        "18446744073709551616K",
                                        "18446744073709551615T"};
    for (size_t i = 0; i < ARRAY_SIZE(range); i++) {
        char text[128];
        snprintf(text, sizeof(text), "name = g\nkernel = k\nmemory = %s\n", range[i]);
        assert_int_equal(parse(text), 1);
        assert_non_null(strstr(said, "f.conf:3: memory: expected a size"));
    }
    assert_int_equal(parse("name = g\nkernel = k\nmemory = 1030K\n"), 1);
    assert_string_equal(said, "f.conf:3: memory: expected a multiple of 4K, found \"1030K\"\n");
}

static void test_values(void **state) {
    (void)state;
    expect_mistake("vcpus = 0", "vcpus: expected a number from 1 to 63, found \"0\"");
    expect_mistake("vcpus = 64", "vcpus: expected a number from 1 to 63, found \"64\"");
    expect_mistake("vcpus = two", "vcpus: expected a number from 1 to 63, found \"two\"");
    expect_mistake("vcpus = 99999999999999999999999",
                   "vcpus: expected a number from 1 to 63, found \"99999999999999999999999\"");
    expect_mistake("weight = 10001", "weight: expected a number from 1 to 10000, found \"10001\"");
    expect_mistake("weight = 0", "weight: expected a number from 1 to 10000, found \"0\"");
    expect_mistake("cap = -1", "cap: expected a number from 0 to 6300, found \"-1\"");
    expect_mistake("console = maybe", "console: expected yes or no (or on, off), found \"maybe\"");
    expect_mistake("on_crash = explode",
                   "on_crash: expected destroy, restart or preserve, found \"explode\"");
    expect_mistake("protocol = uefi",
                   "protocol: expected auto, linux, pvh, multiboot or multiboot2, found \"uefi\"");
    expect_mistake("initrd = \"\"", "initrd: expected a text of 1 to 111 bytes, found \"\"");
    static const char *const disks[] = {"guest1-root", "gpt:",    "gpt:,ro", "gpt:a,rx",
                                        "nbd:x",       "gpt:a,b", "\"\"",    ",ro"};
    for (size_t i = 0; i < ARRAY_SIZE(disks); i++) {
        char text[128];
        snprintf(text, sizeof(text), BASE "disk = %s\n", disks[i]);
        assert_int_equal(parse(text), 1);
        assert_non_null(strstr(
            said, "f.conf:4: disk: expected gpt:PARTITION, guid:GUID, device:NAME or module:NAME"));
    }
    assert_int_equal(parse(BASE "module = \" \"\n"), 1);
    assert_non_null(strstr(said, "f.conf:4: module: expected a module's name"));
}

static void test_names(void **state) {
    (void)state;
    static const struct {
        const char *name, *expected;
    } bad[] = {{"1guest", "begins with a letter"},
               {"a b", "a name of letters"},
               {"dom0", "not dom0"},
               {"all", "not dom0 or all"},
               {"", "1 to 31"},
               {"a2345678901234567890123456789012", "1 to 31"},
               {"a/b", "a name of letters"}};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        char text[128];
        snprintf(text, sizeof(text), "memory = 1M\nkernel = k\nname = \"%s\"\n", bad[i].name);
        assert_int_equal(parse(text), 1);
        assert_non_null(strstr(said, "f.conf:3: name: expected a name"));
        assert_non_null(strstr(said, bad[i].expected));
    }
    assert_int_equal(parse("memory = 1M\nkernel = k\nname = a234567890123456789012345678901\n"), 0);
}

static void test_lines(void **state) {
    (void)state;
    expect_mistake("just words", "expected \"key = value\", found \"just words\"");
    expect_mistake("= 5", "expected \"key = value\", found \"= 5\"");
    expect_mistake("vcpus", "expected \"key = value\", found \"vcpus\"");
    expect_mistake("vcpus =", "vcpus: expected a value after \"=\", found none");
    expect_mistake("vcpus = # none", "vcpus: expected a value after \"=\", found none");
    expect_mistake("cmdline = \"no end",
                   "cmdline: expected a closing quote (\"), found the end of the line");
    expect_mistake("cmdline = \"no end \\\"",
                   "cmdline: expected a closing quote (\"), found the end of the line");
    expect_mistake(
        "cmdline = two words",
        "cmdline: expected nothing more after the value, found \"words\" (a value with spaces needs quotes)");
    expect_mistake("cmdline = \"text\" more",
                   "cmdline: expected nothing more after the value, found \"more\"");
    expect_mistake("memory = 32M", "memory: given already in line 2");
    expect_mistake("\x01", "expected text, found a byte of value 0x01 in column 1");
    expect_mistake("vcpus = 1\x1b", "expected text, found a byte of value 0x1b in column 10");
    static const char nul[] = BASE "vcpus = 1\0 2\nweight = 7\n";
    assert_int_equal(parse_bytes(nul, sizeof(nul) - 1), 1);
    assert_string_equal(
        said, "f.conf:4: expected text, found a byte of value 0x00 in column 10 (a NUL)\n");
    assert_int_equal(config.weight, 7); // what follows is read all the same
}

static void test_hints(void **state) {
    (void)state;
    expect_mistake("memroy = 5M", "memroy: no such key; did you mean \"memory\"?");
    expect_mistake("kernal = x", "kernal: no such key; did you mean \"kernel\"?");
    expect_mistake("on-crash = x", "on-crash: no such key; did you mean \"on_crash\"?");
    expect_mistake("Weight = 3", "Weight: no such key; did you mean \"weight\"?");
    expect_mistake("disks = x", "disks: no such key; did you mean \"disk\"?");
    expect_mistake("colour = red", "colour: no such key; docs/domain-file.md lists them");
    expect_mistake(
        "averyveryverylongkeythatnobodyknowsofandthatgoeson = 1",
        "averyveryverylongkeythatnobodyknowsofand: no such key; docs/domain-file.md lists them");
}

static void test_missing(void **state) {
    (void)state;
    assert_int_equal(parse(""), 3);
    assert_string_equal(
        said, "f.conf: the key \"name\" is missing\nf.conf: the key \"memory\" is missing\n"
              "f.conf: the key \"kernel\" is missing\n");
    // A key whose value is wrong is not missing.
    assert_int_equal(parse("name = g\nmemory = lots\nkernel = k\n"), 1);
}

static void test_all_mistakes(void **state) {
    (void)state;
    assert_int_equal(parse("name = 5\nmemory = lots\nvcpus = 0\nfoo = 1\nkernel\n"), 6);
    assert_non_null(strstr(said, "f.conf:1: name"));
    assert_non_null(
        strstr(said, "f.conf:2: memory: expected a size such as 256M, found \"lots\"\n"));
    assert_non_null(strstr(said, "f.conf:3: vcpus"));
    assert_non_null(strstr(said, "f.conf:4: foo"));
    assert_non_null(strstr(said, "f.conf:5: expected"));
    assert_non_null(strstr(said, "f.conf: the key \"kernel\" is missing"));
}

static void test_bounds(void **state) {
    (void)state;
    // Lines of the most length, and one more.
    char *text = malloc(3 * CONFIG_FILE_MAX);
    for (unsigned extra = 0; extra < 2; extra++) {
        size_t used = (size_t)sprintf(text, BASE "#");
        memset(text + used, 'x', CONFIG_LINE_MAX - 1 + extra);
        text[used + CONFIG_LINE_MAX - 1 + extra] = 0;
        assert_int_equal(parse(text), extra);
    }
    assert_string_equal(said, "f.conf:4: expected at most 4095 bytes in a line, found 4096\n");
    // The longest command line, and one more.
    for (unsigned extra = 0; extra < 2; extra++) {
        size_t used = (size_t)sprintf(text, BASE "cmdline = ");
        memset(text + used, 'x', CONFIG_CMDLINE_SIZE - 1 + extra);
        text[used + CONFIG_CMDLINE_SIZE - 1 + extra] = 0;
        assert_int_equal(parse(text), extra);
    }
    assert_non_null(
        strstr(said, "f.conf:4: cmdline: expected a text of 0 to 2047 bytes, found \"xxx"));
    // Too many disks and modules.
    size_t used = (size_t)sprintf(text, BASE);
    for (unsigned i = 0; i <= CONFIG_DISKS_MAX; i++)
        used += (size_t)sprintf(text + used, "disk = gpt:d%u\n", i);
    for (unsigned i = 0; i <= CONFIG_MODULES_MAX; i++)
        used += (size_t)sprintf(text + used, "module = m%u\n", i);
    assert_int_equal(parse(text), 2);
    assert_non_null(strstr(said, "disk: expected at most 16 of them\n"));
    assert_non_null(strstr(said, "module: expected at most 8 of them\n"));
    assert_int_equal(config.disk_count, CONFIG_DISKS_MAX);
    // A file that is too long, one with too many mistakes.
    memset(text, '\n', CONFIG_FILE_MAX + 1);
    assert_int_equal(parse_bytes(text, CONFIG_FILE_MAX + 1), 1);
    assert_string_equal(said, "f.conf: expected at most 65536 bytes, found 65537\n");
    for (unsigned i = 0; i < 200; i++)
        memcpy(text + 2 * i, "x\n", 2);
    assert_int_equal(parse_bytes(text, 400), 203);
    unsigned lines = 0;
    for (char *p = said; (p = strchr(p, '\n')); p++)
        lines++;
    assert_int_equal(lines, CONFIG_MISTAKES_MAX + 1);
    assert_non_null(strstr(said, "f.conf: 153 more mistakes are not shown\n"));
    free(text);
}

// Every cut of a good file is parsed without harm, and never as complete without its required keys.
static void test_every_cut(void **state) {
    (void)state;
    static const char text[] =
        "name = \"g\"\nmemory = 64M\nkernel = \"k\"\ndisk = \"gpt:a,ro\"\ncmdline = \"x\\\"y\"\n";
    for (size_t n = 0; n < sizeof(text); n++)
        if (parse_bytes(text, n) == 0)
            assert_true(n >= strlen("name = \"g\"\nmemory = 64M\nkernel = \"k\""));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_file),   cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_sizes),        cmocka_unit_test(test_values),
        cmocka_unit_test(test_names),        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_hints),        cmocka_unit_test(test_missing),
        cmocka_unit_test(test_all_mistakes), cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_every_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
