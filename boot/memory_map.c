// SPDX-License-Identifier: Apache-2.0
//
// Makes a memory map usable: firmware's maps come unsorted, overlapping and unaligned. The result
// is sorted and disjoint; where entries overlap the more restrictive one wins, so that nothing is
// taken for RAM that anyone called reserved.

#include "boot/multiboot2.h"

static void sort(u64 *values, u32 count)
{
    for (u32 i = 1; i < count; i++) {
        u64 value = values[i];
        u32 at = i;
        for (; at && values[at - 1] > value; at--)
            values[at] = values[at - 1];
        values[at] = value;
    }
}

static u32 kind_between(const struct boot_memory *map, u32 count, u64 base, u64 end)
{
    u32 kind = 0;
    for (u32 i = 0; i < count; i++)
        if (map[i].base <= base && map[i].end >= end)
            kind = MAX(kind, map[i].kind);
    return kind;
}

static bool trim(struct boot_memory *m)
{
    if (m->kind == MEMORY_RAM) {
        m->base = ALIGN_UP(m->base, PAGE_SIZE);
        m->end = ALIGN_DOWN(m->end, PAGE_SIZE);
    }
    return m->base < m->end;
}

u32 memory_map_normalize(struct boot_memory *map, u32 count, u32 max)
{
    static u64 edges[2 * BOOT_MEMORY_MAX];
    static struct boot_memory result[2 * BOOT_MEMORY_MAX];
    u32 edge_count = 0, pieces = 0, kept = 0;

    for (u32 i = 0; i < count; i++) {
        edges[edge_count++] = map[i].base;
        edges[edge_count++] = map[i].end;
    }
    sort(edges, edge_count);
    for (u32 i = 0; i + 1 < edge_count; i++) {
        u64 base = edges[i], end = edges[i + 1];
        u32 kind = base < end ? kind_between(map, count, base, end) : 0;
        if (!kind)
            continue;
        if (pieces && result[pieces - 1].end == base && result[pieces - 1].kind == kind)
            result[pieces - 1].end = end;
        else
            result[pieces++] = (struct boot_memory){base, end, kind};
    }
    for (u32 i = 0; i < pieces && kept < max; i++)
        if (trim(&result[i]))
            map[kept++] = result[i];
    return kept;
}
