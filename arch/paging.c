// SPDX-License-Identifier: Apache-2.0
//
// The kernel's page tables: one walk, and what is built with it. Tables are frames in the pool
// window, so a table is reached through its physical address. Invariant: a mapping is never both
// writable and executable, and a present entry but a slot's is changed only by unmapping it; a slot
// whose slot_page is not ~0 maps exactly that page, and this CPU's TLB holds nothing else for it.
// Follows the SDM, "4-Level Paging" and "Page Attribute Table".

#include "arch/paging.h"

#include "arch/cpu.h"
#include "boot/boot.h"
#include "kernel/panic.h"

#define TABLE_ENTRIES 512u
#define TOP_LEVEL     4u

extern char __text_start[], __text_end[], __rodata_start[], __rodata_end[], __data_start[],
    __bss_end[], boot_pml4[];

static hpa_t kernel_root = {(u64)boot_pml4}; // until paging_init(): that of boot/entry.S
static hpa_t (*frame_source)(void) = early_frame;
static u64 device_next = DEVICE_BASE;
static u64 stack_next = STACK_BASE;

void paging_set_frame_source(hpa_t (*alloc)(void)) { frame_source = alloc; }

static u64 span(unsigned level) { return PAGE_SIZE << 9 * (level - 1); }

//  47     39 38     30 29     21 20     12 11      0
// |  level 4|  level 3|  level 2|  level 1|  offset  |     level 2 entries may map 2 MiB
//
// The entry of `va` at *level, or at a higher one, which is then in *level, where a large page maps it
// or a table is missing (and could not be made).
static u64 *walk(u64 va, unsigned *level, bool create) {
    u64 *table = pool_ptr(kernel_root);
    for (unsigned l = TOP_LEVEL;; l--) {
        u64 *entry = &table[va / span(l) % TABLE_ENTRIES];
        hpa_t frame = l > *level && create && !*entry ? frame_source() : HPA_NONE;
        if (frame.v != HPA_NONE.v) {
            memset(pool_ptr(frame), 0, PAGE_SIZE);
            *entry = frame.v | PTE_PRESENT | PTE_WRITE;
        }
        if (l == *level || !(*entry & PTE_PRESENT) || *entry & PTE_LARGE) {
            *level = l;
            return entry;
        }
        table = pool_ptr(HPA(*entry & PTE_ADDRESS));
    }
}

static u64 pte_flags(unsigned flags) {
    u64 pte = PTE_PRESENT | PTE_GLOBAL | PTE_ACCESSED | PTE_DIRTY;
    pte |= flags & MAP_WRITE ? PTE_WRITE : 0;
    pte |= flags & MAP_EXEC ? 0 : PTE_NX;
    pte |= flags & MAP_UC ? PTE_PCD | PTE_PWT : 0; // PAT entry 3
    return pte;
}

int map_kernel(u64 va, hpa_t pa, u64 bytes, unsigned flags) {
    assert(!(flags & MAP_WRITE && flags & MAP_EXEC), "the kernel never maps writable code");
    while (bytes) {
        bool large = !(flags & MAP_SMALL) && (va | pa.v) % SUPERPAGE_SIZE == 0 &&
                     bytes >= SUPERPAGE_SIZE;
        unsigned wanted = large ? 2 : 1, level = wanted;
        u64 step = span(wanted), *entry = walk(va, &level, true);
        if (level != wanted || *entry & PTE_PRESENT)
            return -1;
        *entry = pa.v | pte_flags(flags) | (large ? PTE_LARGE : 0);
        va += step;
        pa.v += step;
        bytes -= step;
    }
    return 0;
}

void unmap_kernel(u64 va, u64 bytes) {
    for (u64 end = va + bytes, step; va < end; va += step) {
        unsigned level = 1;
        u64 *entry = walk(va, &level, false);
        step = span(level) - va % span(level);
        *entry = 0;
        invlpg((void *)va);
    }
}

hpa_t kernel_virt_to_hpa(const void *p) {
    unsigned level = 1;
    u64 entry = *walk((u64)p, &level, false), offset_mask = span(level) - 1;
    return entry & PTE_PRESENT ? HPA((entry & PTE_ADDRESS & ~offset_mask) | ((u64)p & offset_mask))
                               : HPA_NONE;
}

void *device_map(hpa_t pa, u64 bytes, unsigned flags) {
    u64 base = ALIGN_DOWN(pa.v, PAGE_SIZE), end = ALIGN_UP(pa.v + bytes, PAGE_SIZE);
    if (!bytes || end <= base || end > BIT(cpu_features.physical_bits) || boot_is_ram(base, end))
        return NULL;
    if (bytes >= SUPERPAGE_SIZE) // congruent, so that large pages can be used
        device_next = ALIGN_UP(device_next, SUPERPAGE_SIZE) + base % SUPERPAGE_SIZE;
    u64 va = device_next;
    device_next += end - base;
    return map_kernel(va, HPA(base), end - base, flags) ? NULL : (u8 *)va + (pa.v - base);
}

void map_at_boot(u64 va, hpa_t pa, u64 bytes, unsigned flags) {
    int error = map_kernel(va, pa, bytes, flags);
    assert(!error, "early_frame() never fails");
}

// A stack with an unmapped page below. Returns its top.
static u64 stack_alloc(unsigned pages) {
    u64 base = stack_next + PAGE_SIZE; // the guard page
    stack_next = base + pages * PAGE_SIZE;
    for (u64 va = base; va < stack_next; va += PAGE_SIZE)
        map_at_boot(va, early_frame(), PAGE_SIZE, MAP_WRITE);
    return stack_next;
}

static void map_image(const char *start, const char *end, unsigned flags) {
    hpa_t pa = HPA((u64)start - KERNEL_BASE);
    map_at_boot((u64)start, pa, (u64)(end - start), flags | MAP_SMALL);
}

void paging_init(void) {
    unsigned level = 1;

    kernel_root = early_frame();
    hpa_t chunk = HPA(ALIGN_DOWN(kernel_root.v, SUPERPAGE_SIZE));
    map_at_boot((u64)pool_ptr(chunk), chunk, SUPERPAGE_SIZE, MAP_WRITE); // the first one
    map_image(__text_start, __text_end, MAP_EXEC);
    map_image(__rodata_start, __rodata_end, MAP_READ);
    map_image(__data_start, __bss_end, MAP_WRITE);
    boot_cpu.slot_table = walk(SLOT_BASE, &level, true);
    memset(boot_cpu.slot_page, 0xff, sizeof(boot_cpu.slot_page));
    write_cr3(kernel_root.v);
    boot_cpu.stack_top = stack_alloc(KERNEL_STACK_PAGES);
    for (unsigned i = 0; i < TRAP_STACKS; i++)
        boot_cpu.tss.ist[i] = stack_alloc(TRAP_STACK_PAGES);
}

void *slot_map(unsigned slot, hpa_t pa) {
    struct cpu *cpu = this_cpu();
    u64 page = pa.v >> PAGE_SHIFT, va = SLOT_BASE + slot * PAGE_SIZE;
    if (cpu->slot_page[slot] != page) {
        cpu->slot_table[slot] = (pa.v & PAGE_MASK) | pte_flags(MAP_WRITE);
        invlpg((void *)va);
        cpu->slot_page[slot] = page;
        cpu->slots_used |= 1u << slot;
        cpu->slot_changes++;
    }
    return (void *)(va + pa.v % PAGE_SIZE);
}

void slots_clear(void) {
    struct cpu *cpu = this_cpu();
    for (; cpu->slots_used; cpu->slots_used &= cpu->slots_used - 1) {
        unsigned slot = (unsigned)__builtin_ctz(cpu->slots_used);
        cpu->slot_table[slot] = 0;
        cpu->slot_page[slot] = ~0ull;
        invlpg((void *)(SLOT_BASE + slot * PAGE_SIZE));
    }
    cpu->slot_changes++;
}
