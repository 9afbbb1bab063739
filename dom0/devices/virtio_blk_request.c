// SPDX-License-Identifier: Apache-2.0
//
// The virtio block device's requests: header and status are copied, data goes from and to the
// guest's pages in place. A request that cannot be made sense of (no header, no status byte) stops
// the device; one that asks for the impossible gets an error status. Follows "Device Operation" of
// the block device in virtio 1.2.

#include "virtio_blk_request.h"

#define BLK_T_IN     0u
#define BLK_T_OUT    1u
#define BLK_T_FLUSH  4u
#define BLK_T_GET_ID 8u

#define BLK_S_OK     0u
#define BLK_S_IOERR  1u
#define BLK_S_UNSUPP 2u

#define BLK_SLICE    (1024u * 1024u) // bytes that go to the disk at once, at most
#define SECTOR       512u

void virtio_blk_recycle(struct virtio_blk_request *r) {
    r->next = r->blk->idle;
    r->blk->idle = r;
}

struct virtio_blk_request *virtio_blk_obtain(struct virtio_blk *blk) {
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
static void finish(struct virtio_blk_request *r, uint8_t status, uint32_t written) {
    struct virtio_blk *blk = r->blk;
    blk->stats.errors += status == BLK_S_IOERR;
    virtqueue_write(virtio_blk_ring(blk), &r->chain, r->chain.write_bytes - 1, &status, 1);
    virtqueue_push(virtio_blk_ring(blk), r->chain.head, written + 1);
    virtio_blk_recycle(r);
    host_work_queue(&blk->used);
}

static void slice_done(struct host_disk_request *disk, enum host_disk_result result);

static void submit(struct virtio_blk_request *r, enum host_disk_operation operation) {
    r->disk.operation = operation;
    r->disk.sector = r->header.sector + r->done_bytes / SECTOR;
    r->disk.segments = r->segments;
    r->disk.segment_count = r->segment_count;
    r->disk.done = slice_done;
    r->blk->in_flight++;
    host_disk_submit(r->blk->disk, &r->disk);
}

// Drops what a mapped slice has beyond the last whole block: it goes with the next one. The end of
// the request stays as it is.
static size_t whole_blocks(struct virtio_blk_request *r, size_t mapped) {
    bool end = r->done_bytes + mapped == r->data_bytes;
    size_t surplus = end ? 0 : mapped % r->blk->block_size;
    while (surplus) {
        struct host_segment *last = &r->segments[r->segment_count - 1];
        size_t cut = last->length < surplus ? last->length : surplus;
        last->length -= cut;
        surplus -= cut;
        mapped -= cut;
        if (last->length == 0) {
            virtqueue_unmap(virtio_blk_ring(r->blk), 1);
            r->segment_count--;
        }
    }
    return mapped;
}

static bool submit_slice(struct virtio_blk_request *r) {
    size_t left = r->data_bytes - r->done_bytes, mapped;
    size_t offset = r->done_bytes + (is_read(r) ? 0 : sizeof(r->header));
    if (!virtqueue_map(virtio_blk_ring(r->blk), &r->chain, is_read(r), offset,
                       left < BLK_SLICE ? left : BLK_SLICE, r->segments, BLK_SEGMENTS,
                       &r->segment_count, &mapped))
        return false;
    r->slice_bytes = (uint32_t)whole_blocks(r, mapped);
    if (r->slice_bytes == 0) {
        virtqueue_unmap(virtio_blk_ring(r->blk), r->segment_count);
        return false;
    }
    submit(r, is_read(r) ? HOST_DISK_READ : HOST_DISK_WRITE);
    return true;
}

static void slice_done(struct host_disk_request *disk, enum host_disk_result result) {
    struct virtio_blk_request *r = (struct virtio_blk_request *)disk;
    struct virtio_blk *blk = r->blk;
    virtqueue_unmap(virtio_blk_ring(blk), r->segment_count);
    r->segment_count = 0;
    r->done_bytes += r->slice_bytes;
    blk->in_flight--;
    if (blk->device.state->resetting) {
        virtio_blk_recycle(r);
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

static void start_transfer(struct virtio_blk_request *r, uint32_t bytes) {
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

static void answer_id(struct virtio_blk_request *r) {
    uint32_t room = r->chain.write_bytes - 1;
    uint32_t bytes = room < MACHINE_SERIAL_SIZE ? room : MACHINE_SERIAL_SIZE;
    virtqueue_write(virtio_blk_ring(r->blk), &r->chain, 0, r->blk->serial, bytes);
    finish(r, BLK_S_OK, bytes);
}

bool virtio_blk_start(struct virtio_blk_request *r) {
    struct virtio_blk *blk = r->blk;
    r->data_bytes = r->done_bytes = r->slice_bytes = 0;
    r->segment_count = 0;
    size_t header =
        virtqueue_read(virtio_blk_ring(blk), &r->chain, 0, &r->header, sizeof(r->header));
    if (header != sizeof(r->header) || r->chain.write_bytes == 0) {
        virtio_blk_recycle(r);
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
