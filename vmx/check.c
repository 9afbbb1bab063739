// SPDX-License-Identifier: Apache-2.0
//
// The processor's entry checks in software: what the current VMCS violates, by name, where hardware only says "invalid
// control fields" or "invalid guest state". One line per rule, in the order of the SDM's "Checks on VMX Controls" and
// "Checks on the Guest State Area"; rules about features that Basalt does not use are one rule: that they are off.
// Reads through vmx/access.h, so that it runs on the host too.

#include "vmx/vmcs.h"
#include "vmx/vmx.h"

#include "arch/x86.h"

#define RULE(holds, name) \
    do {                  \
        if (!(holds))     \
            return name;  \
    } while (0)

#define SHADOW            (BLOCKED_BY_STI | BLOCKED_BY_MOV_SS)

#define ACTIVITY_HLT      1u
#define ACTIVITY_LAST     3u
#define DEBUGCTL_BTF      BIT(1)
#define DEBUGCTL_BITS     0xdfc3ull
#define PENDING_BS        BIT(14)
#define PENDING_BITS      (0x1000full | PENDING_BS | BIT(12)) // B3:0, enabled breakpoint, BS, RTM
#define RFLAGS_BITS       0x3f7fd7ull
#define EVENT_RESERVED    0x7ffff000u
#define EPT_POINTER_FLAGS 0x7full
#define PDPTE_PRESENT     BIT(0)
#define PDPTE_RESERVED    0x1e6ull

// What several rules look at.
struct facts {
    const struct vmx_caps *caps;
    u32 words[CONTROLS];
    u32 event, type, blocking;
    u64 cr0, cr4, rflags;
    bool guest_64;
};

bool vmx_canonical(const struct vmx_caps *caps, u64 address) {
    unsigned unused_bits = 64 - caps->linear_bits;

    return (u64)((i64)(address << unused_bits) >> unused_bits) == address;
}

bool vmx_pat_ok(u64 pat) {
    for (unsigned i = 0; i < 8; i++, pat >>= 8)
        if ((pat & 0xff) > MEMORY_UC_MINUS || (pat & 0xff) == 2 || (pat & 0xff) == 3)
            return false;
    return true;
}

static bool canonical(const struct facts *f, enum vmcsnat field) {
    return vmx_canonical(f->caps, vmcs_readnat(field));
}

static bool page(const struct facts *f, u64 address) {
    return !(address & ~PAGE_MASK) && !(address >> f->caps->physical_bits);
}

static const char *check_controls(const struct facts *f) {
    static const char *const names[CONTROLS] = {
        [CONTROL_PIN] = "pin-based controls",       [CONTROL_PRIMARY] = "primary controls",
        [CONTROL_SECONDARY] = "secondary controls", [CONTROL_EXIT] = "VM-exit controls",
        [CONTROL_ENTRY] = "VM-entry controls",
    };
    // Everything else is as the capabilities say: reserved bits are, and what Basalt does not use is off.
    static const u32 switched[CONTROLS] = {
        [CONTROL_PRIMARY] = PRIMARY_IRQ_WINDOW | PRIMARY_NMI_WINDOW | PRIMARY_DR,
        [CONTROL_SECONDARY] = SECONDARY_VPID,
        [CONTROL_ENTRY] = ENTRY_GUEST_64,
    };
    u64 ept = vmcs_read64(EPT_POINTER);

    for (unsigned i = 0; i < CONTROLS; i++)
        RULE(!((f->words[i] ^ f->caps->use[i]) & ~switched[i]), names[i]);
    RULE(vmcs_read32(CR3_TARGET_COUNT) <= f->caps->cr3_targets, "CR3-target count");
    RULE(page(f, vmcs_read64(IO_BITMAP_A)), "I/O bitmap A: address");
    RULE(page(f, vmcs_read64(IO_BITMAP_B)), "I/O bitmap B: address");
    RULE(page(f, vmcs_read64(MSR_BITMAP)), "MSR bitmap: address");
    RULE(vmcs_read16(VPID) || !(f->words[CONTROL_SECONDARY] & SECONDARY_VPID), "VPID 0");
    RULE((ept & 7) == EPT_POINTER_WRITE_BACK, "EPT pointer: memory type");
    RULE((ept & 0x38) == EPT_POINTER_WALK_4, "EPT pointer: walk length");
    RULE(!(ept & EPT_POINTER_ACCESSED_DIRTY) || (f->caps->ept_vpid & EPT_CAP_ACCESSED_DIRTY),
         "EPT pointer: accessed and dirty flags");
    RULE(page(f, ept & ~EPT_POINTER_FLAGS), "EPT pointer: address");
    return NULL;
}

static const char *check_event(const struct facts *f) {
    u32 vector = f->event & 0xff, length = vmcs_read32(ENTRY_INSN_LENGTH);
    bool has_error = f->event & EVENT_HAS_ERROR;
    bool may_have = f->type == EVENT_EXCEPTION && vector < 32 && (EXC_WITH_ERROR & BIT(vector));
    bool free = f->caps->free_error_code && f->type == EVENT_EXCEPTION && (f->cr0 & CR0_PE);

    if (!(f->event & EVENT_VALID))
        return NULL;
    RULE(f->type != 1 && f->type != 7, "event: type");
    RULE(f->type != EVENT_NMI || vector == EXC_NMI, "event: NMI with another vector than 2");
    RULE(f->type != EVENT_EXCEPTION || vector < 32, "event: exception with a vector above 31");
    RULE(has_error == (may_have && (f->cr0 & CR0_PE)) || free, "event: error code");
    RULE(!(f->event & EVENT_RESERVED), "event: reserved bits");
    RULE(!has_error || !(vmcs_read32(ENTRY_ERROR_CODE) >> 16), "event: error code bits 31:16");
    RULE(f->type < EVENT_SOFT_INTERRUPT || (length <= 15 && (length || f->caps->zero_length)),
         "event: instruction length");
    return NULL;
}

static const char *check_registers(const struct facts *f) {
    const struct vmx_caps *caps = f->caps;
    u64 efer = vmcs_read64(GUEST_EFER);

    RULE(!(f->cr0 & ~caps->cr0_may) && !(caps->cr0_must & ~(f->cr0 | CR0_PE | CR0_PG)), "CR0");
    RULE(!(f->cr0 & CR0_PG) || (f->cr0 & CR0_PE), "CR0: PG without PE");
    RULE(!(f->cr4 & ~caps->cr4_may) && !(caps->cr4_must & ~f->cr4), "CR4");
    if (f->guest_64)
        RULE((f->cr0 & CR0_PG) && (f->cr4 & CR4_PAE), "64-bit guest without PG and PAE");
    else
        RULE(!(f->cr4 & CR4_PCIDE), "CR4: PCIDE outside 64-bit mode");
    RULE(!(vmcs_readnat(GUEST_CR3) >> caps->physical_bits), "CR3: too wide");
    RULE(!(vmcs_read64(GUEST_DEBUGCTL) & ~DEBUGCTL_BITS), "DEBUGCTL: reserved bits");
    RULE(!(vmcs_readnat(GUEST_DR7) >> 32), "DR7: bits 63:32");
    RULE(canonical(f, GUEST_SYSENTER_ESP), "SYSENTER_ESP: not canonical");
    RULE(canonical(f, GUEST_SYSENTER_EIP), "SYSENTER_EIP: not canonical");
    RULE(vmx_pat_ok(vmcs_read64(GUEST_PAT)), "PAT: memory type");
    RULE(!(efer & ~(EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE)), "EFER: reserved bits");
    RULE(!(efer & EFER_LMA) == !f->guest_64, "EFER: LMA differs from the 64-bit-guest control");
    RULE(!(f->cr0 & CR0_PG) || !(efer & EFER_LMA) == !(efer & EFER_LME), "EFER: LMA, LME");
    return NULL;
}

static unsigned type_of(const struct basalt_segment *s) { return s->attributes & 0xf; }

static unsigned dpl_of(const struct basalt_segment *s) { return (s->attributes >> 5) & 3; }

// Present, a system segment or not, nothing reserved, granularity fits the limit.
static bool descriptor_ok(const struct basalt_segment *s, u32 kind) {
    bool limit_ok = s->attributes & SEGMENT_G ? (s->limit & 0xfff) == 0xfff : !(s->limit >> 20);
    u32 fixed = SEGMENT_PRESENT | SEGMENT_S | SEGMENT_RESERVED | SEGMENT_UNUSABLE;

    return (s->attributes & fixed) == (SEGMENT_PRESENT | kind) && limit_ok;
}

// In virtual-8086 mode the six caches have only one possible content each.
static const char *check_vm86_segments(void) {
    for (unsigned i = BASALT_ES; i <= BASALT_GS; i++) {
        struct basalt_segment s = vmx_read_segment(NULL, i);

        RULE(s.base == (u64)s.selector << 4, "virtual-8086 segment: base");
        RULE(s.limit == 0xffff, "virtual-8086 segment: limit");
        RULE(s.attributes == 0xf3, "virtual-8086 segment: attributes");
    }
    return NULL;
}

static const char *check_code_and_stack(const struct facts *f) {
    struct basalt_segment cs = vmx_read_segment(NULL, BASALT_CS),
                          ss = vmx_read_segment(NULL, BASALT_SS);
    unsigned type = type_of(&cs), conforming = type & 0xd;

    RULE(!(cs.base >> 32), "CS: base bits 63:32");
    RULE(type == 3 || (type & 9) == 9, "CS: type");
    RULE(type != 3 || dpl_of(&cs) == 0, "CS: DPL of a data segment");
    RULE(conforming != 9 || dpl_of(&cs) == dpl_of(&ss), "CS: DPL differs from SS.DPL");
    RULE(conforming != 13 || dpl_of(&cs) <= dpl_of(&ss), "CS: DPL above SS.DPL");
    RULE(descriptor_ok(&cs, SEGMENT_S), "CS: attributes");
    RULE(!f->guest_64 || !(cs.attributes & SEGMENT_L) || !(cs.attributes & SEGMENT_D),
         "CS: L and D");
    RULE((type != 3 && (f->cr0 & CR0_PE)) || dpl_of(&ss) == 0, "SS: DPL in real mode");
    if (ss.attributes & SEGMENT_UNUSABLE)
        return NULL;
    RULE(!(ss.base >> 32), "SS: base bits 63:32");
    RULE(type_of(&ss) == 3 || type_of(&ss) == 7, "SS: type");
    RULE(descriptor_ok(&ss, SEGMENT_S), "SS: attributes");
    return NULL;
}

static const char *check_data_segments(const struct facts *f) {
    static const u8 data[] = {BASALT_ES, BASALT_DS, BASALT_FS, BASALT_GS};

    RULE(canonical(f, GUEST_BASE(BASALT_FS)), "FS: base not canonical");
    RULE(canonical(f, GUEST_BASE(BASALT_GS)), "GS: base not canonical");
    for (unsigned i = 0; i < ARRAY_SIZE(data); i++) {
        struct basalt_segment s = vmx_read_segment(NULL, data[i]);

        if (s.attributes & SEGMENT_UNUSABLE)
            continue;
        RULE(!(s.base >> 32) || data[i] >= BASALT_FS, "DS or ES: base bits 63:32");
        RULE((type_of(&s) & 1) && (type_of(&s) & 10) != 8, "data segment: type");
        RULE(descriptor_ok(&s, SEGMENT_S), "data segment: attributes");
    }
    return NULL;
}

static const char *check_system_segments(const struct facts *f) {
    struct basalt_segment tr = vmx_read_segment(NULL, BASALT_TR),
                          ldtr = vmx_read_segment(NULL, BASALT_LDTR);

    RULE(!(tr.selector & 4), "TR: selector in the LDT");
    RULE(vmx_canonical(f->caps, tr.base), "TR: base not canonical");
    RULE(type_of(&tr) == 11 || (type_of(&tr) == 3 && !f->guest_64), "TR: type");
    RULE(descriptor_ok(&tr, 0), "TR: attributes");
    if (ldtr.attributes & SEGMENT_UNUSABLE)
        return NULL;
    RULE(!(ldtr.selector & 4), "LDTR: selector in the LDT");
    RULE(vmx_canonical(f->caps, ldtr.base), "LDTR: base not canonical");
    RULE(type_of(&ldtr) == 2, "LDTR: type");
    RULE(descriptor_ok(&ldtr, 0), "LDTR: attributes");
    return NULL;
}

static const char *check_segments(const struct facts *f) {
    if (f->rflags & RFLAGS_VM)
        return check_vm86_segments();
    const char *rule = check_code_and_stack(f);
    return rule ? rule : check_data_segments(f);
}

static const char *check_tables_and_rip(const struct facts *f) {
    u64 rip = vmcs_readnat(GUEST_RIP);
    bool code_64 = f->guest_64 && (vmcs_read32(GUEST_ATTRIBUTES(BASALT_CS)) & SEGMENT_L);

    RULE(canonical(f, GUEST_GDTR_BASE), "GDTR: base not canonical");
    RULE(canonical(f, GUEST_IDTR_BASE), "IDTR: base not canonical");
    RULE(!(vmcs_read32(GUEST_GDTR_LIMIT) >> 16), "GDTR: limit bits 31:16");
    RULE(!(vmcs_read32(GUEST_IDTR_LIMIT) >> 16), "IDTR: limit bits 31:16");
    RULE(code_64 ? vmx_canonical(f->caps, rip) : !(rip >> 32), "RIP");
    RULE(!(f->rflags & ~RFLAGS_BITS) && (f->rflags & RFLAGS_FIXED), "RFLAGS: reserved bits");
    RULE(!(f->rflags & RFLAGS_VM) || (!f->guest_64 && (f->cr0 & CR0_PE)), "RFLAGS: VM");
    return NULL;
}

static const char *check_activity(const struct facts *f) {
    u32 activity = vmcs_read32(GUEST_ACTIVITY), blocking = f->blocking;
    bool interrupt = (f->event & EVENT_VALID) && f->type == EVENT_INTERRUPT;
    bool nmi = (f->event & EVENT_VALID) && f->type == EVENT_NMI;

    RULE(activity <= ACTIVITY_LAST, "activity state");
    RULE(activity != ACTIVITY_HLT || !SEGMENT_DPL(vmcs_read32(GUEST_ATTRIBUTES(BASALT_SS))),
         "activity state: HLT outside CPL 0");
    RULE(!activity || !(blocking & SHADOW), "activity state: blocked by STI or MOV SS");
    RULE(!(blocking & ~0x1fu), "interruptibility: reserved bits");
    RULE((blocking & SHADOW) != SHADOW, "interruptibility: STI and MOV SS");
    RULE(!(blocking & BLOCKED_BY_STI) || (f->rflags & RFLAGS_IF),
         "interruptibility: STI with IF clear");
    RULE(!(blocking & BLOCKED_BY_SMI), "interruptibility: SMI");
    RULE(!interrupt || (f->rflags & RFLAGS_IF), "event: interrupt with IF clear");
    RULE(!interrupt || !(blocking & SHADOW), "event: interrupt while blocked by STI or MOV SS");
    RULE(!nmi || !(blocking & SHADOW), "event: NMI while blocked by STI or MOV SS");
    RULE(!nmi || !(blocking & BLOCKED_BY_NMI), "event: NMI while NMIs are blocked");
    return NULL;
}

static const char *check_rest(const struct facts *f) {
    u64 pending = vmcs_readnat(GUEST_PENDING_DEBUG);
    u64 reserved = ~0ull << f->caps->physical_bits | PDPTE_RESERVED;
    bool steps = (f->rflags & RFLAGS_TF) && !(vmcs_read64(GUEST_DEBUGCTL) & DEBUGCTL_BTF);
    bool held = (f->blocking & SHADOW) || vmcs_read32(GUEST_ACTIVITY) == ACTIVITY_HLT;

    RULE(!(pending & ~PENDING_BITS), "pending debug exceptions: reserved bits");
    RULE(!held || !(pending & PENDING_BS) == !steps, "pending debug exceptions: BS against TF");
    RULE(vmcs_read64(VMCS_LINK_POINTER) == ~0ull, "VMCS link pointer");
    if (!(f->cr0 & CR0_PG) || !(f->cr4 & CR4_PAE) || f->guest_64)
        return NULL;
    for (unsigned i = 0; i < 4; i++) {
        u64 pdpte = vmcs_read64(GUEST_PDPTE(i));

        RULE(!(pdpte & PDPTE_PRESENT) || !(pdpte & reserved), "PDPTE: reserved bits");
    }
    return NULL;
}

const char *vmx_check(const struct vmx_caps *caps) {
    static const char *(*const groups[])(const struct facts *) = {
        check_controls,        check_event,          check_registers, check_segments,
        check_system_segments, check_tables_and_rip, check_activity,  check_rest,
    };
    struct facts f = {
        .caps = caps,
        .words = {vmcs_read32(PIN_CONTROLS), vmcs_read32(PRIMARY_CONTROLS),
                  vmcs_read32(SECONDARY_CONTROLS), vmcs_read32(EXIT_CONTROLS),
                  vmcs_read32(ENTRY_CONTROLS)},
        .event = vmcs_read32(ENTRY_EVENT),
        .type = (vmcs_read32(ENTRY_EVENT) >> 8) & 7,
        .blocking = vmcs_read32(GUEST_INTERRUPTIBILITY),
        .cr0 = vmcs_readnat(GUEST_CR0),
        .cr4 = vmcs_readnat(GUEST_CR4),
        .rflags = vmcs_readnat(GUEST_RFLAGS),
        .guest_64 = vmcs_read32(ENTRY_CONTROLS) & ENTRY_GUEST_64,
    };
    const char *rule = NULL;

    for (unsigned i = 0; i < ARRAY_SIZE(groups) && !rule; i++)
        rule = groups[i](&f);
    return rule;
}
