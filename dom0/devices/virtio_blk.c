// SPDX-License-Identifier: Apache-2.0
//
// The virtio block device's requests: header and status are copied, data goes from and to the
// guest's pages in place. Completions of one pass of the event loop share one interrupt. A request
// that cannot be made sense of at all (no header, no status byte) stops the device; one that asks
// for the impossible gets an error status. Follows "Device Operation" of the block device in virtio
// 1.2.

#include <string.h>

#include <basalt/error.h>

#include "access.h"
#include "virtio_blk.h"

#define BLK_TYPE        2u
#define BLK_CLASS       0x018000u // mass storage, other

#define BLK_F_SEG_MAX   (1ull << 2)
#define BLK_F_RO        (1ull << 5)
#define BLK_F_BLK_SIZE  (1ull << 6)
#define BLK_F_FLUSH     (1ull << 9)

#define BLK_T_IN        0u
#define BLK_T_OUT       1u
#define BLK_T_FLUSH     4u
#define BLK_T_GET_ID    8u

#define BLK_S_OK        0u
#define BLK_S_IOERR     1u
#define BLK_S_UNSUPP    2u

#define CONFIG_CAPACITY 0u
#define CONFIG_SEG_MAX  12u
#define CONFIG_BLK_SIZE 20u

#define BLK_SEGMENTS    64u
#define BLK_SLICE       (1024u * 1024u) // bytes that go to the disk at once, at most
#define BLK_BUDGET      64u             // requests started per turn
#define SECTOR          512u

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

static struct virtqueue *ring(struct virtio_blk *blk) { return &blk->device.queues[0]; }

static void recycle(struct virtio_blk_request *r)
{
    r->next = r->blk->idle;
    r->blk->idle = r;
}

static struct virtio_blk_request *obtain(struct virtio_blk *blk)
{
    struct virtio_blk_request *r = blk->idle;
    if (r)
        blk->idle = r->next;
    else
        r = host_alloc(sizeof(*r));
    if (r)
        r->blk = blk;
    return r;
}

static bool is_read(const struct virtio_blk_request *r) { return r->header.type == BLK_T_IN; }

// The request has its answer. The status byte is the last one of the writable part.
static void finish(struct virtio_blk_request *r, uint8_t status, uint32_t written)
{
    struct virtio_blk *blk = r->blk;
    blk->stats.errors += status == BLK_S_IOERR;
    virtqueue_write(ring(blk), &r->chain, r->chain.write_bytes - 1, &status, 1);
    virtqueue_push(ring(blk), r->chain.head, written + 1);
    recycle(r);
    host_work_queue(&blk->used);
}

static void slice_done(struct host_disk_request *disk, enum host_disk_result result);

static void submit(struct virtio_blk_request *r, enum host_disk_operation operation)
{
    r->disk.operation = operation;
    r->disk.sector = r->header.sector + r->done_bytes / SECTOR;
    r->disk.segments = r->segments;
    r->disk.segment_count = r->segment_count;
    r->disk.done = slice_done;
    r->blk->in_flight++;
    host_disk_submit(r->blk->disk, &r->disk);
}

// Drops what a mapped slice has beyond the last whole sector: it goes with the next one.
static size_t whole_sectors(struct virtio_blk_request *r, size_t mapped)
{
    size_t surplus = mapped % SECTOR;
    while (surplus) {
        struct host_segment *last = &r->segments[r->segment_count - 1];
        size_t cut = last->length < surplus ? last->length : surplus;
        last->length -= cut;
        surplus -= cut;
        mapped -= cut;
        if (last->length == 0) {
            virtqueue_unmap(ring(r->blk), 1);
            r->segment_count--;
        }
    }
    return mapped;
}

static bool submit_slice(struct virtio_blk_request *r)
{
    size_t left = r->data_bytes - r->done_bytes, mapped;
    size_t offset = r->done_bytes + (is_read(r) ? 0 : sizeof(r->header));
    if (!virtqueue_map(ring(r->blk), &r->chain, is_read(r), offset,
                       left < BLK_SLICE ? left : BLK_SLICE, r->segments, BLK_SEGMENTS,
                       &r->segment_count, &mapped))
        return false;
    r->slice_bytes = (uint32_t)whole_sectors(r, mapped);
    if (r->slice_bytes == 0) {
        virtqueue_unmap(ring(r->blk), r->segment_count);
        return false;
    }
    submit(r, is_read(r) ? HOST_DISK_READ : HOST_DISK_WRITE);
    return true;
}

static void slice_done(struct host_disk_request *disk, enum host_disk_result result)
{
    struct virtio_blk_request *r = (struct virtio_blk_request *)disk;
    struct virtio_blk *blk = r->blk;
    virtqueue_unmap(ring(blk), r->segment_count);
    r->segment_count = 0;
    r->done_bytes += r->slice_bytes;
    blk->in_flight--;
    if (blk->device.state->resetting) {
        recycle(r);
        if (blk->in_flight == 0)
            virtio_device_drained(&blk->device);
        return;
    }
    if (result == HOST_DISK_OK && r->done_bytes < r->data_bytes && submit_slice(r))
        return;
    bool complete = result == HOST_DISK_OK && r->done_bytes == r->data_bytes;
    uint8_t failure = result == HOST_DISK_UNSUPPORTED ? BLK_S_UNSUPP : BLK_S_IOERR;
    finish(r, complete ? BLK_S_OK : failure, is_read(r) ? r->done_bytes : 0);
    if (blk->starved)
        host_work_queue(&blk->more);
}

static void start_transfer(struct virtio_blk_request *r, uint32_t bytes)
{
    struct virtio_blk *blk = r->blk;
    uint64_t count = bytes / SECTOR;
    bool possible = bytes % SECTOR == 0 && count <= blk->sectors &&
                    r->header.sector <= blk->sectors - count;
    if (!possible || (!is_read(r) && blk->read_only)) {
        finish(r, BLK_S_IOERR, 0);
        return;
    }
    r->data_bytes = bytes;
    *(is_read(r) ? &blk->stats.reads : &blk->stats.writes) += 1;
    *(is_read(r) ? &blk->stats.read_bytes : &blk->stats.written_bytes) += bytes;
    if (bytes == 0)
        finish(r, BLK_S_OK, 0);
    else if (!submit_slice(r))
        finish(r, BLK_S_IOERR, 0);
}

static void answer_id(struct virtio_blk_request *r)
{
    uint32_t room = r->chain.write_bytes - 1;
    uint32_t bytes = room < MACHINE_SERIAL_SIZE ? room : MACHINE_SERIAL_SIZE;
    virtqueue_write(ring(r->blk), &r->chain, 0, r->blk->serial, bytes);
    finish(r, BLK_S_OK, bytes);
}

static bool start(struct virtio_blk_request *r)
{
    struct virtio_blk *blk = r->blk;
    r->data_bytes = r->done_bytes = r->slice_bytes = 0;
    r->segment_count = 0;
    size_t header = virtqueue_read(ring(blk), &r->chain, 0, &r->header, sizeof(r->header));
    if (header != sizeof(r->header) || r->chain.write_bytes == 0) {
        recycle(r);
        virtio_device_broken(&blk->device, "a request without header or status");
        return false;
    }
    switch (r->header.type) {
    case BLK_T_IN: start_transfer(r, r->chain.write_bytes - 1); break;
    case BLK_T_OUT: start_transfer(r, r->chain.read_bytes - (uint32_t)sizeof(r->header)); break;
    case BLK_T_FLUSH:
        blk->stats.flushes++;
        submit(r, HOST_DISK_FLUSH);
        break;
    case BLK_T_GET_ID: answer_id(r); break;
    default: finish(r, BLK_S_UNSUPP, 0); break;
    }
    return true;
}

// Starts up to BLK_BUDGET requests; returns whether there may be more.
static bool start_available(struct virtio_blk *blk)
{
    for (unsigned i = 0; i < BLK_BUDGET; i++) {
        struct virtio_blk_request *r = obtain(blk);
        blk->starved = r ==
                       NULL; // then one is under way, since init() made one; its end goes on here
        if (!r)
            return false;
        enum virtqueue_result taken = virtqueue_pop(ring(blk), &r->chain);
        if (taken != VIRTQUEUE_CHAIN_TAKEN) {
            recycle(r);
            if (taken == VIRTQUEUE_MALFORMED)
                virtio_device_broken(&blk->device, "malformed ring");
            return taken == VIRTQUEUE_EMPTY && virtqueue_kicks(ring(blk), true);
        }
        if (!start(r))
            return false;
    }
    return true;
}

static void blk_kick(struct virtio_device *device, unsigned queue)
{
    struct virtio_blk *blk = (struct virtio_blk *)device;
    (void)queue;
    virtqueue_kicks(ring(blk), false);
    if (start_available(blk))
        host_work_queue(&blk->more);
}

static void go_on(void *context)
{
    struct virtio_blk *blk = context;
    if (virtio_device_running(&blk->device))
        blk_kick(&blk->device, 0);
}

static void used(void *context)
{
    struct virtio_blk *blk = context;
    if (!blk->device.state->resetting)
        virtio_device_used(&blk->device, 0);
}

static bool blk_stop(struct virtio_device *device)
{
    struct virtio_blk *blk = (struct virtio_blk *)device;
    host_work_cancel(&blk->more);
    host_work_cancel(&blk->used);
    return blk->in_flight == 0;
}

static void blk_resume(struct virtio_device *device)
{
    struct virtio_blk *blk = (struct virtio_blk *)device;
    for (uint16_t head = 0; head < VIRTQUEUE_SIZE; head++) {
        struct virtio_blk_request *r = obtain(blk);
        enum virtqueue_result taken = r ? virtqueue_resume(ring(blk), head, &r->chain)
                                        : VIRTQUEUE_MALFORMED;
        if (taken == VIRTQUEUE_CHAIN_TAKEN) {
            start(r);
            continue;
        }
        if (r)
            recycle(r);
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
                    bool fresh)
{
    uint64_t features = BLK_F_SEG_MAX | BLK_F_BLK_SIZE | BLK_F_FLUSH;
    blk->disk = disk->device;
    blk->read_only = disk->read_only || host_disk_read_only(disk->device);
    blk->sectors = host_disk_sectors(disk->device);
    memcpy(blk->serial, disk->serial, sizeof(blk->serial));
    blk->used = (struct host_work){.handler = used, .context = blk};
    blk->more = (struct host_work){.handler = go_on, .context = blk};
    struct virtio_blk_request *first = obtain(blk);
    if (!first)
        return -BASALT_ENOMEM;
    recycle(first);
    access_store(blk->device.config + CONFIG_CAPACITY, 8, blk->sectors);
    access_store(blk->device.config + CONFIG_SEG_MAX, 4, VIRTQUEUE_SIZE - 2); // header and status
    access_store(blk->device.config + CONFIG_BLK_SIZE, 4, host_disk_block_size(disk->device));
    virtio_device_init(&blk->device, &blk_model, bus, slot, memory, page,
                       features | (blk->read_only ? BLK_F_RO : 0), fresh);
    return 0;
}

void virtio_blk_free(struct virtio_blk *blk)
{
    host_work_cancel(&blk->used);
    host_work_cancel(&blk->more);
    while (blk->idle) {
        struct virtio_blk_request *r = blk->idle;
        blk->idle = r->next;
        host_free(r);
    }
}
