// SPDX-License-Identifier: Apache-2.0
//
// Guests' writes to CR0, CR4 and EFER: each function checks everything, then commits, and returns false for #GP(0) with
// nothing changed. CR3 is no one's but the guest's: its accesses do not exit. Invariant: a state made only of accepted
// writes passes the processor's checks on guest control registers at entry. Follows the SDM, "Control Registers",
// "Initializing IA-32e Mode" and "MOV - Move to/from Control Registers".

#include "guest/vcpu.h"
#include "kernel/domain.h"

// Writes to CR0's other low bits are ignored.
#define CR0_DEFINED                                                                            \
    (CR0_PG | CR0_CD | CR0_NW | CR0_AM | CR0_WP | CR0_NE | CR0_ET | CR0_TS | CR0_EM | CR0_MP | \
     CR0_PE)
#define CR3_PCID         0xfffull
#define CR3_PDPTES       0xffffffe0ull // where the page-directory-pointer entries are
#define PDPTE_RESERVED   0x1e6ull      // below the address
#define TSS16_TYPE       0x1u          // of TR, with the busy bit masked out
#define SEGMENT_TSS_TYPE 0xdu

bool vcpu_load_pdptes(struct vcpu *v, u64 cr0, u64 cr3, u64 cr4, u64 efer) {
    u64 pdptes[4], reserved = ~(BIT(guest_cpuid.phys_bits) - 1) | PDPTE_RESERVED;

    if (!(cr0 & CR0_PG) || !(cr4 & CR4_PAE) || efer & EFER_LMA)
        return true;
    if (memory_read(v->domain, GPA(cr3 & CR3_PDPTES), pdptes, sizeof(pdptes)))
        return false;
    for (unsigned i = 0; i < 4; i++)
        if ((pdptes[i] & 1) && (pdptes[i] & reserved))
            return false;
    for (unsigned i = 0; i < 4; i++)
        backend->write(&v->cpu, (enum backend_register)(REG_PDPTE0 + i), pdptes[i]);
    return true;
}

static bool reload_pdptes(struct vcpu *v, u64 cr0, u64 cr4, u64 efer) {
    return vcpu_load_pdptes(v, cr0, backend->read(&v->cpu, REG_CR3), cr4, efer);
}

static bool paging_switch_legal(struct vcpu *v, bool on, u64 cr4, u64 efer) {
    bool cs_long = backend->read(&v->cpu, REG_CS_ATTRIBUTES) & SEGMENT_LONG;
    u32 tss_type = backend->read_segment(&v->cpu, BASALT_TR).attributes & SEGMENT_TSS_TYPE;

    if (!on)
        return !(efer & EFER_LMA && cs_long) && !(cr4 & CR4_PCIDE);
    return !(efer & EFER_LME) || ((cr4 & CR4_PAE) && !cs_long && tss_type != TSS16_TYPE);
}

bool vcpu_write_cr0(struct vcpu *v, u64 value) {
    struct cpu_state *c = &v->cpu;
    u64 old = backend->read(c, REG_CR0), next = (value & CR0_DEFINED) | CR0_ET;
    u64 cr4 = backend->read(c, REG_CR4), efer = backend->read(c, REG_EFER), changed = next ^ old;
    bool on = next & CR0_PG;

    if (value >> 32 || (on && !(next & CR0_PE)) || ((next & CR0_NW) && !(next & CR0_CD)))
        return false;
    if ((changed & CR0_PG) && !paging_switch_legal(v, on, cr4, efer))
        return false;
    efer = on && (efer & EFER_LME) ? efer | EFER_LMA : efer & ~(u64)EFER_LMA;
    if ((changed & (CR0_PG | CR0_CD | CR0_NW)) && !reload_pdptes(v, next, cr4, efer))
        return false;
    backend->write(c, REG_CR0, next);
    if (changed & CR0_PG) {
        backend->write(c, REG_EFER, efer);
        backend->flush_linear(c);
    }
    return true;
}

bool vcpu_lmsw(struct vcpu *v, u16 value) {
    u64 loaded = CR0_MP | CR0_EM | CR0_TS, cr0 = backend->read(&v->cpu, REG_CR0);

    return vcpu_write_cr0(v, (cr0 & ~loaded) | (value & (loaded | CR0_PE))); // PE can't be cleared
}

bool vcpu_write_cr4(struct vcpu *v, u64 value) {
    struct cpu_state *c = &v->cpu;
    u64 efer = backend->read(c, REG_EFER), changed = value ^ backend->read(c, REG_CR4);
    bool long_mode = efer & EFER_LMA, pcids_on = changed & value & CR4_PCIDE;

    if ((value & ~guest_cpuid.cr4) || (long_mode && !(value & CR4_PAE)))
        return false;
    if (pcids_on && (!long_mode || (backend->read(c, REG_CR3) & CR3_PCID)))
        return false;
    if ((changed & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP)) &&
        !reload_pdptes(v, backend->read(c, REG_CR0), value, efer))
        return false;
    backend->write(c, REG_CR4, value);
    if ((changed & (CR4_PSE | CR4_PAE | CR4_PGE | CR4_SMEP | CR4_SMAP)) ||
        (changed & ~value & CR4_PCIDE))
        backend->flush_linear(c);
    return true;
}

bool vcpu_write_efer(struct vcpu *v, u64 value) {
    u64 old = backend->read(&v->cpu, REG_EFER);
    u64 next = (value & ~(u64)EFER_LMA) | (old & EFER_LMA), changed = next ^ old;

    if ((next & ~EFER_GUEST) ||
        ((changed & EFER_LME) && (backend->read(&v->cpu, REG_CR0) & CR0_PG)))
        return false;
    backend->write(&v->cpu, REG_EFER, next);
    if (changed & EFER_NXE)
        backend->flush_linear(&v->cpu);
    return true;
}
