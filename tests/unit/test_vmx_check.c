// SPDX-License-Identifier: Apache-2.0
//
// Tests of dom0/toolstack/check_vmx.c, on what the kernel's own functions program: valid control blocks in every mode
// pass; then each rule is broken alone and must be the one that is named. At the end the rules that were named are
// compared with those in the source: none is without a test.
//
// sources: dom0/toolstack/check_vmx.c vmx/caps.c vmx/init.c vmx/regs.c

#include "test_vmx_model.h"

static const char *named[200];
static unsigned named_count;

static void expect_rule(const char *rule, int line) {
    const char *found = vmx_check();

    if (!found || strcmp(found, rule))
        fail_msg("line %d: expected \"%s\", got \"%s\"", line, rule, found ? found : "nothing");
    assert_true(named_count < ARRAY_SIZE(named));
    assert_true(check.value == read_model(NULL, check.field));
    named[named_count++] = rule;
}

// Makes a valid control block, breaks it by a statement, expects the rule.
#define BROKEN(model, rule, ...)         \
    do {                                 \
        struct cpu_state *cpu = model(); \
        (void)cpu;                       \
        assert_null(vmx_check());        \
        __VA_ARGS__;                     \
        expect_rule(rule, __LINE__);     \
    } while (0)

#define PASSES(model, ...)                            \
    do {                                              \
        struct cpu_state *cpu = model();              \
        (void)cpu;                                    \
        __VA_ARGS__;                                  \
        const char *found = vmx_check();              \
        if (found)                                    \
            fail_msg("line %d: %s", __LINE__, found); \
    } while (0)

static void or32(enum vmcs32 field, u32 bits) { vmcs_write32(field, vmcs_read32(field) | bits); }
static void and32(enum vmcs32 field, u32 bits) { vmcs_write32(field, vmcs_read32(field) & bits); }
static void ornat(enum vmcsnat field, u64 bits) {
    vmcs_writenat(field, vmcs_readnat(field) | bits);
}
static void andnat(enum vmcsnat field, u64 bits) {
    vmcs_writenat(field, vmcs_readnat(field) & bits);
}
static void attributes(unsigned segment, u32 value) {
    vmcs_write32(GUEST_ATTRIBUTES(segment), value);
}

static void event(u32 type, u32 vector, u32 more) {
    vmcs_write32(ENTRY_EVENT, EVENT_VALID | type << 8 | vector | more);
}

static struct cpu_state *model_new_vm86(void) {
    struct cpu_state *cpu = model_new_32();

    ornat(GUEST_RFLAGS, RFLAGS_VM);
    for (unsigned i = BASALT_ES; i <= BASALT_GS; i++)
        model_segment(i, (u16)(0x1000 + i), (0x1000u + i) << 4, 0xffff, 0xf3);
    return cpu;
}

static struct cpu_state *model_new_pae(void) {
    struct cpu_state *cpu = model_new_32();

    vmx_write(cpu, REG_CR4, CR4_PAE);
    vmx_write(cpu, REG_CR0, CR0_PG | CR0_PE | CR0_ET);
    for (unsigned i = 0; i < 4; i++)
        vmx_write(cpu, REG_PDPTE0 + i, 0x1000 * (i + 1) | 1);
    return cpu;
}

static void test_valid(void **state) {
    (void)state;
    PASSES(model_new);
    PASSES(model_new_32);
    PASSES(model_new_64);
    PASSES(model_new_vm86);
    PASSES(model_new_pae);
    PASSES(model_new, vmx_write(cpu, REG_CR0, CR0_PE));
    PASSES(model_new_64, event(EVENT_EXCEPTION, EXC_GP, EVENT_HAS_ERROR));
    PASSES(model_new, event(EVENT_EXCEPTION, EXC_GP, 0)); // real mode
    PASSES(model_new_64, event(EVENT_INTERRUPT, 0x30, 0); ornat(GUEST_RFLAGS, RFLAGS_IF));
    PASSES(model_new_64, event(EVENT_NMI, 2, 0));
    PASSES(model_new_64, event(EVENT_SOFT_EXCEPTION, 3, 0); vmcs_write32(ENTRY_INSN_LENGTH, 1));
    PASSES(model_new_64, vmcs_writenat(GUEST_RIP, 0xffffffff81000000));
    PASSES(model_new_64, or32(PRIMARY_CONTROLS, PRIMARY_IRQ_WINDOW | PRIMARY_NMI_WINDOW));
    PASSES(model_new_64, attributes(BASALT_DS, 0x10000)); // unusable: nothing else counts
    PASSES(model_new_64, attributes(BASALT_LDTR, 0x10000);
           vmcs_writenat(GUEST_BASE(BASALT_LDTR), BIT(50)));
    PASSES(model_new_32, attributes(BASALT_TR, 0x83)); // 16-bit TSS
    PASSES(model_new_64, vmcs_write32(GUEST_INTERRUPTIBILITY, BLOCKED_BY_NMI));
    PASSES(model_new_64, vmcs_write32(GUEST_ACTIVITY, 1)); // HLT
}

static void test_controls(void **state) {
    (void)state;
    BROKEN(model_new, "pin-based controls", or32(PIN_CONTROLS, BIT(7)));
    BROKEN(model_new, "pin-based controls", and32(PIN_CONTROLS, ~2u));
    BROKEN(model_new, "primary controls", or32(PRIMARY_CONTROLS, BIT(0)));
    BROKEN(model_new, "primary controls", and32(PRIMARY_CONTROLS, ~2u));
    PASSES(model_new, or32(PRIMARY_CONTROLS, PRIMARY_CR3_LOAD)); // not used by Basalt, but legal
    BROKEN(model_new, "secondary controls", or32(SECONDARY_CONTROLS, BIT(31)));
    BROKEN(model_new, "VM-exit controls", and32(EXIT_CONTROLS, ~EXIT_SAVE_DEBUG & ~1u));
    BROKEN(model_new, "VM-entry controls", and32(ENTRY_CONTROLS, ~1u));
    BROKEN(model_new, "VM-entry controls: SMM", or32(ENTRY_CONTROLS, BIT(10)));
    BROKEN(model_new, "CR3-target count", vmcs_write32(CR3_TARGET_COUNT, 5));
    BROKEN(model_new, "I/O bitmap A: address", vmcs_write64(IO_BITMAP_A, 0x6001));
    BROKEN(model_new, "I/O bitmap B: address", vmcs_write64(IO_BITMAP_B, BIT(40)));
    BROKEN(model_new, "MSR bitmap: address", vmcs_write64(MSR_BITMAP, 0x5800));
    BROKEN(model_new, "virtual NMIs without exits on NMIs", and32(PIN_CONTROLS, ~PIN_NMI));
    BROKEN(model_new, "NMI window without virtual NMIs", and32(PIN_CONTROLS, ~PIN_VIRTUAL_NMI);
           or32(PRIMARY_CONTROLS, PRIMARY_NMI_WINDOW));
    BROKEN(model_new, "unrestricted guest without EPT", and32(SECONDARY_CONTROLS, ~SECONDARY_EPT));
    PASSES(model_new, and32(PRIMARY_CONTROLS, ~(PRIMARY_IO_BITMAPS | PRIMARY_MSR_BITMAPS));
           vmcs_write64(IO_BITMAP_A, 1); vmcs_write64(MSR_BITMAP, 1));
    PASSES(model_new, and32(PRIMARY_CONTROLS, ~PRIMARY_DR));
    PASSES(model_new, and32(SECONDARY_CONTROLS, ~SECONDARY_VPID); vmcs_write16(VPID, 0));
    BROKEN(model_new, "VPID 0", vmcs_write16(VPID, 0));
    BROKEN(model_new, "EPT pointer: memory type", vmcs_write64(EPT_POINTER, 0x12301c));
    BROKEN(model_new, "EPT pointer: walk length", vmcs_write64(EPT_POINTER, 0x123026));
    BROKEN(model_new, "EPT pointer: accessed and dirty flags",
           model_msrs[MSR_VMX_EPT_VPID_CAP - MSR_VMX_BASIC] &= ~EPT_CAP_ACCESSED_DIRTY);
    BROKEN(model_new, "EPT pointer: address", vmcs_write64(EPT_POINTER, 0x12389e));
    BROKEN(model_new, "EPT pointer: address", vmcs_write64(EPT_POINTER, BIT(41) | 0x1e));
}

static void test_apicv(void **state) {
    u32 tmr[32] = {[0] = 1u << 31, [4] = 2, [28] = 4};
    struct cpu_state *apicv = model_new_apicv();

    (void)state;
    PASSES(model_new_apicv);
    PASSES(model_new_apicv, vmx_apic_mode(cpu, true, tmr));
    assert_int_equal(vmcs_read64(MSR_BITMAP), 0x6000);
    assert_true(vmcs_read64(EOI_EXIT_BITMAP(0)) == (BIT(31) | BIT(33)));
    assert_true(vmcs_read64(EOI_EXIT_BITMAP(3)) == BIT(34));
    assert_true(vmcs_read32(SECONDARY_CONTROLS) & SECONDARY_X2APIC);
    vmx_apic_mode(apicv, false, tmr);
    assert_int_equal(vmcs_read64(MSR_BITMAP), 0x5000);
    assert_int_equal(vmcs_read32(SECONDARY_CONTROLS) & SECONDARY_APICV,
                     SECONDARY_VIRTUAL_IRQ | SECONDARY_APIC_REGISTERS);
    assert_int_equal(vmcs_read32(PRIMARY_CONTROLS) & (PRIMARY_CR8_LOAD | PRIMARY_CR8_STORE), 0);
    model_new(); // without: nothing of it
    assert_int_equal(vmcs_read32(SECONDARY_CONTROLS) & SECONDARY_APICV, 0);
    assert_int_equal(vmcs_read32(PRIMARY_CONTROLS) & PRIMARY_TPR_SHADOW, 0);
    BROKEN(model_new_apicv, "APIC virtualization without TPR shadow",
           and32(PRIMARY_CONTROLS, ~PRIMARY_TPR_SHADOW));
    BROKEN(model_new_apicv, "virtual-APIC page: address",
           vmcs_write64(VIRTUAL_APIC_ADDRESS, 0x9008));
    BROKEN(model_new_apicv, "TPR threshold", and32(SECONDARY_CONTROLS, ~SECONDARY_VIRTUAL_IRQ);
           vmcs_write32(TPR_THRESHOLD, 0x10));
    BROKEN(model_new_apicv, "virtual-interrupt delivery without exits on interrupts",
           and32(PIN_CONTROLS, ~PIN_EXTERNAL_INTERRUPT));
}

static void test_event(void **state) {
    (void)state;
    BROKEN(model_new_64, "event: type", event(1, 3, 0));
    BROKEN(model_new_64, "event: type", event(7, 0, 0));
    BROKEN(model_new_64, "event: NMI with another vector than 2", event(EVENT_NMI, 3, 0));
    BROKEN(model_new_64, "event: exception with a vector above 31", event(EVENT_EXCEPTION, 32, 0));
    BROKEN(model_new_64, "event: error code", event(EVENT_EXCEPTION, EXC_GP, 0));
    BROKEN(model_new_64, "event: error code", event(EVENT_EXCEPTION, EXC_UD, EVENT_HAS_ERROR));
    BROKEN(model_new_64, "event: error code", event(EVENT_SOFT_INTERRUPT, EXC_GP, EVENT_HAS_ERROR));
    BROKEN(model_new, "event: error code",
           event(EVENT_EXCEPTION, EXC_GP, EVENT_HAS_ERROR)); // real mode
    BROKEN(model_new_64, "event: reserved bits", event(EVENT_EXCEPTION, EXC_UD, BIT(12)));
    BROKEN(model_new_64, "event: error code bits 31:16",
           event(EVENT_EXCEPTION, EXC_PF, EVENT_HAS_ERROR);
           vmcs_write32(ENTRY_ERROR_CODE, 0x10000));
    BROKEN(model_new_64, "event: instruction length", event(EVENT_SOFT_INTERRUPT, 0x80, 0));
    BROKEN(model_new_64, "event: instruction length", event(EVENT_PRIVILEGED_SOFT, 1, 0);
           vmcs_write32(ENTRY_INSN_LENGTH, 16));
    PASSES(model_new_64, model_msrs[MSR_VMX_MISC - MSR_VMX_BASIC] |= BIT(30);
           event(EVENT_SOFT_INTERRUPT, 0x80, 0));
    PASSES(model_new_64, model_msrs[0] |= BIT(56); event(EVENT_EXCEPTION, EXC_GP, 0));
    BROKEN(model_new, "event: error code", model_msrs[0] |= BIT(56);
           event(EVENT_EXCEPTION, EXC_GP, EVENT_HAS_ERROR));
    PASSES(model_new_64, vmcs_write32(ENTRY_EVENT, 0x7fffffff)); // not valid: not looked at
}

static void test_registers(void **state) {
    (void)state;
    BROKEN(model_new, "CR0", andnat(GUEST_CR0, ~CR0_NE));
    BROKEN(model_new, "CR0", ornat(GUEST_CR0, BIT(32)));
    BROKEN(model_new, "CR0: PG without PE", ornat(GUEST_CR0, CR0_PG));
    BROKEN(model_new, "CR4", andnat(GUEST_CR4, ~CR4_VMXE));
    BROKEN(model_new, "CR4", ornat(GUEST_CR4, BIT(31)));
    BROKEN(model_new_64, "64-bit guest without PG and PAE", andnat(GUEST_CR4, ~CR4_PAE));
    BROKEN(model_new_64, "64-bit guest without PG and PAE", andnat(GUEST_CR0, ~CR0_PG));
    BROKEN(model_new_32, "CR4: PCIDE outside 64-bit mode", ornat(GUEST_CR4, CR4_PCIDE));
    BROKEN(model_new, "CR3: too wide", vmcs_writenat(GUEST_CR3, BIT(40)));
    BROKEN(model_new, "DEBUGCTL: reserved bits", vmcs_write64(GUEST_DEBUGCTL, 4));
    BROKEN(model_new, "DR7: bits 63:32", ornat(GUEST_DR7, BIT(32)));
    BROKEN(model_new, "SYSENTER_ESP: not canonical", vmcs_writenat(GUEST_SYSENTER_ESP, BIT(47)));
    BROKEN(model_new, "SYSENTER_EIP: not canonical", vmcs_writenat(GUEST_SYSENTER_EIP, BIT(63)));
    BROKEN(model_new, "PAT: memory type", vmcs_write64(GUEST_PAT, 0x0007040600070402));
    BROKEN(model_new, "PAT: memory type", vmcs_write64(GUEST_PAT, 0x0807040600070406));
    BROKEN(model_new, "EFER: reserved bits", vmcs_write64(GUEST_EFER, EFER_SVME));
    BROKEN(model_new_64, "EFER: LMA differs from the 64-bit-guest control",
           vmcs_write64(GUEST_EFER, EFER_LME));
    BROKEN(model_new_32, "EFER: LMA differs from the 64-bit-guest control",
           vmcs_write64(GUEST_EFER, EFER_LMA));
    BROKEN(model_new_64, "EFER: LMA, LME", vmcs_write64(GUEST_EFER, EFER_LMA));
    PASSES(model_new_32, vmcs_write64(GUEST_EFER, EFER_LME)); // on the way to 64-bit mode
}

static void test_code_and_stack(void **state) {
    (void)state;
    BROKEN(model_new_64, "CS: base bits 63:32", vmcs_writenat(GUEST_BASE(BASALT_CS), BIT(32)));
    BROKEN(model_new_64, "CS: type", attributes(BASALT_CS, 0xa09a)); // not accessed
    BROKEN(model_new_64, "CS: type", attributes(BASALT_CS, 0xa097));
    BROKEN(model_new_32, "CS: DPL of a data segment", attributes(BASALT_CS, 0xc0f3));
    BROKEN(model_new_64, "CS: DPL differs from SS.DPL", attributes(BASALT_CS, 0xa0fb));
    BROKEN(model_new_64, "CS: DPL above SS.DPL", attributes(BASALT_CS, 0xa0ff)); // conforming
    BROKEN(model_new_64, "CS: attributes", attributes(BASALT_CS, 0xa08b));       // not S
    BROKEN(model_new_64, "CS: attributes", attributes(BASALT_CS, 0xa01b));       // not present
    BROKEN(model_new_64, "CS: attributes", attributes(BASALT_CS, 0xa19b));       // reserved
    BROKEN(model_new_64, "CS: attributes", attributes(BASALT_CS, 0x1a09b));      // unusable
    BROKEN(model_new_64, "CS: attributes", attributes(BASALT_CS, 0x209b)); // bytes, limit 4 GiB
    BROKEN(model_new_64, "CS: attributes", vmcs_write32(GUEST_LIMIT(BASALT_CS), 0xffffff00));
    BROKEN(model_new_64, "CS: L and D", attributes(BASALT_CS, 0xe09b));
    BROKEN(model_new, "SS: DPL in real mode", attributes(BASALT_SS, 0xf3);
           attributes(BASALT_CS, 0xfb));
    BROKEN(model_new_32, "SS: DPL in real mode", attributes(BASALT_SS, 0xc0f3);
           attributes(BASALT_CS, 0xc093));
    BROKEN(model_new_64, "SS: base bits 63:32", vmcs_writenat(GUEST_BASE(BASALT_SS), BIT(32)));
    BROKEN(model_new_64, "SS: type", attributes(BASALT_SS, 0xc092));
    BROKEN(model_new_64, "SS: type", attributes(BASALT_SS, 0xc091));
    BROKEN(model_new_64, "SS: attributes", attributes(BASALT_SS, 0xc083));
    BROKEN(model_new_64, "SS: attributes", attributes(BASALT_SS, 0xc013));
    BROKEN(model_new_64, "SS: attributes", attributes(BASALT_SS, 0x4093));
    PASSES(model_new_64, attributes(BASALT_SS, 0xc097)); // expand-down
    PASSES(model_new_64, attributes(BASALT_SS, 0x10000));
    PASSES(model_new_64, attributes(BASALT_CS, 0xa0fb); attributes(BASALT_SS, 0xc0f3)); // CPL 3
    PASSES(model_new_32, attributes(BASALT_CS, 0xc093)); // real mode's CS, PE set since
}

static void test_data_segments(void **state) {
    (void)state;
    BROKEN(model_new_64, "FS: base not canonical", vmcs_writenat(GUEST_BASE(BASALT_FS), BIT(47)));
    BROKEN(model_new_64, "GS: base not canonical", vmcs_writenat(GUEST_BASE(BASALT_GS), BIT(62)));
    BROKEN(model_new_64, "DS or ES: base bits 63:32",
           vmcs_writenat(GUEST_BASE(BASALT_DS), BIT(33)));
    BROKEN(model_new_64, "DS or ES: base bits 63:32",
           vmcs_writenat(GUEST_BASE(BASALT_ES), BIT(33)));
    BROKEN(model_new_64, "data segment: type", attributes(BASALT_ES, 0xc092));
    BROKEN(model_new_64, "data segment: type", attributes(BASALT_GS, 0xc099)); // execute-only code
    BROKEN(model_new_64, "data segment: attributes", attributes(BASALT_FS, 0xc083));
    BROKEN(model_new_64, "data segment: attributes", attributes(BASALT_DS, 0xc893));
    BROKEN(model_new_64, "data segment: attributes",
           vmcs_write32(GUEST_LIMIT(BASALT_DS), 0xfffff000));
    PASSES(model_new_64, attributes(BASALT_ES, 0xc09b)); // readable code
    PASSES(model_new_64, vmcs_writenat(GUEST_BASE(BASALT_GS), 0xffff888000000000));
}

static void test_vm86(void **state) {
    (void)state;
    BROKEN(model_new_vm86, "virtual-8086 segment: base",
           vmcs_writenat(GUEST_BASE(BASALT_DS), 0x10));
    BROKEN(model_new_vm86, "virtual-8086 segment: limit",
           vmcs_write32(GUEST_LIMIT(BASALT_SS), 0xfffff));
    BROKEN(model_new_vm86, "virtual-8086 segment: attributes", attributes(BASALT_CS, 0x9b));
}

static void test_system_segments(void **state) {
    (void)state;
    BROKEN(model_new, "TR: selector in the LDT", vmcs_write16(GUEST_SELECTOR(BASALT_TR), 0x2c));
    BROKEN(model_new, "TR: base not canonical", vmcs_writenat(GUEST_BASE(BASALT_TR), BIT(50)));
    BROKEN(model_new, "TR: type", attributes(BASALT_TR, 0x89)); // not busy
    BROKEN(model_new_64, "TR: type", attributes(BASALT_TR, 0x83));
    BROKEN(model_new, "TR: attributes", attributes(BASALT_TR, 0x9b));
    BROKEN(model_new, "TR: attributes", attributes(BASALT_TR, 0x1008b));
    BROKEN(model_new, "TR: attributes", vmcs_write32(GUEST_LIMIT(BASALT_TR), 0x100000));
    BROKEN(model_new, "LDTR: selector in the LDT", vmcs_write16(GUEST_SELECTOR(BASALT_LDTR), 4));
    BROKEN(model_new, "LDTR: base not canonical", vmcs_writenat(GUEST_BASE(BASALT_LDTR), BIT(50)));
    BROKEN(model_new, "LDTR: type", attributes(BASALT_LDTR, 0x83));
    BROKEN(model_new, "LDTR: attributes", attributes(BASALT_LDTR, 0x02));
}

static void test_tables_and_rip(void **state) {
    (void)state;
    BROKEN(model_new, "GDTR: base not canonical", vmcs_writenat(GUEST_BASE(BASALT_GDTR), BIT(47)));
    BROKEN(model_new, "IDTR: base not canonical", vmcs_writenat(GUEST_BASE(BASALT_IDTR), BIT(47)));
    BROKEN(model_new, "GDTR: limit bits 31:16", vmcs_write32(GUEST_LIMIT(BASALT_GDTR), 0x10000));
    BROKEN(model_new, "IDTR: limit bits 31:16", vmcs_write32(GUEST_LIMIT(BASALT_IDTR), 0x10000));
    BROKEN(model_new_32, "RIP", vmcs_writenat(GUEST_RIP, BIT(32)));
    BROKEN(model_new_64, "RIP", vmcs_writenat(GUEST_RIP, BIT(47)));
    BROKEN(model_new_64, "RIP", attributes(BASALT_CS, 0xc09b); vmcs_writenat(GUEST_RIP, BIT(33)));
    BROKEN(model_new, "RFLAGS: reserved bits", vmcs_writenat(GUEST_RFLAGS, 0));
    BROKEN(model_new, "RFLAGS: reserved bits", ornat(GUEST_RFLAGS, BIT(15)));
    BROKEN(model_new, "RFLAGS: reserved bits", ornat(GUEST_RFLAGS, BIT(22)));
    BROKEN(model_new_vm86, "RFLAGS: VM", andnat(GUEST_CR0, ~CR0_PE));
}

static void test_activity(void **state) {
    (void)state;
    BROKEN(model_new, "activity state", vmcs_write32(GUEST_ACTIVITY, 4));
    BROKEN(model_new_64, "activity state: HLT outside CPL 0", vmcs_write32(GUEST_ACTIVITY, 1);
           attributes(BASALT_CS, 0xa0fb); attributes(BASALT_SS, 0xc0f3));
    BROKEN(model_new, "activity state: blocked by STI or MOV SS", vmcs_write32(GUEST_ACTIVITY, 1);
           vmcs_write32(GUEST_INTERRUPTIBILITY, BLOCKED_BY_MOV_SS));
    BROKEN(model_new, "interruptibility: reserved bits",
           vmcs_write32(GUEST_INTERRUPTIBILITY, 0x20));
    BROKEN(model_new, "interruptibility: STI and MOV SS", ornat(GUEST_RFLAGS, RFLAGS_IF);
           vmcs_write32(GUEST_INTERRUPTIBILITY, 3));
    BROKEN(model_new, "interruptibility: STI with IF clear",
           vmcs_write32(GUEST_INTERRUPTIBILITY, BLOCKED_BY_STI));
    BROKEN(model_new, "interruptibility: SMI", vmcs_write32(GUEST_INTERRUPTIBILITY, BIT(2)));
    BROKEN(model_new, "event: interrupt with IF clear", event(EVENT_INTERRUPT, 0x30, 0));
    BROKEN(model_new, "event: interrupt while blocked by STI or MOV SS",
           event(EVENT_INTERRUPT, 0x30, 0);
           ornat(GUEST_RFLAGS, RFLAGS_IF); vmcs_write32(GUEST_INTERRUPTIBILITY, BLOCKED_BY_STI));
    BROKEN(model_new, "event: NMI while blocked by STI or MOV SS", event(EVENT_NMI, 2, 0);
           vmcs_write32(GUEST_INTERRUPTIBILITY, BLOCKED_BY_MOV_SS));
    BROKEN(model_new, "event: NMI while NMIs are blocked", event(EVENT_NMI, 2, 0);
           vmcs_write32(GUEST_INTERRUPTIBILITY, BLOCKED_BY_NMI));
}

static void test_rest(void **state) {
    (void)state;
    BROKEN(model_new, "pending debug exceptions: reserved bits",
           vmcs_writenat(GUEST_PENDING_DEBUG, BIT(4)));
    BROKEN(model_new, "pending debug exceptions: reserved bits",
           vmcs_writenat(GUEST_PENDING_DEBUG, BIT(13)));
    BROKEN(model_new, "pending debug exceptions: BS against TF",
           ornat(GUEST_RFLAGS, RFLAGS_TF | RFLAGS_IF);
           vmcs_write32(GUEST_INTERRUPTIBILITY, BLOCKED_BY_STI));
    BROKEN(model_new, "pending debug exceptions: BS against TF",
           vmcs_writenat(GUEST_PENDING_DEBUG, BIT(14));
           vmcs_write32(GUEST_INTERRUPTIBILITY, BLOCKED_BY_MOV_SS));
    PASSES(model_new, ornat(GUEST_RFLAGS, RFLAGS_TF); vmcs_writenat(GUEST_PENDING_DEBUG, BIT(14));
           vmcs_write32(GUEST_INTERRUPTIBILITY, BLOCKED_BY_MOV_SS));
    PASSES(model_new, ornat(GUEST_RFLAGS, RFLAGS_TF); vmcs_write64(GUEST_DEBUGCTL, 2);
           vmcs_write32(GUEST_INTERRUPTIBILITY, BLOCKED_BY_MOV_SS)); // steps on branches only
    BROKEN(model_new, "VMCS link pointer", vmcs_write64(VMCS_LINK_POINTER, 0));
    BROKEN(model_new_pae, "PDPTE: reserved bits",
           vmx_write(cpu, (enum backend_register)(REG_PDPTE0 + 2), 0x3003));
    BROKEN(model_new_pae, "PDPTE: reserved bits", vmx_write(cpu, REG_PDPTE3, BIT(41) | 1));
    PASSES(model_new_pae, vmx_write(cpu, REG_PDPTE3, 0x1e6)); // not present
    PASSES(model_new_64,
           vmx_write(cpu, (enum backend_register)(REG_PDPTE0 + 2), 0x3003)); // not looked at
}

// Every string in a RULE of the source was expected by a test above.
// Where every rule is kept, the number of the VM instruction's error says what is left.
static void test_instruction_error(void **state) {
    static const struct {
        u32 number;
        const char *text;
    } cases[] = {{4, "VMLAUNCH of a VMCS that was launched"},
                 {5, "VMRESUME of a VMCS that was not launched"},
                 {7, "invalid control fields"},
                 {8, "invalid host state"},
                 {26, "events blocked by MOV SS"},
                 {12, "VM instruction failed"}};

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        model_new();
        vmcs_write32(INSTRUCTION_ERROR, cases[i].number);
        assert_string_equal(vmx_check(), cases[i].text);
        assert_int_equal(check.value, cases[i].number);
    }
}

static void test_every_rule_was_broken(void **state) {
    static char text[65536];
    FILE *source = fopen("dom0/toolstack/check_vmx.c", "r");
    unsigned rules = 0;

    (void)state;
    if (!source)
        skip();
    text[fread(text, 1, sizeof(text) - 1, source)] = 0;
    fclose(source);
    for (char *at = strstr(text, "    RULE("); at; at = strstr(at + 1, "    RULE(")) {
        char *end = strstr(at, ");\n"), *quote = strchr(at, '"'), rule[200];

        if (!quote || quote > end) // names of a table
            continue;
        snprintf(rule, sizeof(rule), "%.*s", (int)(strchr(quote + 1, '"') - quote - 1), quote + 1);
        unsigned i = 0;
        while (i < named_count && strcmp(named[i], rule))
            i++;
        if (i == named_count)
            fail_msg("no test breaks \"%s\"", rule);
        rules++;
    }
    assert_true(rules > 60);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_valid),
        cmocka_unit_test(test_controls),
        cmocka_unit_test(test_apicv),
        cmocka_unit_test(test_event),
        cmocka_unit_test(test_registers),
        cmocka_unit_test(test_code_and_stack),
        cmocka_unit_test(test_data_segments),
        cmocka_unit_test(test_vm86),
        cmocka_unit_test(test_system_segments),
        cmocka_unit_test(test_tables_and_rip),
        cmocka_unit_test(test_activity),
        cmocka_unit_test(test_rest),
        cmocka_unit_test(test_instruction_error),
        cmocka_unit_test(test_every_rule_was_broken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
