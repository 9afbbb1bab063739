// SPDX-License-Identifier: Apache-2.0
//
// Legality of guest writes to control registers, EFER and XCR0, and what follows from a legal one. Pure
// functions: nothing is changed, the caller commits the outcome. Invariant: a state made only of accepted writes
// passes the processor's checks on guest control registers at entry. Follows the SDM, "Control Registers",
// "Initializing IA-32e Mode" and "MOV - Move to/from Control Registers".
#pragma once

#include "guest/cpuid.h"

/// The guest's registers before the write.
struct cr_state {
    u64 cr0, cr3, cr4, efer;
    bool cs_long; // CS.L
    bool tss16;   // TR holds a 16-bit TSS
};

struct cr_outcome {
    bool fault;        // #GP(0); nothing else counts
    bool load_pdptes;  // read 4 entries at CR3[31:5], #GP unless pdptes_legal, then commit
    bool flush;        // forget this guest's linear translations
    bool mode_changed; // paging or long mode went on or off: write EFER too
    u64 value;         // what the register holds afterwards
    u64 efer;          // EFER afterwards: LMA follows CR0.PG
};

must_check struct cr_outcome cr0_write(const struct cr_state *old, u64 value);
must_check struct cr_outcome cr3_write(const struct cr_state *old, u64 value,
                                       const struct cpuid_policy *policy);
must_check struct cr_outcome cr4_write(const struct cr_state *old, u64 value,
                                       const struct cpuid_policy *policy);
must_check struct cr_outcome efer_write(const struct cr_state *old, u64 value,
                                        const struct cpuid_policy *policy);

/// CR0 after LMSW with this operand: it sets PE, MP, EM, TS, and can't clear PE. To be passed to cr0_write.
u64 cr0_after_lmsw(u64 cr0, u16 operand);
/// True if PAE paging may use these entries.
must_check bool pdptes_legal(const u64 pdpte[4], const struct cpuid_policy *policy);
/// XSETBV with ECX = `index`; CR4.OSXSAVE and CPL are the caller's.
must_check bool xcr0_legal(u32 index, u64 value, const struct cpuid_policy *policy);

/// True if `address` is canonical for 48-bit linear addresses.
static inline bool canonical(u64 address) { return (u64)((i64)(address << 16) >> 16) == address; }
