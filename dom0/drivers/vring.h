// SPDX-License-Identifier: Apache-2.0
//
// The driver's side of a split virtqueue (virtio 1.2, "Split Virtqueues"). What the device writes
// is not trusted: the driver keeps its own copy of the chains, and reads of device memory only the
// used ring, each entry once. Invariant: a descriptor is either on the free list or belongs to
// exactly one chain in flight.

#pragma once

#include "lib/types.h"

#define VRING_MAX 128u

struct vring_desc {
    u64 address;
    u32 length;
    u16 flags, next;
};
SIZE_ASSERT(struct vring_desc, 16);

#define VRING_DESC_NEXT  1u
#define VRING_DESC_WRITE 2u // the device writes it

struct vring_avail {
    u16 flags, idx, ring[];
};

struct vring_used_elem {
    u32 id, length;
};

struct vring_used {
    u16 flags, idx;
    struct vring_used_elem ring[];
};

#define VRING_USED_NO_NOTIFY 1u

struct vring {
    u16 size; // a power of two, at most VRING_MAX
    u16 free_count, free_head;
    u16 avail_idx, used_idx; // the driver's own counters
    struct vring_desc *desc;
    struct vring_avail *avail;
    struct vring_used *used;
    u16 next[VRING_MAX];     // the driver's copy of the links
    void *cookie[VRING_MAX]; // of a chain, at its head; NULL: not the head of a chain in flight
    u32 writable[VRING_MAX]; // bytes of the chain that the device may write
};

// One piece of a chain.
struct vring_piece {
    u64 address; // bus address
    u32 bytes;
    bool write; // the device writes it; these come last
};

/// Bytes of memory (page-aligned, zeroed, contiguous) for a queue of `size` entries.
u64 vring_bytes(u16 size);

/// Lays the queue out in `memory`. All descriptors are free.
void vring_init(struct vring *q, u16 size, void *memory);

/// Adds a chain of `count` pieces, known as `cookie` (not NULL). Returns false if there are not
/// enough descriptors.
must_check bool vring_add(struct vring *q, const struct vring_piece *pieces, u16 count,
                          void *cookie);

/// Makes what was added visible to the device; returns whether the device wants to be notified.
bool vring_publish(struct vring *q);

/// Takes the next used chain: 1 and its cookie and the bytes written; 0 if there is none;
/// -BASALT_EINVAL if the device wrote nonsense (an index too far ahead, an id that is not in
/// flight, a length beyond the chain's): the device must be reset then.
must_check int vring_take(struct vring *q, void **cookie, u32 *length);

/// Takes back some chain in flight, after the device was reset; NULL if there is none.
void *vring_detach(struct vring *q);
