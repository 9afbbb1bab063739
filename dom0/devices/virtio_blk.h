// SPDX-License-Identifier: Apache-2.0
//
// The virtio block device: a guest's requests become requests to a disk, on the guest's own pages.
// Invariants: a request is acknowledged only when the disk has carried it out (a flush: when the
// disk has flushed); each of at most VIRTQUEUE_SIZE requests under way holds at most BLK_SEGMENTS
// pinned segments, a longer one goes to the disk in slices. Follows "Block Device" of virtio 1.2.

#pragma once

#include "machine.h"
#include "virtio.h"

struct virtio_blk_request;

struct virtio_blk {
    struct virtio_device device; // first
    struct block_device *disk;
    bool read_only;
    uint64_t sectors;    // of 512 bytes
    uint32_t block_size; // of the disk, bytes: slices end at its multiples
    uint8_t serial[MACHINE_SERIAL_SIZE];
    struct virtio_blk_request *idle;
    unsigned in_flight;
    bool starved;          // a request waits in the ring for want of memory
    struct host_work used; // interrupts the guest once for a batch
    struct host_work more; // goes on with the ring
    struct machine_disk_stats stats;
};

/// Fills in a zeroed device and puts it on the bus. Returns 0 or -BASALT_ENOMEM.
int virtio_blk_init(struct virtio_blk *blk, const struct machine_disk *disk, struct vpci_bus *bus,
                    unsigned slot, struct guest_memory *memory, struct virtio_function_state *page,
                    bool fresh);

/// Frees what it holds; nothing may be under way (virtio_device_end()).
void virtio_blk_free(struct virtio_blk *blk);
