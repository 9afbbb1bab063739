// SPDX-License-Identifier: Apache-2.0
//
// The rules that VMRUN holds a control block to, and some of our own, without which a guest would run otherwise than was
// meant. Fields are offsets in the VMCB. Follows the APM, "Canonicalization and Consistency Checks", "Event Injection",
// "Enabling Nested Paging" and "Layout of VMCB".

#include "toolstack/check_rules.h"

#include <basalt/hypercall.h>

enum {                        // offsets
    INTERCEPTS_VMRUN = 0x010, // bit 0
    IOPM = 0x040,
    MSRPM = 0x048,
    ASID_AND_TLB = 0x058, // ASID in 31:0, TLB control in 39:32
    NESTED_CONTROL = 0x090,
    EVENT_INJECT = 0x0a8,
    NESTED_CR3 = 0x0b0,
    CS = 0x410,
    SS = 0x420,
    CPL = 0x4c8, // in 31:24
    EFER = 0x4d0,
    CR4 = 0x548,
    CR3 = 0x550,
    CR0 = 0x558,
    DR7 = 0x560,
    DR6 = 0x568,
    RFLAGS = 0x570,
    RIP = 0x578,
    KERNEL_GS_BASE = 0x620,
    PAT = 0x668,
};
// Bases of FS, GS, GDTR, LDTR, IDTR, TR
static const u32 bases[] = {0x448, 0x458, 0x468, 0x478, 0x488, 0x498, KERNEL_GS_BASE};

#define IOPM_BYTES    0x3000u
#define MSRPM_BYTES   0x2000u
#define FLUSH_BY_ASID BIT(6)      // CPUID 0x8000000A, EDX
#define CR4_DEFINED   0xf71fffull // VME to LA57, FSGSBASE, PCIDE, OSXSAVE, SMEP, SMAP, PKE, CET
#define EFER_DEFINED  0x36fd01ull // SCE, LME, LMA to TCE, MCOMMIT, INTWB, UAIE, AIBRSE
#define NESTED_PAGING BIT(0)
#define FLUSH_ALL     1
// Attributes of a segment in bits 31:16 of its first eight bytes
#define ATTRIBUTE_P (0x80ull << 16)
#define ATTRIBUTE_L (0x200ull << 16)
#define ATTRIBUTE_D (0x400ull << 16)

static bool inside(u64 base, u64 bytes, u64 end) { return base < end && end - base >= bytes; }

static bool event_legal(u64 event, bool in_64bit) {
    u64 vector = event & 0xff, type = event >> 8 & 7;

    if (!(event & EVENT_VALID))
        return true;
    if (type != EVENT_EXCEPTION)
        return type == EVENT_INTERRUPT || type == EVENT_NMI || type == EVENT_SOFT_INTERRUPT;
    // Not the NMI; and in 64-bit mode there are no INTO and BOUND.
    return vector < 32 && vector != 2 && !(in_64bit && (vector == 4 || vector == 5));
}

struct facts {
    u64 efer, cr0, cr4, cs, end;
    bool long_mode, in_64bit;
};

static const char *check_vmrun(struct check *c, const struct facts *f) {
    u64 nested_cr3 = check_read(c, NESTED_CR3);

    RULE(EFER, f->efer & EFER_SVME, "EFER.SVME is clear");
    RULE(EFER, !(f->efer & ~EFER_DEFINED), "a reserved bit of EFER is set");
    RULE(CR0, !(f->cr0 & CR0_NW) || (f->cr0 & CR0_CD), "CR0.NW is set and CR0.CD is clear");
    RULE(CR0, f->cr0 >> 32 == 0, "CR0 bits 63:32 are not zero");
    RULE(CR3, check_read(c, CR3) < f->end, "a reserved bit of CR3 is set");
    RULE(CR4, !(f->cr4 & ~CR4_DEFINED), "a reserved bit of CR4 is set");
    RULE(CR4, !(f->cr4 & CR4_CET) || (f->cr0 & CR0_WP), "CR4.CET is set and CR0.WP is clear");
    RULE(DR6, check_read(c, DR6) >> 32 == 0, "DR6 bits 63:32 are not zero");
    RULE(DR7, check_read(c, DR7) >> 32 == 0, "DR7 bits 63:32 are not zero");
    RULE(CR4, !f->long_mode || (f->cr4 & CR4_PAE),
         "EFER.LME and CR0.PG are set and CR4.PAE is clear");
    RULE(CR0, !f->long_mode || (f->cr0 & CR0_PE),
         "EFER.LME and CR0.PG are set and CR0.PE is clear");
    RULE(CS, !f->in_64bit || !(f->cs & ATTRIBUTE_D), "CS.L and CS.D are set in long mode");
    RULE(INTERCEPTS_VMRUN, check_read(c, INTERCEPTS_VMRUN) & 1, "VMRUN is not intercepted");
    RULE(MSRPM, inside(check_read(c, MSRPM), MSRPM_BYTES, f->end),
         "the MSR bitmap is beyond the physical addresses");
    RULE(IOPM, inside(check_read(c, IOPM), IOPM_BYTES, f->end),
         "the I/O bitmap is beyond the physical addresses");
    RULE(ASID_AND_TLB, (u32)check_read(c, ASID_AND_TLB) != 0, "the ASID is zero");
    RULE(EVENT_INJECT, event_legal(check_read(c, EVENT_INJECT), f->in_64bit),
         "the injected event is illegal");
    RULE(NESTED_CR3, inside(nested_cr3, PAGE_SIZE, f->end),
         "nCR3 is beyond the physical addresses");
    RULE(NESTED_CR3, !(nested_cr3 & ~PAGE_MASK), "a reserved bit of nCR3 is set");
    RULE(PAT, check_pat(check_read(c, PAT)), "a reserved memory type is in the PAT");
    return NULL;
}

static const char *check_own(struct check *c, const struct facts *f) {
    u64 ss = check_read(c, SS), cpl = check_read(c, CPL) >> 24 & 0xff;
    u64 flush = check_read(c, ASID_AND_TLB) >> 32 & 0xff;
    bool has_ss = (f->cr0 & CR0_PE) && (ss & ATTRIBUTE_P);

    RULE(NESTED_CONTROL, check_read(c, NESTED_CONTROL) & NESTED_PAGING, "nested paging is off");
    RULE(CR0, !(f->cr0 & CR0_PG) || (f->cr0 & CR0_PE), "CR0.PG is set and CR0.PE is clear");
    RULE(EFER, f->long_mode == !!(f->efer & EFER_LMA), "EFER.LMA is not EFER.LME and CR0.PG");
    RULE(RFLAGS, check_read(c, RFLAGS) & RFLAGS_FIXED, "RFLAGS bit 1 is clear");
    RULE(RFLAGS, check_read(c, RFLAGS) >> 22 == 0, "RFLAGS bits 63:22 are not zero");
    RULE(RIP, f->in_64bit || check_read(c, RIP) >> 32 == 0,
         "RIP bits 63:32 are not zero outside 64-bit mode");
    RULE(CPL, !has_ss || cpl == (ss >> 21 & 3), "CPL is not SS.DPL");
    for (unsigned i = 0; i < ARRAY_SIZE(bases); i++)
        RULE(bases[i], check_canonical(c, check_read(c, bases[i])),
             "a segment or table base is not canonical");
    RULE(ASID_AND_TLB,
         flush <= FLUSH_ALL || check_read(c, BASALT_FIELD_SVM_FEATURES) & FLUSH_BY_ASID,
         "a TLB flush by ASID on a processor without it");
    return NULL;
}

const char *check_svm(struct check *c) {
    struct facts f = {.efer = check_read(c, EFER),
                      .cr0 = check_read(c, CR0),
                      .cr4 = check_read(c, CR4),
                      .cs = check_read(c, CS),
                      .end = BIT(c->physical_bits)};

    f.long_mode = (f.efer & EFER_LME) && (f.cr0 & CR0_PG);
    f.in_64bit = f.long_mode && (f.cs & ATTRIBUTE_L);
    const char *rule = check_vmrun(c, &f);
    return rule ? rule : check_own(c, &f);
}
