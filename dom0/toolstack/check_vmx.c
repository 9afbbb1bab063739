// SPDX-License-Identifier: Apache-2.0
//
// VM entry's checks: one line per rule, in the order of the SDM's "Checks on VMX Controls" and "Checks on the Guest State
// Area". What a processor may and must have in its controls comes from its capability MSRs. Rules about features that
// Basalt does not use are not here. Field names are those of the SDM's appendix "Field Encoding in VMCS".

#include "toolstack/check_rules.h"

#include <basalt/domain.h>
#include <basalt/hypercall.h>

enum {
    VPID = 0x0000,
    IO_BITMAP_A = 0x2000,
    IO_BITMAP_B = 0x2002,
    MSR_BITMAP = 0x2004,
    VIRTUAL_APIC_ADDRESS = 0x2012,
    EPT_POINTER = 0x201a,
    VMCS_LINK_POINTER = 0x2800,
    GUEST_DEBUGCTL = 0x2802,
    GUEST_PAT = 0x2804,
    GUEST_EFER = 0x2806,
    PIN_CONTROLS = 0x4000,
    PRIMARY_CONTROLS = 0x4002,
    CR3_TARGET_COUNT = 0x400a,
    EXIT_CONTROLS = 0x400c,
    ENTRY_CONTROLS = 0x4012,
    ENTRY_EVENT = 0x4016,
    ENTRY_ERROR_CODE = 0x4018,
    ENTRY_INSN_LENGTH = 0x401a,
    TPR_THRESHOLD = 0x401c,
    SECONDARY_CONTROLS = 0x401e,
    INSTRUCTION_ERROR = 0x4400,
    GUEST_GDTR_LIMIT = 0x4810,
    GUEST_IDTR_LIMIT = 0x4812,
    GUEST_INTERRUPTIBILITY = 0x4824,
    GUEST_ACTIVITY = 0x4826,
    GUEST_CR0 = 0x6800,
    GUEST_CR3 = 0x6802,
    GUEST_CR4 = 0x6804,
    GUEST_GDTR_BASE = 0x6816,
    GUEST_IDTR_BASE = 0x6818,
    GUEST_DR7 = 0x681a,
    GUEST_RIP = 0x681e,
    GUEST_RFLAGS = 0x6820,
    GUEST_PENDING_DEBUG = 0x6822,
    GUEST_SYSENTER_ESP = 0x6824,
    GUEST_SYSENTER_EIP = 0x6826,
};
// Of segment register i (enum basalt_segment_index)
#define GUEST_SELECTOR(i)   (0x0800u + 2 * (i))
#define GUEST_LIMIT(i)      (0x4800u + 2 * (i))
#define GUEST_ATTRIBUTES(i) (0x4814u + 2 * (i))
#define GUEST_BASE(i)       (0x6806u + 2 * (i))
#define GUEST_PDPTE(i)      (0x280au + 2 * (i))

// Capability MSRs
#define MSR_BASIC                BASALT_FIELD_MSR(0x480)
#define MSR_PIN                  BASALT_FIELD_MSR(0x481)
#define MSR_PRIMARY              BASALT_FIELD_MSR(0x482)
#define MSR_EXIT                 BASALT_FIELD_MSR(0x483)
#define MSR_ENTRY                BASALT_FIELD_MSR(0x484)
#define MSR_MISC                 BASALT_FIELD_MSR(0x485)
#define MSR_CR0_FIXED0           BASALT_FIELD_MSR(0x486)
#define MSR_CR0_FIXED1           BASALT_FIELD_MSR(0x487)
#define MSR_CR4_FIXED0           BASALT_FIELD_MSR(0x488)
#define MSR_CR4_FIXED1           BASALT_FIELD_MSR(0x489)
#define MSR_SECONDARY            BASALT_FIELD_MSR(0x48b)
#define MSR_EPT_VPID             BASALT_FIELD_MSR(0x48c)
#define TRUE_CONTROLS            12u // the TRUE MSR of a control word comes that much later

#define BASIC_TRUE_CONTROLS      BIT(55)
#define BASIC_FREE_ERROR         BIT(56) // an event may have an error code or none
#define MISC_ZERO_LENGTH         BIT(30)
#define EPT_ACCESSED_DIRTY       BIT(21)

#define PIN_NMI                  BIT(3)
#define PIN_VIRTUAL_NMI          BIT(5)
#define PRIMARY_TPR_SHADOW       BIT(21)
#define PRIMARY_NMI_WINDOW       BIT(22)
#define PRIMARY_IO_BITMAPS       BIT(25)
#define PRIMARY_MSR_BITMAPS      BIT(28)
#define PRIMARY_SECONDARY        BIT(31)
#define SECONDARY_EPT            BIT(1)
#define SECONDARY_X2APIC         BIT(4)
#define SECONDARY_VPID           BIT(5)
#define SECONDARY_UNRESTRICTED   BIT(7)
#define SECONDARY_APIC_REGISTERS BIT(8)
#define SECONDARY_VIRTUAL_IRQ    BIT(9)
#define SECONDARY_APICV          (SECONDARY_X2APIC | SECONDARY_APIC_REGISTERS | SECONDARY_VIRTUAL_IRQ)
#define PIN_EXTERNAL_INTERRUPT   BIT(0)
#define ENTRY_SMM                (BIT(10) | BIT(11)) // only from there
#define ENTRY_GUEST_64           BIT(9)

#define EXCEPTIONS_WITH_ERROR    0x227d00u // #DF, #TS, #NP, #SS, #GP, #PF, #AC, #CP
#define EVENT_RESERVED           0x7ffff000u
#define BLOCKED_BY_STI           BIT(0)
#define BLOCKED_BY_MOV_SS        BIT(1)
#define BLOCKED_BY_SMI           BIT(2)
#define BLOCKED_BY_NMI           BIT(3)
#define SHADOW                   (BLOCKED_BY_STI | BLOCKED_BY_MOV_SS)
#define ACTIVITY_HLT             1u
#define ACTIVITY_LAST            3u
#define DEBUGCTL_BTF             BIT(1)
#define DEBUGCTL_BITS            0xdfc3ull
#define PENDING_BS               BIT(14)
#define PENDING_BITS             (0x1000full | PENDING_BS | BIT(12)) // B3:0, enabled breakpoint, BS, RTM
#define RFLAGS_BITS              0x3f7fd7ull
#define EPT_POINTER_FLAGS        0x7full
#define PDPTE_PRESENT            BIT(0)
#define PDPTE_RESERVED           0x1e6ull

// Segment attributes
#define SEGMENT_S        0x00010u
#define SEGMENT_PRESENT  0x00080u
#define SEGMENT_RESERVED 0x00f00u
#define SEGMENT_L        0x02000u
#define SEGMENT_D        0x04000u
#define SEGMENT_G        0x08000u
#define SEGMENT_UNUSABLE 0x10000u

// What several rules look at.
struct facts {
    u64 pin, primary, secondary;
    u64 event, type, blocking;
    u64 cr0, cr4, rflags;
    bool guest_64;
};

struct segment {
    u64 base, limit, attributes, selector;
    unsigned type, dpl;
};

static struct segment segment(const struct check *c, unsigned index) {
    struct segment s = {.base = check_read(c, GUEST_BASE(index)),
                        .limit = check_read(c, GUEST_LIMIT(index)),
                        .attributes = check_read(c, GUEST_ATTRIBUTES(index)),
                        .selector = check_read(c, GUEST_SELECTOR(index))};
    s.type = s.attributes & 0xf;
    s.dpl = s.attributes >> 5 & 3;
    return s;
}

static bool page(const struct check *c, u64 address) {
    return !(address & ~PAGE_MASK) && !(address >> c->physical_bits);
}

static bool canonical(const struct check *c, u32 field) {
    return check_canonical(c, check_read(c, field));
}

// Bits that must be one are the MSR's lower half, bits that may be one its upper.
static bool allowed(const struct check *c, u32 field, u32 msr, bool has_true) {
    bool later = has_true && msr != MSR_SECONDARY && check_read(c, MSR_BASIC) & BASIC_TRUE_CONTROLS;
    u64 word = check_read(c, field), limits = check_read(c, msr + (later ? TRUE_CONTROLS : 0));

    return !(word & ~(limits >> 32)) && !((u32)limits & ~word);
}

static const char *check_control_words(struct check *c, const struct facts *f) {
    RULE(PIN_CONTROLS, allowed(c, PIN_CONTROLS, MSR_PIN, true), "pin-based controls");
    RULE(PRIMARY_CONTROLS, allowed(c, PRIMARY_CONTROLS, MSR_PRIMARY, true), "primary controls");
    RULE(SECONDARY_CONTROLS,
         !(f->primary & PRIMARY_SECONDARY) || allowed(c, SECONDARY_CONTROLS, MSR_SECONDARY, false),
         "secondary controls");
    RULE(EXIT_CONTROLS, allowed(c, EXIT_CONTROLS, MSR_EXIT, true), "VM-exit controls");
    RULE(ENTRY_CONTROLS, allowed(c, ENTRY_CONTROLS, MSR_ENTRY, true), "VM-entry controls");
    RULE(ENTRY_CONTROLS, !(check_read(c, ENTRY_CONTROLS) & ENTRY_SMM), "VM-entry controls: SMM");
    RULE(PIN_CONTROLS, (f->pin & PIN_NMI) || !(f->pin & PIN_VIRTUAL_NMI),
         "virtual NMIs without exits on NMIs");
    RULE(PRIMARY_CONTROLS, (f->pin & PIN_VIRTUAL_NMI) || !(f->primary & PRIMARY_NMI_WINDOW),
         "NMI window without virtual NMIs");
    RULE(SECONDARY_CONTROLS,
         (f->secondary & SECONDARY_EPT) || !(f->secondary & SECONDARY_UNRESTRICTED),
         "unrestricted guest without EPT");
    return NULL;
}

static const char *check_apicv(struct check *c, const struct facts *f) {
    u64 apicv = f->secondary & SECONDARY_APICV;

    if (!(f->primary & PRIMARY_TPR_SHADOW)) {
        RULE(SECONDARY_CONTROLS, !apicv, "APIC virtualization without TPR shadow");
        return NULL;
    }
    RULE(VIRTUAL_APIC_ADDRESS, page(c, check_read(c, VIRTUAL_APIC_ADDRESS)),
         "virtual-APIC page: address");
    RULE(TPR_THRESHOLD, (apicv & SECONDARY_VIRTUAL_IRQ) || !(check_read(c, TPR_THRESHOLD) >> 4),
         "TPR threshold");
    RULE(PIN_CONTROLS, !(apicv & SECONDARY_VIRTUAL_IRQ) || (f->pin & PIN_EXTERNAL_INTERRUPT),
         "virtual-interrupt delivery without exits on interrupts");
    return NULL;
}

static const char *check_controls(struct check *c, const struct facts *f) {
    u64 ept = check_read(c, EPT_POINTER), targets = check_read(c, MSR_MISC) >> 16 & 0x1ff;
    bool accessed_dirty = check_read(c, MSR_EPT_VPID) & EPT_ACCESSED_DIRTY;

    RULE(CR3_TARGET_COUNT, check_read(c, CR3_TARGET_COUNT) <= targets, "CR3-target count");
    if (f->primary & PRIMARY_IO_BITMAPS) {
        RULE(IO_BITMAP_A, page(c, check_read(c, IO_BITMAP_A)), "I/O bitmap A: address");
        RULE(IO_BITMAP_B, page(c, check_read(c, IO_BITMAP_B)), "I/O bitmap B: address");
    }
    RULE(MSR_BITMAP, !(f->primary & PRIMARY_MSR_BITMAPS) || page(c, check_read(c, MSR_BITMAP)),
         "MSR bitmap: address");
    RULE(VPID, check_read(c, VPID) || !(f->secondary & SECONDARY_VPID), "VPID 0");
    if (!(f->secondary & SECONDARY_EPT))
        return NULL;
    RULE(EPT_POINTER, (ept & 7) == 6 || (ept & 7) == 0, "EPT pointer: memory type");
    RULE(EPT_POINTER, (ept >> 3 & 7) == 3, "EPT pointer: walk length");
    RULE(EPT_POINTER, !(ept & BIT(6)) || accessed_dirty, "EPT pointer: accessed and dirty flags");
    RULE(EPT_POINTER, page(c, ept & ~EPT_POINTER_FLAGS), "EPT pointer: address");
    return NULL;
}

static const char *check_event(struct check *c, const struct facts *f) {
    u64 vector = f->event & 0xff, length = check_read(c, ENTRY_INSN_LENGTH);
    bool has_error = f->event & EVENT_HAS_ERROR, exception = f->type == EVENT_EXCEPTION;
    bool may_have = exception && vector < 32 && (EXCEPTIONS_WITH_ERROR >> vector & 1);
    bool free = check_read(c, MSR_BASIC) & BASIC_FREE_ERROR && exception && (f->cr0 & CR0_PE);
    bool zero = check_read(c, MSR_MISC) & MISC_ZERO_LENGTH;

    if (!(f->event & EVENT_VALID))
        return NULL;
    RULE(ENTRY_EVENT, f->type != 1 && f->type != 7, "event: type");
    RULE(ENTRY_EVENT, f->type != EVENT_NMI || vector == 2, "event: NMI with another vector than 2");
    RULE(ENTRY_EVENT, !exception || vector < 32, "event: exception with a vector above 31");
    RULE(ENTRY_EVENT, has_error == (may_have && (f->cr0 & CR0_PE)) || free, "event: error code");
    RULE(ENTRY_EVENT, !(f->event & EVENT_RESERVED), "event: reserved bits");
    RULE(ENTRY_ERROR_CODE, !has_error || !(check_read(c, ENTRY_ERROR_CODE) >> 16),
         "event: error code bits 31:16");
    RULE(ENTRY_INSN_LENGTH, f->type < EVENT_SOFT_INTERRUPT || (length <= 15 && (length || zero)),
         "event: instruction length");
    return NULL;
}

static bool fixed_bits(const struct check *c, u64 value, u32 fixed0, u64 free) {
    u64 must = check_read(c, fixed0), may = check_read(c, fixed0 + 1);

    return !(value & ~may) && !(must & ~(value | free));
}

static const char *check_registers(struct check *c, const struct facts *f) {
    u64 efer = check_read(c, GUEST_EFER), free = 0;

    if (f->secondary & SECONDARY_UNRESTRICTED)
        free = CR0_PE | CR0_PG;
    RULE(GUEST_CR0, fixed_bits(c, f->cr0, MSR_CR0_FIXED0, free), "CR0");
    RULE(GUEST_CR0, !(f->cr0 & CR0_PG) || (f->cr0 & CR0_PE), "CR0: PG without PE");
    RULE(GUEST_CR4, fixed_bits(c, f->cr4, MSR_CR4_FIXED0, 0), "CR4");
    RULE(GUEST_CR0, !f->guest_64 || ((f->cr0 & CR0_PG) && (f->cr4 & CR4_PAE)),
         "64-bit guest without PG and PAE");
    RULE(GUEST_CR4, f->guest_64 || !(f->cr4 & CR4_PCIDE), "CR4: PCIDE outside 64-bit mode");
    RULE(GUEST_CR3, !(check_read(c, GUEST_CR3) >> c->physical_bits), "CR3: too wide");
    RULE(GUEST_DEBUGCTL, !(check_read(c, GUEST_DEBUGCTL) & ~DEBUGCTL_BITS),
         "DEBUGCTL: reserved bits");
    RULE(GUEST_DR7, !(check_read(c, GUEST_DR7) >> 32), "DR7: bits 63:32");
    RULE(GUEST_SYSENTER_ESP, canonical(c, GUEST_SYSENTER_ESP), "SYSENTER_ESP: not canonical");
    RULE(GUEST_SYSENTER_EIP, canonical(c, GUEST_SYSENTER_EIP), "SYSENTER_EIP: not canonical");
    RULE(GUEST_PAT, check_pat(check_read(c, GUEST_PAT)), "PAT: memory type");
    RULE(GUEST_EFER, !(efer & ~(EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE)), "EFER: reserved bits");
    RULE(GUEST_EFER, !(efer & EFER_LMA) == !f->guest_64,
         "EFER: LMA differs from the 64-bit-guest control");
    RULE(GUEST_EFER, !(f->cr0 & CR0_PG) || !(efer & EFER_LMA) == !(efer & EFER_LME),
         "EFER: LMA, LME");
    return NULL;
}

// Present, a system segment or not, nothing reserved, granularity fits the limit.
static bool descriptor_ok(const struct segment *s, u32 kind) {
    bool limit_ok = s->attributes & SEGMENT_G ? (s->limit & 0xfff) == 0xfff : !(s->limit >> 20);
    u32 fixed = SEGMENT_PRESENT | SEGMENT_S | SEGMENT_RESERVED | SEGMENT_UNUSABLE;

    return (s->attributes & fixed) == (SEGMENT_PRESENT | kind) && limit_ok;
}

// In virtual-8086 mode the six caches have only one possible content each.
static const char *check_vm86_segments(struct check *c) {
    for (unsigned i = BASALT_ES; i <= BASALT_GS; i++) {
        struct segment s = segment(c, i);

        RULE(GUEST_BASE(i), s.base == s.selector << 4, "virtual-8086 segment: base");
        RULE(GUEST_LIMIT(i), s.limit == 0xffff, "virtual-8086 segment: limit");
        RULE(GUEST_ATTRIBUTES(i), s.attributes == 0xf3, "virtual-8086 segment: attributes");
    }
    return NULL;
}

static const char *check_code_and_stack(struct check *c, const struct facts *f) {
    struct segment cs = segment(c, BASALT_CS), ss = segment(c, BASALT_SS);
    unsigned type = cs.type, conforming = type & 0xd;

    RULE(GUEST_BASE(BASALT_CS), !(cs.base >> 32), "CS: base bits 63:32");
    RULE(GUEST_ATTRIBUTES(BASALT_CS), type == 3 || (type & 9) == 9, "CS: type");
    RULE(GUEST_ATTRIBUTES(BASALT_CS), type != 3 || cs.dpl == 0, "CS: DPL of a data segment");
    RULE(GUEST_ATTRIBUTES(BASALT_CS), conforming != 9 || cs.dpl == ss.dpl,
         "CS: DPL differs from SS.DPL");
    RULE(GUEST_ATTRIBUTES(BASALT_CS), conforming != 13 || cs.dpl <= ss.dpl, "CS: DPL above SS.DPL");
    RULE(GUEST_ATTRIBUTES(BASALT_CS), descriptor_ok(&cs, SEGMENT_S), "CS: attributes");
    RULE(GUEST_ATTRIBUTES(BASALT_CS),
         !f->guest_64 || !(cs.attributes & SEGMENT_L) || !(cs.attributes & SEGMENT_D),
         "CS: L and D");
    RULE(GUEST_ATTRIBUTES(BASALT_SS), (type != 3 && (f->cr0 & CR0_PE)) || ss.dpl == 0,
         "SS: DPL in real mode");
    if (ss.attributes & SEGMENT_UNUSABLE)
        return NULL;
    RULE(GUEST_BASE(BASALT_SS), !(ss.base >> 32), "SS: base bits 63:32");
    RULE(GUEST_ATTRIBUTES(BASALT_SS), ss.type == 3 || ss.type == 7, "SS: type");
    RULE(GUEST_ATTRIBUTES(BASALT_SS), descriptor_ok(&ss, SEGMENT_S), "SS: attributes");
    return NULL;
}

static const char *check_data_segments(struct check *c) {
    static const u8 data[] = {BASALT_ES, BASALT_DS, BASALT_FS, BASALT_GS};

    RULE(GUEST_BASE(BASALT_FS), canonical(c, GUEST_BASE(BASALT_FS)), "FS: base not canonical");
    RULE(GUEST_BASE(BASALT_GS), canonical(c, GUEST_BASE(BASALT_GS)), "GS: base not canonical");
    for (unsigned i = 0; i < ARRAY_SIZE(data); i++) {
        struct segment s = segment(c, data[i]);

        if (s.attributes & SEGMENT_UNUSABLE)
            continue;
        RULE(GUEST_BASE(data[i]), !(s.base >> 32) || data[i] >= BASALT_FS,
             "DS or ES: base bits 63:32");
        RULE(GUEST_ATTRIBUTES(data[i]), (s.type & 1) && (s.type & 10) != 8, "data segment: type");
        RULE(GUEST_ATTRIBUTES(data[i]), descriptor_ok(&s, SEGMENT_S), "data segment: attributes");
    }
    return NULL;
}

static const char *check_system_segments(struct check *c, const struct facts *f) {
    struct segment tr = segment(c, BASALT_TR), ldtr = segment(c, BASALT_LDTR);

    RULE(GUEST_SELECTOR(BASALT_TR), !(tr.selector & 4), "TR: selector in the LDT");
    RULE(GUEST_BASE(BASALT_TR), check_canonical(c, tr.base), "TR: base not canonical");
    RULE(GUEST_ATTRIBUTES(BASALT_TR), tr.type == 11 || (tr.type == 3 && !f->guest_64), "TR: type");
    RULE(GUEST_ATTRIBUTES(BASALT_TR), descriptor_ok(&tr, 0), "TR: attributes");
    if (ldtr.attributes & SEGMENT_UNUSABLE)
        return NULL;
    RULE(GUEST_SELECTOR(BASALT_LDTR), !(ldtr.selector & 4), "LDTR: selector in the LDT");
    RULE(GUEST_BASE(BASALT_LDTR), check_canonical(c, ldtr.base), "LDTR: base not canonical");
    RULE(GUEST_ATTRIBUTES(BASALT_LDTR), ldtr.type == 2, "LDTR: type");
    RULE(GUEST_ATTRIBUTES(BASALT_LDTR), descriptor_ok(&ldtr, 0), "LDTR: attributes");
    return NULL;
}

static const char *check_segments(struct check *c, const struct facts *f) {
    if (f->rflags & RFLAGS_VM)
        return check_vm86_segments(c);
    const char *rule = check_code_and_stack(c, f);
    return rule ? rule : check_data_segments(c);
}

static const char *check_tables_and_rip(struct check *c, const struct facts *f) {
    u64 rip = check_read(c, GUEST_RIP);
    bool code_64 = f->guest_64 && (check_read(c, GUEST_ATTRIBUTES(BASALT_CS)) & SEGMENT_L);

    RULE(GUEST_GDTR_BASE, canonical(c, GUEST_GDTR_BASE), "GDTR: base not canonical");
    RULE(GUEST_IDTR_BASE, canonical(c, GUEST_IDTR_BASE), "IDTR: base not canonical");
    RULE(GUEST_GDTR_LIMIT, !(check_read(c, GUEST_GDTR_LIMIT) >> 16), "GDTR: limit bits 31:16");
    RULE(GUEST_IDTR_LIMIT, !(check_read(c, GUEST_IDTR_LIMIT) >> 16), "IDTR: limit bits 31:16");
    RULE(GUEST_RIP, code_64 ? check_canonical(c, rip) : !(rip >> 32), "RIP");
    RULE(GUEST_RFLAGS, !(f->rflags & ~RFLAGS_BITS) && (f->rflags & RFLAGS_FIXED),
         "RFLAGS: reserved bits");
    RULE(GUEST_RFLAGS, !(f->rflags & RFLAGS_VM) || (!f->guest_64 && (f->cr0 & CR0_PE)),
         "RFLAGS: VM");
    return NULL;
}

static const char *check_activity(struct check *c, const struct facts *f) {
    u64 activity = check_read(c, GUEST_ACTIVITY), blocking = f->blocking;
    bool interrupt = (f->event & EVENT_VALID) && f->type == EVENT_INTERRUPT;
    bool nmi = (f->event & EVENT_VALID) && f->type == EVENT_NMI;

    RULE(GUEST_ACTIVITY, activity <= ACTIVITY_LAST, "activity state");
    RULE(GUEST_ACTIVITY, activity != ACTIVITY_HLT || !segment(c, BASALT_SS).dpl,
         "activity state: HLT outside CPL 0");
    RULE(GUEST_ACTIVITY, !activity || !(blocking & SHADOW),
         "activity state: blocked by STI or MOV SS");
    RULE(GUEST_INTERRUPTIBILITY, !(blocking & ~0x1fu), "interruptibility: reserved bits");
    RULE(GUEST_INTERRUPTIBILITY, (blocking & SHADOW) != SHADOW, "interruptibility: STI and MOV SS");
    RULE(GUEST_INTERRUPTIBILITY, !(blocking & BLOCKED_BY_STI) || (f->rflags & RFLAGS_IF),
         "interruptibility: STI with IF clear");
    RULE(GUEST_INTERRUPTIBILITY, !(blocking & BLOCKED_BY_SMI), "interruptibility: SMI");
    RULE(ENTRY_EVENT, !interrupt || (f->rflags & RFLAGS_IF), "event: interrupt with IF clear");
    RULE(ENTRY_EVENT, !interrupt || !(blocking & SHADOW),
         "event: interrupt while blocked by STI or MOV SS");
    RULE(ENTRY_EVENT, !nmi || !(blocking & SHADOW), "event: NMI while blocked by STI or MOV SS");
    RULE(ENTRY_EVENT, !nmi || !(blocking & BLOCKED_BY_NMI), "event: NMI while NMIs are blocked");
    return NULL;
}

static const char *check_rest(struct check *c, const struct facts *f) {
    u64 pending = check_read(c, GUEST_PENDING_DEBUG);
    u64 reserved = ~0ull << c->physical_bits | PDPTE_RESERVED;
    bool steps = (f->rflags & RFLAGS_TF) && !(check_read(c, GUEST_DEBUGCTL) & DEBUGCTL_BTF);
    bool held = (f->blocking & SHADOW) || check_read(c, GUEST_ACTIVITY) == ACTIVITY_HLT;

    RULE(GUEST_PENDING_DEBUG, !(pending & ~PENDING_BITS),
         "pending debug exceptions: reserved bits");
    RULE(GUEST_PENDING_DEBUG, !held || !(pending & PENDING_BS) == !steps,
         "pending debug exceptions: BS against TF");
    RULE(VMCS_LINK_POINTER, check_read(c, VMCS_LINK_POINTER) == ~0ull, "VMCS link pointer");
    if (!(f->cr0 & CR0_PG) || !(f->cr4 & CR4_PAE) || f->guest_64)
        return NULL;
    for (unsigned i = 0; i < 4; i++) {
        u64 pdpte = check_read(c, GUEST_PDPTE(i));

        RULE(GUEST_PDPTE(i), !(pdpte & PDPTE_PRESENT) || !(pdpte & reserved),
             "PDPTE: reserved bits");
    }
    return NULL;
}

// Those that an entry can end with: SDM, "VM Instruction Error Numbers".
static const char *instruction_error(u64 number) {
    switch (number) {
    case 0: return NULL;
    case 4: return "VMLAUNCH of a VMCS that was launched";
    case 5: return "VMRESUME of a VMCS that was not launched";
    case 7: return "invalid control fields";
    case 8: return "invalid host state";
    case 26: return "events blocked by MOV SS";
    default: return "VM instruction failed";
    }
}

const char *check_vmx(struct check *c) {
    static const char *(*const groups[])(struct check *, const struct facts *) = {
        check_control_words, check_apicv,    check_controls,        check_event,
        check_registers,     check_segments, check_system_segments, check_tables_and_rip,
        check_activity,      check_rest,
    };
    struct facts f = {
        .pin = check_read(c, PIN_CONTROLS),
        .primary = check_read(c, PRIMARY_CONTROLS),
        .secondary = check_read(c, SECONDARY_CONTROLS),
        .event = check_read(c, ENTRY_EVENT),
        .blocking = check_read(c, GUEST_INTERRUPTIBILITY),
        .cr0 = check_read(c, GUEST_CR0),
        .cr4 = check_read(c, GUEST_CR4),
        .rflags = check_read(c, GUEST_RFLAGS),
        .guest_64 = check_read(c, ENTRY_CONTROLS) & ENTRY_GUEST_64,
    };
    const char *rule = NULL;

    f.type = f.event >> 8 & 7;
    for (unsigned i = 0; i < ARRAY_SIZE(groups) && !rule; i++)
        rule = groups[i](c, &f);
    if (!rule)
        RULE(INSTRUCTION_ERROR, !check_read(c, INSTRUCTION_ERROR),
             instruction_error(check_read(c, INSTRUCTION_ERROR)));
    return rule;
}
