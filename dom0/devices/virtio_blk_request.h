// SPDX-License-Identifier: Apache-2.0
//
// A request of the virtio block device, between virtio_blk.c (the queue) and virtio_blk_request.c
// (what is in it).

#pragma once

#include "virtio_blk.h"

#define BLK_SEGMENTS 64u

struct blk_header {
    uint32_t type, reserved;
    uint64_t sector;
};
_Static_assert(sizeof(struct blk_header) == 16, "virtio ABI");

struct virtio_blk_request {
    struct host_disk_request disk; // first
    struct virtio_blk *blk;
    struct virtio_blk_request *next;
    struct blk_header header;
    uint32_t data_bytes, done_bytes, slice_bytes;
    unsigned segment_count;
    struct host_segment segments[BLK_SEGMENTS];
    struct virtqueue_chain chain;
};

static inline struct virtqueue *virtio_blk_ring(struct virtio_blk *blk) {
    return &blk->device.queues[0];
}

/// A request to fill in, from the device's idle ones or the heap; NULL without memory.
struct virtio_blk_request *virtio_blk_obtain(struct virtio_blk *blk);
void virtio_blk_recycle(struct virtio_blk_request *request);

/// Carries out the request whose chain was taken. False if it cannot be made sense of at all: the
/// device is broken then.
bool virtio_blk_start(struct virtio_blk_request *request);
