// SPDX-License-Identifier: Apache-2.0
//
// Control register legality: the mode switches of the SDM's "Initializing IA-32e Mode" in order and out of order, each
// bit of each register, and random writes against the processor's own rules for a guest state at entry.
//
// sources: guest/cr.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest/cr.h"

static const struct cpuid_policy policy = {
    .phys_bits = 40,
    .xcr0 = 7,
    .efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE,
    .cr4 = CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE |
           CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_UMIP | CR4_FSGSBASE | CR4_PCIDE | CR4_OSXSAVE |
           CR4_SMEP | CR4_SMAP,
};
#define RESET_CR0 (CR0_ET | CR0_NW | CR0_CD)
#define PROTECTED (CR0_PE | CR0_ET | CR0_NE)

static void into_long_mode_and_out(void **state) {
    struct cr_state s = {.cr0 = RESET_CR0};
    struct cr_outcome o = cr0_write(&s, PROTECTED);

    (void)state;
    assert_false(o.fault || o.load_pdptes || o.mode_changed);
    s.cr0 = o.value;
    o = efer_write(&s, EFER_LME, &policy);
    assert_true(!o.fault && o.value == EFER_LME);
    s.efer = o.efer;
    assert_true(cr0_write(&s, PROTECTED | CR0_PG).fault); // without PAE
    o = cr4_write(&s, CR4_PAE, &policy);
    assert_false(o.fault || o.load_pdptes);
    s.cr4 = o.value;
    s.tss16 = true;
    assert_true(cr0_write(&s, PROTECTED | CR0_PG).fault);
    s.tss16 = false;
    s.cs_long = true;
    assert_true(cr0_write(&s, PROTECTED | CR0_PG).fault);
    s.cs_long = false;
    o = cr0_write(&s, PROTECTED | CR0_PG);
    assert_true(!o.fault && o.mode_changed && o.efer == (EFER_LME | EFER_LMA) && !o.load_pdptes &&
                o.flush);
    s.cr0 = o.value;
    s.efer = o.efer;
    assert_true(cr4_write(&s, 0, &policy).fault);     // PAE stays on
    assert_true(efer_write(&s, 0, &policy).fault);    // LME too
    o = efer_write(&s, EFER_LME | EFER_SCE, &policy); // LMA is read-only
    assert_true(!o.fault && o.value == (EFER_LME | EFER_LMA | EFER_SCE));
    s.cs_long = true;
    assert_true(cr0_write(&s, PROTECTED).fault); // from 64-bit code
    s.cs_long = false;
    o = cr4_write(&s, CR4_PAE | CR4_PCIDE, &policy);
    assert_false(o.fault);
    s.cr4 = o.value;
    assert_true(cr0_write(&s, PROTECTED).fault); // PCIDs are on
    o = cr4_write(&s, CR4_PAE, &policy);
    assert_true(!o.fault && o.flush);
    s.cr4 = o.value;
    o = cr0_write(&s, PROTECTED);
    assert_true(!o.fault && o.mode_changed && o.efer == EFER_LME);
}

static void pae_paging_loads_pdptes(void **state) {
    struct cr_state s = {.cr0 = PROTECTED, .cr4 = CR4_PAE};
    struct cr_outcome o = cr0_write(&s, PROTECTED | CR0_PG);

    (void)state;
    assert_true(!o.fault && o.load_pdptes && o.efer == 0);
    s.cr0 = o.value;
    assert_true(cr3_write(&s, 0x1000, &policy).load_pdptes);
    assert_true(cr0_write(&s, s.cr0 | CR0_CD).load_pdptes);
    assert_false(cr0_write(&s, s.cr0 | CR0_TS).load_pdptes);
    assert_true(cr4_write(&s, CR4_PAE | CR4_PGE, &policy).load_pdptes);
    assert_false(cr4_write(&s, CR4_PAE | CR4_DE, &policy).load_pdptes);
    assert_true(cr4_write(&s, CR4_PAE | CR4_PCIDE, &policy).fault); // PCIDs are for long mode
    o = cr4_write(&s, 0, &policy);
    assert_true(!o.fault && !o.load_pdptes && o.flush);
    s.cr4 = 0;
    assert_false(cr3_write(&s, 0x1000, &policy).load_pdptes);
    o = cr4_write(&s, CR4_PAE, &policy);
    assert_true(!o.fault && o.load_pdptes);
}

static void pdptes(void **state) {
    (void)state;
    for (unsigned i = 0; i < 4; i++)
        for (unsigned bit = 0; bit < 64; bit++) {
            u64 entries[4] = {0};
            bool reserved = bit == 1 || bit == 2 || (bit >= 5 && bit <= 8) || bit >= 40;
            entries[i] = BIT(bit) & ~1ull;
            assert_true(pdptes_legal(entries, &policy));
            entries[i] |= 1;
            assert_int_equal(pdptes_legal(entries, &policy), !reserved);
        }
}

static void each_bit(void **state) {
    struct cr_state real = {.cr0 = RESET_CR0}, in_long = {.cr0 = PROTECTED | CR0_PG,
                                                          .cr4 = CR4_PAE,
                                                          .efer = EFER_LME | EFER_LMA};

    (void)state;
    for (unsigned bit = 0; bit < 64; bit++) {
        u64 b = BIT(bit), cr0_bits = 0xe005003f;
        struct cr_outcome o = cr0_write(&real, CR0_PE | CR0_CD | b);
        assert_int_equal(o.fault, bit >= 32);
        if (!o.fault)
            assert_int_equal(o.value, ((CR0_PE | CR0_CD | b) & cr0_bits) | CR0_ET);
        assert_int_equal(cr4_write(&in_long, CR4_PAE | b, &policy).fault, !(policy.cr4 & b));
        assert_int_equal(efer_write(&real, b, &policy).fault, !(policy.efer & b));
        assert_int_equal(cr3_write(&in_long, b, &policy).fault, bit >= 40);
        assert_false(cr3_write(&real, b, &policy).fault);
    }
    assert_true(cr0_write(&real, CR0_PG).fault);
    assert_true(cr0_write(&real, CR0_NW).fault);
    assert_true(cr0_write(&real, CR0_PG | CR0_CD).fault);
}

static void pcid_bits_of_cr3(void **state) {
    struct cr_state s = {
        .cr0 = PROTECTED | CR0_PG, .cr3 = 0x5000, .cr4 = CR4_PAE, .efer = EFER_LME | EFER_LMA};
    struct cr_outcome o = cr3_write(&s, BIT(63) | 0x6000, &policy);

    (void)state;
    assert_true(o.fault);
    assert_false(cr4_write(&s, CR4_PAE | CR4_PCIDE, &policy).fault);
    s.cr3 = 0x5001;
    assert_true(cr4_write(&s, CR4_PAE | CR4_PCIDE, &policy).fault);
    s.cr4 |= CR4_PCIDE;
    o = cr3_write(&s, BIT(63) | 0x6003, &policy);
    assert_true(!o.fault && o.value == 0x6003 && !o.flush);
    o = cr3_write(&s, 0x6003, &policy);
    assert_true(!o.fault && o.flush);
}

static void lmsw(void **state) {
    (void)state;
    assert_int_equal(cr0_after_lmsw(CR0_PE | CR0_PG | CR0_TS, 0xfff0), CR0_PE | CR0_PG);
    assert_int_equal(cr0_after_lmsw(CR0_ET, 0xffff), CR0_ET | 0xf);
}

static void extended_state(void **state) {
    (void)state;
    for (u64 value = 0; value < 0x1000; value++) {
        bool legal = value == 1 || value == 3 || value == 7;
        assert_int_equal(xcr0_legal(0, value, &policy), legal);
        assert_false(xcr0_legal(1, value, &policy));
    }
    assert_false(xcr0_legal(0, BIT(63) | 3, &policy));
    struct cpuid_policy no_avx = {.xcr0 = 3};
    assert_false(xcr0_legal(0, 7, &no_avx));
}

// The rules that entry checks impose on guest control registers (SDM, "Checks on the Guest State Area").
static void check_entry_rules(const struct cr_state *s) {
    bool pg = s->cr0 & CR0_PG, lma = s->efer & EFER_LMA, lme = s->efer & EFER_LME,
         pae = s->cr4 & CR4_PAE;

    assert_false(pg && !(s->cr0 & CR0_PE));
    assert_false((s->cr0 & CR0_NW) && !(s->cr0 & CR0_CD));
    assert_int_equal(lma, pg && lme);
    assert_false(lma && !pae);
    assert_false((s->cr4 & CR4_PCIDE) && !lma);
    assert_int_equal((s->cr0 | s->cr4) >> 32, 0);
    assert_false(lma && s->cr3 >> 40);
}

static void random_writes_keep_the_rules(void **state) {
    static const u64 cr0_bits[] = {CR0_PE, CR0_PG, CR0_CD, CR0_NW, CR0_WP, CR0_TS, BIT(40)};
    static const u64 cr4_bits[] = {CR4_PAE, CR4_PCIDE, CR4_PGE, CR4_SMEP, CR4_VMXE};
    static const u64 efer_bits[] = {EFER_LME, EFER_LMA, EFER_NXE, EFER_SVME};
    struct cr_state s = {.cr0 = RESET_CR0};
    unsigned longs = 0;

    (void)state;
    srand(9);
    for (unsigned i = 0; i < 500000; i++) {
        struct cr_outcome o;
        s.cs_long = (s.efer & EFER_LMA) && rand() % 4 == 0;
        switch (rand() % 4) {
        case 0:
            o = cr0_write(&s, s.cr0 ^ cr0_bits[rand() % 7]);
            if (!o.fault)
                s.cr0 = o.value, s.efer = o.efer;
            break;
        case 1:
            o = cr4_write(&s, s.cr4 ^ cr4_bits[rand() % 5], &policy);
            if (!o.fault)
                s.cr4 = o.value;
            break;
        case 2:
            o = efer_write(&s, s.efer ^ efer_bits[rand() % 4], &policy);
            if (!o.fault)
                s.efer = o.value;
            break;
        default:
            // Outside long mode MOV CR3 has 32 bits.
            o = cr3_write(&s, s.efer & EFER_LMA ? BIT(rand() % 64) : (u32)rand(), &policy);
            if (!o.fault)
                s.cr3 = o.value;
        }
        if (!o.fault)
            assert_int_equal(o.efer, s.efer);
        check_entry_rules(&s);
        longs += !!(s.efer & EFER_LMA);
    }
    assert_true(longs > 10000);
}

static void canonical_addresses(void **state) {
    (void)state;
    assert_true(canonical(0) && canonical(0x00007fffffffffff) && canonical(0xffff800000000000) &&
                canonical(~0ull));
    assert_false(canonical(0x0000800000000000) || canonical(0xffff7fffffffffff) ||
                 canonical(BIT(63)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(into_long_mode_and_out),
        cmocka_unit_test(pae_paging_loads_pdptes),
        cmocka_unit_test(pdptes),
        cmocka_unit_test(each_bit),
        cmocka_unit_test(pcid_bits_of_cr3),
        cmocka_unit_test(lmsw),
        cmocka_unit_test(extended_state),
        cmocka_unit_test(random_writes_keep_the_rules),
        cmocka_unit_test(canonical_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
