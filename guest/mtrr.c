// SPDX-License-Identifier: Apache-2.0
//
// The guest's memory type range registers and the legality of PAT values (see mtrr.h).

#include "guest/mtrr.h"

#include "arch/x86.h"

#define CAP_WC     BIT(10) // write-combining is supported
#define MASK_VALID BIT(11)

void mtrr_init(struct mtrr_state *m) {
    *m = (struct mtrr_state){.def_type = MTRR_DEF_ENABLE | MEMORY_WB};
}

#define FIX_64K 0x250u
#define FIX_16K 0x258u // two
#define FIX_4K  0x268u // eight

// Position in `fixed`: 64 KiB each from 0, 16 KiB each from 0x80000, 4 KiB each from 0xc0000; -1: none of them.
static int fixed_index(u32 msr) {
    if (msr == FIX_64K)
        return 0;
    if (msr - FIX_16K < 2)
        return (int)(msr - FIX_16K) + 1;
    return msr - FIX_4K < 8 ? (int)(msr - FIX_4K) + 3 : -1;
}

static bool is_variable(u32 msr) { return msr - MSR_MTRR_PHYS_BASE0 < 2 * MTRR_VARIABLE; }

bool mtrr_owns(u32 msr) {
    return msr == MSR_MTRR_CAP || msr == MSR_MTRR_DEF_TYPE || is_variable(msr) ||
           fixed_index(msr) >= 0;
}

u64 mtrr_read(const struct mtrr_state *m, u32 msr) {
    if (msr == MSR_MTRR_CAP)
        return MTRR_VARIABLE | MTRR_CAP_FIXED | CAP_WC;
    if (msr == MSR_MTRR_DEF_TYPE)
        return m->def_type;
    return is_variable(msr) ? m->variable[msr - MSR_MTRR_PHYS_BASE0] : m->fixed[fixed_index(msr)];
}

static bool type_legal(u64 type) {
    return type == MEMORY_UC || type == MEMORY_WC || type == MEMORY_WT || type == MEMORY_WP ||
           type == MEMORY_WB;
}

static bool fixed_legal(u64 value) {
    for (unsigned byte = 0; byte < 8; byte++)
        if (!type_legal(value >> byte * 8 & 0xff))
            return false;
    return true;
}

bool pat_legal(u64 value) {
    for (unsigned byte = 0; byte < 8; byte++) {
        u64 type = value >> byte * 8 & 0xff;
        if (!type_legal(type) && type != MEMORY_UC_MINUS)
            return false;
    }
    return true;
}

bool mtrr_write(struct mtrr_state *m, u32 msr, u64 value, unsigned phys_bits) {
    u64 pages = (BIT(phys_bits) - 1) & PAGE_MASK;

    if (msr == MSR_MTRR_CAP)
        return false;
    if (msr == MSR_MTRR_DEF_TYPE) {
        if ((value & ~(MTRR_DEF_ENABLE | MTRR_DEF_FIXED_ENABLE | 0xff)) ||
            !type_legal(value & 0xff))
            return false;
        m->def_type = value;
    } else if (is_variable(msr)) {
        bool legal = msr & 1 ? !(value & ~(pages | MASK_VALID))
                             : !(value & ~(pages | 0xff)) && type_legal(value & 0xff);
        if (!legal)
            return false;
        m->variable[msr - MSR_MTRR_PHYS_BASE0] = value;
    } else {
        if (!fixed_legal(value))
            return false;
        m->fixed[fixed_index(msr)] = value;
    }
    return true;
}
