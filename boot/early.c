// SPDX-License-Identifier: Apache-2.0
//
// Memory before the frame allocator: what is used is taken out of the boot memory map. Chunks of 2
// MiB for single frames are mapped whole in the pool window, so they count as taken whole. Nothing
// is ever given back.

#include "boot/boot.h"

#include "arch/paging.h"
#include "kernel/log.h"
#include "kernel/panic.h"

#define LOW_END 0x100000ull // firmware data, panic record, start-up code of other CPUs
#define LIMIT   (4 * GIB)   // the boot page tables reach that far
#define REFILL  8u          // frames that mapping the next chunk may take

extern char __boot_start[], __boot_end[], __kernel_start[], __kernel_end[];

static struct boot_params *boot;
static u64 chunk_next, chunk_end;

static void early_reserve(u64 base, u64 end) {
    if (memory_map_take(boot, base, end))
        panic("more than %u ranges in the memory map", BOOT_MEMORY_MAX);
}

void early_init(struct boot_params *params) {
    boot = params;
    early_reserve(0, LOW_END);
    early_reserve((u64)__boot_start, (u64)__boot_end);
    early_reserve((u64)__kernel_start - KERNEL_BASE, (u64)__kernel_end - KERNEL_BASE);
    for (struct boot_module *m = params->modules; m < params->modules + params->module_count; m++) {
        if (m->size &&
            !memory_map_is_free(params, m->base, ALIGN_UP(m->base + m->size, PAGE_SIZE))) {
            log_warn("basalt: module: 0x%lx ignored: not in free memory", m->base);
            m->size = 0;
        }
        early_reserve(m->base, m->base + m->size);
    }
}

bool boot_is_ram(u64 base, u64 end) { return memory_map_has_ram(boot, base, end); }

static u64 find_chunk(void) {
    for (unsigned i = 0; i < boot->memory_count; i++) {
        const struct boot_memory *m = &boot->memory[i];
        u64 base = ALIGN_UP(m->base, SUPERPAGE_SIZE);
        if (m->kind == MEMORY_RAM && base + SUPERPAGE_SIZE <= MIN(m->end, LIMIT))
            return base;
    }
    panic("no 2 MiB of free memory below 4 GiB");
}

static void next_chunk(void) {
    u64 chunk = find_chunk();
    early_reserve(chunk, chunk + SUPERPAGE_SIZE);
    if (chunk_end) // paging_init() maps the first one
        map_at_boot(POOL_BASE + chunk, HPA(chunk), SUPERPAGE_SIZE, MAP_WRITE);
    chunk_next = chunk;
    chunk_end = chunk + SUPERPAGE_SIZE;
}

hpa_t early_frame(void) {
    static bool growing; // the tables that map the next chunk come from the end of this one
    if (!growing && chunk_end - chunk_next <= REFILL * PAGE_SIZE) {
        growing = true;
        next_chunk();
        growing = false;
    }
    hpa_t frame = HPA(chunk_next);
    chunk_next += PAGE_SIZE;
    memset(pool_ptr(frame), 0, PAGE_SIZE);
    return frame;
}

void early_rest(u64 *base, u64 *end) {
    *base = chunk_next;
    *end = chunk_end;
}
