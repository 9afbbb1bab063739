// SPDX-License-Identifier: Apache-2.0
//
// Tests of vmx/exit.c: exit fields of the VMCS to struct exit, the cases of "Information for VM Exits That Occur During Event
// Delivery" and of "NMI unblocking due to IRET", and queued events to the entry's fields.
//
// sources: vmx/exit.c dom0/toolstack/check_vmx.c vmx/caps.c vmx/init.c vmx/regs.c

#include "test_vmx_model.h"

static unsigned host_event;
void vmx_host_event(unsigned vector) { host_event = vector; }

static struct exit decode(u32 reason, u64 qualification) {
    vmcs_write32(EXIT_REASON, reason);
    vmcs_writenat(EXIT_QUALIFICATION, qualification);
    model_cpu.queued.valid = false; // as the entry left it
    host_event = 0;
    return vmx_exit(&model_cpu);
}

static void exit_event(u32 type, u32 vector, u32 more) {
    vmcs_write32(EXIT_EVENT, EVENT_VALID | type << 8 | vector | more);
}

static void vectoring(u32 type, u32 vector, u32 more) {
    vmcs_write32(VECTORING_EVENT, EVENT_VALID | type << 8 | vector | more);
}

static bool nmi_blocked(void) { return vmcs_read32(GUEST_INTERRUPTIBILITY) & BLOCKED_BY_NMI; }

static void test_kinds(void **state) {
    static const struct {
        u32 reason;
        enum basalt_exit_kind kind;
        bool insn;
    } rows[] = {
        {1, BASALT_EXIT_INTERRUPT, false},   {2, BASALT_EXIT_TRIPLE_FAULT, false},
        {3, BASALT_EXIT_INIT, false},        {4, BASALT_EXIT_UNKNOWN, false},
        {7, BASALT_EXIT_IRQ_WINDOW, false},  {8, BASALT_EXIT_NMI_WINDOW, false},
        {9, BASALT_EXIT_TASK_SWITCH, false}, {10, BASALT_EXIT_CPUID, true},
        {11, BASALT_EXIT_VIRT_INSN, true},   {12, BASALT_EXIT_HLT, true},
        {13, BASALT_EXIT_INVD, true},        {14, BASALT_EXIT_UNKNOWN, false},
        {15, BASALT_EXIT_RDPMC, true},       {16, BASALT_EXIT_UNKNOWN, false},
        {17, BASALT_EXIT_UNKNOWN, false},    {18, BASALT_EXIT_HYPERCALL, true},
        {19, BASALT_EXIT_VIRT_INSN, true},   {27, BASALT_EXIT_VIRT_INSN, true},
        {28, BASALT_EXIT_CR_ACCESS, true},   {29, BASALT_EXIT_DR_ACCESS, true},
        {30, BASALT_EXIT_IO, true},          {31, BASALT_EXIT_RDMSR, true},
        {32, BASALT_EXIT_WRMSR, true},       {36, BASALT_EXIT_MWAIT, true},
        {39, BASALT_EXIT_MONITOR, true},     {40, BASALT_EXIT_PAUSE, true},
        {48, BASALT_EXIT_MEMORY, false},     {49, BASALT_EXIT_BAD_STATE, false},
        {50, BASALT_EXIT_VIRT_INSN, true},   {51, BASALT_EXIT_UNKNOWN, false},
        {52, BASALT_EXIT_PREEMPTION, false}, {53, BASALT_EXIT_VIRT_INSN, true},
        {54, BASALT_EXIT_WBINVD, true},      {55, BASALT_EXIT_XSETBV, true},
        {56, BASALT_EXIT_APIC_WRITE, false}, {60, BASALT_EXIT_VIRT_INSN, true},
        {61, BASALT_EXIT_UNKNOWN, false},    {0xffff, BASALT_EXIT_UNKNOWN, false},
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        model_new();
        vmcs_write32(EXIT_INSN_LENGTH, 3);
        struct exit e = decode(rows[i].reason, 0);

        assert_int_equal(e.kind, rows[i].kind);
        if (e.kind == BASALT_EXIT_UNKNOWN)
            assert_int_equal(e.detail, rows[i].reason);
        assert_int_equal(e.insn_length, rows[i].insn ? 3 : 0);
        assert_false(model_cpu.queued.valid);
    }
}

static void test_calls(void **state) {
    (void)state;
    for (u32 cpl = 0; cpl < 4; cpl++) {
        model_new();
        vmcs_write32(GUEST_ATTRIBUTES(BASALT_SS), 0xc093 | cpl << 5);
        vmcs_write32(EXIT_INSN_LENGTH, 3);
        struct exit e = decode(18, 0x77);
        assert_int_equal(e.kind, BASALT_EXIT_HYPERCALL);
        assert_int_equal(e.detail, cpl);
        assert_int_equal(e.insn_length, 3);
    }
}

static void test_entry_failures(void **state) {
    (void)state;
    model_new();
    vectoring(EVENT_INTERRUPT, 0x30, 0); // left over: not looked at
    assert_int_equal(decode(REASON_ENTRY_FAILURE | 33, 0).kind, BASALT_EXIT_BAD_STATE);
    assert_int_equal(decode(REASON_ENTRY_FAILURE | 34, 2).kind, BASALT_EXIT_BAD_STATE);
    assert_int_equal(decode(REASON_ENTRY_FAILURE | 41, 0).kind, BASALT_EXIT_MACHINE_CHECK);
    assert_int_equal(host_event, EXC_MC);
    assert_int_equal(decode(REASON_ENTRY_FAILURE | 34, 2).detail, 2);
    assert_false(model_cpu.queued.valid);
}

// VMLAUNCH or VMRESUME did not get as far as an exit.
static void test_refused_instruction(void **state) {
    (void)state;
    model_new();
    vmcs_write32(EXIT_REASON, 10); // of the exit before
    vmcs_write32(INSTRUCTION_ERROR, 7);
    struct exit e = vmx_refused();
    assert_int_equal(e.kind, BASALT_EXIT_BAD_STATE);
    assert_int_equal(e.detail, 7);
}

static void test_exceptions(void **state) {
    (void)state;
    model_new_64();
    exit_event(EVENT_EXCEPTION, EXC_DB, 0);
    struct exit e = decode(0, 0x4001);
    assert_int_equal(e.kind, BASALT_EXIT_EXCEPTION);
    assert_int_equal(e.vector, EXC_DB);
    assert_int_equal(e.detail, 0x4001);

    exit_event(EVENT_EXCEPTION, EXC_AC, EVENT_HAS_ERROR);
    vmcs_write32(EXIT_ERROR_CODE, 0);
    e = decode(0, 0x1234);
    assert_int_equal(e.vector, EXC_AC);
    assert_int_equal(e.detail, 0);

    exit_event(EVENT_PRIVILEGED_SOFT, EXC_DB, 0);
    vmcs_write32(EXIT_INSN_LENGTH, 1);
    e = decode(0, 0);
    assert_int_equal(e.insn_length, 1);

    exit_event(EVENT_NMI, 2, 0);
    assert_int_equal(decode(0, 0).kind, BASALT_EXIT_NMI);
    assert_int_equal(host_event, EXC_NMI);
    exit_event(EVENT_EXCEPTION, EXC_MC, 0);
    assert_int_equal(decode(0, 0).kind, BASALT_EXIT_MACHINE_CHECK);
    assert_int_equal(host_event, EXC_MC);
    exit_event(EVENT_INTERRUPT, 0x31, 0);
    assert_int_equal(decode(1, 0).vector, 0x31);
    assert_int_equal(host_event, 0);
}

static void test_cr(void **state) {
    (void)state;
    model_new_64();
    struct exit e = decode(28, 4 | 7 << 8); // MOV CR4, RDI
    assert_int_equal(e.cr, 4);
    assert_int_equal(e.gpr, BASALT_RDI);
    assert_true(e.write);
    e = decode(28, 8 | 1 << 4 | 15 << 8); // MOV R15, CR8
    assert_int_equal(e.cr, 8);
    assert_int_equal(e.gpr, BASALT_R15);
    assert_false(e.write);
    e = decode(28, 2 << 4);
    assert_int_equal(e.gpr, 0xff); // CLTS: the instruction tells
    assert_int_equal(e.cr, 0);
    assert_true(e.write);
    e = decode(28, 3 << 4 | 0xabcdull << 16);
    assert_int_equal(e.gpr, 0xff);
    assert_int_equal(e.cr, 0);
    assert_true(e.write);
}

static void test_io(void **state) {
    (void)state;
    model_new();
    struct exit e = decode(30, 0 | 0x3f8 << 16); // OUT DX, AL
    assert_int_equal(exit_io_bytes(e), 1);
    assert_int_equal(e.port, 0x3f8);
    assert_false(e.access & EXIT_IO_IN);
    assert_false(e.access & EXIT_IO_STRING);
    e = decode(30, 3 | BIT(3) | 0xcfcull << 16); // IN EAX, DX
    assert_int_equal(exit_io_bytes(e), 4);
    assert_int_equal(e.port, 0xcfc);
    assert_true(e.access & EXIT_IO_IN);

    e = decode(30, 1 | BIT(4) | BIT(5) | 0x80 << 16); // REP OUTSW
    assert_int_equal(e.access & (EXIT_IO_IN | EXIT_IO_STRING), EXIT_IO_STRING);
    assert_int_equal(exit_io_bytes(e), 2);
    e = decode(30, 1 | BIT(3) | BIT(4)); // INSW
    assert_int_equal(e.access & (EXIT_IO_IN | EXIT_IO_STRING), EXIT_IO_IN | EXIT_IO_STRING);
}

static void test_eoi(void **state) {
    (void)state;
    model_new_64();
    struct exit e = decode(45, 0x61);
    assert_int_equal(e.kind, BASALT_EXIT_APIC_EOI);
    assert_int_equal(e.vector, 0x61);
    assert_int_equal(e.insn_length, 0); // it comes after the write
}

static void test_ept_violation(void **state) {
    (void)state;
    model_new_64();
    vmcs_write64(GUEST_PHYSICAL_ADDRESS, 0xfee00300);
    struct exit e = decode(48, BIT(1) | BIT(7) | BIT(8));
    assert_true(e.write);
    assert_false(e.fetch || e.in_walk);
    assert_int_equal(e.gpa.v, 0xfee00300);
    e = decode(48, BIT(0) | BIT(1) | BIT(7)); // a walk, that would have set a flag
    assert_true(e.in_walk && e.write);
    e = decode(48, BIT(2) | BIT(7) | BIT(8));
    assert_true(e.fetch);
    assert_false(e.write);
    e = decode(48, BIT(0)); // loading PDPTEs: no linear address
    assert_false(e.in_walk);
    e = decode(49, 0);
    assert_int_equal(e.kind, BASALT_EXIT_BAD_STATE);
    assert_int_equal(e.gpa.v, 0xfee00300);
}

static void test_vectoring(void **state) {
    (void)state;
    model_new_64();
    vectoring(EVENT_EXCEPTION, EXC_PF, EVENT_HAS_ERROR);
    vmcs_write32(VECTORING_ERROR_CODE, 2);
    vmcs_write32(EXIT_INSN_LENGTH, 5);
    struct exit e = decode(48, BIT(1) | BIT(7) | BIT(8));
    const struct event *event = &model_cpu.queued;
    assert_true(event->valid && event->has_error);
    assert_int_equal(event->vector, EXC_PF);
    assert_int_equal(event->type, EVENT_EXCEPTION);
    assert_int_equal(event->error, 2);
    assert_int_equal(event->insn_length, 0);
    assert_int_equal(e.insn_length, 0);

    vectoring(EVENT_SOFT_INTERRUPT, 0x80, 0);
    vmcs_write32(EXIT_INSN_LENGTH, 2);
    decode(48, BIT(1));
    assert_int_equal(event->type, EVENT_SOFT_INTERRUPT);
    assert_int_equal(event->insn_length, 2);
    assert_false(event->has_error);

    vectoring(EVENT_INTERRUPT, 0x41, 0);
    decode(48, BIT(1));
    assert_int_equal(event->vector, 0x41);
    assert_int_equal(event->type, EVENT_INTERRUPT);
}

// An NMI whose delivery was interrupted can be delivered again: the entry's checks pass.
static void test_vectoring_nmi(void **state) {
    struct cpu_state *cpu = model_new_64();

    (void)state;
    vmcs_write32(GUEST_INTERRUPTIBILITY, BLOCKED_BY_NMI);
    vectoring(EVENT_NMI, 2, 0);
    decode(48, BIT(1) | BIT(12)); // bit 12 is undefined here
    assert_int_equal(cpu->queued.type, EVENT_NMI);
    assert_false(nmi_blocked());
    vmx_queue_event(cpu);
    assert_null(vmx_check());
}

static void test_nmi_unblocking(void **state) {
    (void)state;
    model_new_64(); // IRET's stack pop met an EPT violation
    decode(48, BIT(0) | BIT(7) | BIT(8) | BIT(12));
    assert_true(nmi_blocked());

    model_new_64();
    decode(48, BIT(0) | BIT(7) | BIT(8));
    assert_false(nmi_blocked());

    model_new_64(); // IRET raised #AC
    exit_event(EVENT_EXCEPTION, EXC_AC, EVENT_HAS_ERROR | EVENT_NMI_UNBLOCKED);
    decode(0, 0);
    assert_true(nmi_blocked());

    model_new_64(); // undefined with #DF
    exit_event(EVENT_EXCEPTION, EXC_DF, EVENT_HAS_ERROR | EVENT_NMI_UNBLOCKED);
    decode(0, 0);
    assert_false(nmi_blocked());

    model_new_64(); // and while an event was being delivered
    exit_event(EVENT_EXCEPTION, EXC_AC, EVENT_HAS_ERROR | EVENT_NMI_UNBLOCKED);
    vectoring(EVENT_INTERRUPT, 0x30, 0);
    decode(0, 0);
    assert_false(nmi_blocked());
}

// Queues an event and returns the entry's event field; the control block is valid, and the event is taken.
static u32 queue(struct event event) {
    model_cpu.queued = event;
    model_cpu.queued.valid = true;
    vmx_queue_event(&model_cpu);
    assert_false(model_cpu.queued.valid);
    const char *rule = vmx_check();
    if (rule)
        fail_msg("%s", rule);
    return vmcs_read32(ENTRY_EVENT);
}

static void test_queue(void **state) {
    (void)state;
    model_new_64();
    vmcs_writenat(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
    assert_int_equal(queue((struct event){.type = EVENT_INTERRUPT, .vector = 0x30}), 0x80000030);
    assert_int_equal(queue((struct event){.type = EVENT_NMI, .vector = 2}), 0x80000202);
    assert_int_equal(queue((struct event){.type = EVENT_EXCEPTION, .vector = EXC_UD}), 0x80000306);
    assert_int_equal(
        queue((struct event){
            .type = EVENT_EXCEPTION, .vector = EXC_GP, .has_error = true, .error = 0x10}),
        0x80000b0d);
    assert_int_equal(vmcs_read32(ENTRY_ERROR_CODE), 0x10);
    assert_int_equal(
        queue((struct event){.type = EVENT_SOFT_INTERRUPT, .vector = 0x80, .insn_length = 2}),
        0x80000480);
    assert_int_equal(vmcs_read32(ENTRY_INSN_LENGTH), 2);
    assert_int_equal(
        queue((struct event){.type = EVENT_SOFT_EXCEPTION, .vector = 3, .insn_length = 1}),
        0x80000603);
}

// Whatever the caller says about error codes, the entry passes: the vector and the mode decide.
static void test_queue_error_codes(void **state) {
    (void)state;
    for (unsigned vector = 0; vector < 32; vector++) {
        for (unsigned has = 0; has < 2; has++) {
            struct event event = {
                .type = EVENT_EXCEPTION, .vector = (u8)vector, .has_error = has, .error = ~0u};

            model_new();
            assert_false(queue(event) & EVENT_HAS_ERROR);
            model_new_64();
            queue(event);
        }
    }
}

// Events end the shadow of STI and MOV SS, also with TF set, where the entry has a rule of its own.
static void test_queue_in_shadow(void **state) {
    (void)state;
    for (u32 shadow = BLOCKED_BY_STI; shadow <= BLOCKED_BY_MOV_SS; shadow++) {
        model_new_64();
        vmcs_writenat(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF | RFLAGS_TF);
        vmcs_write32(GUEST_INTERRUPTIBILITY, shadow);
        queue((struct event){.type = EVENT_NMI, .vector = 2});
        assert_int_equal(vmcs_read32(GUEST_INTERRUPTIBILITY), 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_calls),
        cmocka_unit_test(test_entry_failures),
        cmocka_unit_test(test_refused_instruction),
        cmocka_unit_test(test_exceptions),
        cmocka_unit_test(test_cr),
        cmocka_unit_test(test_io),
        cmocka_unit_test(test_eoi),
        cmocka_unit_test(test_ept_violation),
        cmocka_unit_test(test_vectoring),
        cmocka_unit_test(test_vectoring_nmi),
        cmocka_unit_test(test_nmi_unblocking),
        cmocka_unit_test(test_queue),
        cmocka_unit_test(test_queue_error_codes),
        cmocka_unit_test(test_queue_in_shadow),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
