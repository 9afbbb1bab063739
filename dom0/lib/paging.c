// SPDX-License-Identifier: Apache-2.0
//
// dom0's page tables: the image at the top 2 GiB with 4 KiB pages and the permissions of its
// segments, and the lower half one to one, writable and never executable. Invariants: no page is
// writable and executable, code and constants have no writable alias, page 0 and the stack's guard
// page are not present. What of the lower half is not there at first (without 1 GiB pages, or above
// 512 GiB) comes with phys_map().

#include "lib/paging.h"

#include "lib/memory.h"

#include <string.h>

#define PTE_P             BIT(0)
#define PTE_RW            BIT(1)
#define PTE_PS            BIT(7)
#define PTE_NX            BIT(63)
#define PTE_ADDR          0x000ffffffffff000ull
#define ENTRIES           512u

#define CPUID_EXTENDED_1G BIT(26) // leaf 0x80000001 EDX
#define HIDING_TABLES     4u      // for 8 MiB of code and constants
#define IMAGE_TABLES      16u     // page tables for the image: 32 MiB

extern u64 pml4[ENTRIES], identity_pdpt[ENTRIES], image_pd[ENTRIES], boot_pd[4 * ENTRIES];
extern const char stack_guard[], stack_top[];
extern const char __image_start[], __text_end[], __rodata_end[], __image_end[];

static u64 image_pt[IMAGE_TABLES][ENTRIES] __attribute__((aligned(4096)));
static u64 first_pt[ENTRIES] __attribute__((aligned(4096)));
static u64 hiding_pt[HIDING_TABLES][ENTRIES] __attribute__((aligned(4096)));
static u64 image_load;
static bool has_1g;

bool stack_contains(u64 address, u64 bytes) {
    u64 low = (u64)stack_guard + PAGE_SIZE, high = (u64)stack_top;
    return address >= low && address < high && bytes <= high - address;
}

bool address_is_stack_guard(u64 address) { return address - (u64)stack_guard < PAGE_SIZE; }

u64 phys_of(const void *p) {
    u64 address = (u64)p;
    return address >= IMAGE_BASE ? address - IMAGE_BASE + image_load : address;
}

static u64 table_entry(const void *table) { return phys_of(table) | PTE_P | PTE_RW; }

static void flush_all(void) {
    u64 cr3;
    __asm__ volatile("mov %%cr3, %0; mov %0, %%cr3" : "=r"(cr3) : : "memory");
}

// The permissions of the image's page at offset `offset`.
static u64 image_permissions(u64 offset) {
    u64 address = IMAGE_BASE + offset;
    if (address_is_stack_guard(address) || address >= (u64)__image_end)
        return 0;
    if (address < (u64)__text_end)
        return PTE_P;
    return address < (u64)__rodata_end ? PTE_P | PTE_NX : PTE_P | PTE_NX | PTE_RW;
}

static void map_image(void) {
    for (u64 page = 0; page < IMAGE_TABLES * ENTRIES; page++) {
        u64 permissions = image_permissions(page * PAGE_SIZE);
        image_pt[page / ENTRIES][page % ENTRIES] =
            permissions ? (image_load + page * PAGE_SIZE) | permissions : 0;
    }
    for (unsigned i = 0; i < IMAGE_TABLES; i++)
        image_pd[i] = table_entry(image_pt[i]);
}

// Code and constants have no second, writable mapping: nobody needs them at their load address.
static void hide_image(void) {
    u64 end = image_load + (u64)(__rodata_end - __image_start);
    for (unsigned t = 0; t < HIDING_TABLES && image_load + t * SUPERPAGE_SIZE < end; t++) {
        u64 base = image_load + t * SUPERPAGE_SIZE;
        for (u64 i = 0; i < ENTRIES; i++) {
            u64 address = base + i * PAGE_SIZE;
            hiding_pt[t][i] = address < end ? 0 : address | PTE_P | PTE_RW | PTE_NX;
        }
        boot_pd[base / SUPERPAGE_SIZE] = table_entry(hiding_pt[t]);
    }
}

// The first 4 GiB are there; what start.S made executable is not any more. Page 0 goes.
static void restrict_identity(void) {
    for (unsigned i = 0; i < 4 * ENTRIES; i++)
        boot_pd[i] |= PTE_NX;
    for (unsigned i = 1; i < ENTRIES; i++)
        first_pt[i] = i * PAGE_SIZE | PTE_P | PTE_RW | PTE_NX;
    boot_pd[0] = table_entry(first_pt);
    hide_image();
}

void paging_init(u64 load_address) {
    image_load = load_address;
    u32 eax = 0x80000001, ebx, ecx = 0, edx;
    __asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    has_1g = edx & CPUID_EXTENDED_1G;
    for (u64 i = 4; has_1g && i < ENTRIES; i++)
        identity_pdpt[i] = i * GIB | PTE_P | PTE_RW | PTE_NX | PTE_PS;
    map_image();
    restrict_identity();
    flush_all();
}

// The table that `entry` points to, made if there is none yet. Tables come from pages of the first
// 512 GiB.
static u64 *table_below(u64 *entry) {
    if (!(*entry & PTE_P)) {
        void *table = page_alloc(1);
        if (!table)
            return NULL;
        *entry = table_entry(table);
    }
    u64 address = *entry & PTE_ADDR;
    u64 offset = address - image_load;
    return offset < (u64)(__image_end - __image_start) ? (u64 *)(IMAGE_BASE + offset)
                                                       : (u64 *)address;
}

static bool map_gigabyte(u64 address) {
    u64 *pdpt = table_below(&pml4[address / (ENTRIES * GIB)]);
    if (!pdpt)
        return false;
    u64 *entry = &pdpt[address / GIB % ENTRIES];
    if (*entry & PTE_P)
        return true;
    if (has_1g) {
        *entry = address | PTE_P | PTE_RW | PTE_NX | PTE_PS;
        return true;
    }
    u64 *pd = table_below(entry);
    for (u64 i = 0; pd && i < ENTRIES; i++)
        pd[i] = (address + i * SUPERPAGE_SIZE) | PTE_P | PTE_RW | PTE_NX | PTE_PS;
    return pd != NULL;
}

void *phys_map(u64 base, u64 bytes) {
    u64 limit = BIT(47);
    if (bytes == 0 || base < PAGE_SIZE || base >= limit || bytes > limit - base)
        return NULL;
    for (u64 address = ALIGN_DOWN(base, GIB); address < base + bytes; address += GIB)
        if (!map_gigabyte(address))
            return NULL;
    return (void *)base;
}
