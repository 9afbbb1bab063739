// SPDX-License-Identifier: Apache-2.0
//
// Guest registers in the VMCS. Invariants: what hardware needs in CR0 and CR4 is hidden from the guest by masks and
// shadows; the "IA-32e mode guest" control equals EFER.LMA; a segment written here satisfies the entry checks as far
// as its caches can be completed (accessed bits, granularity, unusable). Follows the SDM, "Guest-State Area" and
// "Guest/Host Masks and Read Shadows for CR0 and CR4".

#include "vmx/vmcs.h"
#include "vmx/vmx.h"

#include "arch/x86.h"

static void write_entry_mode(u64 efer) {
    u32 entry = vmcs_read32(ENTRY_CONTROLS) & ~ENTRY_GUEST_64;

    vmcs_write32(ENTRY_CONTROLS, efer & EFER_LMA ? entry | ENTRY_GUEST_64 : entry);
    vmcs_write64(GUEST_EFER, efer);
}

// Unrestricted guests need neither PE nor PG. Caching stays on whatever the guest says: CD would slow the machine.
static void set_cr0(struct cpu_state *cpu, u64 value) {
    u64 must = vmx_caps.cr0_must & ~(CR0_PE | CR0_PG);

    cpu->cr0_guest = value;
    vmcs_writenat(CR0_SHADOW, value);
    vmcs_writenat(GUEST_CR0, ((value & ~(CR0_CD | CR0_NW)) | must | CR0_ET) & vmx_caps.cr0_may);
}

// MCE stays on: a machine check in a guest that has it off would shut the machine down.
static void set_cr4(struct cpu_state *cpu, u64 value) {
    cpu->cr4_guest = value;
    vmcs_writenat(CR4_SHADOW, value);
    vmcs_writenat(GUEST_CR4, (value | vmx_caps.cr4_must | CR4_MCE) & vmx_caps.cr4_may);
}

u64 vmx_read(struct cpu_state *cpu, enum backend_register reg) {
    u64 own;

    switch (reg) {
    case REG_CR0:
        own = vmcs_readnat(GUEST_CR0) & CR0_GUEST_OWNED;
        return cpu->cr0_guest = (cpu->cr0_guest & ~CR0_GUEST_OWNED) | own;
    case REG_CR4:
        own = vmcs_readnat(GUEST_CR4) & CR4_GUEST_OWNED;
        return cpu->cr4_guest = (cpu->cr4_guest & ~CR4_GUEST_OWNED) | own;
    case REG_CR2: return read_cr2();
    case REG_CR3: return vmcs_readnat(GUEST_CR3);
    case REG_EFER: return cpu->efer_guest = vmcs_read64(GUEST_EFER);
    case REG_DR6: return cpu->debug_active ? read_dr6() : cpu->dr6;
    case REG_DR7: return vmcs_readnat(GUEST_DR7);
    case REG_PDPTE0 ... REG_PDPTE3: return vmcs_read64(GUEST_PDPTE(reg - REG_PDPTE0));
    case REG_CPL: return SEGMENT_DPL(vmcs_read32(GUEST_ATTRIBUTES(BASALT_SS)));
    case REG_CS_BASE: return vmcs_readnat(GUEST_BASE(BASALT_CS));
    case REG_CS_ATTRIBUTES: return vmcs_read32(GUEST_ATTRIBUTES(BASALT_CS));
    }
    return 0;
}

void vmx_write(struct cpu_state *cpu, enum backend_register reg, u64 value) {
    switch (reg) {
    case REG_CR0: set_cr0(cpu, value); break;
    case REG_CR4: set_cr4(cpu, value); break;
    case REG_CR2: write_cr2(value); break;
    case REG_CR3: vmcs_writenat(GUEST_CR3, value); break;
    case REG_EFER:
        cpu->efer_guest = value;
        write_entry_mode(value);
        break;
    case REG_DR6:
        cpu->dr6 = value;
        if (cpu->debug_active)
            write_dr6(value);
        break;
    case REG_DR7: vmcs_writenat(GUEST_DR7, (u32)value | DR7_FIXED); break;
    case REG_PDPTE0 ... REG_PDPTE3: vmcs_write64(GUEST_PDPTE(reg - REG_PDPTE0), value); break;
    default: break;
    }
}

struct basalt_segment vmx_read_segment(struct cpu_state *cpu unused, unsigned index) {
    struct basalt_segment s = {.base = vmcs_readnat(GUEST_BASE(index)),
                               .limit = vmcs_read32(GUEST_LIMIT(index))};

    if (index <= BASALT_TR) {
        s.selector = vmcs_read16(GUEST_SELECTOR(index));
        s.attributes = vmcs_read32(GUEST_ATTRIBUTES(index));
    }
    return s;
}

// What loading the register would have done to the descriptor, so that the caller may give a plain one.
static u32 complete_attributes(unsigned index, u32 attributes, u32 limit) {
    attributes &= SEGMENT_BITS;
    if (index == BASALT_TR)
        attributes = (attributes & ~SEGMENT_UNUSABLE) | SEGMENT_BUSY;
    else if (!(attributes & SEGMENT_PRESENT))
        attributes |= SEGMENT_UNUSABLE;
    else if (attributes & SEGMENT_S)
        attributes |= SEGMENT_ACCESSED;
    if (limit > 0xfffff)
        attributes |= SEGMENT_G;
    else if ((limit & 0xfff) != 0xfff)
        attributes &= ~SEGMENT_G;
    return attributes;
}

void vmx_write_segment(struct cpu_state *cpu unused, unsigned index,
                       const struct basalt_segment *segment) {
    u32 limit = segment->limit > 0xfffff ? segment->limit | 0xfff : segment->limit;

    vmcs_writenat(GUEST_BASE(index), segment->base);
    vmcs_write32(GUEST_LIMIT(index), limit);
    if (index > BASALT_TR)
        return; // base and limit are all
    vmcs_write16(GUEST_SELECTOR(index), segment->selector);
    vmcs_write32(GUEST_ATTRIBUTES(index), complete_attributes(index, segment->attributes, limit));
}
