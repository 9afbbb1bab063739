// SPDX-License-Identifier: Apache-2.0
//
// Tests of the ACPI table parser: well-formed tables give the facts, and truncated, corrupt and
// absurd ones are refused without storing anything. Each table is a heap block of its exact size,
// so that AddressSanitizer sees the first byte that is read too many.
//
// sources: arch/acpi.c kernel/format.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/acpi.h"
#include "arch/paging.h"
#include "boot/boot.h"
#include "kernel/log.h"

static u8 memory[0x10000]; // of the machine; make_rsdp()'s XSDT is where its RSDT is
static unsigned log_lines;

void log_line(enum log_level level, const char *text, ...) {
    (void)text;
    log_lines += level == LOG_WARNING;
}

void *device_map(hpa_t pa, u64 bytes, unsigned flags) {
    (void)flags;
    u64 at = pa.v == 0x100002000 ? 0x1000 : pa.v;
    return at + bytes <= sizeof(memory) ? memory + at : NULL;
}

struct table {
    u8 *bytes;
    u32 size;
};

static void put(struct table *t, u32 offset, u64 value, u32 bytes) {
    for (u32 i = 0; i < bytes; i++)
        t->bytes[offset + i] = (u8)(value >> 8 * i);
}

static void seal(struct table *t) {
    u8 sum = 0;
    t->bytes[9] = 0;
    for (u32 i = 0; i < t->size; i++)
        sum = (u8)(sum + t->bytes[i]);
    t->bytes[9] = (u8)-sum;
}

static struct table make(const char *signature, u32 size) {
    struct table t = {calloc(1, size), size};
    memcpy(t.bytes, signature, 4);
    put(&t, 4, size, 4);
    return t;
}

static struct table make_madt(void) {
    struct table t = make("APIC", 44 + 8 + 8 + 16 + 12 + 10 + 12);
    u32 at = 44;
    put(&t, 36, 0xfee00000, 4);
    put(&t, 40, 1, 4);
    memcpy(t.bytes + at, "\x00\x08\x01\x05\x01\x00\x00\x00", 8); // enabled processor, id 5
    at += 8;
    memcpy(t.bytes + at, "\x00\x08\x02\x06\x00\x00\x00\x00", 8); // disabled one
    at += 8;
    put(&t, at, 9 | 16 << 8, 2); // x2APIC processor
    put(&t, at + 4, 0x12345, 4);
    put(&t, at + 8, 1, 4);
    put(&t, at + 12, 77, 4);
    at += 16;
    put(&t, at, 1 | 12 << 8 | 3 << 16, 3); // I/O APIC 3
    put(&t, at + 4, 0xfec00000, 4);
    put(&t, at + 8, 24, 4);
    at += 12;
    put(&t, at, 2 | 10 << 8, 2); // IRQ 9 is GSI 20, level, low
    put(&t, at + 3, 9, 1);
    put(&t, at + 4, 20, 4);
    put(&t, at + 8, 0xf, 2);
    at += 10;
    put(&t, at, 5 | 12 << 8, 2); // the local APIC is elsewhere
    put(&t, at + 4, 0x1fee00000, 8);
    seal(&t);
    return t;
}

static struct table make_fadt(void) {
    struct table t = make("FACP", 244);
    put(&t, 40, 0x7fe0000, 4);
    put(&t, 64, 0x604, 4);
    put(&t, 76, 0x608, 4);
    put(&t, 91, 4, 1);
    put(&t, 108, 0x32, 1);
    put(&t, 112, 1 << 10 | 1 << 8, 4);
    put(&t, 116, 1, 1);
    put(&t, 117, 8, 1);
    put(&t, 120, 0xcf9, 8);
    put(&t, 128, 0xf, 1);
    seal(&t);
    return t;
}

static struct table make_mcfg(void) {
    struct table t = make("MCFG", 44 + 16);
    put(&t, 44, 0xb0000000, 8);
    put(&t, 55, 255, 1);
    seal(&t);
    return t;
}

// One of those that the kernel only passes on: no byte of it is read but for its length and checksum.
static struct table make_srat(void) {
    struct table t = make("SRAT", 48 + 16 + 40);
    put(&t, 48, 0 | 16 << 8, 2);
    put(&t, 64, 1 | 40 << 8, 2);
    seal(&t);
    return t;
}

static struct table make_spcr(void) {
    struct table t = make("SPCR", 80);
    put(&t, 40, 1 | 8 << 8, 2);
    put(&t, 44, 0x2f8, 8);
    put(&t, 52, 2, 1);
    put(&t, 54, 3, 4);
    put(&t, 58, 7, 1);
    seal(&t);
    return t;
}

static struct table make_hpet(void) {
    struct table t = make("HPET", 56);
    put(&t, 44, 0xfed00000, 8);
    seal(&t);
    return t;
}

static struct table (*const makers[])(void) = {make_madt, make_fadt, make_mcfg,
                                               make_srat, make_spcr, make_hpet};
#define MAKERS (sizeof(makers) / sizeof(makers[0]))

static void test_facts(void **state) {
    struct acpi_info info = {0};
    (void)state;
    for (unsigned i = 0; i < MAKERS; i++) {
        struct table t = makers[i]();
        assert_null(acpi_parse_table(t.bytes, t.size, &info));
        free(t.bytes);
    }
    assert_int_equal(info.cpu_count, 2);
    assert_int_equal(info.ioapic_count, 1);
    assert_int_equal(info.ioapics[0].gsi_base, 24);
    assert_int_equal(info.override_count, 1);
    assert_int_equal(info.overrides[0].gsi, 20);
    assert_true(info.overrides[0].level && info.overrides[0].active_low);
    assert_int_equal(info.pm_timer_port, 0x608);
    assert_true(info.reset_port == 0xcf9 && info.reset_value == 0xf);
    assert_int_equal(info.ecam, 0xb0000000);
    assert_int_equal(info.ecam_buses, 256);
    assert_int_equal(info.spcr_port, 0x2f8);
    assert_int_equal(info.spcr_baud, 115200);
}

static void refused(const struct table *t, u32 size) {
    struct acpi_info info, before;
    memset(&before, 0x55, sizeof(before));
    info = before;
    assert_non_null(acpi_parse_table(t->bytes, size, &info));
    assert_memory_equal(&info, &before, sizeof(info));
}

static void test_truncated(void **state) {
    (void)state;
    for (unsigned i = 0; i < MAKERS; i++) {
        struct table whole = makers[i]();
        for (u32 size = 0; size < whole.size; size++) {
            struct table part = {malloc(size ? size : 1), size};
            memcpy(part.bytes, whole.bytes, size);
            refused(&part, size); // the header's length is beyond the end
            if (size >= 36 && size % 7 == 0) {
                struct acpi_info info = {0};
                put(&part, 4, size,
                    4); // the header agrees: cut inside an entry or field; no byte beyond may be read
                seal(&part);
                (void)!acpi_parse_table(part.bytes, size, &info);
            }
            free(part.bytes);
        }
        free(whole.bytes);
    }
}

static void test_checksum(void **state) {
    (void)state;
    for (unsigned i = 0; i < MAKERS; i++) {
        struct table t = makers[i]();
        for (u32 at = 8; at < t.size; at++) {
            t.bytes[at] ^= 0x10;
            refused(&t, t.size);
            t.bytes[at] ^= 0x10;
        }
        free(t.bytes);
    }
}

static void test_absurd_lengths(void **state) {
    static const u32 lengths[] = {0, 1, 35, 0x7fffffff, 0x80000000, 0xffffffff};
    (void)state;
    for (unsigned i = 0; i < MAKERS; i++) {
        struct table t = makers[i]();
        for (unsigned n = 0; n < sizeof(lengths) / sizeof(lengths[0]); n++) {
            put(&t, 4, lengths[n], 4);
            seal(&t);
            refused(&t, t.size);
        }
        free(t.bytes);
    }
}

// An entry of a type that is passed over may be shorter than the others.
static void test_short_last_entry(void **state) {
    (void)state;
    struct acpi_info info = {0};
    struct table t = make("APIC", 44 + 2);
    put(&t, 44, 5 | 2 << 8, 2); // the local APIC's address, cut to type and length
    seal(&t);
    assert_null(acpi_parse_table(t.bytes, t.size, &info));
    assert_int_equal(info.cpu_count, 0);
    free(t.bytes);
}

// Entries of length 0, 1, too short for their type, or beyond the table's end.
static void test_entry_lengths(void **state) {
    static const u8 lengths[] = {0, 1, 2, 7, 255};
    (void)state;
    for (unsigned n = 0; n < sizeof(lengths); n++) {
        struct table t = make_madt();
        t.bytes[44 + 1] = lengths[n];
        seal(&t);
        refused(&t, t.size);
        free(t.bytes);
    }
}

static void test_too_many(void **state) {
    struct table t = make("APIC", 44 + 300 * 8 + 30 * 12);
    struct acpi_info info = {0};
    (void)state;
    for (u32 i = 0; i < 300; i++)
        memcpy(t.bytes + 44 + 8 * i, "\x00\x08\x01\x05\x01\x00\x00\x00", 8);
    for (u32 i = 0; i < 30; i++)
        put(&t, 44 + 300 * 8 + 12 * i, 1 | 12 << 8, 2);
    seal(&t);
    assert_null(acpi_parse_table(t.bytes, t.size, &info));
    assert_int_equal(info.cpu_count, 300);
    assert_int_equal(info.ioapic_count, ACPI_IOAPICS_MAX);
    free(t.bytes);
}

static void test_random(void **state) {
    struct acpi_info *info = calloc(1, sizeof(*info));
    (void)state;
    srand(1);
    for (unsigned round = 0; round < 20000; round++) {
        struct table t = makers[(unsigned)rand() % MAKERS]();
        for (unsigned n = (unsigned)rand() % 4 + 1; n; n--)
            t.bytes[36 + (unsigned)rand() % (t.size - 36)] = (u8)rand();
        seal(&t);
        (void)!acpi_parse_table(t.bytes, t.size, info);
        assert_true(info->ioapic_count <= ACPI_IOAPICS_MAX);
        free(t.bytes);
    }
    free(info);
}

static void make_rsdp(u8 r[36], u8 revision) {
    u8 sum = 0;
    memset(r, 0, 36);
    memcpy(r, "RSD PTR ", 8);
    r[15] = revision;
    memcpy(r + 16, "\x00\x10\x00\x00", 4); // RSDT at 0x1000
    for (int i = 0; i < 20; i++)
        sum = (u8)(sum + r[i]);
    r[8] = (u8)-sum;
    r[20] = 36;
    memcpy(r + 24, "\x00\x20\x00\x00\x01\x00\x00\x00", 8); // XSDT at 0x100002000
    sum = 0;
    for (int i = 0; i < 36; i++)
        sum = (u8)(sum + r[i]);
    r[32] = (u8)-sum;
}

static void test_rsdp(void **state) {
    u8 r[36];
    (void)state;
    make_rsdp(r, 2);
    assert_int_equal(acpi_parse_rsdp(r, 36), 0x100002000);
    r[33] ^= 1; // the extended checksum is wrong: the old part still counts
    assert_int_equal(acpi_parse_rsdp(r, 36), 0x1000);
    make_rsdp(r, 0);
    assert_int_equal(acpi_parse_rsdp(r, 20), 0x1000);
    assert_int_equal(acpi_parse_rsdp(r, 19), 0);
    r[17] ^= 1;
    assert_int_equal(acpi_parse_rsdp(r, 36), 0);
    make_rsdp(r, 2);
    r[0] = 'r';
    assert_int_equal(acpi_parse_rsdp(r, 36), 0);
}

// All tables of a machine, by RSDT and by XSDT: what is broken is left out and reported.
static void whole_machine(const char *signature, u32 width) {
    static struct boot_params params;
    u32 at = 0x2000;
    struct table root = make(signature, 36 + width * ((u32)MAKERS + 2));
    memset(&acpi, 0, sizeof(acpi));
    make_rsdp(params.rsdp, width == 8 ? 2 : 0);
    params.rsdp_size = 36;
    for (unsigned i = 0; i < MAKERS; i++) {
        struct table t = makers[i]();
        memcpy(memory + at, t.bytes, t.size);
        put(&root, 36 + width * i, at, width);
        at += t.size;
        free(t.bytes);
    }
    memory[at - 1] ^= 1;                                           // the last one is broken,
    put(&root, 36 + width * ((u32)MAKERS + 1), 0x7fffffff, width); // one lies nowhere, one at 0
    seal(&root);
    memcpy(memory + 0x1000, root.bytes, root.size);
    log_lines = 0;
    acpi_init(&params);
    assert_int_equal(acpi.cpu_count, 2);
    assert_int_equal(acpi.pm_timer_port, 0x608);
    assert_int_equal(log_lines, 3);
    memory[0x1000 + 36] ^= 1; // a broken root: nothing at all
    memset(&acpi, 0, sizeof(acpi));
    acpi_init(&params);
    assert_int_equal(acpi.cpu_count, 0);
    assert_int_equal(log_lines, 4);
    free(root.bytes);
}

static void test_machines(void **state) {
    (void)state;
    whole_machine("RSDT", 4);
    whole_machine("XSDT", 8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_facts),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_checksum),
        cmocka_unit_test(test_absurd_lengths),
        cmocka_unit_test(test_short_last_entry),
        cmocka_unit_test(test_entry_lengths),
        cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_rsdp),
        cmocka_unit_test(test_machines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
