// SPDX-License-Identifier: Apache-2.0
//
// The guest's memory type range registers: stored and validated, so that a guest's own view of its memory types is
// consistent. They have no effect on the second level: guest RAM is write-back, and devices are not memory. Follows
// the SDM, "Memory Type Range Registers (MTRRs)".
#pragma once

#include "arch/types.h"

#define MTRR_VARIABLE 8u

struct mtrr_state {
    u64 registers[1 + 11 + 2 * MTRR_VARIABLE]; // default type; fixed ranges; base, mask, base, ...
};

/// What firmware leaves behind: MTRRs on, everything write-back. (Linux uses no PAT where they are off.)
void mtrr_init(struct mtrr_state *m);
/// True if `msr` is one of the MTRRs.
bool mtrr_owns(u32 msr);
/// Read and write one; the write returns false for #GP. Only for what mtrr_owns.
u64 mtrr_read(const struct mtrr_state *m, u32 msr);
must_check bool mtrr_write(struct mtrr_state *m, u32 msr, u64 value, unsigned phys_bits);
/// True if `value` is legal in IA32_PAT.
bool pat_legal(u64 value);
