// SPDX-License-Identifier: Apache-2.0
//
// Tests of the Multiboot2 parser and of the memory map's normalization. Boot information is built
// tag by tag into a heap block of its exact size; the map's result is compared with a model that
// looks at every page.
//
// sources: boot/multiboot2.c boot/memory_map.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "boot/boot.h"
#include "kernel/log.h"

static unsigned log_lines;

void log_line(enum log_level level, const char *text, ...) {
    (void)level;
    (void)text;
    log_lines++;
}

static u8 buffer[65536] __attribute__((aligned(8)));
static u32 used;
static struct boot_params params;

static void begin(void) {
    memset(buffer, 0, sizeof(buffer));
    used = 8;
}

static void *tag(u32 type, u32 size) {
    u32 *t = (u32 *)(buffer + used);
    t[0] = type;
    t[1] = size;
    used += (size + 7) & ~7u;
    return t + 2;
}

static void text_tag(u32 type, const char *text) {
    u32 bytes = (u32)strlen(text) + 1;
    memcpy(tag(type, 8 + bytes), text, bytes);
}

static void module_tag(u32 base, u32 end, const char *text) {
    u32 bytes = (u32)strlen(text) + 1, *t = tag(3, 16 + bytes);
    t[0] = base;
    t[1] = end;
    memcpy(t + 2, text, bytes);
}

struct entry {
    u64 base, length;
    u32 type, zero;
};

static void map_tag(const struct entry *entries, u32 count, u32 entry_size) {
    u32 *t = tag(6, 16 + count * entry_size);
    t[0] = entry_size;
    for (u32 i = 0; i < count; i++)
        memcpy((u8 *)(t + 2) + i * entry_size, &entries[i], sizeof(*entries));
}

static int parse_cut(u32 size) {
    u8 *exact = aligned_alloc(8, (size + 7) & ~7u ? (size + 7) & ~7u : 8);
    int result;
    memcpy(exact, buffer, size);
    memset(&params, 0, sizeof(params));
    log_lines = 0;
    result = multiboot2_parse(exact, size, &params);
    free(exact);
    return result;
}

static int parse(void) {
    tag(0, 8);
    *(u32 *)buffer = used;
    return parse_cut(used);
}

static const struct entry plain[] = {
    {0x100000, 0x7f00000, 1, 0}, {0, 0x9fc00, 1, 0}, {0x9fc00, 0x400, 2, 0}};

static void test_good(void **state) {
    (void)state;
    begin();
    text_tag(1, "loglvl=debug");
    text_tag(2, "GRUB 2");
    module_tag(0x200000, 0x200123, "dom0 a=b");
    map_tag(plain, 3, 24);
    memcpy(tag(15, 8 + 36), "RSD PTR new", 12);
    memcpy(tag(14, 8 + 20), "RSD PTR old", 12);
    u32 *fb = tag(8, 32);
    fb[0] = 0xe0000000;
    fb[2] = 4096;
    fb[3] = 1024;
    fb[4] = 768;
    ((u8 *)fb)[20] = 32;
    ((u8 *)fb)[21] = 1;
    tag(99, 8); // unknown tags are skipped
    assert_int_equal(parse(), 0);
    assert_int_equal(log_lines, 0);
    assert_string_equal(params.cmdline, "loglvl=debug");
    assert_string_equal(params.loader, "GRUB 2");
    assert_int_equal(params.module_count, 1);
    assert_int_equal(params.modules[0].size, 0x123);
    assert_string_equal(params.modules[0].cmdline, "dom0 a=b");
    assert_int_equal(params.memory_count, 3);
    assert_int_equal(params.memory[0].base, 0);
    assert_int_equal(params.memory[0].end, 0x9f000); // whole pages
    assert_int_equal(params.memory[1].kind, MEMORY_RESERVED);
    assert_int_equal(params.memory[2].end, 0x8000000);
    assert_int_equal(params.ram_end, 0x8000000);
    assert_int_equal(params.ram_bytes, 0x7f9f000);
    assert_int_equal(params.framebuffer.address, 0xe0000000);
    assert_int_equal(params.framebuffer.width, 1024);
    assert_int_equal(params.framebuffer.height, 768);
    assert_int_equal(params.framebuffer.type, 1);
    assert_int_equal(params.rsdp_size, 36);
    assert_string_equal((char *)params.rsdp, "RSD PTR new");
}

static void test_truncated(void **state) {
    (void)state;
    begin();
    text_tag(1, "x");
    map_tag(plain, 3, 24);
    module_tag(0x200000, 0x201000, "dom0");
    tag(0, 8);
    u32 whole = used;
    for (u32 size = 0; size < whole; size++) {
        *(u32 *)buffer = whole;
        assert_int_equal(parse_cut(size), -1); // claims more than there is
        *(u32 *)buffer = size;
        if (size >= 16) {
            (void)!parse_cut(size); // must not read beyond
            assert_true(params.module_count <= 1);
        }
    }
}

static void test_broken_tags(void **state) {
    static const u32 sizes[] = {0, 1, 7, 0x7fffffff, 0xfffffff8, 0xffffffff};
    (void)state;
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        begin();
        map_tag(plain, 3, 24);
        u32 *t = (u32 *)tag(3, 16) - 2;
        t[1] = sizes[i];
        module_tag(0x200000, 0x201000, "never seen");
        assert_int_equal(parse(), 0);
        assert_int_equal(params.module_count, 0);
        assert_int_equal(log_lines, 1);
    }
}

static void test_broken_contents(void **state) {
    (void)state;
    begin();
    map_tag(plain, 3, 24);
    tag(3, 8); // a module without addresses
    module_tag(0x300000, 0x200000, "backwards");
    module_tag(0x300010, 0x400000, "unaligned");
    module_tag(0x300000, 0x400000, "good");
    tag(14, 12);                         // a bit of an RSDP
    tag(15, 8 + 100);                    // too much of one
    tag(6, 8);                           // a map without entry size
    map_tag(plain, 3, 16);               // entries too small
    map_tag(plain, 2, 28);               // and misaligned
    tag(8, 16);                          // half a framebuffer
    memset(tag(1, 8 + 2000), 'a', 2000); // an endless command line
    assert_int_equal(parse(), 0);
    assert_int_equal(log_lines, 10);
    assert_int_equal(params.module_count, 1);
    assert_int_equal(params.memory_count, 3);
    assert_int_equal(strlen(params.cmdline), BOOT_CMDLINE_MAX - 1);
    assert_int_equal(params.rsdp_size, 0);
}

static void test_no_map(void **state) {
    (void)state;
    begin();
    text_tag(1, "x");
    assert_int_equal(parse(), -1);
}

static void test_many_modules(void **state) {
    (void)state;
    begin();
    map_tag(plain, 3, 24);
    for (u32 i = 0; i < BOOT_MODULES_MAX + 3; i++)
        module_tag(0x200000, 0x200001, "m");
    assert_int_equal(parse(), 0);
    assert_int_equal(params.module_count, BOOT_MODULES_MAX);
    assert_int_equal(log_lines, 3);
}

#define MODEL_PAGES 64u

static void check_against_model(struct boot_memory *map, u32 count) {
    u32 kinds[MODEL_PAGES * 2] = {0}; // in half pages
    for (u32 i = 0; i < count; i++)
        for (u64 at = map[i].base / 2048; at < map[i].end / 2048; at++)
            kinds[at] = kinds[at] > map[i].kind ? kinds[at] : map[i].kind;
    u32 got = memory_map_normalize(map, count, BOOT_MEMORY_MAX);
    for (u32 i = 0; i < got; i++) {
        assert_true(map[i].base < map[i].end);
        assert_true(i == 0 || map[i - 1].end <= map[i].base);
        for (u64 at = map[i].base / 2048; at < map[i].end / 2048; at++) {
            assert_int_equal(kinds[at], map[i].kind);
            kinds[at] = 0;
        }
    }
    for (u32 at = 0; at < MODEL_PAGES * 2; at++) // what is left: RAM in half pages only
        assert_true(kinds[at] == 0 || (kinds[at] == MEMORY_RAM && kinds[at ^ 1] != MEMORY_RAM));
}

static void test_normalize(void **state) {
    static struct boot_memory map[BOOT_MEMORY_MAX];
    (void)state;
    srand(2);
    for (unsigned round = 0; round < 5000; round++) {
        u32 count = (u32)rand() % 20;
        for (u32 i = 0; i < count; i++) {
            u64 base = (u64)rand() % (MODEL_PAGES * 2) * 2048;
            u64 end = base + (u64)rand() % (MODEL_PAGES * 4096 - base) / 2048 * 2048;
            map[i] = (struct boot_memory){base, end, (u32)rand() % 6 + 1};
        }
        check_against_model(map, count);
    }
}

// Taking says of RAM only that it is taken, in whole pages; a map that is full says so.
static void test_take(void **state) {
    (void)state;
    begin();
    map_tag(plain, 3, 24);
    assert_int_equal(parse(), 0);
    assert_int_equal(memory_map_take(&params, 0x9e123, 0x101001), 0);
    assert_int_equal(params.memory_count, 5);
    static const struct boot_memory expected[] = {{0, 0x9e000, MEMORY_RAM},
                                                  {0x9e000, 0x9f000, MEMORY_TAKEN},
                                                  {0x9fc00, 0xa0000, MEMORY_RESERVED},
                                                  {0x100000, 0x102000, MEMORY_TAKEN},
                                                  {0x102000, 0x8000000, MEMORY_RAM}};
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(params.memory[i].base, expected[i].base);
        assert_int_equal(params.memory[i].end, expected[i].end);
        assert_int_equal(params.memory[i].kind, expected[i].kind);
    }
    assert_true(memory_map_is_free(&params, 0x102000, 0x8000000));
    assert_false(memory_map_is_free(&params, 0x102000, 0x8001000)); // beyond
    assert_false(memory_map_is_free(&params, 0x101000, 0x103000));  // partly taken
    assert_false(memory_map_is_free(&params, 0x9f000, 0x9f001));    // none
    assert_true(memory_map_has_ram(&params, 0x9efff, 0xa0000));
    assert_true(memory_map_has_ram(&params, 0x101000, 0x101001)); // taken
    assert_false(memory_map_has_ram(&params, 0x9f000, 0x100000));
    assert_false(memory_map_has_ram(&params, 0x8000000, ~0ull));
    for (u64 at = 0x200000; params.memory_count < BOOT_MEMORY_MAX - 1; at += 0x2000)
        assert_int_equal(memory_map_take(&params, at, at + 1), 0);
    assert_int_equal(memory_map_take(&params, 0x4000000, 0x4001000), 0);
    assert_int_equal(params.memory_count, BOOT_MEMORY_MAX);
    assert_int_equal(memory_map_take(&params, 0x1000, 0x2000), -1);
}

static void test_full_map(void **state) {
    static struct entry many[BOOT_MEMORY_MAX + 40];
    (void)state;
    for (u32 i = 0; i < BOOT_MEMORY_MAX + 40; i++)
        many[i] = (struct entry){i * 0x10000ull, 0x8000, i % 2 ? 1 : 2, 0};
    many[0].length = ~0ull; // wraps around: cut at the end of the address space
    begin();
    map_tag(many, BOOT_MEMORY_MAX + 40, 24);
    assert_int_equal(parse(), 0);
    assert_true(params.memory_count <= BOOT_MEMORY_MAX);
    assert_int_equal(log_lines, 1);
}

// One range of RAM with many holes makes more ranges than the map has room for; the highest are left out, and it is said.
static void test_too_many_pieces(void **state) {
    static struct boot_memory map[BOOT_MEMORY_MAX];
    (void)state;
    map[0] = (struct boot_memory){0, 0x40000000, MEMORY_RAM};
    for (u32 i = 1; i < 10; i++)
        map[i] = (struct boot_memory){i * 0x10000, i * 0x10000 + 0x1000, MEMORY_RESERVED};
    log_lines = 0;
    assert_int_equal(memory_map_normalize(map, 10, 19), 19);
    assert_int_equal(log_lines, 0);
    assert_int_equal(memory_map_normalize(map, 19, 18), 18);
    assert_int_equal(log_lines, 1);
    assert_int_equal(map[17].end, 9 * 0x10000 + 0x1000);
}

static void test_random(void **state) {
    (void)state;
    srand(3);
    for (unsigned round = 0; round < 20000; round++) {
        begin();
        text_tag(1, "abc");
        map_tag(plain, 3, 24);
        module_tag(0x200000, 0x200001, "m");
        tag(15, 44);
        tag(0, 8);
        *(u32 *)buffer = used;
        for (unsigned n = (unsigned)rand() % 6 + 1; n; n--)
            buffer[4 + (unsigned)rand() % (used - 4)] = (u8)rand();
        (void)!parse_cut(used);
        assert_true(params.memory_count <= BOOT_MEMORY_MAX &&
                    params.module_count <= BOOT_MODULES_MAX);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_broken_tags),
        cmocka_unit_test(test_broken_contents),
        cmocka_unit_test(test_no_map),
        cmocka_unit_test(test_many_modules),
        cmocka_unit_test(test_normalize),
        cmocka_unit_test(test_full_map),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_take),
        cmocka_unit_test(test_too_many_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
