// SPDX-License-Identifier: Apache-2.0
//
// Names for code addresses, from the table that the build puts into the image.

#include "kernel/panic.h"

extern char __kernel_start[], __text_start[], __text_end[];

const char *symbol_find(u64 address, u64 *offset) {
    u64 wanted = address - (u64)__kernel_start;
    u32 i = 0;
    *offset = 0;
    if (!&symbol_count || !symbol_count || address < (u64)__text_start ||
        address >= (u64)__text_end || symbol_table[0].offset > wanted)
        return "?";
    while (i + 1 < symbol_count && symbol_table[i + 1].offset <= wanted)
        i++;
    *offset = wanted - symbol_table[i].offset;
    return &symbol_names[symbol_table[i].name];
}
