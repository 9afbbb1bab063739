// SPDX-License-Identifier: Apache-2.0
//
// Stand-in for arch/paging.h on the host: "physical memory" is one array, always mapped; the frame table lies in
// another.

#pragma once

#include "arch/cpu.h"
#include "arch/types.h"

#define HOST_RAM (64 * MIB)

extern u8 host_ram[HOST_RAM];
extern u8 host_tables[];

#define FRAME_TABLE_BASE ((u64)host_tables)
#define CHUNK_TABLE_BASE ((u64)host_tables + 16 * MIB)
#define POOL_BASE        0xffff800000000000ull
#define KERNEL_BASE      0xffffffff80000000ull
#define MAP_READ         0x0u
#define MAP_WRITE        0x1u

void *device_map(hpa_t pa, u64 bytes, unsigned flags);

#define PTE_PRESENT  BIT(0)
#define PTE_WRITE    BIT(1)
#define PTE_USER     BIT(2)
#define PTE_ACCESSED BIT(5)
#define PTE_DIRTY    BIT(6)
#define PTE_LARGE    BIT(7)
#define PTE_NX       BIT(63)
#define PTE_ADDRESS  0x000ffffffffff000ull

static inline void *pool_ptr(hpa_t pa) {
    if (pa.v >= HOST_RAM)
        __builtin_trap(); // not RAM
    return host_ram + pa.v;
}
static inline hpa_t pool_hpa(const void *p) { return HPA((u64)((const u8 *)p - host_ram)); }
static inline void *slot_map(unsigned slot unused, hpa_t pa) { return pool_ptr(pa); }
static inline void slots_clear(void) { host_cpu.slot_changes++; }
static inline hpa_t kernel_virt_to_hpa(const void *va unused) { return HPA(0); }
static inline void map_at_boot(u64 va unused, hpa_t pa unused, u64 bytes unused,
                               unsigned flags unused) {}
static inline void unmap_kernel(u64 va unused, u64 bytes unused) {}
static inline void paging_set_frame_source(hpa_t (*alloc)(void) unused) {}

extern unsigned host_map_failures; // the next so many map_kernel() fail
static inline int map_kernel(u64 va unused, hpa_t pa unused, u64 bytes unused,
                             unsigned flags unused) {
    return host_map_failures && host_map_failures-- ? -1 : 0;
}
