// SPDX-License-Identifier: Apache-2.0
//
// The guest's registers in the VMCB. Invariant: CR0, CR4 and EFER in the VMCB are what the guest
// wrote with what the hypervisor needs on top (caches on, machine checks delivered, SVM on); where
// that differs from what the guest believes, reads and all writes of the register are intercepted.
// Follows the APM, "VMCB State Save Area", "Control Register Intercepts" and "Nested Paging".

#include "arch/x86.h"
#include "svm/svm.h"

#define CR0_UNWATCHED (CR0_TS | CR0_MP) // the guest changes these without an exit

static void set_efer(struct cpu_state *cpu, u64 value) {
    bool active = (value & EFER_LME) && (cpu->cr0_guest & CR0_PG);

    cpu->efer_guest = active ? value | EFER_LMA : value & ~EFER_LMA;
    vmcb_of(cpu)->efer = cpu->efer_guest | EFER_SVME;
    cpu->dirty |= VMCB_CLEAN_CR;
}

// With nested paging CR0.CD would only slow the guest down, and a processor that shares its caches
// with other threads perhaps those.
static void set_cr0(struct cpu_state *cpu, u64 value) {
    struct vmcb *vmcb = vmcb_of(cpu);

    cpu->cr0_guest = value | CR0_ET;
    vmcb->cr0 = cpu->cr0_guest & ~(CR0_CD | CR0_NW);
    bool differs = vmcb->cr0 != cpu->cr0_guest;
    vmcb_intercept(cpu, EXIT_CR_READ + 0, differs);
    vmcb_intercept(cpu, EXIT_CR_WRITE + 0, differs);
    set_efer(cpu, cpu->efer_guest);
}

// A machine check while CR4.MCE is clear would shut the processor down, not only the guest.
static void set_cr4(struct cpu_state *cpu, u64 value) {
    struct vmcb *vmcb = vmcb_of(cpu);

    cpu->cr4_guest = value;
    vmcb->cr4 = value | CR4_MCE;
    vmcb_intercept(cpu, EXIT_CR_READ + 4, vmcb->cr4 != value);
    cpu->dirty |= VMCB_CLEAN_CR;
}

// Attributes: bits 7:0 are the same in both formats, AVL, L, D/B and G are in 15:12 for VMX and
// 11:8 here. What VMX calls unusable (bit 16) is a segment that is not present.
static u32 wide_attributes(u16 attributes) {
    return (attributes & 0xffu) | (attributes & 0x700u) << 4;
}

// PDPTEs have no place: the processor reads them from the guest's memory as it needs them.
u64 svm_read(struct cpu_state *cpu, enum backend_register reg) {
    const struct vmcb *vmcb = vmcb_of(cpu);

    switch (reg) {
    case REG_CR0: return (cpu->cr0_guest & ~CR0_UNWATCHED) | (vmcb->cr0 & CR0_UNWATCHED);
    case REG_CR2: return vmcb->cr2;
    case REG_CR3: return vmcb->cr3;
    case REG_CR4: return cpu->cr4_guest;
    case REG_EFER: return cpu->efer_guest;
    case REG_DR6: return vmcb->dr6;
    case REG_DR7: return vmcb->dr7;
    case REG_CPL: return vmcb->cpl;
    case REG_CS_BASE: return vmcb->cs.base;
    case REG_CS_ATTRIBUTES: return wide_attributes(vmcb->cs.attributes);
    default: return 0;
    }
}

void svm_write(struct cpu_state *cpu, enum backend_register reg, u64 value) {
    struct vmcb *vmcb = vmcb_of(cpu);

    switch (reg) {
    case REG_CR0: set_cr0(cpu, value); break;
    case REG_CR2: vmcb->cr2 = value; break;
    case REG_CR3: vmcb->cr3 = value; break;
    case REG_CR4: set_cr4(cpu, value); break;
    case REG_EFER: set_efer(cpu, value); break;
    case REG_DR6: vmcb->dr6 = value; break;
    case REG_DR7: vmcb->dr7 = value; break;
    default: break;
    }
    cpu->dirty |= VMCB_CLEAN_CR | VMCB_CLEAN_CR2 | VMCB_CLEAN_DR;
}

// The VMCB has GDTR before LDTR, and IDTR before TR.
static struct vmcb_segment *segment_of(struct vmcb *vmcb, unsigned index) {
    static const u8 slots[] = {0, 1, 2, 3, 4, 5, 7, 9, 6, 8};
    return &vmcb->segments[slots[index]];
}

// Processors differ in what they keep of G, TR's busy bit and SS.DPL; the result is what VMX would
// say.
struct basalt_segment svm_read_segment(struct cpu_state *cpu, unsigned index) {
    const struct vmcb_segment *s = segment_of(vmcb_of(cpu), index);
    u32 attributes = wide_attributes(s->attributes);

    if (s->limit > 0xfffff)
        attributes |= SEGMENT_G;
    if (!(attributes & SEGMENT_PRESENT))
        attributes |= SEGMENT_UNUSABLE;
    if (index == BASALT_TR)
        attributes |= SEGMENT_BUSY;
    if (index == BASALT_SS)
        attributes = (attributes & ~0x60u) | (u32)vmcb_of(cpu)->cpl << 5;
    return (struct basalt_segment){
        .base = s->base, .limit = s->limit, .selector = s->selector, .attributes = attributes};
}

void svm_write_segment(struct cpu_state *cpu, unsigned index,
                       const struct basalt_segment *segment) {
    struct vmcb *vmcb = vmcb_of(cpu);
    u32 attributes = (segment->attributes & 0xffu) | (segment->attributes >> 4 & 0xf00u);

    if (segment->attributes & SEGMENT_UNUSABLE)
        attributes &= ~SEGMENT_PRESENT;
    *segment_of(vmcb, index) =
        (struct vmcb_segment){segment->selector, (u16)attributes, segment->limit, segment->base};
    if (index == BASALT_SS)
        vmcb->cpl = SEGMENT_DPL(segment->attributes);
    cpu->dirty |= VMCB_CLEAN_SEGMENTS | VMCB_CLEAN_TABLES;
}

// MSRs that are fields of the VMCB. All but the first two the guest reads and writes without an
// exit.
#define MSRS_THAT_EXIT 2u
static const struct msr_row {
    u32 msr;
    u16 offset;
} msr_rows[] = {
    {MSR_DEBUGCTL, offsetof(struct vmcb, debugctl)}, // kept for the guest to read; has no effect
    {MSR_PAT, offsetof(struct vmcb, pat)},
    {MSR_SYSENTER_CS, offsetof(struct vmcb, sysenter_cs)},
    {MSR_SYSENTER_ESP, offsetof(struct vmcb, sysenter_esp)},
    {MSR_SYSENTER_EIP, offsetof(struct vmcb, sysenter_eip)},
    {MSR_STAR, offsetof(struct vmcb, star)},
    {MSR_LSTAR, offsetof(struct vmcb, lstar)},
    {MSR_CSTAR, offsetof(struct vmcb, cstar)},
    {MSR_FMASK, offsetof(struct vmcb, sfmask)},
    {MSR_FS_BASE, offsetof(struct vmcb, fs.base)},
    {MSR_GS_BASE, offsetof(struct vmcb, gs.base)},
    {MSR_KERNEL_GS_BASE, offsetof(struct vmcb, kernel_gs_base)},
};

void svm_fill_msr_bitmap(u8 bitmap[MSRPM_BYTES]) {
    memset(bitmap, 0xff, MSRPM_BYTES);
    for (unsigned i = MSRS_THAT_EXIT; i < ARRAY_SIZE(msr_rows); i++) {
        u32 msr = msr_rows[i].msr;
        u32 bit = ((msr >= 0xc0000000 ? 0x2000u : 0) + (msr & 0x1fff)) * 2;
        bitmap[bit / 8] = (u8)(bitmap[bit / 8] & ~(3u << bit % 8));
    }
}

bool svm_access_msr(struct cpu_state *cpu, u32 msr, bool write, u64 *value) {
    for (unsigned i = 0; i < ARRAY_SIZE(msr_rows); i++) {
        u64 *field = (u64 *)((u8 *)vmcb_of(cpu) + msr_rows[i].offset);

        if (msr_rows[i].msr != msr)
            continue;
        if (!write) {
            *value = *field;
        } else {
            *field = *value;
            cpu->dirty |= VMCB_CLEAN_NESTED; // PAT; the others are never cached
        }
        return true;
    }
    return false;
}
