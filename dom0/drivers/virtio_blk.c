// SPDX-License-Identifier: Apache-2.0
//
// virtio block devices (virtio 1.2, "Block Device"), modern interface over PCI. The device is not
// trusted: whatever it answers, each request ends once. Nonsense in the used ring fails the disk
// for good, a missing answer resets it and fails what was in flight; after three resets in a row
// without an answer it is given up.

#include "drivers.h"
#include "virtio_pci.h"

#include "block/block.h"
#include "lib/event.h"
#include "lib/log.h"
#include "lib/memory.h"
#include "lib/timer.h"

#include <stdio.h>
#include <stdlib.h>

#define DEVICE_TRANSITIONAL 0x1001
#define DEVICE_MODERN       0x1042

#define F_SIZE_MAX          BIT(1)
#define F_SEG_MAX           BIT(2)
#define F_RO                BIT(5)
#define F_BLK_SIZE          BIT(6)
#define F_FLUSH             BIT(9)
#define F_WANTED            (F_SIZE_MAX | F_SEG_MAX | F_RO | F_BLK_SIZE | F_FLUSH)

#define CONFIG_CAPACITY     0 // in 512-byte sectors, u64
#define CONFIG_SIZE_MAX     8
#define CONFIG_SEG_MAX      12
#define CONFIG_BLK_SIZE     20

#define T_IN                0u
#define T_OUT               1u
#define T_FLUSH             4u

#define S_OK                0u
#define S_IOERR             1u
#define S_UNSUPP            2u
#define S_NONE              0xffu // what the driver puts there first

#define SLOTS               VRING_MAX
#define PIECES_MAX          62u // of data per request, so that several fit into the queue
#define REQUEST_MAX         (4 * MIB)
#define TIMEOUT_NS          (30 * NS_PER_S)
#define WATCH_NS            NS_PER_S
#define POLL_NS             (2 * NS_PER_MS)
#define RESETS_MAX          3u

struct header {
    u32 type, reserved;
    u64 sector; // 512 bytes each
};
SIZE_ASSERT(struct header, 16);

// What the device reads and writes besides the data, one per request in flight.
struct slot {
    struct header header;
    u8 status, reserved[15];
};

struct virtio_blk {
    struct block_device disk;
    struct virtio_device device;
    struct vring queue;
    void *queue_memory;
    struct slot *slots;                    // DMA memory
    struct block_request *requests[SLOTS]; // NULL: the slot is free
    u8 free_slots[SLOTS];
    u32 free_count;
    u64 features;
    u32 resets;         // since the last answer
    struct work submit; // notifies once for all requests of a pass
    struct timer watch;
};

static void unmap_data(struct block_request *request) {
    struct block_walk walk;
    void *data;
    u64 bytes;
    block_walk_begin(&walk, request);
    while (block_walk_next(&walk, &data, &bytes))
        dma_unmap(phys_of(data), bytes);
}

static void finish(struct virtio_blk *b, u32 slot, enum block_status status) {
    struct block_request *request = b->requests[slot];
    b->requests[slot] = NULL;
    b->free_slots[b->free_count++] = (u8)slot;
    unmap_data(request);
    block_complete(request, status);
}

// After a reset: nothing is the device's any more.
static void finish_all(struct virtio_blk *b, enum block_status status) {
    while (vring_detach(&b->queue))
        continue;
    for (u32 slot = 0; slot < SLOTS; slot++)
        if (b->requests[slot])
            finish(b, slot, status);
}

static void give_up(struct virtio_blk *b, const char *why) {
    log_error(b->disk.name, "%s: the disk is out of use until dom0 restarts", why);
    if (!virtio_reset(&b->device))
        log_error(b->disk.name, "it does not even reset; it was cut off from memory");
    timer_cancel(&b->watch);
    finish_all(b, BLOCK_EFAILED);
    block_fail(&b->disk);
}

static bool start_device(struct virtio_blk *b) {
    if (!virtio_begin(&b->device, F_WANTED, &b->features))
        return false;
    if (!virtio_setup_queue(&b->device, 0, &b->queue, VRING_MAX, b->queue_memory))
        return false;
    // After a reset the queue may be shorter: then a request might never fit into it.
    if (b->disk.max_segments && b->queue.size < b->disk.max_segments + 2)
        return false;
    virtio_ready(&b->device);
    return true;
}

static void restart(struct virtio_blk *b, const char *why) {
    if (++b->resets > RESETS_MAX) {
        give_up(b, why);
        return;
    }
    log_warning(b->disk.name, "%s: resetting the disk", why);
    bool quiet = virtio_reset(&b->device);
    finish_all(b, BLOCK_ETIMEOUT);
    if (!quiet || !start_device(b))
        give_up(b, "the reset failed");
}

static enum block_status status_of(u8 status) {
    return status == S_OK ? BLOCK_OK : status == S_UNSUPP ? BLOCK_EINVAL : BLOCK_EIO;
}

static void take_answers(struct virtio_blk *b) {
    struct slot *slot;
    u32 length;
    int r;
    while ((r = vring_take(&b->queue, (void **)&slot, &length)) == 1) {
        u8 status = READ_ONCE(slot->status);
        b->resets = 0;
        finish(b, (u32)(slot - b->slots),
               status_of(status)); // S_NONE: it wrote no status, an error
    }
    if (r < 0)
        give_up(b, "the disk's answers make no sense");
}

static void interrupt(void *context) {
    struct virtio_blk *b = context;
    if (!b->disk.failed)
        take_answers(b);
    virtio_ack(&b->device);
}

static bool oldest_is_late(const struct virtio_blk *b, u64 now) {
    for (u32 slot = 0; slot < SLOTS; slot++)
        if (b->requests[slot] && b->requests[slot]->deadline <= now)
            return true;
    return false;
}

// Runs while the disk is in use: a lost interrupt costs a second, a lost answer its time limit.
static void watch(void *context) {
    struct virtio_blk *b = context;
    u64 now = time_ns();
    take_answers(b);
    if (!b->disk.failed && virtio_status(&b->device) & VIRTIO_STATUS_NEEDS_RESET)
        restart(b, "the disk asks to be reset");
    else if (!b->disk.failed && oldest_is_late(b, now))
        restart(b, "no answer for 30 s");
    if (!b->disk.failed && b->free_count < SLOTS)
        timer_set(&b->watch, now + (b->device.port < 0 ? POLL_NS : WATCH_NS));
}

static void notify(void *context) {
    struct virtio_blk *b = context;
    if (!b->disk.failed && vring_publish(&b->queue))
        virtio_notify(&b->device);
}

static u16 data_pieces(struct block_request *request, struct vring_piece *pieces) {
    struct block_walk walk;
    void *data;
    u64 bytes;
    u16 count = 0;
    block_walk_begin(&walk, request);
    while (block_walk_next(&walk, &data, &bytes))
        pieces[count++] =
            (struct vring_piece){dma_map(data, bytes), (u32)bytes, request->op == BLOCK_READ};
    return count;
}

static u32 type_of(enum block_op op) {
    return op == BLOCK_READ ? T_IN : op == BLOCK_WRITE ? T_OUT : T_FLUSH;
}

static bool start(struct block_device *disk, struct block_request *request) {
    struct virtio_blk *b = disk->driver;
    struct vring_piece pieces[PIECES_MAX + 2];
    if (b->free_count == 0)
        return false;
    u32 index = b->free_slots[b->free_count - 1];
    struct slot *slot = &b->slots[index];
    u16 count = (u16)(data_pieces(request, pieces + 1) + 2);
    slot->header = (struct header){type_of(request->op), 0, 0};
    if (request->op != BLOCK_FLUSH)
        slot->header.sector = request->chunk_sector * (disk->sector_size / 512);
    slot->status = S_NONE;
    pieces[0] = (struct vring_piece){phys_of(&slot->header), sizeof(slot->header), false};
    pieces[count - 1] = (struct vring_piece){phys_of(&slot->status), 1, true};
    if (!vring_add(&b->queue, pieces, count, slot)) {
        unmap_data(request);
        return false;
    }
    b->free_count--;
    b->requests[index] = request;
    request->deadline = time_ns() + TIMEOUT_NS;
    if (!b->watch.set)
        timer_set(&b->watch, time_ns() + (b->device.port < 0 ? POLL_NS : WATCH_NS));
    work_queue(&b->submit);
    return true;
}

static const struct block_driver_ops ops = {.start = start};

static bool read_geometry(struct virtio_blk *b) {
    struct block_device *disk = &b->disk;
    u64 capacity = virtio_config(&b->device, CONFIG_CAPACITY, 8);
    u32 size_max = b->features & F_SIZE_MAX ? (u32)virtio_config(&b->device, CONFIG_SIZE_MAX, 4)
                                            : 0;
    u32 seg_max = b->features & F_SEG_MAX ? (u32)virtio_config(&b->device, CONFIG_SEG_MAX, 4) : 0;
    u32 block = b->features & F_BLK_SIZE ? (u32)virtio_config(&b->device, CONFIG_BLK_SIZE, 4) : 512;
    disk->sector_size = block == 4096 ? 4096 : 512;
    disk->sectors = capacity / (disk->sector_size / 512);
    disk->read_only = b->features & F_RO;
    disk->flush = b->features & F_FLUSH;
    disk->max_segment_bytes = size_max >= 4096 ? ALIGN_DOWN(size_max, 4) : MIB;
    disk->max_segments = MIN(seg_max ? seg_max : 1, MIN(PIECES_MAX, b->queue.size - 2u));
    disk->max_bytes = REQUEST_MAX;
    return capacity > 0 && b->queue.size >= 4;
}

static bool allocate(struct virtio_blk *b) {
    b->queue_memory = page_alloc(vring_bytes(VRING_MAX) / PAGE_SIZE);
    b->slots = page_alloc(ALIGN_UP(SLOTS * sizeof(struct slot), PAGE_SIZE) / PAGE_SIZE);
    for (u32 i = 0; i < SLOTS; i++)
        b->free_slots[b->free_count++] = (u8)(SLOTS - 1 - i);
    b->submit = (struct work){.handler = notify, .context = b};
    b->watch = (struct timer){.handler = watch, .context = b};
    if (!b->queue_memory || !b->slots)
        return false;
    dma_map(b->queue_memory, vring_bytes(VRING_MAX)); // both for good
    dma_map(b->slots, SLOTS * sizeof(struct slot));
    return true;
}

// Brings the disk up; a sentence about what is wrong, or NULL.
static const char *bring_up(struct virtio_blk *b, const struct pci_device *pci) {
    static u32 count;
    if (!virtio_open(&b->device, pci))
        return "no modern virtio interface (start QEMU without disable-modern=on)";
    if (!allocate(b))
        return "out of memory";
    virtio_bind(&b->device, interrupt, b);
    if (!start_device(b))
        return "it refused the driver";
    if (!read_geometry(b))
        return "it is empty or its queue too short";
    block_name(&b->disk, "vd", count++);
    snprintf(b->disk.label, sizeof(b->disk.label), "virtio disk at %s", pci->name);
    return NULL;
}

bool virtio_blk_probe(const struct pci_device *pci) {
    if (pci->vendor != VIRTIO_VENDOR ||
        (pci->device != DEVICE_TRANSITIONAL && pci->device != DEVICE_MODERN))
        return false;
    struct virtio_blk *b = calloc(1, sizeof(*b));
    const char *wrong = b ? bring_up(b, pci) : "out of memory";
    if (wrong) {
        log_error("disk", "virtio disk at %s is not used: %s", pci->name, wrong);
        pci_disable(pci);
        return true; // what it has allocated stays: the device might still write there
    }
    b->disk.ops = &ops;
    b->disk.driver = b;
    block_register(&b->disk);
    return true;
}
