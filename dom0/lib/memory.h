// SPDX-License-Identifier: Apache-2.0
//
// Memory as dom0 sees it: its own RAM (pages, the C library's heap), guests' memory, and bus
// addresses. dom0's physical addresses are the machine's, and its lower half maps them one to one,
// but only this file may know that: pointers to guest memory come from guest_access() alone, bus
// addresses from dma_map() alone. Both pin what they hand out: a domain's memory stays mapped while
// its pins are not zero.

#pragma once

#include "lib/types.h"

// ---- dom0's own pages ----

/// `count` contiguous zeroed pages of dom0's RAM, page-aligned; NULL when there is no such run.
void *page_alloc(u64 count);
void page_free(void *pages, u64 count);

/// Pages free, pages in all.
u64 page_count_free(void);
u64 page_count_total(void);

/// Physical address of memory of dom0's own (image, stack, heap, pages).
u64 phys_of(const void *p);

/// Makes sure that [base, base + bytes) is mapped in dom0's page tables; returns a pointer to it
/// (identity), NULL without memory for tables. For device registers and firmware tables.
void *phys_map(u64 base, u64 bytes);

// ---- guest memory ----

#define GUEST_READ  1u
#define GUEST_WRITE 2u

// A run of guest-physical pages that lies contiguously in the machine's memory.
struct guest_extent {
    u64 gpa_page, hpa_page, pages;
};

// One share of a range of guest memory with dom0.
struct guest_range {
    u64 gpa_page, pages;
    u64 share;
    u32 flags; // GUEST_*
};

struct guest_memory {
    struct guest_extent *extents; // sorted by gpa_page, not overlapping, merged
    struct guest_range *ranges;
    u32 extent_count, extent_room;
    u32 range_count, range_room;
    u32 last;   // index of the extent found last
    u32 handle; // of the domain
    u64 pins;
};

/// Starts with no memory at all; `handle` is dom0's handle of the domain (RIGHT_MEMORY).
void guest_memory_init(struct guest_memory *m, u32 handle);

/// Shares `pages` pages at `gpa` of the domain with dom0 and maps them: guest_access() works on
/// them afterwards. The range must be populated. flags: GUEST_READ | GUEST_WRITE. Returns 0 or a
/// negative error; nothing is changed on error.
must_check int guest_memory_add(struct guest_memory *m, u64 gpa, u64 pages, u32 flags);

/// Takes the range back (before ballooning); it must have been added as such. -EBUSY while anything
/// is pinned.
must_check int guest_memory_remove(struct guest_memory *m, u64 gpa, u64 pages);

/// Ends all shares and frees the tables. -EBUSY while anything is pinned (pending I/O): try again
/// later.
must_check int guest_memory_destroy(struct guest_memory *m);

/// Pointer to guest memory at `gpa`, for `flags` (GUEST_READ, GUEST_WRITE). NULL if `gpa` is not
/// guest memory with that permission or bytes is 0. *contiguous (may be NULL only if the caller
/// needs all `bytes` at one place: then NULL is returned when they are not): how many bytes,
/// 1..bytes, lie at the pointer; the caller asks again for the rest. The content may change under
/// the reader at any time: read each field once (READ_ONCE). Each success is one pin, given back
/// with guest_release().
void *guest_access(struct guest_memory *m, u64 gpa, u64 bytes, unsigned flags, u64 *contiguous);

/// Gives back `count` pins.
void guest_release(struct guest_memory *m, u64 count);

/// Copies; false (and possibly a part copied) if not all of it is guest memory with the permission.
must_check bool guest_read(struct guest_memory *m, u64 gpa, void *to, u64 bytes);
must_check bool guest_write(struct guest_memory *m, u64 gpa, const void *from, u64 bytes);
must_check bool guest_fill(struct guest_memory *m, u64 gpa, u8 value, u64 bytes);

#define READ_ONCE(x)     (*(const volatile __typeof__(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile __typeof__(x) *)&(x) = (v))

// ---- bus addresses ----

/// Bus address for a device of dom0's of `bytes` bytes at `p`, which came from guest_access() or is
/// dom0's own memory; pinned until dma_unmap().
u64 dma_map(const void *p, u64 bytes);
void dma_unmap(u64 bus_address, u64 bytes);

/// How many mappings are there now.
u64 dma_mapped(void);
