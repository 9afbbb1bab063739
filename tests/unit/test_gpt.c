// SPDX-License-Identifier: Apache-2.0
//
// GUID partition tables: good ones in both sector sizes, damaged ones, hostile ones, and a few
// hundred thousand mutations of a good one under the sanitizers.
//
// sources: dom0/block/gpt.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "block/gpt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    u8 *data;
    u32 sector_size;
    u64 sectors;
    u64 bad_sector; // reading it fails; 0: none
} disk;

static char reports[8192];
static struct gpt_table table;

static bool read_disk(void *context, u64 sector, u32 count, void *buffer) {
    (void)context;
    assert_true(count > 0 && sector < disk.sectors && count <= disk.sectors - sector);
    if (disk.bad_sector && disk.bad_sector >= sector && disk.bad_sector < sector + count)
        return false;
    memcpy(buffer, disk.data + sector * disk.sector_size, (size_t)count * disk.sector_size);
    return true;
}

static void report(void *context, const char *sentence) {
    (void)context;
    size_t used = strlen(reports);
    snprintf(reports + used, sizeof(reports) - used, "%s\n", sentence);
}

static enum gpt_result scan(void) {
    struct gpt_source source = {disk.sectors, disk.sector_size, read_disk, NULL};
    reports[0] = 0;
    return gpt_read(&source, &table, report, NULL);
}

static void put(u8 *at, u64 value, unsigned bytes) { memcpy(at, &value, bytes); }

static u8 *entry(unsigned index) { return disk.data + 2 * disk.sector_size + index * 128; }

static void set_entry(unsigned index, u64 first, u64 last, const char *name) {
    u8 *e = entry(index);
    memset(e, 0, 128);
    memset(e, 0xa0 + (int)index, 16);
    memset(e + 16, 0x10 + (int)index, 16);
    put(e + 32, first, 8);
    put(e + 40, last, 8);
    for (unsigned i = 0; name[i]; i++)
        e[56 + 2 * i] = (u8)name[i];
}

static void write_header(u64 sector, u64 other, u64 table_sector) {
    u8 *h = disk.data + sector * disk.sector_size;
    u64 usable = 2 + 16384 / disk.sector_size;
    memset(h, 0, disk.sector_size);
    memcpy(h, "EFI PART", 8);
    put(h + 8, 0x10000, 4);
    put(h + 12, 92, 4);
    put(h + 24, sector, 8);
    put(h + 32, other, 8);
    put(h + 40, usable, 8);
    put(h + 48, disk.sectors - usable - 1, 8);
    memset(h + 56, 0xdd, 16);
    put(h + 72, table_sector, 8);
    put(h + 80, 128, 4);
    put(h + 84, 128, 4);
    put(h + 88, gpt_crc32(0, disk.data + table_sector * disk.sector_size, 16384), 4);
    put(h + 16, gpt_crc32(0, h, 92), 4);
}

// Writes both tables anew from the entries of the first.
static void seal(void) {
    u64 bytes = 16384, last = disk.sectors - 1, backup = last - bytes / disk.sector_size;
    memcpy(disk.data + backup * disk.sector_size, entry(0), bytes);
    write_header(1, last, 2);
    write_header(last, 1, backup);
}

static void reseal_header(u64 sector) {
    u8 *h = disk.data + sector * disk.sector_size;
    put(h + 16, 0, 4);
    put(h + 16, gpt_crc32(0, h, 92), 4);
}

static void make_disk(u32 sector_size) {
    free(disk.data);
    disk.sector_size = sector_size;
    disk.sectors = 256;
    disk.bad_sector = 0;
    disk.data = calloc(disk.sectors, sector_size);
    set_entry(0, 40, 79, "alpha");
    set_entry(2, 100, 100, "beta");
    seal();
}

static int teardown(void **state) {
    (void)state;
    free(disk.data);
    disk.data = NULL;
    return 0;
}

static void good_tables(void **state) {
    (void)state;
    for (u32 size = 512; size <= 4096; size += 4096 - 512) {
        make_disk(size);
        assert_int_equal(scan(), GPT_OK);
        assert_string_equal(reports, "");
        assert_int_equal(table.count, 2);
        assert_false(table.from_backup);
        assert_int_equal(table.partitions[0].number, 1);
        assert_int_equal(table.partitions[1].number, 3);
        assert_int_equal(table.partitions[0].first, 40);
        assert_int_equal(table.partitions[0].last, 79);
        assert_string_equal(table.partitions[1].name, "beta");
        assert_string_equal(table.partitions[0].type, "a0a0a0a0-a0a0-a0a0-a0a0-a0a0a0a0a0a0");
        assert_string_equal(table.guid, "dddddddd-dddd-dddd-dddd-dddddddddddd");
    }
}

static void guid_byte_order(void **state) {
    (void)state;
    static const u8 linux_data[16] = {0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47,
                                      0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4};
    make_disk(512);
    memcpy(entry(0), linux_data, 16);
    seal();
    assert_int_equal(scan(), GPT_OK);
    assert_string_equal(table.partitions[0].type, "0fc63daf-8483-4772-8e79-3d69d8477de4");
}

static void crc_check_value(void **state) {
    (void)state;
    assert_int_equal(gpt_crc32(0, "123456789", 9), 0xcbf43926);
    assert_int_equal(gpt_crc32(gpt_crc32(0, "1234", 4), "56789", 5), 0xcbf43926);
}

static void names(void **state) {
    (void)state;
    make_disk(512);
    u8 *name = entry(0) + 56;
    static const u16 units[] = {'a', 0xe9, 0x20ac, 0xd83d, 0xde00, 0xdc00, 0xd800, 0x1b, 'z'};
    memcpy(name, units, sizeof(units));
    u16 longest[36];
    for (unsigned i = 0; i < 36; i++)
        longest[i] = 0x20ac;
    memcpy(entry(2) + 56, longest, sizeof(longest));
    seal();
    assert_int_equal(scan(), GPT_OK);
    assert_string_equal(table.partitions[0].name,
                        "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xef\xbf\xbd\xef\xbf\xbd?z");
    assert_int_equal(strlen(table.partitions[1].name), 108);
}

static void no_table(void **state) {
    (void)state;
    make_disk(512);
    memset(disk.data, 0, disk.sectors * 512);
    assert_int_equal(scan(), GPT_NONE);
    assert_string_equal(reports, "");
    disk.sectors = 3;
    assert_int_equal(scan(), GPT_NONE);
    disk.sectors = 0;
    assert_int_equal(scan(), GPT_NONE);
}

static void backup_is_used(void **state) {
    (void)state;
    for (unsigned fault = 0; fault < 4; fault++) {
        make_disk(512);
        if (fault == 0)
            memset(disk.data + 512, 0, 512);
        if (fault == 1)
            disk.data[512 + 40] ^= 1;
        if (fault == 2)
            disk.data[1024 + 33] ^= 1;
        if (fault == 3)
            disk.bad_sector = 1;
        assert_int_equal(scan(), GPT_OK);
        assert_true(table.from_backup);
        assert_int_equal(table.count, 2);
        assert_non_null(strstr(reports, "backup is used"));
    }
}

static void both_broken(void **state) {
    (void)state;
    make_disk(512);
    disk.data[512 + 40] ^= 1;
    disk.data[255 * 512 + 40] ^= 1;
    assert_int_equal(scan(), GPT_BROKEN);
    assert_int_equal(table.count, 0);
    assert_non_null(strstr(reports, "wrong checksum"));
    make_disk(512);
    disk.bad_sector = 1;
    memset(disk.data + 255 * 512, 0, 512);
    assert_int_equal(scan(), GPT_EIO);
}

static void shorter_than_its_table(void **state) {
    (void)state;
    make_disk(512);
    set_entry(1, 150, 200, "cut");
    seal();
    disk.sectors = 180;
    assert_int_equal(scan(), GPT_OK);
    assert_int_equal(table.count, 2);
    assert_int_equal(table.refused, 1);
    assert_non_null(strstr(reports, "partition 2 ends at sector 200, but the disk has only 180"));
    assert_non_null(strstr(reports, "backup table should be at sector 255"));
}

static void bad_entries(void **state) {
    (void)state;
    make_disk(512);
    set_entry(3, 90, 80, "backwards");
    set_entry(4, 70, 110, "overlaps");
    set_entry(5, 1, 30, "on the table");
    set_entry(6, ~0ull - 1, ~0ull, "far");
    set_entry(7, 200, ~0ull, "huge");
    seal();
    assert_int_equal(scan(), GPT_OK);
    assert_int_equal(table.count, 2);
    assert_int_equal(table.refused, 5);
    assert_non_null(strstr(reports, "partition 4 ends before it begins"));
    assert_non_null(strstr(reports, "partition 5 overlaps partition 1"));
    assert_non_null(strstr(reports, "partition 6 (sectors 1 to 30) lies outside"));
    assert_non_null(strstr(reports, "partition 7 ends at sector"));
}

static void impossible_headers(void **state) {
    (void)state;
    static const struct {
        u32 offset, bytes;
        u64 value;
    } cases[] = {
        {12, 4, 91},         {12, 4, 513},       {12, 4, ~0u},   {24, 8, 2},          {72, 8, 0},
        {72, 8, 1},          {72, 8, 250},       {72, 8, ~0ull}, {72, 8, ~0ull - 31}, {80, 4, 0},
        {80, 4, ~0u},        {80, 4, 0x2000001}, {84, 4, 0},     {84, 4, 127},        {84, 4, 129},
        {84, 4, 0x80000000}, {84, 4, 8192},      {48, 8, 1},     {80, 4, 100000},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        make_disk(512);
        memset(disk.data + 255 * 512, 0, 512);
        put(disk.data + 512 + cases[i].offset, cases[i].value, cases[i].bytes);
        reseal_header(1);
        assert_int_equal(scan(), GPT_BROKEN);
    }
}

static void many_partitions(void **state) {
    (void)state;
    make_disk(512);
    // 256 entries of 128 bytes from sector 100 on, one sector each.
    u8 *h = disk.data + 512;
    for (unsigned i = 0; i < 150; i++) {
        u8 *e = disk.data + 190 * 512 + i * 128;
        memset(e, 1, 32);
        put(e + 32, 34 + i, 8);
        put(e + 40, 34 + i, 8);
    }
    put(h + 48, 189, 8);
    put(h + 72, 190, 8);
    put(h + 80, 256, 4);
    put(h + 88, gpt_crc32(0, disk.data + 190 * 512, 256 * 128), 4);
    reseal_header(1);
    assert_int_equal(scan(), GPT_OK);
    assert_int_equal(table.count, GPT_PARTITIONS_MAX);
    assert_int_equal(table.refused, 150 - GPT_PARTITIONS_MAX);
    assert_non_null(strstr(reports, "one too many"));
}

// Who may write to a partition must not be able to write to the table.
static void table_among_partitions(void **state) {
    (void)state;
    static const struct {
        unsigned field;
        u64 value;
    } wrong[] = {{40, 1}, {40, 0}, {40, 33}, {40, 2}};
    for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
        make_disk(512);
        put(disk.data + 512 + wrong[i].field, wrong[i].value, 8);
        reseal_header(1);
        assert_int_equal(scan(), GPT_OK);
        assert_true(table.from_backup);
        assert_non_null(strstr(reports, "over itself or its table"));
    }
}

static void names_for_a_terminal(void **state) {
    (void)state;
    make_disk(512);
    static const u16 name[] = {'a', 0x1b, 0x7f, 0x9b, 0x80, 0xa0, 0xe9, 0};
    memcpy(entry(0) + 56, name, sizeof(name));
    seal();
    assert_int_equal(scan(), GPT_OK);
    assert_string_equal(table.partitions[0].name, "a????\xc2\xa0\xc3\xa9");
}

static void check_invariants(void) {
    for (u32 i = 0; i < table.count; i++) {
        const struct gpt_partition *p = &table.partitions[i];
        assert_true(p->first <= p->last && p->last < disk.sectors);
        for (u32 k = 0; k < i; k++)
            assert_true(p->last < table.partitions[k].first || p->first > table.partitions[k].last);
        assert_non_null(memchr(p->name, 0, sizeof(p->name)));
    }
}

static void mutations(void **state) {
    (void)state;
    srand(1);
    for (unsigned round = 0; round < 40000; round++) {
        if (round % 500 == 0)
            make_disk(round % 1000 ? 4096 : 512);
        unsigned count = 1 + (unsigned)rand() % 3;
        u8 *base = rand() % 2 ? disk.data + disk.sector_size : entry(0);
        u64 range = base == entry(0) ? 8 * 128 : 92;
        for (unsigned i = 0; i < count; i++)
            base[(u64)rand() % range] = (u8)(rand() % 3 ? rand() : rand() % 2 ? 0 : 0xff);
        // Mutations behind good checksums go deeper.
        put(disk.data + disk.sector_size + 88, gpt_crc32(0, entry(0), 16384), 4);
        reseal_header(1);
        (void)scan();
        check_invariants();
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(good_tables, teardown),
        cmocka_unit_test_teardown(guid_byte_order, teardown),
        cmocka_unit_test(crc_check_value),
        cmocka_unit_test_teardown(names, teardown),
        cmocka_unit_test_teardown(no_table, teardown),
        cmocka_unit_test_teardown(backup_is_used, teardown),
        cmocka_unit_test_teardown(both_broken, teardown),
        cmocka_unit_test_teardown(shorter_than_its_table, teardown),
        cmocka_unit_test_teardown(bad_entries, teardown),
        cmocka_unit_test_teardown(impossible_headers, teardown),
        cmocka_unit_test_teardown(many_partitions, teardown),
        cmocka_unit_test_teardown(table_among_partitions, teardown),
        cmocka_unit_test_teardown(names_for_a_terminal, teardown),
        cmocka_unit_test_teardown(mutations, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
