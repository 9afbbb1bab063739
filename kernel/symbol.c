// SPDX-License-Identifier: Apache-2.0
//
// Names for code addresses, from the table that the build puts into the image.

#include "kernel/panic.h"

extern char __kernel_start[], __text_start[], __text_end[];

const char *symbol_find(u64 address, u64 *offset)
{
    *offset = 0;
    if (!&symbol_count || !symbol_count || address < (u64)__text_start ||
        address >= (u64)__text_end)
        return "?";
    u32 wanted = (u32)(address - (u64)__kernel_start), low = 0, high = symbol_count;
    while (high - low > 1) {
        u32 middle = low + (high - low) / 2;
        if (symbol_table[middle].offset <= wanted)
            low = middle;
        else
            high = middle;
    }
    if (symbol_table[low].offset > wanted)
        return "?";
    *offset = wanted - symbol_table[low].offset;
    return &symbol_names[symbol_table[low].name];
}
