// SPDX-License-Identifier: Apache-2.0
//
// The MSRs of a guest's machine that dom0 answers for: who may read and write what (a table by number, written from the
// manuals), that an unknown one changes nothing and is told of, and kvm-clock's pages.
//
// sources: dom0/devices/msr.c dom0/devices/pvclock.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dom0/devices/cpuid.h"
#include "dom0/devices/guest_machine.h"
#include "dom0/devices/pvclock.h"

enum result { MSR_DONE, MSR_FAULT, MSR_UNKNOWN };

#define DOMAIN 7u

static struct machine_state state_page;
static struct guest_machine machine = {
    .config.domain = DOMAIN, .state = &state_page, .memory = (struct guest_memory *)&state_page};
static uint64_t value;
static bool amd;
static uint32_t vcpu;
static unsigned lines, time_pages, wall_clocks;
static uint64_t wall_ns, domain_ns;
static uint64_t written_at; // where the guest's memory was written last
static uint8_t written[32]; // and what

bool cpuid_is_amd(void) { return amd; }
uint32_t host_tsc_khz(void) { return 2500000; }
uint64_t host_wall_ns(void) { return wall_ns; }
uint64_t host_domain_ns(uint32_t domain) {
    assert_int_equal(domain, DOMAIN);
    return domain_ns;
}
void host_log(const char *format, ...) {
    (void)format;
    lines++;
}

bool host_guest_write(struct guest_memory *memory, uint64_t gpa, const void *bytes, size_t length) {
    assert_ptr_equal(memory, machine.memory);
    memcpy(written, bytes, length);
    time_pages += length == sizeof(struct pvclock_time);
    wall_clocks += length == sizeof(struct pvclock_wall);
    written_at = gpa;
    return gpa < 0x100000;
}

static enum result classify(bool done) { return done ? MSR_DONE : lines ? MSR_UNKNOWN : MSR_FAULT; }

static enum result rd(uint32_t index) {
    lines = 0;
    return classify(machine_msr_read(&machine, vcpu, index, &value));
}

static enum result wr(uint32_t index, uint64_t v) {
    lines = time_pages = wall_clocks = 0;
    return classify(machine_msr_write(&machine, vcpu, index, v));
}

static int fresh(void **unused) {
    (void)unused;
    memset(&state_page, 0, sizeof(state_page));
    amd = false;
    vcpu = 3;
    return 0;
}

// The log tells of the first 64 only: this comes before all else.
static void unknown_changes_nothing(void **unused) {
    static const uint32_t indices[] = {
        0,          1,          0x48,       0x9b,   0x186,      0x400,      0x480,
        0xda0,      0x4b564d02, 0xc0010117, 0x1000, 0x4b564cff, 0xbfffffff, 0xc0000000,
        0xc0002000, 0xffffffff, 0x200,      0x20f,  0x250,      0x26f,      0x276,
        0x278,      0x11,       0x12,       0x277,  0xc0000080, 0x174,      0x6e0};
    struct machine_state before = state_page;
    (void)unused;
    for (unsigned i = 0; i < sizeof(indices) / sizeof(indices[0]); i++) {
        assert_int_equal(rd(indices[i]), MSR_UNKNOWN);
        assert_int_equal(value, 0);
        assert_int_equal(wr(indices[i], ~0ull), MSR_UNKNOWN);
        assert_false(time_pages || wall_clocks);
    }
    assert_memory_equal(&before, &state_page, sizeof(before));
    for (unsigned i = 0, told = 0; i < 100; i++, told += lines) {
        (void)rd(0);
        assert_true(told + lines <= 64 - 2 * sizeof(indices) / sizeof(indices[0]));
    }
}

static void constants(void **unused) {
    static const struct {
        uint32_t index;
        uint64_t value;
    } rows[] = {
        {0x17, 0}, {0x3a, 1},       {0xce, 0}, {0x179, 0},    {0x17a, 0},     {0x34, 0},
        {0x79, 0}, {0x1a0, 0x1801}, {0x8b, 0}, {0xfe, 0x400}, {0x2ff, 0x806}, {0x3b, 0},
    };
    (void)unused;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(rd(rows[i].index), MSR_DONE);
        assert_int_equal(value, rows[i].value);
    }
}

static void constants_amd(void **unused) {
    static const struct {
        uint32_t index;
        uint64_t value;
    } rows[] = {
        {0xc0010010, 0}, {0xc0010015, 1u << 24}, {0xc001001f, 0}, {0xc0010055, 0},
        {0xc0010058, 0}, {0xc001001a, 0},        {0xc001001d, 0}, {0xc0010114, 0x18},
        {0xc0011020, 0}, {0xc0011022, 0},        {0xc0011029, 2}, {0xc001102a, 0},
        {0xc001102c, 0},
    };
    (void)unused;
    amd = true;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(rd(rows[i].index), MSR_DONE);
        assert_int_equal(value, rows[i].value);
        assert_int_equal(wr(rows[i].index, ~0ull),
                         rows[i].index == 0xc0010114 ? MSR_FAULT : MSR_DONE);
        assert_int_equal(rd(rows[i].index), MSR_DONE);
        assert_int_equal(value, rows[i].value);
    }
}

static void vendors_are_separate(void **unused) {
    static const uint32_t intel[] = {0x17, 0x33, 0x3a, 0x79, 0xce, 0x1a0},
                          amds[] = {0xc0010010, 0xc0010015, 0xc0011029};
    (void)unused;
    for (unsigned a = 0; a < 2; a++) {
        amd = a;
        for (unsigned i = 0; i < 6; i++)
            assert_int_equal(rd(intel[i]), a || intel[i] == 0x33 ? MSR_FAULT : MSR_DONE);
        for (unsigned i = 0; i < 3; i++)
            assert_int_equal(rd(amds[i]), a ? MSR_DONE : MSR_FAULT);
    }
}

// What stock kernels probe with a safety net: #GP, and no line in the log.
static void quiet_faults(void **unused) {
    static const uint32_t indices[] = {0x33, 0x49, 0x10a, 0x10b, 0x140, 0x606, 0xc0000103};
    (void)unused;
    for (unsigned i = 0; i < sizeof(indices) / sizeof(indices[0]); i++) {
        assert_int_equal(rd(indices[i]), MSR_FAULT);
        assert_int_equal(wr(indices[i], 0), MSR_FAULT);
    }
}

static void read_only_and_ignored(void **unused) {
    static const uint32_t read_only[] = {0x17, 0x3a, 0xce, 0xfe, 0x179};
    static const uint32_t ignored[] = {0x79, 0x8b, 0x17a, 0x1a0, 0x2ff, 0x3b};
    (void)unused;
    for (unsigned i = 0; i < sizeof(read_only) / sizeof(read_only[0]); i++)
        assert_int_equal(wr(read_only[i], 0), MSR_FAULT);
    for (unsigned i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++) {
        assert_int_equal(rd(ignored[i]), MSR_DONE);
        uint64_t before = value;
        assert_int_equal(wr(ignored[i], ~0ull), MSR_DONE);
        assert_false(time_pages || wall_clocks);
        assert_int_equal(rd(ignored[i]), MSR_DONE);
        assert_int_equal(value, before);
    }
}

static void kvm_clock(void **unused) {
    struct pvclock_time t;
    struct pvclock_wall w;
    (void)unused;
    assert_int_equal(wr(0x4b564d01, 0x1001), MSR_DONE);
    assert_true(time_pages == 1 && !wall_clocks);
    assert_int_equal(written_at, 0x1000);
    memcpy(&t, written, sizeof(t));
    struct pvclock_time exact = pvclock_time(2500000);
    assert_memory_equal(&t, &exact, sizeof(t));
    assert_int_equal(rd(0x4b564d01), MSR_DONE);
    assert_int_equal(value, 0x1001);
    vcpu = 2; // each vCPU has its own
    assert_int_equal(rd(0x4b564d01), MSR_DONE);
    assert_int_equal(value, 0);
    vcpu = 3;
    assert_int_equal(wr(0x4b564d01, 0), MSR_DONE); // off
    assert_int_equal(time_pages, 0);

    wall_ns = 1700000000ull * 1000000000;
    domain_ns = 1000000000 - 10;
    assert_int_equal(wr(0x4b564d00, 0x5000), MSR_DONE);
    assert_true(wall_clocks == 1 && !time_pages);
    assert_int_equal(written_at, 0x5000);
    memcpy(&w, written, sizeof(w));
    assert_true(w.version == 2 && w.sec == 1699999999 && w.nsec == 10);
    assert_int_equal(rd(0x4b564d00), MSR_DONE);
    assert_int_equal(value, 0x5000);
    assert_int_equal(wr(0x4b564d00, ~0ull), MSR_DONE); // where there is no memory
    assert_int_equal(rd(0x4b564d00), MSR_DONE);
    assert_int_equal(value, ~0ull);
}

static void random_indices(void **unused) {
    (void)unused;
    srand(4);
    for (unsigned i = 0; i < 1000000; i++) {
        uint32_t index = (uint32_t)rand() & 0x1fff;
        uint64_t v = (uint64_t)rand() << rand() % 34 ^ (uint64_t)rand();
        amd = i & 1;
        if (i % 3 == 0)
            index |= 0xc0000000;
        if (i % 7 == 0)
            index = 0xc0010000 | (index & 0xfff);
        if (i % 11 == 0)
            index = 0x4b564d00 | (index & 3);
        if (wr(index, v) != MSR_DONE)
            assert_false(time_pages || wall_clocks);
        rd(index);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(unknown_changes_nothing, fresh),
        cmocka_unit_test_setup(constants, fresh),
        cmocka_unit_test_setup(constants_amd, fresh),
        cmocka_unit_test_setup(vendors_are_separate, fresh),
        cmocka_unit_test_setup(quiet_faults, fresh),
        cmocka_unit_test_setup(read_only_and_ignored, fresh),
        cmocka_unit_test_setup(kvm_clock, fresh),
        cmocka_unit_test_setup(random_indices, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
