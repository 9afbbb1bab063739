// SPDX-License-Identifier: Apache-2.0
//
// Legality of writes to control registers (see cr.h).

#include "guest/cr.h"

#include "arch/x86.h"

// Writes to CR0's other low bits are ignored.
#define CR0_DEFINED                                                                            \
    (CR0_PG | CR0_CD | CR0_NW | CR0_AM | CR0_WP | CR0_NE | CR0_ET | CR0_TS | CR0_EM | CR0_MP | \
     CR0_PE)
#define CR3_PCID       0xfffull
#define CR3_NO_FLUSH   BIT(63)  // with CR4.PCIDE: not stored
#define PDPTE_RESERVED 0x1e6ull // below the address

static const struct cr_outcome fault = {.fault = true};

/// PAE paging outside long mode: the only mode that keeps page-directory-pointer entries in the processor.
static bool uses_pdptes(u64 cr0, u64 cr4, u64 efer) {
    return (cr0 & CR0_PG) && (cr4 & CR4_PAE) && !(efer & EFER_LMA);
}

static bool paging_switch_legal(const struct cr_state *old, bool on) {
    if (!on)
        return !(old->efer & EFER_LMA && old->cs_long) && !(old->cr4 & CR4_PCIDE);
    return !(old->efer & EFER_LME) || ((old->cr4 & CR4_PAE) && !old->cs_long && !old->tss16);
}

struct cr_outcome cr0_write(const struct cr_state *old, u64 value) {
    u64 next = (value & CR0_DEFINED) | CR0_ET, changed = next ^ old->cr0;
    bool on = next & CR0_PG;

    if (value >> 32 || (on && !(next & CR0_PE)) || ((next & CR0_NW) && !(next & CR0_CD)))
        return fault;
    if ((changed & CR0_PG) && !paging_switch_legal(old, on))
        return fault;
    u64 lma = on && (old->efer & EFER_LME) ? EFER_LMA : 0;
    struct cr_outcome out = {.value = next, .efer = (old->efer & ~EFER_LMA) | lma};
    out.mode_changed = out.flush = changed & CR0_PG;
    out.load_pdptes = (changed & (CR0_PG | CR0_CD | CR0_NW)) &&
                      uses_pdptes(next, old->cr4, out.efer);
    return out;
}

struct cr_outcome cr3_write(const struct cr_state *old, u64 value,
                            const struct cpuid_policy *policy) {
    bool pcids = old->cr4 & CR4_PCIDE;
    struct cr_outcome out = {.efer = old->efer, .value = value, .flush = true};

    if (pcids && (value & CR3_NO_FLUSH)) {
        out.value &= ~CR3_NO_FLUSH;
        out.flush = false;
    }
    if ((old->efer & EFER_LMA) && out.value >> policy->phys_bits)
        return fault;
    out.load_pdptes = uses_pdptes(old->cr0, old->cr4, old->efer);
    return out;
}

struct cr_outcome cr4_write(const struct cr_state *old, u64 value,
                            const struct cpuid_policy *policy) {
    u64 changed = value ^ old->cr4;
    bool long_mode = old->efer & EFER_LMA;

    if ((value & ~policy->cr4) || (long_mode && !(value & CR4_PAE)))
        return fault;
    if ((changed & value & CR4_PCIDE) && (!long_mode || (old->cr3 & CR3_PCID)))
        return fault;
    struct cr_outcome out = {.value = value, .efer = old->efer};
    out.flush = (changed & (CR4_PSE | CR4_PAE | CR4_PGE | CR4_SMEP | CR4_SMAP)) ||
                (changed & ~value & CR4_PCIDE);
    out.load_pdptes = (changed & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP)) &&
                      uses_pdptes(old->cr0, value, old->efer);
    return out;
}

struct cr_outcome efer_write(const struct cr_state *old, u64 value,
                             const struct cpuid_policy *policy) {
    u64 next = (value & ~EFER_LMA) | (old->efer & EFER_LMA), changed = next ^ old->efer;

    if ((next & ~(policy->efer | EFER_LMA)) || ((changed & EFER_LME) && (old->cr0 & CR0_PG)))
        return fault;
    return (struct cr_outcome){.value = next, .efer = next, .flush = changed & EFER_NXE};
}

u64 cr0_after_lmsw(u64 cr0, u16 operand) {
    return (cr0 & ~(CR0_MP | CR0_EM | CR0_TS)) | (operand & (CR0_PE | CR0_MP | CR0_EM | CR0_TS));
}

bool pdptes_legal(const u64 pdpte[4], const struct cpuid_policy *policy) {
    u64 reserved = ~(BIT(policy->phys_bits) - 1) | PDPTE_RESERVED;

    for (unsigned i = 0; i < 4; i++)
        if ((pdpte[i] & 1) && (pdpte[i] & reserved))
            return false;
    return true;
}

bool xcr0_legal(u32 index, u64 value, const struct cpuid_policy *policy) {
    bool sse = value & XCR0_SSE, avx = value & XCR0_AVX;

    return index == 0 && (value & XCR0_X87) && !(value & ~policy->xcr0) && (sse || !avx);
}
