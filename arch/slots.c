// SPDX-License-Identifier: Apache-2.0
//
// CPU-local windows on guest pages: the only way in which the kernel touches a domain's memory.
// Slots 0..15 are a direct-mapped cache keyed by page number, 16..31 are chosen by the caller.
// Invariant: a slot whose slot_page is not ~0 maps exactly that page, and this CPU's TLB holds
// nothing else for it.

#include "arch/cpu.h"
#include "arch/paging.h"
#include "arch/x86.h"

#define CACHE_SLOTS 16u
#define SLOT_PTE    (PTE_PRESENT | PTE_WRITE | PTE_NX | PTE_ACCESSED | PTE_DIRTY)

static void *slot_set(unsigned slot, hpa_t pa) {
    struct cpu *cpu = this_cpu();
    u64 page = pa.v >> PAGE_SHIFT, va = SLOT_BASE + slot * PAGE_SIZE;
    if (cpu->slot_page[slot] != page) {
        cpu->slot_table[slot] = (pa.v & PAGE_MASK) | SLOT_PTE;
        invlpg((void *)va);
        cpu->slot_page[slot] = page;
        cpu->slots_used |= 1u << slot;
        cpu->slot_changes++;
    }
    return (void *)(va + pa.v % PAGE_SIZE);
}

void *page_peek(hpa_t pa) { return slot_set(pa.v >> PAGE_SHIFT & (CACHE_SLOTS - 1), pa); }

void *slot_map(unsigned slot, hpa_t pa) {
    return slot_set(CACHE_SLOTS + slot % (SLOTS_MAX - CACHE_SLOTS), pa);
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
