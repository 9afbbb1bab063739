// SPDX-License-Identifier: Apache-2.0
//
// The rules that VMRUN holds a control block to, in software: the processor only says that one is
// violated, and emulators let some pass; and some rules of our own, without which a guest would run
// otherwise than was meant. Invariant: nothing is changed; a block that passes is one that a
// processor accepts. Follows the APM, "Canonicalization and Consistency Checks", "Event Injection"
// and "Enabling Nested Paging".

#include "arch/x86.h"
#include "svm/svm.h"

#define CR4_DEFINED  0xf71fffull // VME to LA57, FSGSBASE, PCIDE, OSXSAVE, SMEP, SMAP, PKE, CET
#define EFER_DEFINED 0x36fd01ull // SCE, LME, LMA to TCE, MCOMMIT, INTWB, UAIE, AIBRSE
#define MEMORY_TYPES 0xf3u       // bits of those that a PAT entry may have
#define ATTRIBUTE_P  0x80u
#define ATTRIBUTE_L  0x200u
#define ATTRIBUTE_D  0x400u
#define RULE(kept, name) \
    if (!(kept))         \
    return name

static bool inside(u64 base, u64 bytes, u64 end) { return base < end && end - base >= bytes; }

static bool bases_canonical(const struct vmcb *v) {
    const u64 bases[] = {v->fs.base,   v->gs.base,   v->tr.base,       v->ldtr.base,
                         v->gdtr.base, v->idtr.base, v->kernel_gs_base};
    unsigned shift = 64 - svm_widths.linear_bits;

    for (unsigned i = 0; i < ARRAY_SIZE(bases); i++)
        if ((u64)((i64)(bases[i] << shift) >> shift) != bases[i])
            return false;
    return true;
}

static bool pat_legal(u64 pat) {
    for (; pat != 0; pat >>= 8)
        if ((pat & 0xff) > 7 || !(MEMORY_TYPES >> (pat & 7) & 1))
            return false;
    return true;
}

static bool event_legal(const struct vmcb *v, bool in_64bit) {
    u8 vector = v->event_inject & EVENT_VECTOR, type = svm_event_type(v->event_inject);

    if (!(v->event_inject & EVENT_VALID))
        return true;
    if (type != EVENT_EXCEPTION)
        return type == EVENT_INTERRUPT || type == EVENT_NMI || type == EVENT_SOFT_INTERRUPT;
    return vector < 32 && vector != EXC_NMI &&
           !(in_64bit && (vector == EXC_BR || vector == EXC_OF));
}

const char *svm_check_vmrun(const struct vmcb *v) {
    bool long_mode = (v->efer & EFER_LME) && (v->cr0 & CR0_PG);
    bool in_64bit = long_mode && (v->cs.attributes & ATTRIBUTE_L);
    u64 end = BIT(svm_widths.physical_bits);

    RULE(v->efer & EFER_SVME, "EFER.SVME is clear");
    RULE(!(v->efer & ~EFER_DEFINED), "a reserved bit of EFER is set");
    RULE(!(v->cr0 & CR0_NW) || (v->cr0 & CR0_CD), "CR0.NW is set and CR0.CD is clear");
    RULE(v->cr0 >> 32 == 0, "CR0 bits 63:32 are not zero");
    RULE(v->cr3 < end, "a reserved bit of CR3 is set");
    RULE(!(v->cr4 & ~CR4_DEFINED), "a reserved bit of CR4 is set");
    RULE(!(v->cr4 & CR4_CET) || (v->cr0 & CR0_WP), "CR4.CET is set and CR0.WP is clear");
    RULE(v->dr6 >> 32 == 0, "DR6 bits 63:32 are not zero");
    RULE(v->dr7 >> 32 == 0, "DR7 bits 63:32 are not zero");
    RULE(!long_mode || (v->cr4 & CR4_PAE), "EFER.LME and CR0.PG are set and CR4.PAE is clear");
    RULE(!long_mode || (v->cr0 & CR0_PE), "EFER.LME and CR0.PG are set and CR0.PE is clear");
    RULE(!in_64bit || !(v->cs.attributes & ATTRIBUTE_D), "CS.L and CS.D are set in long mode");
    RULE(vmcb_intercepts(v, EXIT_VMRUN), "VMRUN is not intercepted");
    RULE(inside(v->msrpm, MSRPM_BYTES, end), "the MSR bitmap is beyond the physical addresses");
    RULE(inside(v->iopm, IOPM_BYTES, end), "the I/O bitmap is beyond the physical addresses");
    RULE(v->asid != 0, "the ASID is zero");
    RULE(event_legal(v, in_64bit), "the injected event is illegal");
    RULE(inside(v->nested_cr3, PAGE_SIZE, end), "nCR3 is beyond the physical addresses");
    RULE(!(v->nested_cr3 & ~PAGE_MASK), "a reserved bit of nCR3 is set");
    RULE(pat_legal(v->pat), "a reserved memory type is in the PAT");
    return NULL;
}

const char *svm_check(const struct vmcb *v) {
    const char *broken = svm_check_vmrun(v);
    bool long_mode = (v->efer & EFER_LME) && (v->cr0 & CR0_PG);
    bool in_64bit = long_mode && (v->cs.attributes & ATTRIBUTE_L);
    bool has_ss = (v->cr0 & CR0_PE) && (v->ss.attributes & ATTRIBUTE_P);
    u8 ss_dpl = v->ss.attributes >> 5 & 3;

    if (broken)
        return broken;
    RULE(v->nested_control & NESTED_PAGING, "nested paging is off");
    RULE(!(v->cr0 & CR0_PG) || (v->cr0 & CR0_PE), "CR0.PG is set and CR0.PE is clear");
    RULE(long_mode == !!(v->efer & EFER_LMA), "EFER.LMA is not EFER.LME and CR0.PG");
    RULE(v->rflags & RFLAGS_FIXED, "RFLAGS bit 1 is clear");
    RULE(v->rflags >> 22 == 0, "RFLAGS bits 63:22 are not zero");
    RULE(in_64bit || v->rip >> 32 == 0, "RIP bits 63:32 are not zero outside 64-bit mode");
    RULE(!has_ss || v->cpl == ss_dpl, "CPL is not SS.DPL");
    RULE(bases_canonical(v), "a segment or table base is not canonical");
    RULE(v->tlb_control <= TLB_CONTROL_FLUSH_ALL || svm_features.flush_by_asid,
         "a TLB flush by ASID on a processor without it");
    return NULL;
}
