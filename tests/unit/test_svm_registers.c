// SPDX-License-Identifier: Apache-2.0
//
// Registers and events of a VMCB: what the guest sees against what the processor gets, segment
// formats, NMI blocking, injection and windows. The processor's part is played by the tests.
//
// sources: svm/registers.c svm/event.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/x86.h"
#include "svm/svm.h"
#include "tests/unit/init_state.h"

static struct vmcb v;
static struct cpu_state cpu;

static int fresh(void **state) {
    (void)state;
    memset(&v, 0, sizeof(v));
    memset(&cpu, 0, sizeof(cpu));
    cpu.page = &v;
    cpu.efer_guest = EFER_LME; // from before INIT
    write_init_state(&(struct backend){.write = svm_write, .write_segment = svm_write_segment},
                     &cpu);
    (void)svm_access_msr(&cpu, MSR_PAT, true, &(u64){0x0007040600070406});
    cpu.dirty = 0;
    return 0;
}

static void test_after_init(void **state) {
    (void)state;
    assert_int_equal(svm_read(&cpu, REG_CR0), 0x60000010);
    assert_int_equal(v.cr0, 0x10);
    assert_int_equal(svm_read(&cpu, REG_CR4), 0);
    assert_int_equal(v.cr4, CR4_MCE);
    assert_int_equal(svm_read(&cpu, REG_EFER), 0);
    assert_int_equal(v.efer, EFER_SVME);
    assert_int_equal(svm_read(&cpu, REG_DR7), 0x400);
    assert_int_equal(svm_read(&cpu, REG_DR6), 0xffff0ff0);
    struct basalt_segment cs = svm_read_segment(&cpu, BASALT_CS);
    assert_int_equal(cs.selector, 0xf000);
    assert_int_equal(cs.base, 0xffff0000);
    assert_int_equal(cs.limit, 0xffff);
    assert_int_equal(cs.attributes, 0x9b);
    assert_int_equal(svm_read_segment(&cpu, BASALT_SS).attributes, 0x93);
    assert_int_equal(svm_read_segment(&cpu, BASALT_LDTR).attributes, 0x82);
    assert_int_equal(svm_read_segment(&cpu, BASALT_TR).attributes, 0x8b);
    u64 value;
    assert_true(svm_access_msr(&cpu, MSR_PAT, false, &value));
    assert_int_equal(value, 0x0007040600070406);
}

static bool reads_exit(unsigned cr) { return vmcb_intercepts(&v, EXIT_CR_READ + cr); }

static bool writes_exit(unsigned cr) { return vmcb_intercepts(&v, EXIT_CR_WRITE + cr); }

static void test_cr0(void **state) {
    (void)state;
    assert_true(reads_exit(0)); // CD and NW are the guest's belief
    assert_true(writes_exit(0));
    svm_write(&cpu, REG_CR0, CR0_PE);
    assert_int_equal(svm_read(&cpu, REG_CR0), CR0_PE | CR0_ET);
    assert_false(reads_exit(0));
    assert_false(writes_exit(0)); // the selective intercept sees the rest
    assert_true(cpu.dirty & VMCB_CLEAN_CR);
    v.cr0 |= CR0_TS | CR0_MP; // the guest did, without an exit
    assert_int_equal(svm_read(&cpu, REG_CR0), CR0_PE | CR0_ET | CR0_TS | CR0_MP);
    svm_write(&cpu, REG_CR0, CR0_PE | CR0_CD);
    assert_int_equal(v.cr0, CR0_PE | CR0_ET);
    assert_true(reads_exit(0));
    assert_int_equal(svm_read(&cpu, REG_CR0), CR0_PE | CR0_CD | CR0_ET);
}

static void test_cr4(void **state) {
    (void)state;
    svm_write(&cpu, REG_CR4, CR4_PAE);
    assert_int_equal(v.cr4, CR4_PAE | CR4_MCE);
    assert_int_equal(svm_read(&cpu, REG_CR4), CR4_PAE);
    assert_true(reads_exit(4));
    svm_write(&cpu, REG_CR4, CR4_PAE | CR4_MCE);
    assert_false(reads_exit(4));
}

static void test_efer_follows_paging(void **state) {
    (void)state;
    svm_write(&cpu, REG_EFER, EFER_LME | EFER_SCE | EFER_LMA); // LMA can't be written
    assert_int_equal(svm_read(&cpu, REG_EFER), EFER_LME | EFER_SCE);
    svm_write(&cpu, REG_CR0, CR0_PE | CR0_PG);
    assert_int_equal(svm_read(&cpu, REG_EFER), EFER_LME | EFER_LMA | EFER_SCE);
    assert_int_equal(v.efer, EFER_LME | EFER_LMA | EFER_SCE | EFER_SVME);
    svm_write(&cpu, REG_CR0, CR0_PE);
    assert_int_equal(svm_read(&cpu, REG_EFER), EFER_LME | EFER_SCE);
    assert_int_equal(v.efer & EFER_SVME, EFER_SVME);
}

static void test_plain_registers(void **state) {
    (void)state;
    svm_write(&cpu, REG_CR3, 0x1234000);
    assert_int_equal(svm_read(&cpu, REG_CR3), 0x1234000);
    svm_write(&cpu, REG_DR7, 0x455);
    assert_int_equal(svm_read(&cpu, REG_DR7), 0x455);
    svm_write(&cpu, REG_CR2, 0x5678);
    assert_int_equal(v.cr2, 0x5678);
    svm_write(&cpu, REG_DR6, DR6_FIXED | BIT(14));
    assert_int_equal(svm_read(&cpu, REG_DR6), DR6_FIXED | BIT(14));
    assert_int_equal(svm_read(&cpu, REG_PDPTE0), 0);
    for (unsigned index = BASALT_GDTR; index <= BASALT_IDTR; index++) {
        struct basalt_segment table = {.base = 0x1000 * index, .limit = 0xff * index};
        svm_write_segment(&cpu, index, &table);
        table = svm_read_segment(&cpu, index);
        assert_int_equal(table.base, 0x1000 * index);
        assert_int_equal(table.limit, 0xff * index);
    }
    assert_int_equal(v.gdtr.base, 0x8000);
    assert_int_equal(v.idtr.base, 0x9000);
    const u32 all = VMCB_CLEAN_CR | VMCB_CLEAN_CR2 | VMCB_CLEAN_DR | VMCB_CLEAN_TABLES;
    assert_int_equal(cpu.dirty & all, all);
}

static void test_segment_formats(void **state) {
    (void)state;
    static const struct {
        u32 vmx, limit;
        u16 svm;
    } rows[] = {
        {0xa09b, 0xffffffff, 0xa9b}, // 64-bit code
        {0xc09b, 0xffffffff, 0xc9b}, // 32-bit code
        {0xc0f3, 0xffffffff, 0xcf3}, // user data
        {0x009b, 0xffff, 0x09b},     // 16-bit code
        {0x1093, 0x1000, 0x193},     // AVL
    };
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct basalt_segment s = {0x123456789a, rows[i].limit, 0x1b, 0, rows[i].vmx, 0}, t;
        svm_write_segment(&cpu, BASALT_DS, &s);
        assert_int_equal(v.ds.attributes, rows[i].svm);
        t = svm_read_segment(&cpu, BASALT_DS);
        assert_memory_equal(&s, &t, sizeof(s));
    }
    for (unsigned index = BASALT_ES; index <= BASALT_TR; index++) { // each has its own place
        struct basalt_segment s = {.base = index, .limit = 0xff, .attributes = 0x8b};
        svm_write_segment(&cpu, index, &s);
    }
    for (unsigned index = BASALT_ES; index <= BASALT_TR; index++)
        assert_int_equal(svm_read_segment(&cpu, index).base, index);
    assert_true(cpu.dirty & VMCB_CLEAN_SEGMENTS);
}

static void test_unusable_segments(void **state) {
    (void)state;
    struct basalt_segment s = {.attributes = 0x100f3};
    svm_write_segment(&cpu, BASALT_FS, &s);
    assert_int_equal(v.fs.attributes & 0x80, 0);
    assert_int_equal(svm_read_segment(&cpu, BASALT_FS).attributes & 0x10080, 0x10000);
}

static void test_cpl_is_ss_dpl(void **state) {
    (void)state;
    struct basalt_segment s = {.limit = 0xffffffff, .attributes = 0xc0f3};
    svm_write_segment(&cpu, BASALT_DS, &s);
    assert_int_equal(svm_read(&cpu, REG_CPL), 0);
    svm_write_segment(&cpu, BASALT_SS, &s);
    assert_int_equal(svm_read(&cpu, REG_CPL), 3);
    v.cpl = 0; // a SYSCALL, after which some processors keep the old DPL
    assert_int_equal(svm_read_segment(&cpu, BASALT_SS).attributes, 0xc093);
    v.tr.attributes = 0x89; // nor do all tell that a TSS is busy
    assert_int_equal(svm_read_segment(&cpu, BASALT_TR).attributes, 0x8b);
}

static void test_msrs(void **state) {
    (void)state;
    static const u32 mine[] = {MSR_STAR,        MSR_LSTAR,        MSR_CSTAR,    MSR_FMASK,
                               MSR_FS_BASE,     MSR_GS_BASE,      MSR_PAT,      MSR_KERNEL_GS_BASE,
                               MSR_SYSENTER_CS, MSR_SYSENTER_ESP, MSR_DEBUGCTL, MSR_SYSENTER_EIP};
    u64 value = 1;
    for (unsigned i = 0; i < ARRAY_SIZE(mine); i++)
        assert_true(svm_access_msr(&cpu, mine[i], true, &(u64){0xffff800000001000 + i}));
    for (unsigned i = 0; i < ARRAY_SIZE(mine); i++) {
        assert_true(svm_access_msr(&cpu, mine[i], false, &value));
        assert_int_equal(value, 0xffff800000001000 + i);
    }
    assert_false(svm_access_msr(&cpu, MSR_EFER, true, &value));
    assert_false(svm_access_msr(&cpu, 0x10, false, &value));
    assert_int_equal(svm_read_segment(&cpu, BASALT_FS).base, 0xffff800000001004);
    assert_true(cpu.dirty & VMCB_CLEAN_NESTED);
}

// What svm_prepare() and the world switch do around the world switch, with the processor's part in between.
static void enter(void) {
    v.rip = cpu.rip;
    v.next_rip = 0;
    v.event_inject = 0;
    if (cpu.queued.valid)
        svm_inject(&cpu);
}

static void leave(u64 code, u64 int_info) {
    v.exit_code = code;
    v.exit_int_info = int_info;
    svm_events_after_exit(&cpu);
    cpu.rip = v.rip;
}

static void test_injection(void **state) {
    (void)state;
    enter();
    assert_int_equal(v.event_inject, 0);
    cpu.queued = (struct event){.valid = true, .vector = 0x41};
    enter();
    assert_int_equal(v.event_inject, 0x80000041);
    assert_false(cpu.queued.valid);
    leave(0x78, 0);
    enter();
    assert_int_equal(v.event_inject, 0);
    cpu.queued = (struct event){.valid = true, .vector = EXC_GP, .type = EVENT_EXCEPTION};
    cpu.queued.has_error = true;
    cpu.queued.error = 0x1234;
    enter(); // real mode
    assert_int_equal(v.event_inject, 0x8000030d);
    v.cr0 |= CR0_PE;
    cpu.queued.valid = true;
    enter();
    assert_int_equal(v.event_inject, 0x0000123480000b0d);
}

static void test_interrupt_gates(void **state) {
    (void)state;
    assert_false(svm_can_take(&cpu, false));
    cpu.rflags |= RFLAGS_IF;
    assert_true(svm_can_take(&cpu, false));
    v.int_state = INT_STATE_SHADOW;
    assert_false(svm_can_take(&cpu, false));
    assert_false(svm_can_take(&cpu, true));
    svm_clear_shadow(&cpu);
    assert_true(svm_can_take(&cpu, false));
    assert_true(svm_can_take(&cpu, true));
}

static void test_irq_window(void **state) {
    (void)state;
    v.int_control = V_INTR_MASKING | 5;
    svm_window(&cpu, false, true);
    assert_true(vmcb_intercepts(&v, EXIT_VINTR));
    assert_int_equal(v.int_control, V_INTR_MASKING | V_IRQ | V_PRIORITY | V_IGNORE_TPR | 5);
    assert_int_equal(cpu.dirty, VMCB_CLEAN_INTERCEPTS | VMCB_CLEAN_TPR);
    svm_window(&cpu, false, false);
    assert_false(vmcb_intercepts(&v, EXIT_VINTR));
    assert_int_equal(v.int_control, V_INTR_MASKING | 5);
    cpu.dirty = 0;
    svm_window(&cpu, false, false);
    assert_int_equal(cpu.dirty, 0);
}

static void queue_nmi(void) {
    cpu.queued = (struct event){.valid = true, .vector = 2, .type = EVENT_NMI};
    enter();
}

static void test_nmi_blocking(void **state) {
    (void)state;
    assert_true(svm_can_take(&cpu, true));
    queue_nmi();
    assert_int_equal(v.event_inject, 0x80000202);
    v.rip = 0x9000;
    leave(0x72, 0);
    assert_false(svm_can_take(&cpu, true));
    assert_true(vmcb_intercepts(&v, EXIT_IRET));
    enter();
    v.rip = 0x9010;
    leave(EXIT_IRET, 0); // before it is executed
    assert_false(svm_can_take(&cpu, true));
    assert_false(vmcb_intercepts(&v, EXIT_IRET));
    enter();
    leave(0x60, 0); // still not
    assert_false(svm_can_take(&cpu, true));
    enter();
    v.rip = 0x1000;
    leave(0x60, 0);
    assert_true(svm_can_take(&cpu, true));
}

static void test_nmi_not_delivered(void **state) {
    (void)state;
    queue_nmi();
    leave(0x400, 0x80000202);
    assert_true(svm_can_take(&cpu, true));
    assert_false(vmcb_intercepts(&v, EXIT_IRET));
}

static void test_nmi_again_between_iret_and_its_end(void **state) {
    (void)state;
    queue_nmi();
    leave(EXIT_IRET, 0);
    cpu.rip = 0x2000;
    enter();
    leave(0x78, 0);
    queue_nmi();
    assert_false(svm_can_take(&cpu, true));
    assert_true(vmcb_intercepts(&v, EXIT_IRET));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_after_init, fresh),
        cmocka_unit_test_setup(test_cr0, fresh),
        cmocka_unit_test_setup(test_cr4, fresh),
        cmocka_unit_test_setup(test_efer_follows_paging, fresh),
        cmocka_unit_test_setup(test_plain_registers, fresh),
        cmocka_unit_test_setup(test_segment_formats, fresh),
        cmocka_unit_test_setup(test_unusable_segments, fresh),
        cmocka_unit_test_setup(test_cpl_is_ss_dpl, fresh),
        cmocka_unit_test_setup(test_msrs, fresh),
        cmocka_unit_test_setup(test_injection, fresh),
        cmocka_unit_test_setup(test_interrupt_gates, fresh),
        cmocka_unit_test_setup(test_irq_window, fresh),
        cmocka_unit_test_setup(test_nmi_blocking, fresh),
        cmocka_unit_test_setup(test_nmi_not_delivered, fresh),
        cmocka_unit_test_setup(test_nmi_again_between_iret_and_its_end, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
