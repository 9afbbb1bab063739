// SPDX-License-Identifier: Apache-2.0
//
// Writes to control registers, on a virtual processor of registers only: the mode switches of the SDM's "Initializing
// IA-32e Mode" in order and out of order, each bit of each register, the entries of PAE paging, and random writes against
// the processor's own rules for a guest state at entry. What is refused has changed nothing.
//
// sources: guest/cr.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest/vcpu.h"
#include "kernel/domain.h"

#define RESET_CR0 (CR0_ET | CR0_NW | CR0_CD)
#define PROTECTED (CR0_PE | CR0_ET | CR0_NE)
#define TSS16     0x83u
#define TSS32     0x8bu

struct cpuid_policy guest_cpuid;
static struct domain domain;
static struct vcpu vcpu, *const v = &vcpu;
static u64 regs[REG_CS_ATTRIBUTES + 1];
static u32 tr_attributes;
static unsigned flushes, pdpte_reads; // since the last look at them
static bool memory_is_there;
static u64 pdptes_in_memory[4];

static u64 fake_read(struct cpu_state *cpu, enum backend_register reg) {
    assert_ptr_equal(cpu, &v->cpu);
    return regs[reg];
}
static void fake_write(struct cpu_state *cpu, enum backend_register reg, u64 value) {
    assert_ptr_equal(cpu, &v->cpu);
    assert_true(reg < REG_CPL);
    regs[reg] = value;
}
static struct basalt_segment fake_read_segment(struct cpu_state *cpu, unsigned index) {
    assert_ptr_equal(cpu, &v->cpu);
    assert_int_equal(index, BASALT_TR);
    return (struct basalt_segment){.attributes = tr_attributes};
}
static void fake_flush(struct cpu_state *cpu) { flushes += cpu == &v->cpu; }
static const struct backend fake_backend = {.read = fake_read,
                                            .write = fake_write,
                                            .read_segment = fake_read_segment,
                                            .flush_linear = fake_flush};
const struct backend *backend = &fake_backend;

int memory_read(struct domain *d, gpa_t gpa, void *buffer, u64 bytes) {
    assert_ptr_equal(d, &domain);
    assert_int_equal(gpa.v, regs[REG_CR3] & 0xffffffe0);
    assert_int_equal(bytes, 32);
    pdpte_reads++;
    if (!memory_is_there)
        return -1;
    memcpy(buffer, pdptes_in_memory, 32);
    return 0;
}

static int fresh(void **state) {
    (void)state;
    guest_cpuid = (struct cpuid_policy){
        .phys_bits = 40,
        .cr4 = CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE |
               CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_UMIP | CR4_FSGSBASE | CR4_PCIDE |
               CR4_OSXSAVE | CR4_SMEP | CR4_SMAP,
    };
    vcpu = (struct vcpu){.domain = &domain};
    memset(regs, 0, sizeof(regs));
    regs[REG_CR0] = RESET_CR0;
    tr_attributes = TSS32;
    memory_is_there = true;
    memset(pdptes_in_memory, 0, sizeof(pdptes_in_memory));
    return 0;
}

static void set(u64 cr0, u64 cr4, u64 efer) {
    regs[REG_CR0] = cr0;
    regs[REG_CR4] = cr4;
    regs[REG_EFER] = efer;
}

static void cs_long(bool on) { regs[REG_CS_ATTRIBUTES] = on ? SEGMENT_LONG : 0; }

// Writes by one of the functions; what is refused must have changed nothing.
static bool write_by(bool (*function)(struct vcpu *, u64), u64 value) {
    u64 before[REG_CS_ATTRIBUTES + 1];

    memcpy(before, regs, sizeof(regs));
    flushes = pdpte_reads = 0;
    bool legal = function(v, value);
    if (!legal) {
        assert_memory_equal(before, regs, sizeof(regs));
        assert_int_equal(flushes, 0);
    }
    return legal;
}
static bool cr0(u64 value) { return write_by(vcpu_write_cr0, value); }
static bool cr4(u64 value) { return write_by(vcpu_write_cr4, value); }
static bool efer(u64 value) { return write_by(vcpu_write_efer, value); }

static void into_long_mode_and_out(void **state) {
    (void)state;
    assert_true(cr0(PROTECTED) && !pdpte_reads && !flushes);
    assert_int_equal(regs[REG_CR0], PROTECTED);
    assert_true(efer(EFER_LME));
    assert_int_equal(regs[REG_EFER], EFER_LME);
    assert_false(cr0(PROTECTED | CR0_PG)); // without PAE
    assert_true(cr4(CR4_PAE) && !pdpte_reads);
    tr_attributes = TSS16;
    assert_false(cr0(PROTECTED | CR0_PG));
    tr_attributes = TSS32;
    cs_long(true);
    assert_false(cr0(PROTECTED | CR0_PG));
    cs_long(false);
    assert_true(cr0(PROTECTED | CR0_PG) && !pdpte_reads && flushes);
    assert_int_equal(regs[REG_EFER], EFER_LME | EFER_LMA);
    assert_false(cr4(0));                   // PAE stays on
    assert_false(efer(0));                  // LME too
    assert_true(efer(EFER_LME | EFER_SCE)); // LMA is read-only
    assert_int_equal(regs[REG_EFER], EFER_LME | EFER_LMA | EFER_SCE);
    assert_int_equal(flushes, 0);
    assert_true(efer(EFER_LME | EFER_NXE) && flushes);
    cs_long(true);
    assert_false(cr0(PROTECTED)); // from 64-bit code
    cs_long(false);
    assert_true(cr4(CR4_PAE | CR4_PCIDE));
    assert_false(cr0(PROTECTED)); // PCIDs are on
    assert_true(cr4(CR4_PAE) && flushes);
    assert_true(cr0(PROTECTED) && flushes);
    assert_int_equal(regs[REG_EFER], EFER_LME | EFER_NXE);
}

static void pae_paging_loads_pdptes(void **state) {
    (void)state;
    set(PROTECTED, CR4_PAE, 0);
    regs[REG_CR3] = 0x12345678;
    pdptes_in_memory[2] = 0x5001;
    assert_true(cr0(PROTECTED | CR0_PG) && pdpte_reads == 1);
    assert_int_equal(regs[REG_EFER], 0);
    assert_memory_equal(&regs[REG_PDPTE0], pdptes_in_memory, 32);
    assert_true(cr0(PROTECTED | CR0_PG | CR0_CD) && pdpte_reads == 1);
    assert_true(cr0(PROTECTED | CR0_PG | CR0_CD | CR0_TS) && !pdpte_reads);
    assert_true(cr4(CR4_PAE | CR4_PGE) && pdpte_reads == 1);
    assert_true(cr4(CR4_PAE | CR4_PGE | CR4_DE) && !pdpte_reads);
    assert_false(cr4(CR4_PAE | CR4_PCIDE)); // PCIDs are for long mode
    memory_is_there = false;
    assert_false(cr4(CR4_PAE));
    memory_is_there = true;
    assert_true(cr4(0) && !pdpte_reads && flushes);
    assert_true(cr4(CR4_PAE) && pdpte_reads == 1);
}

static void pdptes(void **state) {
    (void)state;
    for (unsigned i = 0; i < 4; i++)
        for (unsigned bit = 0; bit < 64; bit++) {
            bool reserved = bit == 1 || bit == 2 || (bit >= 5 && bit <= 8) || bit >= 40;
            memset(pdptes_in_memory, 0, 32);
            pdptes_in_memory[i] = BIT(bit) & ~1ull;
            set(PROTECTED, CR4_PAE, 0);
            assert_true(cr0(PROTECTED | CR0_PG));
            pdptes_in_memory[i] |= 1;
            set(PROTECTED, CR4_PAE, 0);
            assert_int_equal(cr0(PROTECTED | CR0_PG), !reserved);
        }
}

static void each_bit(void **state) {
    (void)state;
    for (unsigned bit = 0; bit < 64; bit++) {
        u64 b = BIT(bit), cr0_bits = 0xe005003f;
        set(RESET_CR0, 0, 0);
        bool legal = cr0(CR0_PE | CR0_CD | b) || bit == 31; // paging without tables
        assert_int_equal(legal, bit < 32);
        if (legal && bit != 31)
            assert_int_equal(regs[REG_CR0], ((CR0_PE | CR0_CD | b) & cr0_bits) | CR0_ET);
        set(RESET_CR0, 0, 0);
        assert_int_equal(efer(b), !!(EFER_GUEST & b));
        set(PROTECTED | CR0_PG, CR4_PAE, EFER_LME | EFER_LMA);
        assert_int_equal(cr4(CR4_PAE | b), !!(guest_cpuid.cr4 & b));
    }
    set(RESET_CR0, 0, 0);
    assert_false(cr0(CR0_PG));
    assert_false(cr0(CR0_NW));
    assert_false(cr0(CR0_PG | CR0_CD));
}

static void pcids(void **state) {
    (void)state;
    set(PROTECTED | CR0_PG, CR4_PAE, EFER_LME | EFER_LMA);
    regs[REG_CR3] = 0x5001;
    assert_false(cr4(CR4_PAE | CR4_PCIDE));
    regs[REG_CR3] = 0x5000;
    assert_true(cr4(CR4_PAE | CR4_PCIDE));
}

static void lmsw(void **state) {
    (void)state;
    set(PROTECTED | CR0_PG | CR0_TS, CR4_PAE, EFER_LME | EFER_LMA);
    assert_true(vcpu_lmsw(v, 0xfff0)); // PE stays
    assert_int_equal(regs[REG_CR0], PROTECTED | CR0_PG);
    set(CR0_ET, 0, 0);
    assert_true(vcpu_lmsw(v, 0xffff));
    assert_int_equal(regs[REG_CR0], CR0_ET | 0xf);
}

// The rules that entry checks impose on guest control registers (SDM, "Checks on the Guest State Area").
static void check_entry_rules(void) {
    u64 c0 = regs[REG_CR0], c4 = regs[REG_CR4];
    bool pg = c0 & CR0_PG, lma = regs[REG_EFER] & EFER_LMA, lme = regs[REG_EFER] & EFER_LME;

    assert_false(pg && !(c0 & CR0_PE));
    assert_false((c0 & CR0_NW) && !(c0 & CR0_CD));
    assert_int_equal(lma, pg && lme);
    assert_false(lma && !(c4 & CR4_PAE));
    assert_false((c4 & CR4_PCIDE) && !lma);
    assert_int_equal((c0 | c4) >> 32, 0);
}

static void random_writes_keep_the_rules(void **state) {
    static const u64 cr0_bits[] = {CR0_PE, CR0_PG, CR0_CD, CR0_NW, CR0_WP, CR0_TS, BIT(40)};
    static const u64 cr4_bits[] = {CR4_PAE, CR4_PCIDE, CR4_PGE, CR4_SMEP, CR4_VMXE};
    static const u64 efer_bits[] = {EFER_LME, EFER_LMA, EFER_NXE, EFER_SVME};
    unsigned longs = 0;

    (void)state;
    srand(9);
    for (unsigned i = 0; i < 500000; i++) {
        cs_long((regs[REG_EFER] & EFER_LMA) && rand() % 4 == 0);
        switch (rand() % 4) {
        case 0: cr0(regs[REG_CR0] ^ cr0_bits[rand() % 7]); break;
        case 1: cr4(regs[REG_CR4] ^ cr4_bits[rand() % 5]); break;
        case 2: efer(regs[REG_EFER] ^ efer_bits[rand() % 4]); break;
        default: regs[REG_CR3] = (u32)rand() & (rand() % 2 ? ~0u : ~0xfffu); // the guest's own
        }
        check_entry_rules();
        longs += !!(regs[REG_EFER] & EFER_LMA);
    }
    assert_true(longs > 10000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(into_long_mode_and_out, fresh),
        cmocka_unit_test_setup(pae_paging_loads_pdptes, fresh),
        cmocka_unit_test_setup(pdptes, fresh),
        cmocka_unit_test_setup(each_bit, fresh),
        cmocka_unit_test_setup(pcids, fresh),
        cmocka_unit_test_setup(lmsw, fresh),
        cmocka_unit_test_setup(random_writes_keep_the_rules, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
