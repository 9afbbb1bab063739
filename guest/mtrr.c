// SPDX-License-Identifier: Apache-2.0
//
// The guest's memory type range registers and the legality of PAT values (see msr.h).

#include "guest/msr.h"

#include "arch/x86.h"

#define MASK_VALID BIT(11)
#define MTRR_TYPES 0x73u // by number: UC, WC, WT, WP, WB
#define PAT_TYPES  0xf3u // and UC-

// Runs of registers, as they follow each other in the array: of which bytes are types, and which other bits may
// be set.
static const struct run {
    u32 first, count;
    u8 types; // from bit 0 on
    bool pages;
    u64 more;
} runs[] = {
    {MSR_MTRR_DEF_TYPE, 1, 1, false, MTRR_DEF_ENABLE | MTRR_DEF_FIXED_ENABLE},
    {0x250, 1, 8, false, 0}, // 64 KiB each from 0
    {0x258, 2, 8, false, 0}, // 16 KiB each from 0x80000
    {0x268, 8, 8, false, 0}, // 4 KiB each from 0xc0000
    {MSR_MTRR_PHYS_BASE0, 2 * MTRR_VARIABLE, 0, true, 0},
};

// Position in the array and the run that has it; NULL: none.
static const struct run *find(u32 msr, unsigned *at) {
    *at = 0;
    for (const struct run *run = runs; run < runs + ARRAY_SIZE(runs); run++) {
        if (msr - run->first < run->count) {
            *at += msr - run->first;
            return run;
        }
        *at += run->count;
    }
    return NULL;
}

// Whether each of the lowest `count` bytes is one of the types in the set.
static bool types_legal(u64 value, unsigned count, u32 set) {
    for (; count; count--, value >>= 8)
        if ((value & 0xff) > 7 || !(set >> (value & 7) & 1))
            return false;
    return true;
}

bool pat_legal(u64 value) { return types_legal(value, 8, PAT_TYPES); }

void mtrr_init(u64 mtrrs[MTRR_COUNT]) { mtrrs[0] = MTRR_DEF_ENABLE | MEMORY_WB; }

bool mtrr_read(const u64 mtrrs[MTRR_COUNT], u32 msr, u64 *value) {
    unsigned at;
    bool found = find(msr, &at);

    *value = found ? mtrrs[at] : 0;
    return found;
}

bool mtrr_write(u64 mtrrs[MTRR_COUNT], u32 msr, u64 value, unsigned phys_bits) {
    unsigned at;
    const struct run *run = find(msr, &at);

    if (!run)
        return false;
    bool mask = run->pages && msr & 1; // base, mask, base, ...
    unsigned types = run->pages ? !mask : run->types;
    u64 may = run->more | (run->pages ? (BIT(phys_bits) - 1) & PAGE_MASK : 0) |
              (mask ? MASK_VALID : 0) | (types == 8 ? ~0ull : BIT(8 * types) - 1);
    if (value & ~may || !types_legal(value, types, MTRR_TYPES))
        return false;
    mtrrs[at] = value;
    return true;
}
