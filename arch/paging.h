// SPDX-License-Identifier: Apache-2.0
//
// The kernel's own page tables. Invariant: nothing is writable and executable; every stack has an
// unmapped page below it; guest memory is mapped in CPU-local slots only. Follows the SDM, "Paging".
//
//   0xffff8000_00000000  POOL         kernel frames: POOL_BASE + physical address
//   0xffff9000_00000000  FRAME_TABLE  one array of frame descriptors
//   0xffffa000_00000000  SLOT         pages of the loaded domain, this CPU's own
//   0xffffb000_00000000  DEVICE       registers, firmware tables
//   0xffffc000_00000000  STACK
//   0xffffffff_80000000  image        + physical address

#pragma once

#include "arch/types.h"

#define POOL_BASE        0xffff800000000000ull
#define FRAME_TABLE_BASE 0xffff900000000000ull
#define SLOT_BASE        0xffffa00000000000ull
#define DEVICE_BASE      0xffffb00000000000ull
#define STACK_BASE       0xffffc00000000000ull
#define KERNEL_BASE      0xffffffff80000000ull

#define PTE_PRESENT      BIT(0)
#define PTE_WRITE        BIT(1)
#define PTE_PWT          BIT(3) // PAT index, bit 0
#define PTE_PCD          BIT(4) // PAT index, bit 1
#define PTE_ACCESSED     BIT(5)
#define PTE_DIRTY        BIT(6)
#define PTE_LARGE        BIT(7) // in the upper levels
#define PTE_GLOBAL       BIT(8)
#define PTE_NX           BIT(63)
#define PTE_ADDRESS      0x000ffffffffff000ull

// How to map.
#define MAP_READ  0x0u
#define MAP_WRITE 0x1u
#define MAP_EXEC  0x2u
#define MAP_UC    0x10u // strongly uncacheable
#define MAP_SMALL 0x40u // 4 KiB pages only

// PAT entries 0..5: WB, WT, UC-, UC, WC, WP (6, 7: UC-, UC).
#define PAT_VALUE 0x0007050100070406ull

/// Builds the kernel's tables and moves to them; the identity map is gone afterwards. Gives the boot CPU a kernel stack and
/// trap stacks with guard pages.
void paging_init(void);
/// From now on frames for tables come from `alloc` (zeroed or not; HPA_NONE when there is none; in
/// the pool window).
void paging_set_frame_source(hpa_t (*alloc)(void));

/// Maps [va, va + bytes) to pa, page aligned, 2 MiB pages where aligned unless MAP_SMALL. Returns
/// 0, or -1 when out of frames for tables (a part may then be mapped) or when something is mapped
/// there.
must_check int map_kernel(u64 va, hpa_t pa, u64 bytes, unsigned flags);
/// The same before frames_init(), when it can't fail.
void map_at_boot(u64 va, hpa_t pa, u64 bytes, unsigned flags);
/// Unmaps what map_kernel() mapped, in the same pieces. Tables stay.
void unmap_kernel(u64 va, u64 bytes);
/// Maps device registers or firmware memory at a fresh address in the device window, never
/// unmapped. `pa` need not be aligned. NULL when out of frames, and where there is RAM.
void *device_map(hpa_t pa, u64 bytes, unsigned flags);
/// Where a kernel address (any window) is in physical memory; HPA_NONE if it is not mapped.
hpa_t kernel_virt_to_hpa(const void *va);

/// A kernel frame's address in the pool window and back.
static inline void *pool_ptr(hpa_t pa) { return (void *)(POOL_BASE + pa.v); }

static inline hpa_t pool_hpa(const void *p) { return HPA((u64)p - POOL_BASE); }

/// Any RAM page, at the same offset in the page as `pa`, in this CPU's slot 0..SLOTS_MAX - 1: valid
/// until the slot is used again, or slots_clear(). This is the only way in which the kernel touches a
/// domain's memory. 0..15 are memory_window()'s, the last one memory_zero()'s.
void *slot_map(unsigned slot, hpa_t pa);
/// Forgets all slots: another domain is loaded, or a page of this one goes away.
void slots_clear(void);
