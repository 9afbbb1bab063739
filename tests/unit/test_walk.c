// SPDX-License-Identifier: Apache-2.0
//
// Guest page walks in all formats against a model written from the SDM's "Paging": results, error codes, accessed and dirty
// bits, over random tables with random rights; then segmentation, copies that cross pages, and instruction fetch.
// sources: tests/unit/host_machine.c tests/unit/host_kernel.c
// sources: kernel/domain.c kernel/memory.c kernel/handle.c kernel/event.c kernel/request.c kernel/share.c
// sources: kernel/interrupt.c kernel/hypercall.c kernel/policy.c kernel/timer.c kernel/schedule.c kernel/frames.c
// sources: kernel/console.c ept/ept.c ept/format.c guest/vcpu.c guest/interrupt.c guest/walk.c guest/emulate.c
// sources: guest/run.c guest/decode.c guest/alu.c guest/event.c
// sources: guest/cpuid.c guest/msr.c guest/mtrr.c guest/cr.c guest/vlapic.c guest/vlapic_register.c
// sources: guest/vlapic_timer.c guest/control.c guest/pvclock.c
// libs: -Wl,--wrap=frame_alloc -Wl,--wrap=frame_alloc_chunk -Wl,--wrap=frame_kernel_alloc

#include "tests/unit/host_machine.h"

#include "arch/paging.h"
#include "kernel/share.h"

#include <basalt/error.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TABLES 8u // pages that random tables lie in, from guest-physical 0 on

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
    d = host_domain("guest", 8 * MIB);
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

// What an access came to: the guest's own page fault, or an address where there is no memory.
struct fault {
    bool faulted;
    u32 error;
    u64 linear;
};

static void expect_nothing_yet(bool user) {
    cpu->cpl = user ? 3 : 0;
    v->cpu.queued.valid = false;
    d->status = BASALT_STATUS_PAUSED;
    this_queue()->loaded = NULL; // no report of the code, which would be a walk
}

// Takes note of what was queued, or that the domain ended; exactly one of them happens when an access fails.
static int outcome(bool ok, struct fault *fault) {
    bool ended = d->status == BASALT_STATUS_ENDED;

    this_queue()->loaded = v;
    *fault =
        (struct fault){v->cpu.queued.valid, v->cpu.queued.error, backend->read(&v->cpu, REG_CR2)};
    assert_int_equal(ok, !fault->faulted && !ended);
    assert_false(fault->faulted && ended);
    assert_true(!fault->faulted || v->cpu.queued.vector == 14);
    v->cpu.queued.valid = false;
    v->blocked &= ~BLOCK_ENDED;
    d->status = BASALT_STATUS_PAUSED;
    return ok ? 0 : -1;
}

static int translate(u64 linear, bool write, bool user, bool fetch, gpa_t *gpa,
                     struct fault *fault) {
    expect_nothing_yet(user);
    return outcome(guest_translate(v, linear, (write ? PF_WRITE : 0) | (fetch ? PF_FETCH : 0), gpa),
                   fault);
}

static int read_linear(u64 linear, void *buffer, unsigned bytes, bool user, struct fault *fault) {
    expect_nothing_yet(user);
    return outcome(guest_copy(v, linear, buffer, bytes, 0), fault);
}

static int write_linear(u64 linear, void *buffer, unsigned bytes, bool user, struct fault *fault) {
    expect_nothing_yet(user);
    return outcome(guest_copy(v, linear, buffer, bytes, PF_WRITE), fault);
}

static u64 read_entry(u64 gpa, unsigned bytes) {
    u64 entry = 0;

    memcpy(&entry, host_memory(d, gpa), bytes);
    return entry;
}
static void write_entry(u64 gpa, unsigned bytes, u64 entry) {
    memcpy(host_memory(d, gpa), &entry, bytes);
}

// ---- The model ----

struct walk_result {
    bool ok, no_memory;
    u64 gpa;
    u32 error;
};

// Walks and sets the bits in `copy`, an image of the tables.
static struct walk_result model_walk(u8 *copy, u64 linear, bool write, bool user, bool fetch) {
    u64 cr0 = v->cpu.cr0_guest, cr4 = v->cpu.cr4_guest, efer = v->cpu.efer_guest;
    bool long_mode = efer & BIT(10), pae = cr4 & BIT(5), nxe = efer & BIT(11);
    static const unsigned shifts_long[] = {39, 30, 21, 12}, shifts_pae[] = {30, 21, 12},
                          shifts_32[] = {22, 12};
    const unsigned *shifts = long_mode ? shifts_long : pae ? shifts_pae : shifts_32;
    unsigned levels = long_mode ? 4 : pae ? 3 : 2, size = long_mode || pae ? 8 : 4;
    u64 table = cpu->registers[REG_CR3] & (long_mode ? 0x000ffffffffff000
                                           : pae     ? 0xffffffe0
                                                     : 0xfffff000);
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
            bad |= !fetch && !user && for_user && cr4 & BIT(21) && !(v->cpu.rflags & BIT(18));
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

static void random_tables(unsigned size) {
    for (u64 gpa = 0; gpa < TABLES * PAGE_SIZE; gpa += size) {
        u64 entry = host_random() % TABLES << 12, r = host_random();
        entry |= (r % 16 != 0) | (r >> 4) % 8 % 7 << 1; // present; R/W and U/S mostly set
        entry |= (r >> 8) % 4 ? 6 : 0;
        entry |= (r >> 12) % 4 << 5; // accessed, dirty
        entry |= (r >> 16) % 4 ? 0 : 0x80;
        entry |= (r >> 20) % 3 ? 0 : 0x100; // global, or nothing
        if (entry & 0x80)
            entry |= r >> 24 & (size == 8 ? 0x00003fffffe01000 : 0xffc00000 | 0x1fe000);
        if (size == 8 && (r >> 60) % 6 == 0)
            entry |= BIT(63);
        write_entry(gpa, size, entry);
    }
}

enum format { LEGACY, PAE, LONG };

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
    static u8 before[TABLES * PAGE_SIZE], after[TABLES * PAGE_SIZE];
    unsigned good = 0, faults = 0;

    for (unsigned n = 0; n < 20000; n++) {
        if (n % 500 == 0)
            random_tables(format == LEGACY ? 4 : 8);
        random_controls(format);
        u64 linear = host_random(), r = host_random();
        bool write = r & 1, fetch = !write && r & 2, user = r & 4;
        linear = format == LONG ? (u64)((i64)(linear << 16) >> 16) : (u32)linear;
        for (u64 page = 0; page < TABLES; page++)
            memcpy(before + page * PAGE_SIZE, host_memory(d, page * PAGE_SIZE), PAGE_SIZE);
        struct walk_result want = model_walk(before, linear, write, user, fetch);
        struct fault fault = {0};
        gpa_t gpa = GPA(~0ull);
        int error = translate(linear, write, user, fetch, &gpa, &fault);
        for (u64 page = 0; page < TABLES; page++)
            memcpy(after + page * PAGE_SIZE, host_memory(d, page * PAGE_SIZE), PAGE_SIZE);
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

    host_set_mode(v, MODE_32);
    v->cpu.cr0_guest |= BIT(31);
    v->cpu.cr4_guest = BIT(4);
    cpu->registers[REG_CR3] = 0x1000;
    write_entry(0x1000 + 4 * 0x300, 4, 0x00c00000 | 0xab << 13 | 0x87);
    assert_int_equal(translate(0xc0123456, true, true, false, &gpa, &fault), 0);
    assert_true(gpa.v == 0xab00c00000 + 0x123456);
    assert_int_equal(read_entry(0x1000 + 4 * 0x300, 4), 0x00c00000 | 0xab << 13 | 0xe7);
    v->cpu.cr4_guest = 0; // the bit means nothing then: it is a table
    write_entry(0x1000 + 4 * 0x300, 4, 0x2087);
    write_entry(0x2000 + 4 * 0x123, 4, 0x7007);
    assert_int_equal(translate(0xc0123456, true, true, false, &gpa, &fault), 0);
    assert_true(gpa.v == 0x7456);
}

static void test_paging_off(void **state unused) {
    struct fault fault;
    gpa_t gpa;

    host_set_mode(v, MODE_32);
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

    host_set_mode(v, MODE_32);
    v->cpu.cr0_guest |= BIT(31);
    v->cpu.cr4_guest = BIT(4) | BIT(20);
    cpu->registers[REG_CR3] = 0x1000;
    write_entry(0x1000, 4, 0x87);
    assert_int_not_equal(translate(0x1000, false, false, true, &gpa, &fault), 0);
    assert_true(fault.faulted);
    assert_int_equal(fault.error, 0x11);
    v->cpu.cr4_guest = BIT(4);
    assert_int_equal(translate(0x1000, false, false, true, &gpa, &fault), 0);
    write_entry(0x1000, 4, 0);
    assert_int_not_equal(translate(0x1000, false, false, true, &gpa, &fault), 0);
    assert_int_equal(fault.error, 0);
}

// 4-level tables that map `linear` to `gpa`, in pages 1 to 4.
static void map_long(u64 linear, u64 gpa, u64 bits) {
    cpu->registers[REG_CR3] = 0x1000;
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
    // Memory that comes at the first touch is zero: not present.
    assert_int_equal(memory_populate(d, GPA(0x40000000), 1, BASALT_POPULATE_LAZY), 1);
    assert_int_not_equal(translate(0x5000, false, false, false, &gpa, &fault), 0);
    assert_true(fault.faulted);
    assert_int_equal(fault.error, 0);
    cpu->registers[REG_CR3] = 0x000ffffffffff000;
    assert_int_not_equal(translate(0x5000, false, false, false, &gpa, &fault), 0);
    assert_false(fault.faulted);
}

// Tables in a page that the domain may only read: the owner's bits stay as they are.
static void test_read_only_tables(void **state unused) {
    struct domain *owner = host_domain("owner", 1 * MIB);
    struct fault fault;
    gpa_t gpa;
    u64 *page, snapshot[512];

    assert_int_equal(memory_populate(owner, GPA(0), 1, 0), 1);
    i64 id = share_grant(owner, GPA(0), 1, BASALT_SHARE_READ, d);
    assert_true(id >= 0);
    assert_int_equal(share_map(share_find(d, (u64)id), 0x40000000), 0);
    page = host_memory(owner, 0);
    for (unsigned i = 0; i < 512; i++)
        page[i] = 0x8007;
    memcpy(snapshot, page, sizeof(snapshot));
    map_long(0x5000, 0, 0);
    write_entry(0x3000, 8, 0x40000007);
    assert_int_not_equal(translate(0x5000, true, false, false, &gpa, &fault), 0);
    assert_int_not_equal(translate(0x5000, false, false, false, &gpa, &fault), 0);
    assert_memory_equal(page, snapshot, sizeof(snapshot));
    cpu->registers[REG_CR3] = 0x40000000; // the top level
    assert_int_not_equal(translate(0x5000, false, true, true, &gpa, &fault), 0);
    assert_memory_equal(page, snapshot, sizeof(snapshot));
    // With the bits set there is nothing to write.
    cpu->registers[REG_CR3] = 0x1000;
    page[5] = 0x8027;
    assert_int_equal(translate(0x5000, false, false, false, &gpa, &fault), 0);
    assert_true(gpa.v == 0x8000);
    host_destroy(owner);
}

static void test_copies_across_pages(void **state unused) {
    struct fault fault;
    u8 in[6000], out[6000];

    map_long(0x10000, 0x9000, 7);
    write_entry(0x4000 + 0x11 * 8, 8, 0x7007); // the next page lies elsewhere
    write_entry(0x4000 + 0x12 * 8, 8, 0xc005);
    write_entry(0x4000 + 0x13 * 8, 8, 0);
    for (unsigned i = 0; i < sizeof(in); i++)
        in[i] = (u8)host_random();
    assert_int_equal(write_linear(0x10ffc, in, 16, true, &fault), 0);
    assert_memory_equal(host_memory(d, 0x9ffc), in, 4);
    assert_memory_equal(host_memory(d, 0x7000), in + 4, 12);
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

static void test_fetch(void **state unused) {
    struct insn insn;
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
    write_entry(0x4000 + 0x10 * 8, 8, 0x9007 | BIT(63));
    assert_int_equal(guest_fetch(v, bytes), 0);
    assert_false(v->cpu.queued.valid); // it is only for reports
    for (unsigned cpl = 0; cpl < 4; cpl += 3) {
        cpu->cpl = cpl;
        assert_false(guest_decode(v, &insn));
        assert_true(v->cpu.queued.valid && v->cpu.queued.vector == 14);
        assert_int_equal(v->cpu.queued.error, cpl ? 0x15 : 0x11);
        assert_true(backend->read(&v->cpu, REG_CR2) == 0x10ffa);
        v->cpu.queued.valid = false;
    }
    cpu->cpl = 0;
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

static void expect_linear(unsigned segment, u64 offset, unsigned bytes, bool write, bool ok,
                          u64 want) {
    u64 linear = ~0ull;

    v->cpu.queued.valid = false;
    assert_int_equal(guest_linear(v, segment, offset, bytes, write, &linear), ok);
    if (ok) {
        assert_true(linear == want);
        assert_false(v->cpu.queued.valid);
        return;
    }
    assert_true(v->cpu.queued.valid);
    assert_int_equal(v->cpu.queued.vector, segment == BASALT_SS ? 12 : 13);
    assert_int_equal(v->cpu.queued.error, 0);
    v->cpu.queued.valid = false;
}

static void test_segments(void **state unused) {
    // 64-bit: only FS and GS have bases, no limits; addresses are canonical.
    for (unsigned i = 0; i < 6; i++) {
        cpu->segments[i].base = 0x5000;
        cpu->segments[i].limit = 0;
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
    host_set_mode(v, MODE_32);
    cpu->segments[BASALT_DS] =
        (struct basalt_segment){.base = 0xfffff000, .limit = 0xffff, .attributes = 0x4093};
    expect_linear(BASALT_DS, 0x2000, 4, true, true, 0x1000); // wraps
    expect_linear(BASALT_DS, 0xfffc, 4, true, true, 0xeffc);
    expect_linear(BASALT_DS, 0xfffd, 4, true, false, 0);
    expect_linear(BASALT_DS, 0xffffffff, 4, true, false, 0);
    cpu->segments[BASALT_DS].attributes = 0x4091; // read-only
    expect_linear(BASALT_DS, 0, 4, false, true, 0xfffff000);
    expect_linear(BASALT_DS, 0, 4, true, false, 0);
    cpu->segments[BASALT_DS].attributes = 0x4099; // execute-only
    expect_linear(BASALT_DS, 0, 4, false, false, 0);
    cpu->segments[BASALT_DS].attributes = 0x409b; // readable code
    expect_linear(BASALT_DS, 0, 4, false, true, 0xfffff000);
    expect_linear(BASALT_DS, 0, 4, true, false, 0);
    cpu->segments[BASALT_DS].attributes = 0x10000; // a null selector
    expect_linear(BASALT_DS, 0, 4, false, false, 0);
    // Expand-down: everything above the limit.
    cpu->segments[BASALT_SS] = (struct basalt_segment){.limit = 0xfff, .attributes = 0x4097};
    expect_linear(BASALT_SS, 0xfff, 1, true, false, 0);
    expect_linear(BASALT_SS, 0x1000, 4, true, true, 0x1000);
    expect_linear(BASALT_SS, 0xfffffffc, 4, true, true, 0xfffffffc);
    expect_linear(BASALT_SS, 0xfffffffd, 4, true, false, 0);
    cpu->segments[BASALT_SS].attributes = 0x97; // a 16-bit one ends at 64 KiB
    expect_linear(BASALT_SS, 0xfffe, 2, true, true, 0xfffe);
    expect_linear(BASALT_SS, 0xffff, 2, true, false, 0);
    // Real mode: limits, no rights.
    host_set_mode(v, MODE_16);
    cpu->segments[BASALT_DS] =
        (struct basalt_segment){.base = 0xf0000, .limit = 0xffff, .attributes = 0x10000};
    expect_linear(BASALT_DS, 0xfffe, 2, true, true, 0xffffe);
    assert_false(guest_linear(v, BASALT_DS, 0xffff, 2, true, &(u64){0}));
    assert_int_equal(v->cpu.queued.vector, 13);
    assert_false(v->cpu.queued.has_error); // none is pushed in real mode
}

static void test_decode_faults(void **state unused) {
    struct insn insn;

    map_long(0x10000, 0x9000, 7);
    v->cpu.rip = 0x20000; // not mapped
    assert_false(guest_decode(v, &insn));
    assert_true(v->cpu.queued.valid && v->cpu.queued.vector == 14 && v->cpu.queued.error == 0x10);
    assert_true(backend->read(&v->cpu, REG_CR2) == 0x20000);
    v->cpu.queued.valid = false;
    v->cpu.rip = 0x10000;
    memcpy(host_memory(d, 0x9000), "\x0f\x0b", 2); // UD2
    assert_false(guest_decode(v, &insn));
    assert_true(v->cpu.queued.valid && v->cpu.queued.vector == 6);
    v->cpu.queued.valid = false;
    memset(host_memory(d, 0x9000), 0x66, 64); // nothing but prefixes
    assert_false(guest_decode(v, &insn));
    assert_true(v->cpu.queued.valid && v->cpu.queued.vector == 13);
    v->cpu.queued.valid = false;
    memcpy(host_memory(d, 0x9000), "\x0f\xa2", 2); // CPUID
    assert_true(guest_decode(v, &insn));
    assert_int_equal(insn.op, OP_OTHER);
    assert_int_equal(guest_insn_length(v), 2);
    // Across the end of a page: the next one is needed only if the instruction goes on there.
    write_entry(0x4000 + 0x11 * 8, 8, 0);
    v->cpu.rip = 0x10ffe;
    memcpy((u8 *)host_memory(d, 0x9ffe), "\x0f\xa2", 2);
    assert_true(guest_decode(v, &insn));
    assert_int_equal(insn.length, 2);
    memcpy((u8 *)host_memory(d, 0x9ffe), "\x66\x0f", 2);
    assert_false(guest_decode(v, &insn));
    assert_true(v->cpu.queued.valid && v->cpu.queued.vector == 14 &&
                backend->read(&v->cpu, REG_CR2) == 0x11000);
    v->cpu.queued.valid = false;
    write_entry(0x4000 + 0x11 * 8, 8, 0x7007);
    memcpy(host_memory(d, 0x7000), "\xa2", 1);
    assert_true(guest_decode(v, &insn));
    assert_int_equal(insn.length, 3);
    assert_int_equal(d->status, BASALT_STATUS_PAUSED);
}

static void expect_length(unsigned length) {
    struct insn insn = {0};

    assert_true(guest_decode(v, &insn));
    assert_int_equal(insn.length, length);
    assert_false(v->cpu.queued.valid);
}

static void expect_page_fault(u32 error) {
    struct insn insn;

    assert_false(guest_decode(v, &insn));
    assert_true(v->cpu.queued.valid && v->cpu.queued.vector == 14);
    assert_int_equal(v->cpu.queued.error, error);
    v->cpu.queued.valid = false;
}

// What is remembered of the way to the code and of the code itself must not outlive any change of theirs.
static void test_code_that_changes(void **state unused) {
    struct insn insn;
    const u64 leaf = 0x4000 + 0x10 * 8;

    map_long(0x10000, 0x9000, 7);
    v->cpu.rip = 0x10000;
    memcpy(host_memory(d, 0x9000), "\x0f\xa2", 2); // CPUID
    memcpy(host_memory(d, 0x7000), "\xf4", 1);     // HLT
    memcpy(host_memory(d, 0xa000), "\x0f\x01\xd9", 3);
    expect_length(2);
    expect_length(2);
    memcpy(host_memory(d, 0x9000), "\x66\x0f\xa2", 3); // the bytes
    expect_length(3);
    memcpy(host_memory(d, 0x9000), "\x66\x0f\x0b", 3);
    assert_false(guest_decode(v, &insn));
    assert_true(v->cpu.queued.valid && v->cpu.queued.vector == 6);
    v->cpu.queued.valid = false;
    write_entry(leaf, 8, 0x7007); // the page
    expect_length(1);
    expect_length(1);
    write_entry(leaf, 8, 0x7003); // the rights
    expect_length(1);
    cpu->cpl = 3;
    expect_page_fault(0x15);
    cpu->cpl = 0;
    expect_length(1);
    write_entry(leaf, 8, 0x7007 | BIT(63));
    expect_page_fault(0x11);
    v->cpu.efer_guest &= ~(u64)EFER_NXE; // the bit means nothing then, here
    expect_length(1);
    v->cpu.efer_guest |= EFER_NXE;
    expect_page_fault(0x11);
    write_entry(leaf, 8, 0x7007);
    expect_length(1);
    v->cpu.cr4_guest |= CR4_SMEP;
    expect_page_fault(0x11);
    v->cpu.cr4_guest &= ~(u64)CR4_SMEP;
    write_entry(0x3000, 8, 0); // a table
    expect_page_fault(0x10);
    write_entry(0x3000, 8, 0x4007);
    expect_length(1);
    assert_int_equal(read_entry(0x3000, 8), 0x4027); // accessed, once more
    write_entry(0xb000, 8, 0xc007);                  // other tables
    write_entry(0xc000, 8, 0xd007);
    write_entry(0xd000, 8, 0xe007);
    write_entry(0xe000 + 0x10 * 8, 8, 0xa007);
    cpu->registers[REG_CR3] = 0xb000;
    expect_length(3);
    cpu->registers[REG_CR3] = 0x1000;
    expect_length(1);
    v->cpu.cr0_guest &= ~(u64)CR0_PG; // no tables at all
    v->cpu.efer_guest &= ~(u64)EFER_LMA;
    v->cpu.rip = 0xa000;
    cpu->segments[BASALT_CS].attributes = 0xc09b;
    expect_length(3);
    host_set_mode(v, MODE_64);
    v->cpu.rip = 0x10000;
    expect_length(1);
    assert_int_equal(memory_release(d, GPA(0x7000), 1), 1); // the memory
    assert_false(guest_decode(v, &insn));
    assert_int_equal(d->status, BASALT_STATUS_ENDED);
    assert_int_equal(d->end_reason, BASALT_END_EMULATION);
}

#define TEST(name)  cmocka_unit_test_setup_teardown(name, begin, end)
#define SMALL(name) cmocka_unit_test_setup_teardown(name, begin_small, end)

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
        TEST(test_fetch),
        TEST(test_modes),
        TEST(test_segments),
        TEST(test_decode_faults),
        TEST(test_code_that_changes),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
