// SPDX-License-Identifier: Apache-2.0
//
// The MSR policy: who may read and write what (a table by number, written from the manuals), the legality of values bit
// by bit, the TSC and its adjustment, MTRRs and PAT, and that an unknown MSR changes nothing.
//
// sources: guest/msr.c guest/mtrr.c guest/cr.c guest/vlapic.c guest/vlapic_timer.c guest/vlapic_register.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest/msr.h"

static struct cpuid_policy policy;
static struct vlapic lapic;
static u32 lapic_page[1024];
static struct msr_state msrs;
static struct msr_context ctx;
static struct cr_state cr;
static struct msr_effect effect;
static u64 value;

static int fresh(void **state) {
    (void)state;
    policy =
        (struct cpuid_policy){.phys_bits = 40, .efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE};
    vlapic_init(&lapic, lapic_page, 1, false, 2500000);
    msr_init(&msrs);
    cr = (struct cr_state){.cr0 = CR0_PE | CR0_PG, .cr4 = CR4_PAE, .efer = EFER_LME | EFER_LMA};
    ctx = (struct msr_context){
        .policy = &policy, .vlapic = &lapic, .cr = &cr, .efer = cr.efer, .now = 1000000};
    return 0;
}

static int fresh_amd(void **state) {
    fresh(state);
    policy.amd = true;
    return 0;
}

static enum msr_result rd(u32 index) {
    value = 0xdeadbeef;
    return msr_read(&msrs, &ctx, index, &value);
}

static enum msr_result wr(u32 index, u64 v) { return msr_write(&msrs, &ctx, index, v, &effect); }

static void assert_no_effect(void) {
    // Field by field: padding is nobody's.
    assert_false(effect.tsc || effect.efer || effect.system_time || effect.wall_clock ||
                 effect.host);
    assert_false(effect.apic.send || effect.apic.timer || effect.apic.eoi);
    assert_int_equal(effect.tsc_delta, 0);
}

static void constants(void **state) {
    static const struct {
        u32 index;
        u64 value;
    } rows[] = {
        {0x17, 0},          {0x3a, 1},       {0xce, 0},       {0x179, 0},    {0x17a, 0},
        {0x79, 0},          {0x1a0, 0x1801}, {0x8b, 0},       {0xfe, 0x508}, {0x2ff, 0x806},
        {0x1b, 0xfee00800}, {0x3b, 0},       {0x10, 1000000},
    };
    (void)state;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(rd(rows[i].index), MSR_DONE);
        assert_int_equal(value, rows[i].value);
    }
}

static void constants_amd(void **state) {
    static const struct {
        u32 index;
        u64 value;
    } rows[] = {
        {0xc0010010, 0}, {0xc0010015, BIT(24)}, {0xc001001f, 0}, {0xc0010055, 0},
        {0xc0010058, 0}, {0xc001001a, 0},       {0xc001001d, 0}, {0xc0010114, 0x18},
        {0xc0011020, 0}, {0xc0011022, 0},       {0xc0011029, 2}, {0xc001102a, 0},
        {0xc001102c, 0},
    };
    (void)state;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(rd(rows[i].index), MSR_DONE);
        assert_int_equal(value, rows[i].value);
        assert_int_equal(wr(rows[i].index, ~0ull),
                         rows[i].index == 0xc0010114 ? MSR_FAULT : MSR_DONE);
        assert_no_effect();
        assert_int_equal(rd(rows[i].index), MSR_DONE);
        assert_int_equal(value, rows[i].value);
    }
}

static void vendors_are_separate(void **state) {
    static const u32 intel[] = {0x17, 0x33, 0x3a, 0x79, 0xce, 0x1a0},
                     amd[] = {0xc0010010, 0xc0010015, 0xc0011029};

    (void)state;
    for (unsigned a = 0; a < 2; a++) {
        policy.amd = a;
        for (unsigned i = 0; i < 6; i++)
            assert_int_equal(rd(intel[i]), a || intel[i] == 0x33 ? MSR_FAULT : MSR_DONE);
        for (unsigned i = 0; i < 3; i++)
            assert_int_equal(rd(amd[i]), a ? MSR_DONE : MSR_FAULT);
    }
}

static void unknown_changes_nothing(void **state) {
    static const u32 indices[] = {
        0,          1,          0x48,       0x9b,   0x186,      0x400,      0x480,
        0xda0,      0x4b564d02, 0xc0010117, 0x1000, 0x4b564cff, 0xbfffffff, 0xc0000000,
        0xc0002000, 0xffffffff, 0x210,      0x251,  0x26f + 1,  0x276,      0x278};
    struct msr_state before = msrs;
    struct vlapic lapic_before = lapic;

    (void)state;
    for (unsigned i = 0; i < sizeof(indices) / sizeof(indices[0]); i++) {
        assert_int_equal(rd(indices[i]), MSR_UNKNOWN);
        assert_int_equal(value, 0);
        assert_int_equal(wr(indices[i], ~0ull), MSR_UNKNOWN);
        assert_no_effect();
    }
    assert_memory_equal(&before, &msrs, sizeof(msrs));
    assert_memory_equal(&lapic_before, &lapic, sizeof(lapic));
}

static void quiet_faults(void **state) {
    // What stock kernels probe with a safety net: #GP, and no line in the log.
    static const u32 indices[] = {0x33, 0x140, 0x606};

    (void)state;
    for (unsigned i = 0; i < sizeof(indices) / sizeof(indices[0]); i++) {
        assert_int_equal(rd(indices[i]), MSR_FAULT);
        assert_int_equal(wr(indices[i], 0), MSR_FAULT);
    }
}

static void read_only_and_ignored(void **state) {
    static const u32 read_only[] = {0x17, 0x3a, 0xce, 0xfe, 0x179};
    static const u32 ignored[] = {0x79, 0x8b, 0x17a};

    (void)state;
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(wr(read_only[i], 0), MSR_FAULT);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(wr(ignored[i], ~0ull), MSR_DONE);
        assert_no_effect();
    }
    msrs.microcode = 0x1200000000;
    assert_int_equal(rd(0x8b), MSR_DONE);
    assert_int_equal(value, 0x1200000000);
    assert_int_equal(wr(0x1a0, BIT(34) | BIT(22)), MSR_DONE);
    assert_int_equal(rd(0x1a0), MSR_DONE);
    assert_int_equal(value, 0x1800); // only fast strings can be changed
}

// Bits that may be set in what the backend holds.
static void backend_values(void **state) {
    static const struct {
        u32 index;
        u64 legal;
        bool canonical;
    } rows[] = {
        {0x174, 0xffffffff, false}, {0x175, 0, true},
        {0x176, 0, true},           {0x1d9, 3, false},
        {0xc0000081, ~0ull, false}, {0xc0000082, 0, true},
        {0xc0000083, 0, true},      {0xc0000084, 0xffffffff, false},
        {0xc0000100, 0, true},      {0xc0000101, 0, true},
        {0xc0000102, 0, true},
    };
    (void)state;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(rd(rows[i].index), MSR_BACKEND);
        assert_int_equal(wr(rows[i].index, 0), MSR_BACKEND);
        for (unsigned bit = 0; bit < 64; bit++) {
            bool legal = rows[i].canonical ? bit < 47 : rows[i].legal >> bit & 1;
            assert_int_equal(wr(rows[i].index, BIT(bit)), legal ? MSR_BACKEND : MSR_FAULT);
        }
        assert_int_equal(wr(rows[i].index, 0xffff800000000000),
                         rows[i].canonical || rows[i].legal == ~0ull ? MSR_BACKEND : MSR_FAULT);
    }
}

static void gated_by_cpuid(void **state) {
    (void)state;
    static const u32 gated[] = {0x49, 0x10a, 0x10b, 0xc0000103};
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(rd(gated[i]), MSR_FAULT);
        assert_int_equal(wr(gated[i], 0), MSR_FAULT);
    }
    policy.ibpb = policy.l1d_flush = policy.rdtscp = true;
    policy.arch_capabilities = 0x29;
    assert_int_equal(wr(0x49, 1), MSR_DONE);
    assert_true(effect.host);
    assert_int_equal(wr(0x49, 0), MSR_DONE);
    assert_false(effect.host);
    assert_int_equal(wr(0x49, 2), MSR_FAULT);
    assert_int_equal(rd(0x49), MSR_FAULT);
    assert_int_equal(wr(0x10b, 1), MSR_DONE);
    assert_true(effect.host);
    assert_int_equal(wr(0x10b, 3), MSR_FAULT);
    assert_int_equal(rd(0x10a), MSR_DONE);
    assert_int_equal(value, 0x29);
    assert_int_equal(wr(0x10a, 0), MSR_FAULT);
    assert_int_equal(rd(0xc0000103), MSR_BACKEND);
    assert_int_equal(wr(0xc0000103, 0xffffffff), MSR_BACKEND);
    assert_int_equal(wr(0xc0000103, BIT(32)), MSR_FAULT);
}

// Writing the TSC moves the adjustment by as much, writing the adjustment moves the TSC.
static void time_stamp(void **state) {
    (void)state;
    assert_int_equal(wr(0x10, 5), MSR_DONE);
    assert_true(effect.tsc && effect.apic.timer);
    assert_int_equal(effect.tsc_delta, 5 - 1000000ull);
    assert_int_equal(rd(0x3b), MSR_DONE);
    assert_int_equal(value, 5 - 1000000ull);
    ctx.now += effect.tsc_delta;
    assert_int_equal(wr(0x3b, 0), MSR_DONE);
    assert_int_equal(effect.tsc_delta, 999995);
    ctx.now += effect.tsc_delta;
    assert_int_equal(rd(0x10), MSR_DONE);
    assert_int_equal(value, 1000000);
    // A running count does not notice.
    vlapic_write(&lapic, 0xf0, 4, 0x1ff, ctx.now);
    vlapic_write(&lapic, 0x320, 4, 0x40, ctx.now);
    vlapic_write(&lapic, 0x380, 4, 1000000, ctx.now);
    u64 left = vlapic_timer_deadline(&lapic) - ctx.now;
    assert_int_equal(wr(0x10, BIT(40)), MSR_DONE);
    assert_int_equal(vlapic_timer_deadline(&lapic) - BIT(40), left);
}

static void deadline(void **state) {
    (void)state;
    vlapic_write(&lapic, 0xf0, 4, 0x1ff, 0);
    assert_int_equal(wr(0x6e0, 2000000), MSR_DONE);
    assert_int_equal(rd(0x6e0), MSR_DONE);
    assert_int_equal(value, 0);
    vlapic_write(&lapic, 0x320, 4, 0x40040, 0);
    assert_int_equal(wr(0x6e0, 2000000), MSR_DONE);
    assert_true(effect.apic.timer);
    assert_int_equal(rd(0x6e0), MSR_DONE);
    assert_int_equal(value, 2000000);
    ctx.now = 2000000;
    assert_int_equal(rd(0x6e0), MSR_DONE);
    assert_int_equal(value, 0);
}

static void apic(void **state) {
    (void)state;
    assert_int_equal(rd(0x802), MSR_FAULT);
    assert_int_equal(wr(0x1b, 0xfee00000 | APIC_BASE_X2APIC), MSR_FAULT);
    assert_no_effect();
    assert_int_equal(wr(0x1b, 0xfee00000 | APIC_BASE_X2APIC | APIC_BASE_ENABLE), MSR_DONE);
    assert_true(effect.apic.timer);
    assert_int_equal(wr(0x1b, BIT(40) | 0xc00), MSR_FAULT); // beyond MAXPHYADDR
    assert_int_equal(rd(0x802), MSR_DONE);
    assert_int_equal(value, 1);
    assert_int_equal(rd(0x80e), MSR_FAULT);
    assert_int_equal(wr(0x830, 0x0000000200004041), MSR_DONE);
    assert_true(effect.apic.send && effect.apic.message.dest == 2);
    assert_int_equal(wr(0x830, BIT(12)), MSR_FAULT);
    assert_no_effect();
    assert_int_equal(rd(0x8ff), MSR_FAULT);
    assert_int_equal(rd(0x900), MSR_UNKNOWN);
}

static void efer(void **state) {
    (void)state;
    assert_int_equal(rd(MSR_EFER), MSR_DONE);
    assert_int_equal(value, EFER_LME | EFER_LMA);
    assert_int_equal(wr(MSR_EFER, EFER_LME | EFER_NXE | EFER_SCE), MSR_DONE);
    assert_true(effect.efer && effect.cr.value == (EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE));
    assert_int_equal(wr(MSR_EFER, 0), MSR_FAULT); // LME while paging
    assert_no_effect();
    assert_int_equal(wr(MSR_EFER, EFER_LME | EFER_SVME), MSR_FAULT);
}

static void kvm_clock(void **state) {
    static const u32 time_msrs[] = {0x12, 0x4b564d01}, wall_msrs[] = {0x11, 0x4b564d00};

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(wr(time_msrs[i], 0x1001 + i * 0x1000), MSR_DONE);
        assert_true(effect.system_time && !effect.wall_clock);
        assert_int_equal(msrs.system_time, 0x1001 + i * 0x1000);
        assert_int_equal(wr(wall_msrs[i], 0x5000 + i), MSR_DONE);
        assert_true(effect.wall_clock && !effect.system_time);
        assert_int_equal(rd(time_msrs[1 - i]), MSR_DONE);
        assert_int_equal(value, 0x1001 + i * 0x1000);
        assert_int_equal(rd(wall_msrs[1 - i]), MSR_DONE);
        assert_int_equal(value, 0x5000 + i);
    }
}

static bool type_ok(u64 type, bool pat) {
    return type == 0 || type == 1 || (type >= 4 && type <= 6) || (pat && type == 7);
}

static void memory_types(void **state) {
    (void)state;
    static const u32 fixed[] = {0x250, 0x258, 0x259, 0x268, 0x269, 0x26a,
                                0x26b, 0x26c, 0x26d, 0x26e, 0x26f};
    for (unsigned i = 0; i < 11; i++)
        for (u64 type = 0; type < 256; type++)
            for (unsigned byte = 0; byte < 8; byte++) {
                bool ok = type_ok(type, false);
                assert_int_equal(wr(fixed[i], type << byte * 8), ok ? MSR_DONE : MSR_FAULT);
                assert_int_equal(rd(fixed[i]), MSR_DONE);
                if (ok)
                    assert_int_equal(value, type << byte * 8);
            }
    for (u64 type = 0; type < 256; type++) {
        assert_int_equal(wr(0x2ff, type | 0xc00), type_ok(type, false) ? MSR_DONE : MSR_FAULT);
        assert_int_equal(wr(0x277, type << 40), type_ok(type, true) ? MSR_BACKEND : MSR_FAULT);
        assert_int_equal(wr(0x200, type | 0x1000), type_ok(type, false) ? MSR_DONE : MSR_FAULT);
    }
    for (unsigned bit = 0; bit < 64; bit++) {
        if (bit >= 8)
            assert_int_equal(wr(0x2ff, BIT(bit)), bit == 10 || bit == 11 ? MSR_DONE : MSR_FAULT);
        for (u32 n = 0; n < 8; n++) {
            if (bit >= 8)
                assert_int_equal(wr(0x200 + 2 * n, BIT(bit)),
                                 bit >= 12 && bit < 40 ? MSR_DONE : MSR_FAULT);
            assert_int_equal(wr(0x201 + 2 * n, BIT(bit)),
                             bit >= 11 && bit < 40 ? MSR_DONE : MSR_FAULT);
        }
    }
    assert_int_equal(wr(0x20f, 0xfffffff800), MSR_DONE);
    assert_int_equal(rd(0x20f), MSR_DONE);
    assert_int_equal(value, 0xfffffff800);
}

static void random_indices(void **state) {
    (void)state;
    srand(4);
    for (unsigned i = 0; i < 1000000; i++) {
        u32 index = (u32)rand() & 0x1fff;
        u64 v = (u64)rand() << rand() % 34 ^ (u64)rand();
        policy.amd = i & 1;
        if (i % 3 == 0)
            index |= 0xc0000000;
        if (i % 7 == 0)
            index = 0xc0010000 | (index & 0xfff);
        if (wr(index, v) == MSR_FAULT)
            assert_no_effect();
        rd(index);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(constants, fresh),
        cmocka_unit_test_setup(constants_amd, fresh_amd),
        cmocka_unit_test_setup(vendors_are_separate, fresh),
        cmocka_unit_test_setup(unknown_changes_nothing, fresh),
        cmocka_unit_test_setup(quiet_faults, fresh),
        cmocka_unit_test_setup(read_only_and_ignored, fresh),
        cmocka_unit_test_setup(backend_values, fresh),
        cmocka_unit_test_setup(gated_by_cpuid, fresh),
        cmocka_unit_test_setup(time_stamp, fresh),
        cmocka_unit_test_setup(deadline, fresh),
        cmocka_unit_test_setup(apic, fresh),
        cmocka_unit_test_setup(efer, fresh),
        cmocka_unit_test_setup(kvm_clock, fresh),
        cmocka_unit_test_setup(memory_types, fresh),
        cmocka_unit_test_setup(random_indices, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
