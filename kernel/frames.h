// SPDX-License-Identifier: Apache-2.0
//
// The frame allocator. RAM is managed in chunks of 2 MiB; a chunk is free, handed out whole, or cut into frames of
// 4 KiB that belong either to domains or to the kernel. Each frame in use has an owner and a reference count. All
// operations take constant time. Lock: `frames_lock`, the innermost lock of the kernel but for the log's.

#pragma once

#include "arch/types.h"

struct boot_params;

// Owners are domain numbers from FRAME_OWNER_DOMAIN on. A table of zeros is one of frames that nobody may have.
enum {
    FRAME_OWNER_RESERVED,
    FRAME_OWNER_NONE,
    FRAME_OWNER_KERNEL,
    FRAME_OWNER_DOMAIN = 16,
    FRAME_OWNERS = 0x10000
};

struct frame {
    u16 owner;
    u16 references; // the owner's, and one for each share that covers the frame
};
SIZE_ASSERT(struct frame, 4);

/// Builds the frame table from the boot memory map; called once, before any other function here.
void frames_init(const struct boot_params *boot);

/// A zeroed page of the kernel's, or NULL when memory is out. Mapped in the pool window.
must_check void *frame_kernel_alloc(void);
void frame_kernel_free(void *page);
/// The same with the signature that arch/paging wants for its tables.
hpa_t frame_kernel_alloc_hpa(void);

/// One frame of 4 KiB for a domain, with one reference; not zeroed. HPA_NONE when memory is out.
hpa_t frame_alloc(u16 owner);
/// A whole chunk of 2 MiB, 2 MiB aligned, each frame with one reference; not zeroed. HPA_NONE if there is none.
hpa_t frame_alloc_chunk(u16 owner);
/// `bytes` (a multiple of 2 MiB) of contiguous chunks below `limit`. Boot only: looks through all chunks.
hpa_t frame_alloc_run(u16 owner, u64 bytes, u64 limit);

/// Takes over frames that the boot loader filled (modules): from reserved to `owner`, page aligned.
void frames_adopt(u16 owner, hpa_t base, u64 bytes);

/// Adds a reference (a mapping elsewhere, a pin) to `count` frames from a page on. The frames must have an owner.
void frames_get(hpa_t hpa, unsigned count);
/// Drops one of each; the last one gives a frame back. One step per frame, at most 512.
void frames_put(hpa_t hpa, unsigned count);
u32 frame_references(hpa_t hpa);

/// Bytes that no one holds.
u64 frames_free(void);
