// SPDX-License-Identifier: Apache-2.0
//
// The virtio block device: what it offers, and how its queue is served. Completions of one pass of
// the event loop share one interrupt. Follows "Block Device" of virtio 1.2.

#include <string.h>

#include <basalt/error.h>

#include "access.h"
#include "virtio_blk.h"
#include "virtio_blk_request.h"

#define BLK_TYPE        2u
#define BLK_CLASS       0x018000u // mass storage, other

#define BLK_F_SEG_MAX   (1ull << 2)
#define BLK_F_RO        (1ull << 5)
#define BLK_F_BLK_SIZE  (1ull << 6)
#define BLK_F_FLUSH     (1ull << 9)

#define BLK_BUDGET      64u // requests started per turn

#define CONFIG_CAPACITY 0u
#define CONFIG_SEG_MAX  12u
#define CONFIG_BLK_SIZE 20u

// Starts up to BLK_BUDGET requests; returns whether there may be more.
static bool start_available(struct virtio_blk *blk) {
    for (unsigned i = 0; i < BLK_BUDGET; i++) {
        struct virtio_blk_request *r = virtio_blk_obtain(blk);
        // Without memory a request is under way (virtio_blk_init() made one), and its end goes on here.
        blk->starved = !r;
        if (!r)
            return false;
        enum virtqueue_result taken = virtqueue_pop(virtio_blk_ring(blk), &r->chain);
        if (taken != VIRTQUEUE_CHAIN_TAKEN) {
            virtio_blk_recycle(r);
            if (taken == VIRTQUEUE_MALFORMED)
                virtio_device_broken(&blk->device, "malformed ring");
            return taken == VIRTQUEUE_EMPTY && virtqueue_kicks(virtio_blk_ring(blk), true);
        }
        if (!virtio_blk_start(r))
            return false;
    }
    return true;
}

static void blk_kick(struct virtio_device *device, unsigned queue) {
    struct virtio_blk *blk = (struct virtio_blk *)device;
    (void)queue;
    virtqueue_kicks(virtio_blk_ring(blk), false);
    if (start_available(blk))
        host_work_queue(&blk->more);
}

static void go_on(void *context) {
    struct virtio_blk *blk = context;
    if (virtio_device_running(&blk->device))
        blk_kick(&blk->device, 0);
}

static void used(void *context) {
    struct virtio_blk *blk = context;
    if (!blk->device.state->resetting)
        virtio_device_used(&blk->device, 0);
}

static bool blk_stop(struct virtio_device *device) {
    struct virtio_blk *blk = (struct virtio_blk *)device;
    host_work_cancel(&blk->more);
    host_work_cancel(&blk->used);
    return blk->in_flight == 0;
}

static void blk_resume(struct virtio_device *device) {
    struct virtio_blk *blk = (struct virtio_blk *)device;
    for (uint16_t head = 0; head < VIRTQUEUE_SIZE; head++) {
        struct virtio_blk_request *r = virtio_blk_obtain(blk);
        enum virtqueue_result taken = r ? virtqueue_resume(virtio_blk_ring(blk), head, &r->chain)
                                        : VIRTQUEUE_MALFORMED;
        if (taken == VIRTQUEUE_CHAIN_TAKEN) {
            virtio_blk_start(r);
            continue;
        }
        if (r)
            virtio_blk_recycle(r);
        if (taken == VIRTQUEUE_MALFORMED)
            virtio_device_broken(device, "a request could not be resumed");
    }
    host_work_queue(&blk->used); // an interrupt may have been lost
}

static const struct virtio_model blk_model = {
    .type = BLK_TYPE,
    .kind = STATE_VIRTIO_BLK,
    .class = BLK_CLASS,
    .queues = 1,
    .kick = blk_kick,
    .stop = blk_stop,
    .resume = blk_resume,
};

int virtio_blk_init(struct virtio_blk *blk, const struct machine_disk *disk, struct vpci_bus *bus,
                    unsigned slot, struct guest_memory *memory, struct virtio_function_state *page,
                    bool fresh) {
    uint64_t features = BLK_F_SEG_MAX | BLK_F_BLK_SIZE | BLK_F_FLUSH;
    blk->disk = disk->device;
    blk->read_only = disk->read_only || host_disk_read_only(disk->device);
    blk->sectors = host_disk_sectors(disk->device);
    blk->block_size = host_disk_block_size(disk->device);
    memcpy(blk->serial, disk->serial, sizeof(blk->serial));
    blk->used = (struct host_work){.handler = used, .context = blk};
    blk->more = (struct host_work){.handler = go_on, .context = blk};
    struct virtio_blk_request *first = virtio_blk_obtain(blk);
    if (!first)
        return -BASALT_ENOMEM;
    virtio_blk_recycle(first);
    access_store(blk->device.config + CONFIG_CAPACITY, 8, blk->sectors);
    access_store(blk->device.config + CONFIG_SEG_MAX, 4, VIRTQUEUE_SIZE - 2); // header and status
    access_store(blk->device.config + CONFIG_BLK_SIZE, 4, blk->block_size);
    virtio_device_init(&blk->device, &blk_model, bus, slot, memory, page,
                       features | (blk->read_only ? BLK_F_RO : 0), fresh);
    return 0;
}

void virtio_blk_free(struct virtio_blk *blk) {
    host_work_cancel(&blk->used);
    host_work_cancel(&blk->more);
    while (blk->idle) {
        struct virtio_blk_request *r = blk->idle;
        blk->idle = r->next;
        host_free(r);
    }
}
