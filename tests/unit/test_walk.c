// SPDX-License-Identifier: Apache-2.0
//
// The fetch of the code at a guest's RIP through its page tables in all formats, against a model written from the SDM's
// "Paging", over random tables, which are only read; then pages' ends, and tables and code that change.
// sources: tests/unit/host_machine.c tests/unit/host_kernel.c
// sources: kernel/domain.c kernel/memory.c kernel/handle.c kernel/event.c kernel/request.c kernel/share.c
// sources: kernel/interrupt.c kernel/hypercall.c kernel/policy.c kernel/timer.c kernel/schedule.c kernel/trace.c kernel/frames.c
// sources: kernel/console.c ept/ept.c ept/format.c guest/vcpu.c guest/interrupt.c guest/walk.c guest/emulate.c
// sources: guest/run.c guest/decode.c guest/event.c
// sources: guest/cpuid.c guest/msr.c guest/cr.c guest/vlapic.c guest/vlapic_register.c
// sources: guest/vlapic_timer.c guest/control.c
// libs: -Wl,--wrap=frame_alloc -Wl,--wrap=frame_alloc_chunk -Wl,--wrap=frame_kernel_alloc

#include "tests/unit/host_machine.h"

#include "arch/paging.h"

#include <basalt/error.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define native_random host_random
#include "tests/unit/random_tables.h"

static struct host_account empty;
static struct domain *d;
static struct vcpu *v;
static struct host_vcpu *cpu;

static int setup(void **state unused) {
    host_seed();
    host_machine_init();
    host_log_quiet = true;
    return 0;
}

static int begin_with(u64 pages) {
    empty = host_account();
    d = host_domain(8 * MIB);
    for (u64 page = 0; page < pages; page++) // in no particular order of frames
        assert_int_equal(memory_populate(d, GPA((page ^ 5) * PAGE_SIZE), 1, 0), 1);
    assert_int_equal(vcpu_create(d, 0), 0);
    v = d->vcpus[0];
    cpu = host_vcpu(v);
    host_load(v);
    host_set_mode(v, MODE_64);
    v->cpu.rflags = 2;
    return 0;
}

static int begin(void **state unused) { return begin_with(64); }
static int begin_small(void **state unused) { return begin_with(TABLES); }

static int end(void **state unused) {
    host_load(NULL);
    host_destroy(d);
    host_assert_same(empty);
    return 0;
}

static void write_entry(u64 gpa, unsigned bytes, u64 entry) {
    memcpy(host_memory(d, gpa), &entry, bytes);
}

// ---- The model ----

// Where a fetch leads whatever the rights are. False: nowhere.
static bool model_walk(const u8 *copy, u64 linear, u64 *gpa) {
    u64 cr4 = v->cpu.cr4_guest;
    bool long_mode = v->cpu.efer_guest & BIT(10), pae = cr4 & BIT(5);
    static const unsigned shifts_long[] = {39, 30, 21, 12}, shifts_pae[] = {30, 21, 12},
                          shifts_32[] = {22, 12};
    const unsigned *shifts = long_mode ? shifts_long : pae ? shifts_pae : shifts_32;
    unsigned levels = long_mode ? 4 : pae ? 3 : 2, size = long_mode || pae ? 8 : 4;
    u64 table = cpu->registers[REG_CR3] & (long_mode ? 0x000ffffffffff000
                                           : pae     ? 0xffffffe0
                                                     : 0xfffff000);

    for (unsigned n = 0; n < levels; n++) {
        unsigned bits = levels == 2 ? 10 : levels == 3 && n == 0 ? 2 : 9, shift = shifts[n];
        u64 at = table + ((linear >> shift) % BIT(bits)) * size, entry = 0;
        bool large = shift == 12;
        if (at >= TABLES * PAGE_SIZE) // only there is what looks like tables
            return false;
        memcpy(&entry, copy + at, size);
        if (!(entry & 1))
            return false;
        large |= ((shift == 30 && long_mode) || shift == 21 || (shift == 22 && cr4 & BIT(4))) &&
                 entry & 0x80;
        if (large) {
            u64 base = entry & 0x000ffffffffff000 & ~(BIT(shift) - 1);
            if (shift == 22) // bits 20:13 are 39:32 of the address
                base = (entry & 0xffc00000) + (entry >> 13 & 0xff) * BIT(32);
            *gpa = base + linear % BIT(shift);
            return true;
        }
        table = entry & (size == 8 ? 0x000ffffffffff000 : 0xfffff000);
    }
    abort();
}

static void random_controls(enum format format) {
    u64 r = host_random();

    v->cpu.cr0_guest = BIT(31) | 1 | (r & BIT(16));
    v->cpu.cr4_guest = (format == LEGACY ? r & BIT(4) : BIT(5)) | (r & BIT(21));
    v->cpu.efer_guest = (format == LONG ? BIT(8) | BIT(10) : 0) | (r & BIT(11));
    if (format != LEGACY && v->cpu.efer_guest & BIT(11))
        v->cpu.cr4_guest |= r &
                            BIT(20); // SMEP; what it does to error codes without NX is tested below
    cpu->registers[REG_CR3] = (host_random() % TABLES << 12) |
                              (format == PAE ? host_random() % 128 * 32 : 0x18);
    v->cpu.rflags = 2 | (r & BIT(18));
}

static void run_model(enum format format) {
    static u8 before[TABLES * PAGE_SIZE];
    static const u32 attributes[] = {[LEGACY] = 0xc09b, [PAE] = 0xc09b, [LONG] = 0xa09b};
    unsigned good = 0, bad = 0;

    for (unsigned n = 0; n < 20000; n++) {
        if (n % 500 == 0)
            random_tables(format == LEGACY ? 4 : 8);
        random_controls(format);
        cpu->segments[BASALT_CS].attributes = attributes[format];
        u64 linear = host_random(), gpa = 0;
        u8 bytes[16];
        linear = format == LONG ? (u64)((i64)(linear << 16) >> 16) : (u32)linear;
        linear &= ~0xfull; // within a page
        v->cpu.rip = linear;
        for (u64 page = 0; page < TABLES; page++)
            memcpy(before + page * PAGE_SIZE, host_memory(d, page * PAGE_SIZE), PAGE_SIZE);
        bool found = model_walk(before, linear, &gpa) && gpa < TABLES * PAGE_SIZE;
        assert_int_equal(guest_fetch(v, bytes), found ? 15 : 0);
        if (found)
            assert_memory_equal(bytes, before + gpa, 15);
        for (u64 page = 0; page < TABLES; page++) // accessed bits and all
            assert_memory_equal(before + page * PAGE_SIZE, host_memory(d, page * PAGE_SIZE),
                                PAGE_SIZE);
        good += found;
        bad += !found;
    }
    assert_true(good > 500 && bad > 500);
    assert_false(v->cpu.queued.valid);
}

static void test_32_bit_paging(void **state unused) { run_model(LEGACY); }
static void test_pae_paging(void **state unused) { run_model(PAE); }
static void test_4_level_paging(void **state unused) { run_model(LONG); }

// 4-level tables that map `linear` to `gpa`, in pages 1 to 4.
static void map_long(u64 linear, u64 gpa, u64 bits) {
    cpu->registers[REG_CR3] = 0x1000;
    write_entry(0x1000 + (linear >> 39 & 511) * 8, 8, 0x2007);
    write_entry(0x2000 + (linear >> 30 & 511) * 8, 8, 0x3007);
    write_entry(0x3000 + (linear >> 21 & 511) * 8, 8, 0x4007);
    write_entry(0x4000 + (linear >> 12 & 511) * 8, 8, gpa | bits);
}

static void test_fetch(void **state unused) {
    u8 bytes[16], code[15];

    for (unsigned i = 0; i < sizeof(code); i++)
        code[i] = (u8)(i + 1);
    map_long(0x10000, 0x9000, 7);
    write_entry(0x4000 + 0x11 * 8, 8, 0);
    v->cpu.rip = 0x10ffa;
    memcpy((u8 *)host_memory(d, 0x9ffa), code, 6);
    assert_int_equal(guest_fetch(v, bytes), 6);
    assert_memory_equal(bytes, code, 6);
    write_entry(0x4000 + 0x11 * 8, 8, 0x7007);
    memcpy(host_memory(d, 0x7000), code + 6, 9);
    assert_int_equal(guest_fetch(v, bytes), 15);
    assert_memory_equal(bytes, code, 15);
    // 16-bit code: the segment's base counts, in 32 bits.
    host_set_mode(v, MODE_16);
    cpu->segments[BASALT_CS].base = 0xfffffff0;
    v->cpu.rip = 0x9010;
    memcpy(host_memory(d, 0x9000), code, 15);
    assert_int_equal(guest_fetch(v, bytes), 15);
    assert_memory_equal(bytes, code, 15);
}

static void test_modes(void **state unused) {
    for (unsigned mode = MODE_16; mode <= MODE_64; mode++) {
        host_set_mode(v, (enum cpu_mode)mode);
        assert_int_equal(guest_mode(v), mode);
    }
    host_set_mode(v, MODE_64);
    cpu->segments[BASALT_CS].attributes = 0xc09b; // compatibility mode
    assert_int_equal(guest_mode(v), MODE_32);
    cpu->segments[BASALT_CS].attributes = 0x809b;
    assert_int_equal(guest_mode(v), MODE_16);
    host_set_mode(v, MODE_32);
    v->cpu.rflags |= BIT(17); // virtual 8086
    assert_int_equal(guest_mode(v), MODE_16);
    v->cpu.rflags = 2;
    cpu->segments[BASALT_CS].attributes = 0xa09b; // L without long mode is nothing
    assert_int_equal(guest_mode(v), MODE_16);
}

static void test_what_is_not_there(void **state unused) {
    struct insn insn;

    map_long(0x10000, 0x9000, 7);
    v->cpu.rip = 0x20000; // not mapped
    assert_false(guest_decode(v, &insn));
    assert_int_equal(guest_insn_length(v, 2), 0);
    v->cpu.rip = 0x10ffe;
    memcpy((u8 *)host_memory(d, 0x9ffe), "\x0f\xa2", 2); // ends with its page
    write_entry(0x4000 + 0x11 * 8, 8, 0);
    assert_int_equal(guest_insn_length(v, 2), 2);
    memcpy((u8 *)host_memory(d, 0x9ffe), "\x66\x0f", 2);
    assert_int_equal(guest_insn_length(v, 2), 0);
    write_entry(0x4000 + 0x11 * 8, 8, 0x7007);
    memcpy(host_memory(d, 0x7000), "\xa2", 1);
    assert_int_equal(guest_insn_length(v, 2), 3);
    assert_false(v->cpu.queued.valid); // the guest faults by itself
    assert_int_equal(d->info.status, BASALT_STATUS_PAUSED);
}

static void expect_code(u8 first) {
    u8 bytes[16];

    assert_int_equal(guest_fetch(v, bytes), 15);
    assert_int_equal(bytes[0], first);
}

static void expect_none(void) {
    u8 bytes[16];

    assert_int_equal(guest_fetch(v, bytes), 0);
}

// What is remembered of the way to the code must not outlive any change of it.
static void test_code_that_changes(void **state unused) {
    const u64 leaf = 0x4000 + 0x10 * 8;

    map_long(0x10000, 0x9000, 7);
    v->cpu.rip = 0x10000;
    memset(host_memory(d, 0x9000), 9, 16);
    memset(host_memory(d, 0x7000), 7, 16);
    memset(host_memory(d, 0xa000), 0xa, 16);
    expect_code(9);
    expect_code(9);
    memset(host_memory(d, 0x9000), 8, 16); // the bytes
    expect_code(8);
    write_entry(leaf, 8, 0x7007); // the page
    expect_code(7);
    expect_code(7);
    write_entry(0x3000, 8, 0); // a table
    expect_none();
    write_entry(0x3000, 8, 0x4007);
    expect_code(7);
    write_entry(0xb000, 8, 0xc007); // other tables
    write_entry(0xc000, 8, 0xd007);
    write_entry(0xd000, 8, 0xe007);
    write_entry(0xe000 + 0x10 * 8, 8, 0xa007);
    cpu->registers[REG_CR3] = 0xb000;
    expect_code(0xa);
    cpu->registers[REG_CR3] = 0x1000;
    expect_code(7);
    v->cpu.cr0_guest &= ~(u64)CR0_PG; // no tables at all
    v->cpu.efer_guest &= ~(u64)EFER_LMA;
    v->cpu.rip = 0xa000;
    cpu->segments[BASALT_CS].attributes = 0xc09b;
    expect_code(0xa);
    host_set_mode(v, MODE_64);
    v->cpu.rip = 0x10000;
    expect_code(7);
    assert_int_equal(memory_release(d, GPA(0x7000), 1), 1); // the memory
    expect_none();
    assert_int_equal(d->info.status, BASALT_STATUS_PAUSED);
}

#define TEST(name)  cmocka_unit_test_setup_teardown(name, begin, end)
#define SMALL(name) cmocka_unit_test_setup_teardown(name, begin_small, end)

int main(void) {
    const struct CMUnitTest tests[] = {
        SMALL(test_32_bit_paging),
        SMALL(test_pae_paging),
        SMALL(test_4_level_paging),
        TEST(test_fetch),
        TEST(test_modes),
        TEST(test_what_is_not_there),
        TEST(test_code_that_changes),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
