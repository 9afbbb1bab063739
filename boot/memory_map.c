// SPDX-License-Identifier: Apache-2.0
//
// Makes a memory map usable: firmware's maps come unsorted, overlapping and unaligned. The result
// is sorted and disjoint; where entries overlap the more restrictive one wins, so that nothing is
// taken for RAM that anyone called reserved.

#include "boot/boot.h"
#include "kernel/log.h"

// The lowest address from `from` on at which an entry begins or ends; ~0 if there is none.
static u64 next_edge(const struct boot_memory *map, u32 count, u64 from) {
    u64 edge = ~0ull;
    for (u32 i = 0; i < count; i++) {
        edge = map[i].base >= from ? MIN(edge, map[i].base) : edge;
        edge = map[i].end >= from ? MIN(edge, map[i].end) : edge;
    }
    return edge;
}

static u32 kind_between(const struct boot_memory *map, u32 count, u64 base, u64 end) {
    u32 kind = 0;
    for (u32 i = 0; i < count; i++)
        if (map[i].base <= base && map[i].end >= end)
            kind = MAX(kind, map[i].kind);
    return kind;
}

u32 memory_map_normalize(struct boot_memory *map, u32 count, u32 max) {
    static struct boot_memory result[2 * BOOT_MEMORY_MAX];
    u32 pieces = 0, kept = 0;

    for (u64 base = next_edge(map, count, 0), end; base != ~0ull; base = end) {
        end = next_edge(map, count, base + 1);
        u32 kind = kind_between(map, count, base, end);
        if (pieces && result[pieces - 1].end == base && result[pieces - 1].kind == kind)
            result[pieces - 1].end = end;
        else if (kind)
            result[pieces++] = (struct boot_memory){base, end, kind};
    }
    for (u32 i = 0; i < pieces; i++) {
        struct boot_memory m = result[i];
        if (m.kind == MEMORY_RAM) {
            m.base = ALIGN_UP(m.base, PAGE_SIZE);
            m.end = ALIGN_DOWN(m.end, PAGE_SIZE);
        }
        if (m.base >= m.end)
            continue;
        if (kept == max) {
            log_warn("basalt: memory: more than %u ranges: nothing from 0x%lx on is used", max,
                     m.base);
            break;
        }
        map[kept++] = m;
    }
    return kept;
}

bool memory_map_has_ram(const struct boot_params *params, u64 base, u64 end) {
    for (const struct boot_memory *m = params->memory; m < params->memory + params->memory_count;
         m++)
        if (m->kind <= MEMORY_TAKEN && m->base < end && m->end > base)
            return true;
    return false;
}

bool memory_map_is_free(const struct boot_params *params, u64 base, u64 end) {
    for (const struct boot_memory *m = params->memory; m < params->memory + params->memory_count;
         m++)
        if (m->kind == MEMORY_RAM && m->base <= base && m->end >= end)
            return true;
    return false;
}

int memory_map_take(struct boot_params *params, u64 base, u64 end) {
    struct boot_memory *map = params->memory;
    u32 count = params->memory_count;

    for (u32 i = 0; i < params->memory_count; i++) {
        u64 first = MAX(map[i].base, ALIGN_DOWN(base, PAGE_SIZE));
        u64 last = MIN(map[i].end, ALIGN_UP(end, PAGE_SIZE));
        if (map[i].kind != MEMORY_RAM || first >= last)
            continue;
        if (count == BOOT_MEMORY_MAX)
            return -1;
        map[count++] = (struct boot_memory){first, last, MEMORY_TAKEN};
    }
    params->memory_count = memory_map_normalize(map, count, BOOT_MEMORY_MAX);
    return 0;
}
