// SPDX-License-Identifier: Apache-2.0
//
// The virtual local APIC: interrupt priorities against a model that is written as the SDM says it (one bool per
// vector), the legality of each bit of each x2APIC register and of each mode transition against tables, IPIs and
// destinations.
//
// sources: guest/vlapic.c guest/vlapic_timer.c guest/vlapic_register.c

#include "tests/unit/vlapic.h"

static const struct vlapic_effect nothing;

static struct vlapic_effect wrmsr_at(u32 msr, u64 value) {
    return vlapic_msr_write(&v, msr, value, 0);
}

static int fresh_x2apic(void **state) {
    fresh(state);
    assert_false(vlapic_base_write(&v, v.apic_base | APIC_BASE_X2APIC, 40).fault);
    return 0;
}

static void power_up(void **state) {
    (void)state;
    vlapic_init(&v, page, 3, true);
    assert_int_equal(v.apic_base, 0xfee00900);
    assert_int_equal(get(0x20, 0), 3u << 24);
    assert_int_equal(get(0x30, 0), 0x00050014);
    assert_int_equal(get(0xe0, 0), 0xffffffff);
    assert_int_equal(get(0xf0, 0), 0xff);
    for (u32 lvt = 0x320; lvt <= 0x370; lvt += 0x10)
        assert_int_equal(get(lvt, 0), 0x10000);
    assert_false(vlapic_accept(&v, 0x40, false)); // software-disabled
    put(0x320, 0x40, 0);
    assert_int_equal(get(0x320, 0), 0x10040); // masked for as long
    assert_int_equal(vlapic_pending(&v), -1);
}

// --- Priorities

static struct {
    bool irr[256], isr[256], tmr[256];
    u8 tpr;
} model;

static int model_highest(const bool *map) {
    for (int i = 255; i >= 0; i--)
        if (map[i])
            return i;
    return -1;
}

static unsigned model_ppr(void) {
    int isrv = model_highest(model.isr);
    unsigned class = isrv < 0 ? 0 : (unsigned)isrv >> 4;

    return model.tpr >> 4 >= class ? model.tpr : class << 4;
}

static int model_pending(void) {
    int irrv = model_highest(model.irr);

    return irrv >= 0 && (unsigned)irrv >> 4 > model_ppr() >> 4 ? irrv : -1;
}

static void random_accept(void) {
    u8 vector = (u8)rand();
    bool level = rand() & 1, fresh_one = vector >= 16 && !model.irr[vector];

    assert_int_equal(vlapic_accept(&v, vector, level), fresh_one);
    if (vector >= 16) {
        model.irr[vector] = true;
        model.tmr[vector] = level;
    }
}

static void random_ack(void) {
    int vector = vlapic_pending(&v);

    assert_int_equal(vector, model_pending());
    if (vector < 0)
        return;
    vlapic_ack(&v, (u8)vector);
    assert_true(vlapic_pending(&v) < vector); // it masks itself and what is below
    if (rand() % 8 == 0) {
        vlapic_unack(&v, (u8)vector);
        assert_int_equal(vlapic_pending(&v), vector);
        return;
    }
    model.irr[vector] = false;
    model.isr[vector] = true;
}

static void random_eoi(void) {
    int vector = model_highest(model.isr);
    struct vlapic_effect e = put(0xb0, (u32)rand(), 0);

    assert_int_equal(e.eoi, vector >= 0 && model.tmr[vector]);
    if (vector < 0)
        return;
    model.isr[vector] = false;
    assert_int_equal(e.eoi_vector, vector);
}

static void check_bitmaps(void) {
    for (unsigned i = 0; i < 256; i++) {
        u32 at = (i / 32) * 16, bit = i % 32;
        assert_int_equal(get(0x100 + at, 0) >> bit & 1, model.isr[i]);
        assert_int_equal(get(0x180 + at, 0) >> bit & 1, model.tmr[i]);
        assert_int_equal(get(0x200 + at, 0) >> bit & 1, model.irr[i]);
    }
}

static void priorities(void **state) {
    (void)state;
    memset(&model, 0, sizeof(model));
    srand(3);
    for (unsigned i = 0; i < 200000; i++) {
        switch (rand() % 8) {
        case 0:
        case 1: random_accept(); break;
        case 2:
            model.tpr = (u8)(rand() % 4 ? 0 : rand());
            put(0x80, model.tpr | 0xffff00u, 0);
            assert_int_equal(vlapic_get_cr8(&v), model.tpr >> 4);
            break;
        case 3: vlapic_set_cr8(&v, model.tpr = 0); break;
        case 4:
        case 5: random_ack(); break;
        default: random_eoi();
        }
        assert_int_equal(get(0xa0, 0), model_ppr());
        assert_int_equal(vlapic_pending(&v), model_pending());
        if (i % 500 == 0)
            check_bitmaps();
    }
}

static void cr8_is_the_upper_tpr(void **state) {
    (void)state;
    for (u64 cr8 = 0; cr8 < 16; cr8++) {
        vlapic_set_cr8(&v, cr8);
        assert_int_equal(get(0x80, 0), cr8 << 4);
        assert_int_equal(vlapic_get_cr8(&v), cr8);
    }
}

// --- x2APIC registers: what RDMSR and WRMSR may do, bit by bit, as the SDM's table and figures have it

static const struct {
    u32 msr;
    bool read, write;
    u64 legal; // bits that may be written as 1
} x2apic[] = {
    {0x802, true, false, 0},
    {0x803, true, false, 0},
    {0x808, true, true, 0xff},
    {0x80a, true, false, 0},
    {0x80b, false, true, 0},
    {0x80d, true, false, 0},
    {0x80f, true, true, 0x3ff},
    {0x828, true, true, 0},
    {0x810, true, false, 0},
    {0x811, true, false, 0},
    {0x812, true, false, 0},
    {0x813, true, false, 0},
    {0x814, true, false, 0},
    {0x815, true, false, 0},
    {0x816, true, false, 0},
    {0x817, true, false, 0},
    {0x818, true, false, 0},
    {0x819, true, false, 0},
    {0x81a, true, false, 0},
    {0x81b, true, false, 0},
    {0x81c, true, false, 0},
    {0x81d, true, false, 0},
    {0x81e, true, false, 0},
    {0x81f, true, false, 0},
    {0x820, true, false, 0},
    {0x821, true, false, 0},
    {0x822, true, false, 0},
    {0x823, true, false, 0},
    {0x824, true, false, 0},
    {0x825, true, false, 0},
    {0x826, true, false, 0},
    {0x827, true, false, 0},
    {0x830, true, true, 0xffffffff000ccfff},
    {0x832, true, true, 0x710ff},
    {0x833, true, true, 0x117ff},
    {0x834, true, true, 0x117ff},
    {0x835, true, true, 0x1f7ff},
    {0x836, true, true, 0x1f7ff},
    {0x837, true, true, 0x110ff},
    {0x838, true, true, 0xffffffff},
    {0x839, true, false, 0},
    {0x83e, true, true, 0xb},
    {0x83f, false, true, 0xff},
};

static void x2apic_legality(void **state) {
    (void)state;
    for (u32 msr = 0x800; msr <= 0x8ff; msr++) {
        bool read = false, write = false;
        u64 legal = 0, value;
        for (unsigned i = 0; i < sizeof(x2apic) / sizeof(x2apic[0]); i++)
            if (x2apic[i].msr == msr)
                read = x2apic[i].read, write = x2apic[i].write, legal = x2apic[i].legal;
        assert_int_equal(vlapic_msr_read(&v, msr, 0, &value), read);
        assert_int_equal(wrmsr_at(msr, 0).fault, !write);
        for (unsigned bit = 0; bit < 64; bit++) {
            struct vlapic before = v;
            bool fault = wrmsr_at(msr, BIT(bit)).fault;
            assert_int_equal(fault, !(write && (legal & BIT(bit))));
            if (fault)
                assert_memory_equal(&before, &v, sizeof(v));
        }
        if (write && legal) // and what is legal reads back, but for status bits
            assert_false(wrmsr_at(0x80f, ON).fault);
    }
}

static void x2apic_reads_back(void **state) {
    static const struct {
        u32 msr;
        u64 value;
    } rows[] = {
        {0x808, 0x5a},
        {0x80f, 0x1f0},
        {0x832, 0x200ee},
        {0x833, 0x102ee},
        {0x834, 0x4ee},
        {0x835, 0x1a7ee},
        {0x836, 0x187ee},
        {0x837, 0xfe},
        {0x838, 0xfedcba98},
        {0x83e, 9},
        {0x830, 0x12345678000c4041},
    };
    u64 value;

    (void)state;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_false(wrmsr_at(rows[i].msr, rows[i].value).fault);
        assert_true(vlapic_msr_read(&v, rows[i].msr, 0, &value));
        assert_int_equal(value, rows[i].value);
    }
    assert_true(vlapic_msr_read(&v, 0x802, 0, &value));
    assert_int_equal(value, 5);
    assert_true(vlapic_msr_read(&v, 0x80d, 0, &value));
    assert_int_equal(value, 0x20);
}

static void x2apic_only_in_its_mode(void **state) {
    u64 value;

    (void)state;
    for (u32 msr = 0x800; msr <= 0x8ff; msr++) {
        assert_false(vlapic_msr_read(&v, msr, 0, &value));
        assert_true(wrmsr_at(msr, 0).fault);
    }
}

// --- Modes

static void base_transitions(void **state) {
    // Rows: from; columns: to. Off, xAPIC, x2APIC; "EXTD without EN" is never legal.
    static const u64 modes[4] = {0, APIC_BASE_ENABLE, APIC_BASE_ENABLE | APIC_BASE_X2APIC,
                                 APIC_BASE_X2APIC};
    static const bool legal[3][4] = {{1, 1, 0, 0}, {1, 1, 1, 0}, {1, 0, 1, 0}};

    (void)state;
    for (unsigned from = 0; from < 3; from++) {
        for (unsigned to = 0; to < 4; to++) {
            vlapic_init(&v, page, 5, false);
            v.apic_base = 0xfee00000 | modes[from];
            assert_int_equal(vlapic_base_write(&v, 0xfee00000 | modes[to], 40).fault,
                             !legal[from][to]);
            assert_int_equal(v.apic_base, 0xfee00000 | modes[legal[from][to] ? to : from]);
        }
    }
}

static void base_reserved_bits(void **state) {
    (void)state;
    for (unsigned bit = 0; bit < 64; bit++) {
        fresh(NULL);
        u64 value = v.apic_base ^ BIT(bit);
        bool legal = bit == 8 || bit == 10 || bit == 11 || (bit >= 12 && bit < 40);
        assert_int_equal(vlapic_base_write(&v, value, 40).fault, !legal);
    }
    fresh(NULL);
    assert_false(vlapic_base_write(&v, 0x1234567800 | 0x800, 40).fault);
    assert_true(vlapic_owns(&v, GPA(0x1234567fff)));
    assert_false(vlapic_owns(&v, GPA(0xfee00000)));
    struct vlapic_effect e = vlapic_base_write(&v, v.apic_base, 40);
    assert_memory_equal(&e, &nothing, sizeof(e));
}

static void disabling_resets(void **state) {
    (void)state;
    vlapic_accept(&v, 0x77, true);
    put(0x3e0, 0xb, 0);
    put(0x320, 0x40, 0);
    put(0x380, 1000, 0);
    assert_true(vlapic_base_write(&v, 0xfee00000, 40).timer);
    assert_int_equal(vlapic_pending(&v), -1);
    assert_int_equal(vlapic_timer_deadline(&v), 0);
    assert_false(vlapic_accept(&v, 0x77, true));
    assert_false(vlapic_owns(&v, GPA(0xfee00000)));
    assert_false(vlapic_match(&v, 5, false));
    assert_false(vlapic_base_write(&v, 0xfee00800, 40).fault);
    assert_int_equal(get(0xf0, 0), 0xff);
}

static void init_keeps_the_mode(void **state) {
    (void)state;
    vlapic_accept(&v, 0x77, true);
    vlapic_reset(&v);
    assert_true(vlapic_x2apic(&v));
    assert_int_equal(v.id, 5);
    assert_int_equal(*vlapic_reg(&v, LAPIC_LDR), 0x20);
    assert_int_equal(vlapic_pending(&v), -1);
    assert_int_equal(*vlapic_reg(&v, LAPIC_SVR), 0xff);
}

// --- IPIs and destinations

static void send_ipis(void **state) {
    struct vlapic_effect e;

    (void)state;
    put(0x310, 0x03000000, 0);
    e = put(0x300, 0x00004041, 0);
    assert_true(e.send && e.message.dest == 3 && e.message.vector == 0x41 &&
                e.message.mode == APIC_FIXED);
    assert_int_equal(get(0x300, 0), 0x4041);
    put(0x310, 0xff000000, 0);
    e = put(0x300, 0x00004d06, 0);
    assert_true(e.send && e.message.dest == VLAPIC_BROADCAST && e.message.mode == APIC_INIT &&
                e.message.logical);
    assert_true(put(0x300, 0x00004606, 0).send);  // SIPI
    assert_true(put(0x300, 0x00004400, 0).send);  // NMI
    assert_false(put(0x300, 0x00008500, 0).send); // INIT level de-assert
    assert_false(put(0x300, 0x00004300, 0).send); // reserved mode
    assert_false(put(0x300, 0x00004700, 0).send); // ExtINT
    e = put(0x300, 0x000c4080, 0);
    assert_true(e.send && e.message.shorthand == APIC_TO_OTHERS);
    e = put(0x300, 0x00044080, 0); // self
    assert_false(e.send);
    assert_int_equal(vlapic_pending(&v), 0x80);
    e = put(0x300, 0x00044400, 0); // NMI to self by shorthand: not a legal combination
    assert_false(e.send);
    assert_false(put(0x300, 0x0000400f, 0).send); // illegal vector
}

static void send_x2apic(void **state) {
    struct vlapic_effect e = wrmsr_at(0x830, 0x00000007000000f1);

    (void)state;
    assert_true(e.send && e.message.dest == 7 && e.message.vector == 0xf1);
    e = wrmsr_at(0x830, 0xff00000040);
    assert_true(e.send && e.message.dest == 0xff); // no broadcast here
    assert_false(wrmsr_at(0x83f, 0x99).send);
    assert_int_equal(vlapic_pending(&v), 0x99);
    assert_false(wrmsr_at(0x83f, 0x0f).fault); // an illegal vector, which is dropped
    assert_int_equal(vlapic_pending(&v), 0x99);
}

// Illegal vectors and registers that there are not: dropped, and the ESR tells nothing.
static void errors_are_dropped(void **state) {
    (void)state;
    put(0x370, 0xfe, 0); // the error interrupt's vector
    get(0x400, 0);       // no such register
    put(0x3f0, 1, 0);
    put(0x300, 0x0004400f, 0); // vector 15 to itself
    assert_false(vlapic_accept(&v, 15, false));
    put(0x280, 0, 0);
    assert_int_equal(get(0x280, 0), 0);
    assert_int_equal(vlapic_pending(&v), -1);
    put(0x280, 0xffffffff, 0);
    assert_int_equal(get(0x280, 0), 0);
}

static void destinations(void **state) {
    (void)state;
    assert_true(vlapic_match(&v, 5, false));
    assert_false(vlapic_match(&v, 4, false));
    assert_true(vlapic_match(&v, 0xff, false));
    assert_true(vlapic_match(&v, VLAPIC_BROADCAST, false));
    assert_false(vlapic_match(&v, 0x100 + 5, false));
    put(0xd0, 0x24000000, 0);
    for (u32 dest = 0; dest < 256; dest++) { // flat
        assert_int_equal(vlapic_match(&v, dest, true), (dest & 0x24) != 0);
        assert_false(vlapic_match(&v, dest | 0x100, true));
    }
    put(0xe0, 0x00000000, 0);
    for (u32 dest = 0; dest < 256; dest++) // cluster 2, member 4
        assert_int_equal(vlapic_match(&v, dest, true),
                         (dest >> 4 == 2 || dest >> 4 == 15) && (dest & 4));
    put(0xe0, 0x70000000, 0);
    assert_false(vlapic_match(&v, 0x24, true)); // no such model
    assert_true(vlapic_match(&v, VLAPIC_BROADCAST, true));
}

static void destinations_x2apic(void **state) {
    (void)state;
    for (u32 id = 0; id < 64; id++) {
        vlapic_init(&v, page, id, false);
        assert_false(vlapic_base_write(&v, v.apic_base | APIC_BASE_X2APIC, 40).fault);
        for (u32 other = 0; other < 64; other++) {
            assert_int_equal(vlapic_match(&v, other, false), other == id);
            u32 logical = (other >> 4) << 16 | 1u << (other & 15);
            assert_int_equal(vlapic_match(&v, logical, true), other == id);
        }
        assert_false(vlapic_match(&v, 0xff, false));
        assert_true(vlapic_match(&v, VLAPIC_BROADCAST, false) &&
                    vlapic_match(&v, VLAPIC_BROADCAST, true));
    }
}

// --- Access forms and local pins

static void odd_accesses(void **state) {
    (void)state;
    put(0x380, 0x11223344, 0);
    assert_int_equal(vlapic_read(&v, 0x381, 1, 0), 0x33);
    assert_int_equal(vlapic_read(&v, 0x382, 2, 0), 0x1122);
    assert_int_equal(vlapic_read(&v, 0x382, 4, 0), 0);
    assert_int_equal(vlapic_read(&v, 0x384, 4, 0), 0);
    assert_int_equal(vlapic_read(&v, 0x380, 8, 0), 0);
    vlapic_write(&v, 0x384, 4, 1, 0);
    vlapic_write(&v, 0x380, 1, 1, 0);
    vlapic_write(&v, 0x380, 8, 1, 0);
    assert_int_equal(get(0x380, 0), 0x11223344);
    for (u32 offset = 0; offset < 0x1000; offset++)
        for (unsigned bytes = 1; bytes <= 8; bytes *= 2) {
            vlapic_read(&v, offset, bytes, 0);
            vlapic_write(&v, offset, bytes, 0xffffffff, 0);
        }
}

static void disabling_masks_the_lvt(void **state) {
    (void)state;
    put(0x360, 0x8044, 0);
    put(0x370, 0xfe, 0);
    put(0xf0, 0, 0);
    assert_int_equal(get(0x360, 0), 0x18044);
    assert_int_equal(get(0x370, 0), 0x100fe);
    put(0xf0, ON, 0);
    assert_int_equal(get(0x360, 0), 0x18044); // and enabling unmasks nothing
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(power_up),
        cmocka_unit_test_setup(priorities, fresh),
        cmocka_unit_test_setup(cr8_is_the_upper_tpr, fresh),
        cmocka_unit_test_setup(x2apic_legality, fresh_x2apic),
        cmocka_unit_test_setup(x2apic_reads_back, fresh_x2apic),
        cmocka_unit_test_setup(x2apic_only_in_its_mode, fresh),
        cmocka_unit_test_setup(base_transitions, fresh),
        cmocka_unit_test_setup(base_reserved_bits, fresh),
        cmocka_unit_test_setup(disabling_resets, fresh),
        cmocka_unit_test_setup(init_keeps_the_mode, fresh_x2apic),
        cmocka_unit_test_setup(send_ipis, fresh),
        cmocka_unit_test_setup(send_x2apic, fresh_x2apic),
        cmocka_unit_test_setup(errors_are_dropped, fresh),
        cmocka_unit_test_setup(destinations, fresh),
        cmocka_unit_test_setup(destinations_x2apic, fresh),
        cmocka_unit_test_setup(odd_accesses, fresh),
        cmocka_unit_test_setup(disabling_masks_the_lvt, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
