// SPDX-License-Identifier: Apache-2.0
//
// The driver's side of a split virtqueue (virtio 1.2, "Split Virtqueues"). What the device writes
// is not trusted: the driver keeps its own copy of the chains, and reads of device memory only the
// used ring, each entry once. Invariant: a descriptor is either on the free list or belongs to
// exactly one chain in flight.

#pragma once

#include "lib/types.h"

#define VIRTQUEUE_MAX 128u

struct virtq_desc {
    u64 address;
    u32 length;
    u16 flags, next;
};
SIZE_ASSERT(struct virtq_desc, 16);

#define VIRTQ_DESC_NEXT  1u
#define VIRTQ_DESC_WRITE 2u // the device writes it

struct virtq_avail {
    u16 flags, idx, ring[];
};

struct virtq_used_elem {
    u32 id, length;
};

struct virtq_used {
    u16 flags, idx;
    struct virtq_used_elem ring[];
};

#define VIRTQ_USED_NO_NOTIFY 1u

struct virtqueue {
    u16 size; // a power of two, at most VIRTQUEUE_MAX
    u16 free_count, free_head;
    u16 avail_idx, used_idx; // the driver's own counters
    struct virtq_desc *desc;
    struct virtq_avail *avail;
    struct virtq_used *used;
    u16 next[VIRTQUEUE_MAX];     // the driver's copy of the links
    void *cookie[VIRTQUEUE_MAX]; // of a chain, at its head; NULL: not the head of a chain in flight
    u32 writable[VIRTQUEUE_MAX]; // bytes of the chain that the device may write
};

// One piece of a chain.
struct virtq_piece {
    u64 address; // bus address
    u32 bytes;
    bool write; // the device writes it; these come last
};

/// Bytes of memory (page-aligned, zeroed, contiguous) for a queue of `size` entries.
u64 virtqueue_bytes(u16 size);

/// Lays the queue out in `memory`. All descriptors are free.
void virtqueue_init(struct virtqueue *q, u16 size, void *memory);

/// Adds a chain of `count` pieces, known as `cookie` (not NULL). Returns false if there are not
/// enough descriptors.
must_check bool virtqueue_add(struct virtqueue *q, const struct virtq_piece *pieces, u16 count,
                              void *cookie);

/// Makes what was added visible to the device; returns whether the device wants to be notified.
bool virtqueue_publish(struct virtqueue *q);

/// Takes the next used chain: 1 and its cookie and the bytes written; 0 if there is none;
/// -BASALT_EINVAL if the device wrote nonsense (an index too far ahead, an id that is not in
/// flight, a length beyond the chain's): the device must be reset then.
must_check int virtqueue_take(struct virtqueue *q, void **cookie, u32 *length);

/// Takes back some chain in flight, after the device was reset; NULL if there is none.
void *virtqueue_detach(struct virtqueue *q);
