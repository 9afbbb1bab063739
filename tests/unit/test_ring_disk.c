// SPDX-License-Identifier: Apache-2.0
//
// The virtio disk driver against a device of the test's own: honest, erring, silent, and lying.
// Whatever it does, each request ends once, and its memory is unmapped.
//
// sources: tests/unit/dom0_host.c dom0/drivers/virtio_blk.c dom0/drivers/vring.c dom0/block/block.c
// sources: dom0/lib/event.c dom0/lib/timer.c dom0/lib/console.c dom0/lib/log.c dom0/lib/kernel_log.c dom0/lib/boot.c dom0/lib/dma.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dom0_host.h"

#include "dom0/drivers/drivers.h"
#include "dom0/drivers/virtio_pci.h"

#include "block/block.h"
#include "lib/event.h"
#include "lib/memory.h"
#include "lib/timer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECTORS 4096u

// ---- the device ----

enum mood {
    HONEST,
    SILENT,
    NO_INTERRUPTS,
    STATUS_ERROR,
    NO_STATUS,
    BAD_ID,
    BAD_LENGTH,
    FAR_INDEX,
    WANTS_RESET,
    RANDOM
};

static struct {
    enum mood mood;
    u64 features; // offered
    u32 block_size, seg_max, size_max;
    u64 capacity;
    u16 queue_size;
    bool refuses_reset, refuses_start;
    u8 status;
    struct vring *queue; // the driver's, for the addresses
    u16 seen;            // of the available ring
    u32 resets, served, kicks;
    event_handler handler;
    void *context;
    u8 *data;
    bool cut_off;
} dev;

bool virtio_open(struct virtio_device *v, const struct pci_device *pci) {
    *v = (struct virtio_device){.pci = pci, .port = -1};
    return true;
}

bool virtio_reset(struct virtio_device *v) {
    (void)v;
    dev.resets++;
    dev.status = 0;
    dev.seen = 0;
    return !dev.refuses_reset;
}

bool virtio_begin(struct virtio_device *v, u64 wanted, u64 *features) {
    *features = dev.features & wanted;
    return virtio_reset(v) && !dev.refuses_start;
}

void virtio_bind(struct virtio_device *v, event_handler handler, void *context) {
    v->port = 77;
    dev.handler = handler;
    dev.context = context;
    event_port_bind(77, handler, context);
}

bool virtio_setup_queue(struct virtio_device *v, u16 index, struct vring *q, u16 limit,
                        void *memory) {
    (void)v;
    assert_int_equal(index, 0);
    memset(memory, 0, vring_bytes(limit));
    vring_init(q, MIN(dev.queue_size, limit), memory);
    dev.queue = q;
    return true;
}

void virtio_ready(struct virtio_device *v) {
    (void)v;
    dev.status = VIRTIO_STATUS_DRIVER_OK;
}

void virtio_ack(struct virtio_device *v) { (void)v; }

u8 virtio_status(struct virtio_device *v) {
    (void)v;
    return dev.status;
}

u64 virtio_config(struct virtio_device *v, u32 offset, u32 bytes) {
    (void)v;
    (void)bytes;
    return offset == 0    ? dev.capacity
           : offset == 8  ? dev.size_max
           : offset == 12 ? dev.seg_max
                          : dev.block_size;
}

void pci_disable(const struct pci_device *d) {
    (void)d;
    dev.cut_off = true;
}

static void *at(u64 address) { return (void *)(uintptr_t)address; }

// Serves one chain; the bytes written.
static u32 serve(u16 head) {
    struct vring_desc *desc = dev.queue->desc, *first = &desc[head];
    struct {
        u32 type, reserved;
        u64 sector;
    } header;
    assert_int_equal(first->length, sizeof(header));
    memcpy(&header, at(first->address), sizeof(header));
    u64 offset = header.sector * 512;
    u32 written = 0;
    struct vring_desc *d = first;
    while (d->flags & VRING_DESC_NEXT) {
        d = &desc[d->next];
        if (!(d->flags & VRING_DESC_NEXT))
            break;
        assert_true(offset + d->length <= SECTORS * 512);
        if (header.type == 0) {
            assert_true(d->flags & VRING_DESC_WRITE);
            memcpy(at(d->address), dev.data + offset, d->length);
            written += d->length;
        } else {
            assert_false(d->flags & VRING_DESC_WRITE);
            memcpy(dev.data + offset, at(d->address), d->length);
        }
        offset += d->length;
    }
    assert_int_equal(d->length, 1);
    if (dev.mood != NO_STATUS)
        *(u8 *)at(d->address) = dev.mood == STATUS_ERROR ? 1 : 0;
    dev.served++;
    return written + 1;
}

static void answer(u32 id, u32 length) {
    struct vring_used *used = dev.queue->used;
    used->ring[used->idx % dev.queue->size] = (struct vring_used_elem){id, length};
    used->idx++;
}

void virtio_notify(struct virtio_device *v) {
    (void)v;
    dev.kicks++;
    struct vring_avail *avail = dev.queue->avail;
    enum mood mood = dev.mood;
    if (mood == RANDOM)
        mood = rand() % 8 ? HONEST : (enum mood)(rand() % RANDOM);
    while (mood != SILENT && dev.seen != avail->idx) {
        u16 head = avail->ring[dev.seen++ % dev.queue->size];
        u32 length = serve(head);
        answer(mood == BAD_ID ? 4000 : head, mood == BAD_LENGTH ? 1u << 30 : length);
        if (mood == FAR_INDEX)
            dev.queue->used->idx = (u16)(dev.queue->used->idx + 500);
    }
    if (mood == WANTS_RESET)
        dev.status |= VIRTIO_STATUS_NEEDS_RESET;
    if (mood != SILENT && mood != NO_INTERRUPTS)
        host_ring(77);
}

// A disk that was refused keeps its memory for good: the device might still write there.
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) { return "leak:virtio_blk_probe\n"; }

// dom0's pages; what the driver keeps for ever is freed with the process.
void *page_alloc(u64 count) {
    void *p = aligned_alloc(PAGE_SIZE, count * PAGE_SIZE);
    memset(p, 0, count * PAGE_SIZE);
    return p;
}

// ---- tests ----

static struct block_device *disk;
static u8 buffer[1 << 20] __attribute__((aligned(4096)));

static bool probe(void) {
    struct block_device *last = NULL;
    static struct pci_device pci = {.vendor = VIRTIO_VENDOR, .device = 0x1042, .name = "00:03.0"};
    for (struct block_device *d = block_first(); d; d = block_next(d))
        last = d;
    assert_true(virtio_blk_probe(&pci));
    disk = last ? block_next(last) : block_first();
    return disk;
}

static int prepare(void **state) {
    (void)state;
    host_reset();
    event_init();
    free(dev.data);
    memset(&dev, 0, sizeof(dev));
    dev.features = ~0ull & ~BIT(5);
    dev.block_size = 512;
    dev.seg_max = 126;
    dev.size_max = 0x1000000;
    dev.capacity = SECTORS;
    dev.queue_size = 256;
    dev.data = calloc(SECTORS, 512);
    return 0;
}

static int setup(void **state) {
    prepare(state);
    assert_true(probe());
    return 0;
}

static u64 mapped_before;

static void honest(void **state) {
    (void)state;
    mapped_before = dma_mapped();
    for (unsigned i = 0; i < sizeof(buffer); i++)
        buffer[i] = (u8)(i * 5 + i / 4096);
    assert_int_equal(block_write(disk, 100, buffer, sizeof(buffer)), BLOCK_OK);
    assert_memory_equal(dev.data + 100 * 512, buffer, sizeof(buffer));
    memset(buffer, 0, sizeof(buffer));
    assert_int_equal(block_read(disk, 100, buffer, sizeof(buffer)), BLOCK_OK);
    assert_memory_equal(dev.data + 100 * 512, buffer, sizeof(buffer));
    assert_int_equal(dma_mapped(), mapped_before);
    assert_int_equal(disk->sectors, SECTORS);
    assert_false(disk->read_only);
}

static u32 done_count;
static void done(struct block_request *r) {
    done_count++;
    *(enum block_status *)r->context = r->status;
}

static struct block_request requests[300];
static enum block_status statuses[300];
static struct block_segment segments[300];

static void submit(u32 count) {
    done_count = 0;
    for (u32 i = 0; i < count; i++) {
        segments[i] = (struct block_segment){buffer + 512 * i, 512};
        requests[i] = (struct block_request){
            .device = disk,
            .op = i % 3 == 2 ? BLOCK_FLUSH
                  : i % 3    ? BLOCK_WRITE
                             : BLOCK_READ,
            .sector = i,
            .segments = &segments[i],
            .segment_count = 1,
            .done = done,
            .context = &statuses[i],
        };
        statuses[i] = (enum block_status)99;
        block_submit(&requests[i]);
    }
}

static void wait_all(u32 count) {
    while (done_count < count)
        event_pass(true);
    for (unsigned i = 0; i < 20; i++)
        event_pass(false);
    assert_int_equal(done_count, count);
    assert_int_equal(dma_mapped(), mapped_before);
}

static void many_at_once(void **state) {
    (void)state;
    mapped_before = dma_mapped();
    submit(300);
    wait_all(300);
    for (u32 i = 0; i < 300; i++)
        assert_int_equal(statuses[i], BLOCK_OK);
    assert_true(dev.kicks < 100); // one for many
}

static void lost_interrupt(void **state) {
    (void)state;
    dev.mood = NO_INTERRUPTS;
    mapped_before = dma_mapped();
    u64 before = time_ns();
    submit(3);
    wait_all(3);
    assert_int_equal(statuses[0], BLOCK_OK);
    assert_in_range(time_ns() - before, 0, 2 * NS_PER_S);
}

static void errors_of_the_disk(void **state) {
    (void)state;
    mapped_before = dma_mapped();
    dev.mood = STATUS_ERROR;
    assert_int_equal(block_read(disk, 0, buffer, 512), BLOCK_EIO);
    dev.mood = NO_STATUS;
    assert_int_equal(block_read(disk, 0, buffer, 512), BLOCK_EIO);
    dev.mood = HONEST;
    assert_int_equal(block_read(disk, 0, buffer, 512), BLOCK_OK);
    assert_int_equal(dma_mapped(), mapped_before);
}

static void nonsense_ends_the_disk(void **state) {
    (void)state;
    static const enum mood moods[] = {BAD_ID, BAD_LENGTH, FAR_INDEX};
    for (unsigned i = 0; i < ARRAY_SIZE(moods); i++) {
        prepare(NULL);
        assert_true(probe());
        mapped_before = dma_mapped();
        dev.mood = moods[i];
        u32 resets = dev.resets;
        submit(10);
        wait_all(10);
        assert_int_equal(statuses[9], BLOCK_EFAILED);
        assert_int_equal(dev.resets, resets + 1);
        assert_true(disk->failed);
        assert_non_null(strstr(host_console, "make no sense"));
        dev.mood = HONEST;
        assert_int_equal(block_read(disk, 0, buffer, 512), BLOCK_EFAILED);
    }
}

static void silence_resets(void **state) {
    (void)state;
    mapped_before = dma_mapped();
    dev.mood = SILENT;
    u64 before = time_ns();
    submit(5);
    wait_all(5);
    for (u32 i = 0; i < 5; i++)
        assert_int_equal(statuses[i], BLOCK_ETIMEOUT);
    assert_in_range(time_ns() - before, 30 * NS_PER_S, 32 * NS_PER_S);
    dev.mood = HONEST; // and it goes on
    assert_int_equal(block_write(disk, 0, buffer, 4096), BLOCK_OK);
    dev.mood = WANTS_RESET;
    submit(3);
    wait_all(3);
    dev.mood = HONEST;
    assert_int_equal(block_write(disk, 0, buffer, 4096), BLOCK_OK);
    assert_false(disk->failed);
}

static void lasting_silence_ends_the_disk(void **state) {
    (void)state;
    dev.mood = SILENT;
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(block_read(disk, 0, buffer, 512), BLOCK_ETIMEOUT);
    assert_int_equal(block_read(disk, 0, buffer, 512), BLOCK_EFAILED);
    assert_true(disk->failed);
}

static void reset_that_fails(void **state) {
    (void)state;
    mapped_before = dma_mapped();
    dev.mood = SILENT;
    submit(3);
    dev.refuses_reset = true;
    wait_all(3);
    assert_true(disk->failed);
    assert_non_null(strstr(host_console, "cut off from memory"));
}

static void shorter_queue_after_reset(void **state) {
    (void)state;
    dev.mood = SILENT;
    dev.queue_size = 8; // too short for a request of the size that was agreed on
    assert_int_equal(block_read(disk, 0, buffer, 512), BLOCK_ETIMEOUT);
    dev.mood = HONEST;
    assert_true(disk->failed);
    assert_int_equal(block_read(disk, 0, buffer, sizeof(buffer)), BLOCK_EFAILED);
}

static void kinds_of_disks(void **state) {
    (void)state;
    dev.features |= BIT(5);
    dev.block_size = 4096;
    dev.seg_max = 1;
    dev.size_max = 4099;
    assert_true(probe());
    assert_true(disk->read_only);
    assert_int_equal(disk->sector_size, 4096);
    assert_int_equal(disk->sectors, SECTORS / 8);
    assert_int_equal(block_read(disk, 3, buffer, 3 * 4096), BLOCK_OK);
    assert_int_equal(dev.served, 3); // one piece each
    assert_int_equal(block_write(disk, 3, buffer, 4096), BLOCK_EREADONLY);
    dev.features = BIT(9);
    dev.queue_size = 4;
    assert_true(probe());
    assert_int_equal(disk->max_segments, 1);
    assert_int_equal(block_write(disk, 3, buffer, 4096), BLOCK_OK);
}

static void disks_that_do_not_start(void **state) {
    (void)state;
    dev.capacity = 0;
    assert_false(probe());
    assert_non_null(strstr(host_console, "virtio disk at 00:03.0 is not used"));
    prepare(NULL);
    dev.queue_size = 2;
    assert_false(probe());
    prepare(NULL);
    dev.refuses_start = true;
    assert_false(probe());
    assert_true(dev.cut_off);
    struct pci_device other = {.vendor = 0x8086, .device = 0x1042};
    assert_false(virtio_blk_probe(&other));
}

// A device that changes its mood at random: everything ends, whatever happens to the disk.
static void moods(void **state) {
    (void)state;
    srand(11);
    for (unsigned round = 0; round < 60; round++) {
        prepare(NULL);
        assert_true(probe());
        mapped_before = dma_mapped();
        dev.mood = RANDOM;
        for (unsigned i = 0; i < 10; i++) {
            u32 count = 1 + (u32)rand() % 200;
            submit(count);
            wait_all(count);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(honest, setup),
        cmocka_unit_test_setup(many_at_once, setup),
        cmocka_unit_test_setup(lost_interrupt, setup),
        cmocka_unit_test_setup(errors_of_the_disk, setup),
        cmocka_unit_test_setup(nonsense_ends_the_disk, prepare),
        cmocka_unit_test_setup(silence_resets, setup),
        cmocka_unit_test_setup(lasting_silence_ends_the_disk, setup),
        cmocka_unit_test_setup(reset_that_fails, setup),
        cmocka_unit_test_setup(shorter_queue_after_reset, setup),
        cmocka_unit_test_setup(kinds_of_disks, prepare),
        cmocka_unit_test_setup(disks_that_do_not_start, prepare),
        cmocka_unit_test_setup(moods, prepare),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
