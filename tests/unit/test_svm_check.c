// SPDX-License-Identifier: Apache-2.0
//
// The rules for VMCBs: good blocks of every mode pass, and each rule, broken alone, is the one that
// is named.
//
// sources: dom0/toolstack/check_svm.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "arch/x86.h"
#include "svm/svm.h"
#include "toolstack/check.h"

#include <basalt/hypercall.h>

#define CR4_CET BIT(23)
#define EXC_BR  5u // BOUND

static struct vmcb v;
static u64 features; // CPUID 0x8000000A, EDX

static uint64_t read_model(void *context unused, uint32_t field) {
    uint64_t value;

    if (field == BASALT_FIELD_SVM_FEATURES)
        return features;
    assert_true(field <= sizeof(v) - sizeof(value));
    memcpy(&value, (u8 *)&v + field, sizeof(value));
    return value;
}

static struct check check = {.read = read_model};

static const char *svm_check(void) { return check_svm(&check); }

static int fresh(void **state) {
    (void)state;
    check.physical_bits = 40;
    check.linear_bits = 48;
    features = 0;
    memset(&v, 0, sizeof(v));
    v.intercepts[EXIT_VMRUN / 32] = 1u << EXIT_VMRUN % 32;
    v.asid = 1;
    v.nested_control = NESTED_PAGING;
    v.nested_cr3 = 0x123000;
    v.msrpm = 0x10000;
    v.iopm = 0x20000;
    v.efer = EFER_SVME;
    v.cr0 = CR0_ET;
    v.cr4 = CR4_MCE;
    v.dr6 = DR6_FIXED;
    v.dr7 = DR7_FIXED;
    v.rflags = RFLAGS_FIXED;
    v.rip = 0xfff0;
    v.pat = 0x0007040600070406;
    v.cs = (struct vmcb_segment){0xf000, 0x9b, 0xffff, 0xffff0000};
    v.ss = (struct vmcb_segment){0, 0x93, 0xffff, 0};
    return 0;
}

static void long_mode(void) {
    v.efer |= EFER_LME | EFER_LMA;
    v.cr0 |= CR0_PE | CR0_PG | CR0_WP;
    v.cr4 |= CR4_PAE;
    v.cs.attributes = 0x29b; // 64-bit
    v.rip = 0xffffffff81000000;
}

#define PASSES() assert_null(svm_check())
#define NAMES(text)                                                \
    do {                                                           \
        const char *name = svm_check();                            \
        assert_non_null(name);                                     \
        assert_string_equal(name, text);                           \
        assert_true(check.value == read_model(NULL, check.field)); \
    } while (0)
// Changes one field, expects the rule's name, and changes it back.
#define BREAKS(field, value, text) \
    do {                           \
        struct vmcb before = v;    \
        v.field = value;           \
        NAMES(text);               \
        v = before;                \
        PASSES();                  \
    } while (0)
#define ACCEPTS(field, value)   \
    do {                        \
        struct vmcb before = v; \
        v.field = value;        \
        PASSES();               \
        v = before;             \
    } while (0)

static void test_good_modes(void **state) {
    (void)state;
    PASSES();
    v.cr0 |= CR0_PE; // protected
    v.cs.attributes = 0xc9b;
    PASSES();
    v.cr0 |= CR0_PG; // paged
    PASSES();
    v.cr4 |= CR4_PAE;
    PASSES();
    long_mode();
    PASSES();
    v.cs.attributes = 0x49b; // compatibility mode: D without L
    v.rip = 0x1000;
    PASSES();
    v.cr0 = CR0_ET | CR0_CD | CR0_NW; // both is allowed
    v.efer = EFER_SVME;
    PASSES();
}

static void test_control_registers(void **state) {
    (void)state;
    BREAKS(efer, 0, "EFER.SVME is clear");
    BREAKS(efer, EFER_SVME | BIT(1), "a reserved bit of EFER is set");
    BREAKS(efer, EFER_SVME | BIT(63), "a reserved bit of EFER is set");
    BREAKS(cr0, CR0_ET | CR0_NW, "CR0.NW is set and CR0.CD is clear");
    BREAKS(cr0, CR0_ET | BIT(32), "CR0 bits 63:32 are not zero");
    BREAKS(cr0, CR0_ET | BIT(63), "CR0 bits 63:32 are not zero");
    BREAKS(cr3, BIT(40), "a reserved bit of CR3 is set");
    ACCEPTS(cr3, BIT(40) - 1);
    BREAKS(cr4, BIT(15), "a reserved bit of CR4 is set");
    BREAKS(cr4, CR4_VMXE, "a reserved bit of CR4 is set");
    BREAKS(cr4, BIT(32), "a reserved bit of CR4 is set");
    BREAKS(cr4, CR4_CET, "CR4.CET is set and CR0.WP is clear");
    BREAKS(dr6, DR6_FIXED | BIT(32), "DR6 bits 63:32 are not zero");
    BREAKS(dr7, DR7_FIXED | BIT(63), "DR7 bits 63:32 are not zero");
    BREAKS(cr0, CR0_ET | CR0_PG, "CR0.PG is set and CR0.PE is clear");
}

static void test_long_mode(void **state) {
    (void)state;
    long_mode();
    BREAKS(cr4, CR4_MCE, "EFER.LME and CR0.PG are set and CR4.PAE is clear");
    BREAKS(cr0, CR0_ET | CR0_PG, "EFER.LME and CR0.PG are set and CR0.PE is clear");
    BREAKS(cs.attributes, 0x69b, "CS.L and CS.D are set in long mode");
    BREAKS(efer, EFER_SVME | EFER_LME, "EFER.LMA is not EFER.LME and CR0.PG");
    BREAKS(cs.attributes, 0x49b, "RIP bits 63:32 are not zero outside 64-bit mode");
    ACCEPTS(cr4, CR4_PAE | CR4_CET);
    v.efer = EFER_SVME;
    v.rip = 0;
    v.cs.attributes = 0x69b; // L means nothing in legacy mode
    PASSES();
    BREAKS(efer, EFER_SVME | EFER_LMA, "EFER.LMA is not EFER.LME and CR0.PG");
}

static void test_controls(void **state) {
    (void)state;
    BREAKS(intercepts[4], 0, "VMRUN is not intercepted");
    BREAKS(asid, 0, "the ASID is zero");
    BREAKS(msrpm, BIT(40), "the MSR bitmap is beyond the physical addresses");
    BREAKS(msrpm, BIT(40) - 0x1000, "the MSR bitmap is beyond the physical addresses");
    ACCEPTS(msrpm, BIT(40) - 0x2000);
    BREAKS(iopm, ~0ull, "the I/O bitmap is beyond the physical addresses");
    BREAKS(iopm, BIT(40) - 0x2000, "the I/O bitmap is beyond the physical addresses");
    ACCEPTS(iopm, BIT(40) - 0x3000);
    BREAKS(nested_control, 0, "nested paging is off");
    BREAKS(nested_cr3, BIT(40), "nCR3 is beyond the physical addresses");
    BREAKS(nested_cr3, 0x123008, "a reserved bit of nCR3 is set");
    BREAKS(pat, 0x0007040600070402, "a reserved memory type is in the PAT");
    BREAKS(pat, 0x0307040600070406, "a reserved memory type is in the PAT");
    BREAKS(pat, 0x8007040600070406, "a reserved memory type is in the PAT");
    ACCEPTS(pat, 0);
    BREAKS(tlb_control, TLB_CONTROL_FLUSH_ASID, "a TLB flush by ASID on a processor without it");
    ACCEPTS(tlb_control, TLB_CONTROL_FLUSH_ALL);
    features = CPUID_8A_EDX_FLUSH_BY_ASID;
    ACCEPTS(tlb_control, TLB_CONTROL_FLUSH_ASID);
}

static void test_guest_state(void **state) {
    (void)state;
    BREAKS(rflags, 0, "RFLAGS bit 1 is clear");
    BREAKS(rflags, RFLAGS_FIXED | BIT(22), "RFLAGS bits 63:22 are not zero");
    BREAKS(rip, BIT(32), "RIP bits 63:32 are not zero outside 64-bit mode");
    ACCEPTS(cpl, 3); // real mode
    v.cr0 |= CR0_PE;
    BREAKS(cpl, 3, "CPL is not SS.DPL");
    ACCEPTS(ss.attributes, 0x73); // not present: its DPL means nothing
    BREAKS(ss.attributes, 0xf3, "CPL is not SS.DPL");
    BREAKS(fs.base, 0x0000800000000000, "a segment or table base is not canonical");
    BREAKS(gs.base, 0xffff000000000000, "a segment or table base is not canonical");
    BREAKS(kernel_gs_base, BIT(63), "a segment or table base is not canonical");
    BREAKS(tr.base, BIT(48), "a segment or table base is not canonical");
    BREAKS(ldtr.base, BIT(48), "a segment or table base is not canonical");
    BREAKS(gdtr.base, BIT(48), "a segment or table base is not canonical");
    BREAKS(idtr.base, BIT(48), "a segment or table base is not canonical");
    ACCEPTS(gs.base, 0xffff800000000000);
    check.linear_bits = 57;
    ACCEPTS(gs.base, 0x0000800000000000);
    check.physical_bits = 52;
    ACCEPTS(cr3, BIT(45));
}

static void inject(unsigned type, unsigned vector) {
    v.event_inject = EVENT_VALID | type << 8 | vector;
}

static bool accepts_event(unsigned type, unsigned vector) {
    inject(type, vector);
    const char *name = svm_check();
    assert_true(!name || !strcmp(name, "the injected event is illegal"));
    return !name;
}

static void test_events(void **state) {
    (void)state;
    for (unsigned vector = 0; vector < 256; vector++) {
        assert_true(accepts_event(EVENT_INTERRUPT, vector));
        assert_true(accepts_event(EVENT_SOFT_INTERRUPT, vector));
        assert_int_equal(accepts_event(EVENT_EXCEPTION, vector), vector < 32 && vector != 2);
        assert_false(accepts_event(1, vector));
        assert_false(accepts_event(5, vector));
        assert_false(accepts_event(6, vector));
        assert_false(accepts_event(7, vector));
    }
    assert_true(accepts_event(EVENT_NMI, 2));
    long_mode();
    assert_false(accepts_event(EVENT_EXCEPTION, EXC_OF));
    assert_false(accepts_event(EVENT_EXCEPTION, EXC_BR));
    v.rip = 0x1000;
    v.cs.attributes = 0x49b;
    assert_true(accepts_event(EVENT_EXCEPTION, EXC_OF));
    inject(7, 0);
    v.event_inject &= ~EVENT_VALID; // then the rest means nothing
    assert_null(svm_check());
}

// What the processor refuses is named before what only we demand.
static void test_two_kinds_of_rules(void **state) {
    (void)state;
    v.fs.base = BIT(63);
    NAMES("a segment or table base is not canonical");
    v.asid = 0;
    NAMES("the ASID is zero");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_good_modes, fresh),
        cmocka_unit_test_setup(test_control_registers, fresh),
        cmocka_unit_test_setup(test_long_mode, fresh),
        cmocka_unit_test_setup(test_controls, fresh),
        cmocka_unit_test_setup(test_guest_state, fresh),
        cmocka_unit_test_setup(test_events, fresh),
        cmocka_unit_test_setup(test_two_kinds_of_rules, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
