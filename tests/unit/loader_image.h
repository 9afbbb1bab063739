// SPDX-License-Identifier: Apache-2.0
//
// What the tests and the fuzzer of the guests' boot loaders share: a guest's memory map, and a
// check of a plan against what loader.h promises of every plan, wherever the kernel came from.

#pragma once

#include "toolstack/loader.h"

#include <stdlib.h>
#include <string.h>

// The map that dom0/devices gives a guest of `memory` bytes. Returns the count of ranges.
static inline unsigned image_memory_map(struct machine_memory_range *map, u64 memory) {
    unsigned n = 0;
    map[n++] = (struct machine_memory_range){0, MACHINE_EBDA, MACHINE_RAM, 0};
    map[n++] = (struct machine_memory_range){MACHINE_EBDA, MACHINE_LOW_END - MACHINE_EBDA,
                                             MACHINE_RESERVED, 0};
    map[n++] = (struct machine_memory_range){MACHINE_TABLES, MACHINE_TABLES_END - MACHINE_TABLES,
                                             MACHINE_RESERVED, 0};
    u64 low = memory < MACHINE_HOLE ? memory : MACHINE_HOLE;
    if (low > MIB)
        map[n++] = (struct machine_memory_range){MIB, low - MIB, MACHINE_RAM, 0};
    map[n++] = (struct machine_memory_range){MACHINE_ECAM, MACHINE_ECAM_SIZE, MACHINE_RESERVED, 0};
    if (memory > MACHINE_HOLE)
        map[n++] =
            (struct machine_memory_range){MACHINE_HIGH, memory - MACHINE_HOLE, MACHINE_RAM, 0};
    return n;
}

static inline bool image_inside(const u8 *p, u64 bytes, const u8 *of, u64 of_bytes) {
    return p >= of && bytes <= of_bytes && (u64)(p - of) <= of_bytes - bytes;
}

// Whether a placement's source is part of one of the input's files or of the plan's own area.
static inline bool image_source_known(const struct loader_input *in, const struct loader_plan *plan,
                                      const struct loader_placement *p) {
    if (p->source_bytes == 0 ||
        image_inside(p->source, p->source_bytes, in->kernel.data, in->kernel.bytes) ||
        image_inside(p->source, p->source_bytes, plan->area, LOADER_AREA_SIZE) ||
        image_inside(p->source, p->source_bytes, in->initrd.data, in->initrd.bytes))
        return true;
    for (u32 i = 0; i < in->module_count; i++)
        if (image_inside(p->source, p->source_bytes, in->modules[i].data, in->modules[i].bytes))
            return true;
    return false;
}

static inline bool image_in_ram(const struct loader_input *in, u64 gpa, u64 bytes) {
    for (unsigned i = 0; i < in->map_count; i++)
        if (in->map[i].type == MACHINE_RAM && gpa >= in->map[i].base && gpa + bytes >= gpa &&
            gpa + bytes <= in->map[i].base + in->map[i].size)
            return true;
    return false;
}

// Whether a plan keeps the promises of loader.h.
static inline bool image_plan_sound(const struct loader_input *in, const struct loader_plan *plan) {
    if (plan->count > LOADER_PLACEMENTS_MAX || plan->area_used > LOADER_AREA_SIZE ||
        plan->protocol == CONFIG_AUTO)
        return false;
    for (u32 i = 0; i < plan->count; i++) {
        const struct loader_placement *p = &plan->placements[i];
        if (p->bytes == 0 || p->source_bytes > p->bytes || !image_in_ram(in, p->gpa, p->bytes) ||
            !image_source_known(in, plan, p))
            return false;
        for (u32 k = 0; k < i; k++)
            if (p->gpa < plan->placements[k].gpa + plan->placements[k].bytes &&
                plan->placements[k].gpa < p->gpa + p->bytes)
                return false;
    }
    return true;
}

static inline void image_put(u8 *at, u64 value, unsigned bytes) {
    for (unsigned i = 0; i < bytes; i++)
        at[i] = (u8)(value >> 8 * i);
}

#define IMAGE_LINUX_CODE  4096u
#define IMAGE_LINUX_BYTES (5 * 512 + IMAGE_LINUX_CODE)

// A bzImage of protocol 2.15 that wants 1 MiB at 16 MiB.
static inline void image_make_linux(u8 *k) {
    memset(k, 0, IMAGE_LINUX_BYTES);
    k[0x1f1] = 4;
    image_put(k + 0x1f4, IMAGE_LINUX_CODE / 16, 4);
    image_put(k + 0x1fe, 0xaa55, 2);
    k[0x200] = 0xeb;
    k[0x201] = 0x6a; // the header ends at 0x26c
    memcpy(k + 0x202, "HdrS", 4);
    image_put(k + 0x206, 0x020f, 2);
    k[0x211] = 1;
    image_put(k + 0x22c, 0x7fffffff, 4);
    image_put(k + 0x230, 0x200000, 4);
    k[0x234] = 1;
    image_put(k + 0x236, 1, 2);
    image_put(k + 0x238, 2047, 4);
    image_put(k + 0x258, 0x1000000, 8);
    image_put(k + 0x260, MIB, 4);
    for (u32 i = 0; i < IMAGE_LINUX_CODE; i++)
        k[5 * 512 + i] = (u8)(i * 7 + 1);
}
