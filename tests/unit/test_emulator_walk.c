// SPDX-License-Identifier: Apache-2.0
//
// The emulator's guest page walks in all formats against a model written from the SDM's "Paging": results, error codes,
// accessed and dirty bits, over random tables with random rights; then segmentation, copies that cross pages, and
// instruction fetch.
//
// sources: dom0/emulator/walk.c dom0/emulator/decode.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "devices/host.h"
#include "emulator/emulator.h"
#include "emulator/x86.h"

#define unused __attribute__((unused))

typedef struct {
    u64 v;
} gpa_t;
#define GPA(x) ((gpa_t){x})

static struct emulator e;
static u8 ram[64 * PAGE_SIZE] __attribute__((aligned(4096)));
static u64 ram_size, read_only; // bytes; the first address that can't be written
static unsigned pins;
static u64 seed;

static u64 native_random(void) {
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    u64 x = seed ^ seed >> 29;
    return x * 0xbf58476d1ce4e5b9ull ^ x >> 32;
}

#include "tests/unit/random_tables.h"

void *host_guest_pin(struct guest_memory *memory unused, uint64_t gpa, size_t *length, bool write) {
    if (gpa >= ram_size || (write && gpa >= read_only))
        return NULL;
    *length = MIN(*length, ram_size - gpa);
    assert_int_equal(pins++, 0);
    return ram + gpa;
}

void host_guest_unpin(struct guest_memory *memory unused) { pins--; }

static void *memory(u64 gpa) { return ram + gpa; }

static int setup(void **state unused) {
    const char *given = getenv("BASALT_TEST_SEED");

    seed = given ? strtoull(given, NULL, 0) : (u64)time(NULL);
    print_message("BASALT_TEST_SEED=%llu\n", (unsigned long long)seed);
    return 0;
}

// Flat code of that kind; paging off but in 64-bit mode.
static void set_mode(enum cpu_mode mode) {
    static const u32 attributes[] = {0x9b, 0xc09b, 0xa09b};

    e.state.cr0 = mode == MODE_64 ? CR0_PE | CR0_PG : mode == MODE_32 ? CR0_PE : 0;
    e.state.cr4 = mode == MODE_64 ? CR4_PAE : 0;
    e.state.efer = mode == MODE_64 ? EFER_LMA | EFER_NXE : 0;
    e.state.rflags = 2;
    for (unsigned i = 0; i < 6; i++)
        e.state.segments[i] = (struct basalt_segment){
            .limit = mode == MODE_16 ? 0xffff : 0xffffffff, .attributes = 0xc093};
    e.state.segments[BASALT_CS].attributes = attributes[mode];
}

static int begin_with(u64 pages) {
    memset(ram, 0, sizeof(ram));
    e = (struct emulator){0};
    ram_size = pages * PAGE_SIZE;
    read_only = ~0ull;
    set_mode(MODE_64);
    return 0;
}

static int begin(void **state unused) { return begin_with(64); }
static int begin_small(void **state unused) { return begin_with(TABLES); }

// What an access came to: the guest's own page fault, or an address where there is no memory.
struct fault {
    bool faulted;
    u32 error;
    u64 linear;
};

static void set_user(bool user) {
    u32 *attributes = &e.state.segments[BASALT_SS].attributes;

    *attributes = (*attributes & ~0x60u) | (user ? 0x60 : 0);
    e.failure = EMULATOR_AGAIN;
}

static int outcome(bool ok, struct fault *fault) {
    bool faulted = !ok && e.failure == EMULATOR_COMPLETE;

    assert_int_equal(pins, 0);
    *fault = (struct fault){faulted, e.completion.error, e.completion.operand};
    assert_true(ok || faulted || e.failure == EMULATOR_CANNOT);
    if (faulted)
        assert_true(e.completion.action == BASALT_COMPLETE_EXCEPTION && e.completion.vector == 14);
    return ok ? 0 : -1;
}

static int translate(u64 linear, bool write, bool user, bool fetch, gpa_t *gpa,
                     struct fault *fault) {
    set_user(user);
    unsigned access = (write ? PF_WRITE : 0) | (fetch ? PF_FETCH : 0);
    return outcome(emulator_translate(&e, linear, access, &gpa->v), fault);
}

static int read_linear(u64 linear, void *buffer, unsigned bytes, bool user, struct fault *fault) {
    set_user(user);
    return outcome(emulator_copy(&e, linear, buffer, bytes, 0), fault);
}

static int write_linear(u64 linear, void *buffer, unsigned bytes, bool user, struct fault *fault) {
    set_user(user);
    return outcome(emulator_copy(&e, linear, buffer, bytes, PF_WRITE), fault);
}

static u64 read_entry(u64 gpa, unsigned bytes) {
    u64 entry = 0;

    memcpy(&entry, memory(gpa), bytes);
    return entry;
}
static void write_entry(u64 gpa, unsigned bytes, u64 entry) { memcpy(memory(gpa), &entry, bytes); }

// ---- The model ----

struct walk_result {
    bool ok, no_memory;
    u64 gpa;
    u32 error;
};

// Walks and sets the bits in `copy`, an image of the tables.
static struct walk_result model_walk(u8 *copy, u64 linear, bool write, bool user, bool fetch) {
    u64 cr0 = e.state.cr0, cr4 = e.state.cr4, efer = e.state.efer;
    bool long_mode = efer & BIT(10), pae = cr4 & BIT(5), nxe = efer & BIT(11);
    static const unsigned shifts_long[] = {39, 30, 21, 12}, shifts_pae[] = {30, 21, 12},
                          shifts_32[] = {22, 12};
    const unsigned *shifts = long_mode ? shifts_long : pae ? shifts_pae : shifts_32;
    unsigned levels = long_mode ? 4 : pae ? 3 : 2, size = long_mode || pae ? 8 : 4;
    u64 table = e.state.cr3 & (long_mode ? 0x000ffffffffff000 : pae ? 0xffffffe0 : 0xfffff000);
    u32 code = (write ? 2u : 0) | (user ? 4u : 0) | (fetch && nxe && size == 8 ? 16u : 0);
    bool writable = true, for_user = true, executable = true;

    for (unsigned n = 0; n < levels; n++) {
        unsigned bits = levels == 2 ? 10 : levels == 3 && n == 0 ? 2 : 9;
        u64 at = table + ((linear >> shifts[n]) % BIT(bits)) * size, entry = 0;
        bool last = shifts[n] == 12, pointers_only = levels == 3 && n == 0;
        if (at >= TABLES * PAGE_SIZE) // only there is what looks like tables
            return (struct walk_result){.no_memory = true};
        memcpy(&entry, copy + at, size);
        if (!(entry & 1))
            return (struct walk_result){.error = code};
        if (!pointers_only) {
            writable &= entry >> 1 & 1;
            for_user &= entry >> 2 & 1;
            executable &= !(size == 8 && nxe && entry >> 63);
            if ((shifts[n] == 30 || shifts[n] == 21 || (shifts[n] == 22 && cr4 & BIT(4))) &&
                entry & 0x80)
                last = true;
        }
        if (last) {
            bool bad = user && !for_user;
            bad |= write && !writable && (user || cr0 & BIT(16));
            bad |= fetch && (!executable || (!user && for_user && cr4 & BIT(20)));
            bad |= !fetch && !user && for_user && cr4 & BIT(21) && !(e.state.rflags & BIT(18));
            if (bad)
                return (struct walk_result){.error = code | 1};
        }
        if (!pointers_only) {
            entry |= 0x20 | (last && write ? 0x40 : 0);
            memcpy(copy + at, &entry, size);
        }
        if (last) {
            u64 frame = entry & 0x000ffffffffff000 & ~(BIT(shifts[n]) - 1);
            if (shifts[n] == 22) // bits 20:13 are 39:32 of the address
                frame = (entry & 0xffc00000) + (entry >> 13 & 0xff) * BIT(32);
            return (struct walk_result){.ok = true, .gpa = frame + linear % BIT(shifts[n])};
        }
        table = entry & (size == 8 ? 0x000ffffffffff000 : 0xfffff000);
    }
    abort();
}

static void random_controls(enum format format) {
    u64 r = native_random();

    e.state.cr0 = BIT(31) | 1 | (r & BIT(16));
    e.state.cr4 = (format == LEGACY ? r & BIT(4) : BIT(5)) | (r & BIT(21));
    e.state.efer = (format == LONG ? BIT(8) | BIT(10) : 0) | (r & BIT(11));
    if (format != LEGACY && e.state.efer & BIT(11))
        e.state.cr4 |= r & BIT(20); // SMEP; what it does to error codes without NX is tested below
    e.state.cr3 = (native_random() % TABLES << 12) |
                  (format == PAE ? native_random() % 128 * 32 : 0x18);
    e.state.rflags = 2 | (r & BIT(18));
}

static void run_model(enum format format) {
    static u8 before[TABLES * PAGE_SIZE], after[TABLES * PAGE_SIZE];
    unsigned good = 0, faults = 0;

    for (unsigned n = 0; n < 20000; n++) {
        if (n % 500 == 0)
            random_tables(format == LEGACY ? 4 : 8);
        random_controls(format);
        u64 linear = native_random(), r = native_random();
        bool write = r & 1, fetch = !write && r & 2, user = r & 4;
        linear = format == LONG ? (u64)((i64)(linear << 16) >> 16) : (u32)linear;
        for (u64 page = 0; page < TABLES; page++)
            memcpy(before + page * PAGE_SIZE, memory(page * PAGE_SIZE), PAGE_SIZE);
        struct walk_result want = model_walk(before, linear, write, user, fetch);
        struct fault fault = {0};
        gpa_t gpa = GPA(~0ull);
        int error = translate(linear, write, user, fetch, &gpa, &fault);
        for (u64 page = 0; page < TABLES; page++)
            memcpy(after + page * PAGE_SIZE, memory(page * PAGE_SIZE), PAGE_SIZE);
        assert_int_equal(error == 0, want.ok);
        assert_memory_equal(before, after,
                            sizeof(before)); // accessed and dirty bits, and nothing else
        if (want.ok) {
            assert_true(gpa.v == want.gpa);
            assert_false(fault.faulted);
            good++;
        } else if (want.no_memory) {
            assert_false(fault.faulted);
        } else {
            assert_true(fault.faulted);
            assert_int_equal(fault.error, want.error);
            assert_true(fault.linear == linear);
            faults++;
        }
    }
    assert_true(good > 1500 && faults > 1500);
}

static void test_32_bit_paging(void **state unused) { run_model(LEGACY); }
static void test_pae_paging(void **state unused) { run_model(PAE); }
static void test_4_level_paging(void **state unused) { run_model(LONG); }

static void test_pse36(void **state unused) {
    struct fault fault;
    gpa_t gpa;

    set_mode(MODE_32);
    e.state.cr0 |= BIT(31);
    e.state.cr4 = BIT(4);
    e.state.cr3 = 0x1000;
    write_entry(0x1000 + 4 * 0x300, 4, 0x00c00000 | 0xab << 13 | 0x87);
    assert_int_equal(translate(0xc0123456, true, true, false, &gpa, &fault), 0);
    assert_true(gpa.v == 0xab00c00000 + 0x123456);
    assert_int_equal(read_entry(0x1000 + 4 * 0x300, 4), 0x00c00000 | 0xab << 13 | 0xe7);
    e.state.cr4 = 0; // the bit means nothing then: it is a table
    write_entry(0x1000 + 4 * 0x300, 4, 0x2087);
    write_entry(0x2000 + 4 * 0x123, 4, 0x7007);
    assert_int_equal(translate(0xc0123456, true, true, false, &gpa, &fault), 0);
    assert_true(gpa.v == 0x7456);
}

static void test_paging_off(void **state unused) {
    struct fault fault;
    gpa_t gpa;

    set_mode(MODE_32);
    assert_int_equal(translate(0x12345678, true, true, true, &gpa, &fault), 0);
    assert_true(gpa.v == 0x12345678);
    assert_int_equal(translate(BIT(32) + 5, false, false, false, &gpa, &fault),
                     0); // wraps
    assert_true(gpa.v == 5);
}

// "Page-Fault Exceptions": the I/D flag is set for a fetch with SMEP, whatever EFER.NXE says.
static void test_fetch_bit_with_smep(void **state unused) {
    struct fault fault;
    gpa_t gpa;

    set_mode(MODE_32);
    e.state.cr0 |= BIT(31);
    e.state.cr4 = BIT(4) | BIT(20);
    e.state.cr3 = 0x1000;
    write_entry(0x1000, 4, 0x87);
    assert_int_not_equal(translate(0x1000, false, false, true, &gpa, &fault), 0);
    assert_true(fault.faulted);
    assert_int_equal(fault.error, 0x11);
    e.state.cr4 = BIT(4);
    assert_int_equal(translate(0x1000, false, false, true, &gpa, &fault), 0);
    write_entry(0x1000, 4, 0);
    assert_int_not_equal(translate(0x1000, false, false, true, &gpa, &fault), 0);
    assert_int_equal(fault.error, 0);
}

// 4-level tables that map `linear` to `gpa`, in pages 1 to 4.
static void map_long(u64 linear, u64 gpa, u64 bits) {
    e.state.cr3 = 0x1000;
    write_entry(0x1000 + (linear >> 39 & 511) * 8, 8, 0x2007);
    write_entry(0x2000 + (linear >> 30 & 511) * 8, 8, 0x3007);
    write_entry(0x3000 + (linear >> 21 & 511) * 8, 8, 0x4007);
    write_entry(0x4000 + (linear >> 12 & 511) * 8, 8, gpa | bits);
}

static void test_tables_that_are_not_there(void **state unused) {
    struct fault fault;
    gpa_t gpa;

    map_long(0x5000, 0x8000, 7);
    write_entry(0x3000, 8, 0x40000000 | 7); // a hole
    assert_int_not_equal(translate(0x5000, false, false, false, &gpa, &fault), 0);
    assert_false(fault.faulted);
    e.state.cr3 = 0x000ffffffffff000;
    assert_int_not_equal(translate(0x5000, false, false, false, &gpa, &fault), 0);
    assert_false(fault.faulted);
}

// Tables in memory that the domain may only read: the owner's bits stay as they are.
static void test_read_only_tables(void **state unused) {
    struct fault fault;
    u64 *page = memory(0x20000), snapshot[512];
    gpa_t gpa;

    read_only = 0x20000;
    for (unsigned i = 0; i < 512; i++)
        page[i] = 0x8007;
    memcpy(snapshot, page, sizeof(snapshot));
    map_long(0x5000, 0, 0);
    write_entry(0x3000, 8, 0x20007);
    assert_int_not_equal(translate(0x5000, true, false, false, &gpa, &fault), 0);
    assert_int_not_equal(translate(0x5000, false, false, false, &gpa, &fault), 0);
    assert_false(fault.faulted);
    assert_memory_equal(page, snapshot, sizeof(snapshot));
    e.state.cr3 = 0x20000; // the top level
    assert_int_not_equal(translate(0x5000, false, true, true, &gpa, &fault), 0);
    assert_memory_equal(page, snapshot, sizeof(snapshot));
    // With the bits set there is nothing to write.
    e.state.cr3 = 0x1000;
    page[5] = 0x8027;
    assert_int_equal(translate(0x5000, false, false, false, &gpa, &fault), 0);
    assert_true(gpa.v == 0x8000);
}

static void test_copies_across_pages(void **state unused) {
    struct fault fault;
    u8 in[6000], out[6000];

    map_long(0x10000, 0x9000, 7);
    write_entry(0x4000 + 0x11 * 8, 8, 0x7007); // the next page lies elsewhere
    write_entry(0x4000 + 0x12 * 8, 8, 0xc005);
    write_entry(0x4000 + 0x13 * 8, 8, 0);
    for (unsigned i = 0; i < sizeof(in); i++)
        in[i] = (u8)native_random();
    assert_int_equal(write_linear(0x10ffc, in, 16, true, &fault), 0);
    assert_memory_equal(memory(0x9ffc), in, 4);
    assert_memory_equal(memory(0x7000), in + 4, 12);
    assert_int_equal(read_linear(0x10ffc, out, 16, true, &fault), 0);
    assert_memory_equal(in, out, 16);
    assert_int_equal(read_linear(0x10c00, out, sizeof(out), true, &fault), 0);
    assert_int_not_equal(write_linear(0x10c00, in, sizeof(in), true, &fault), 0);
    assert_true(fault.faulted && fault.linear == 0x12000 && fault.error == 7);
    assert_int_not_equal(read_linear(0x12fff, out, 2, false, &fault), 0);
    assert_true(fault.faulted && fault.linear == 0x13000 && fault.error == 0);
    write_entry(0x4000 + 0x13 * 8, 8, 0x50000007); // mapped, but no memory
    assert_int_not_equal(read_linear(0x13000, out, 2, false, &fault), 0);
    assert_false(fault.faulted);
}

// An access of compatibility mode that crosses 4 GiB goes on at 0.
static void test_compatibility_mode(void **state unused) {
    struct fault fault;
    gpa_t gpa = {0};

    map_long(0x5000, 0x8000, 7);
    assert_int_not_equal(translate(BIT(32) + 0x5123, false, false, false, &gpa, &fault), 0);
    assert_true(fault.faulted && fault.linear == BIT(32) + 0x5123);
    e.state.segments[BASALT_CS].attributes = 0xc09b;
    assert_int_equal(translate(BIT(32) + 0x5123, false, false, false, &gpa, &fault), 0);
    assert_true(gpa.v == 0x8123);
}

static void expect_linear(unsigned segment, u64 offset, unsigned bytes, bool write, bool ok,
                          u64 want) {
    u64 linear = ~0ull;

    assert_int_equal(emulator_linear(&e, segment, offset, bytes, write, &linear), ok);
    if (ok) {
        assert_true(linear == want);
        return;
    }
    assert_int_equal(e.failure, EMULATOR_COMPLETE);
    assert_int_equal(e.completion.action, BASALT_COMPLETE_EXCEPTION);
    assert_int_equal(e.completion.vector, segment == BASALT_SS ? 12 : 13);
    assert_int_equal(e.completion.error, 0);
}

static void test_segments(void **state unused) {
    // 64-bit: only FS and GS have bases, no limits; addresses are canonical.
    for (unsigned i = 0; i < 6; i++) {
        e.state.segments[i].base = 0x5000;
        e.state.segments[i].limit = 0;
    }
    expect_linear(BASALT_DS, 0x1234, 8, true, true, 0x1234);
    expect_linear(BASALT_FS, 0x1234, 8, true, true, 0x6234);
    expect_linear(BASALT_GS, ~0ull - 0x5007, 8, true, true, ~0ull - 7);
    expect_linear(BASALT_DS, 0x00007ffffffffff8, 8, false, true, 0x00007ffffffffff8);
    expect_linear(BASALT_DS, 0x00007ffffffffff9, 8, false, false, 0);
    expect_linear(BASALT_SS, 0x0000800000000000, 1, false, false, 0);
    expect_linear(BASALT_DS, 0xffff800000000000, 1, false, true, 0xffff800000000000);
    expect_linear(BASALT_DS, 0xffff7fffffffffff, 1, false, false, 0);
    // 32-bit protected mode.
    set_mode(MODE_32);
    e.state.segments[BASALT_DS] =
        (struct basalt_segment){.base = 0xfffff000, .limit = 0xffff, .attributes = 0x4093};
    expect_linear(BASALT_DS, 0x2000, 4, true, true, 0x1000); // wraps
    expect_linear(BASALT_DS, 0xfffc, 4, true, true, 0xeffc);
    expect_linear(BASALT_DS, 0xfffd, 4, true, false, 0);
    expect_linear(BASALT_DS, 0xffffffff, 4, true, false, 0);
    e.state.segments[BASALT_DS].attributes = 0x4091; // read-only
    expect_linear(BASALT_DS, 0, 4, false, true, 0xfffff000);
    expect_linear(BASALT_DS, 0, 4, true, false, 0);
    e.state.segments[BASALT_DS].attributes = 0x4099; // execute-only
    expect_linear(BASALT_DS, 0, 4, false, false, 0);
    e.state.segments[BASALT_DS].attributes = 0x409b; // readable code
    expect_linear(BASALT_DS, 0, 4, false, true, 0xfffff000);
    expect_linear(BASALT_DS, 0, 4, true, false, 0);
    e.state.segments[BASALT_DS].attributes = 0x10000; // a null selector
    expect_linear(BASALT_DS, 0, 4, false, false, 0);
    // Expand-down: everything above the limit.
    e.state.segments[BASALT_SS] = (struct basalt_segment){.limit = 0xfff, .attributes = 0x4097};
    expect_linear(BASALT_SS, 0xfff, 1, true, false, 0);
    expect_linear(BASALT_SS, 0x1000, 4, true, true, 0x1000);
    expect_linear(BASALT_SS, 0xfffffffc, 4, true, true, 0xfffffffc);
    expect_linear(BASALT_SS, 0xfffffffd, 4, true, false, 0);
    e.state.segments[BASALT_SS].attributes = 0x97; // a 16-bit one ends at 64 KiB
    expect_linear(BASALT_SS, 0xfffe, 2, true, true, 0xfffe);
    expect_linear(BASALT_SS, 0xffff, 2, true, false, 0);
    // Real mode: limits, no rights.
    set_mode(MODE_16);
    e.state.segments[BASALT_DS] =
        (struct basalt_segment){.base = 0xf0000, .limit = 0xffff, .attributes = 0x10000};
    expect_linear(BASALT_DS, 0xfffe, 2, true, true, 0xffffe);
    expect_linear(BASALT_DS, 0xffff, 2, true, false, 0);
}

static bool decode_faults(unsigned vector) {
    return !emulator_decode(&e) && e.failure == EMULATOR_COMPLETE && e.completion.vector == vector;
}

static void test_decode_faults(void **state unused) {
    map_long(0x10000, 0x9000, 7);
    e.state.rip = 0x20000; // not mapped
    assert_true(decode_faults(14) && e.completion.error == 0x10 && e.completion.operand == 0x20000);
    e.state.rip = 0x10000;
    memcpy(memory(0x9000), "\x0f\x0b", 2); // UD2
    assert_true(decode_faults(6));
    memset(memory(0x9000), 0x66, 64); // nothing but prefixes
    assert_true(decode_faults(13));
    write_entry(0x4000 + 0x10 * 8, 8, 0x9007 | BIT(63));
    assert_true(decode_faults(14) && e.completion.error == 0x11);
    write_entry(0x4000 + 0x10 * 8, 8, 0x9007);
    // Across the end of a page: the next one is needed only if the instruction goes on there.
    write_entry(0x4000 + 0x11 * 8, 8, 0);
    e.state.rip = 0x10ffe;
    memcpy(memory(0x9ffe), "\x0f\xa2", 2);
    assert_true(emulator_decode(&e));
    assert_int_equal(e.insn.length, 2);
    memcpy(memory(0x9ffe), "\x66\x0f", 2);
    assert_true(decode_faults(14) && e.completion.operand == 0x11000);
    write_entry(0x4000 + 0x11 * 8, 8, 0x7007);
    memcpy(memory(0x7000), "\xa2", 1);
    assert_true(emulator_decode(&e));
    assert_int_equal(e.insn.length, 3);
}

static void test_modes(void **state unused) {
    for (unsigned mode = MODE_16; mode <= MODE_64; mode++) {
        set_mode((enum cpu_mode)mode);
        assert_int_equal(emulator_mode(&e), mode);
    }
    e.state.segments[BASALT_CS].attributes = 0xc09b; // compatibility mode
    assert_int_equal(emulator_mode(&e), MODE_32);
    set_mode(MODE_32);
    e.state.rflags |= RFLAGS_VM;
    assert_int_equal(emulator_mode(&e), MODE_16);
    assert_true(emulator_user(&e));
}

#define TEST(name)  cmocka_unit_test_setup(name, begin)
#define SMALL(name) cmocka_unit_test_setup(name, begin_small)

int main(void) {
    const struct CMUnitTest tests[] = {
        SMALL(test_32_bit_paging),
        SMALL(test_pae_paging),
        SMALL(test_4_level_paging),
        TEST(test_pse36),
        TEST(test_paging_off),
        TEST(test_fetch_bit_with_smep),
        TEST(test_tables_that_are_not_there),
        TEST(test_read_only_tables),
        TEST(test_copies_across_pages),
        TEST(test_compatibility_mode),
        TEST(test_modes),
        TEST(test_segments),
        TEST(test_decode_faults),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
