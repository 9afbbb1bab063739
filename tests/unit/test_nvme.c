// SPDX-License-Identifier: Apache-2.0
//
// The commands of the NVMe driver against a controller of the test's own: honest, erring, silent,
// lying. Page lists are followed as a controller follows them.
//
// sources: tests/unit/dom0_host.c dom0/drivers/nvme_io.c dom0/block/block.c dom0/lib/event.c
// sources: dom0/lib/timer.c dom0/lib/console.c dom0/lib/log.c dom0/lib/kernel_log.c dom0/lib/boot.c dom0/lib/dma.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dom0_host.h"

#include "dom0/drivers/nvme.h"

#include "lib/event.h"
#include "lib/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECTORS 8192u

enum mood { HONEST, SILENT, ERRING, BAD_ID, TWICE };

static struct {
    enum mood mood;
    struct nvme_sqe queue[NVME_ENTRIES];
    u32 count; // commands put and not yet taken
    u8 *data;
    u32 starts, commands;
    bool refuses_start, cut_off, repeated;
    u32 by_namespace[2];
} dev;

static struct nvme *c;
static struct block_device *disk;

const char *nvme_start(struct nvme *controller) {
    (void)controller;
    dev.starts++;
    dev.count = 0;
    return dev.refuses_start ? "it does not become ready" : NULL;
}

bool nvme_stop(struct nvme *controller) {
    (void)controller;
    dev.count = 0;
    return false;
}

void pci_disable(const struct pci_device *d) {
    (void)d;
    dev.cut_off = true;
}

void pci_line_ack(int port) { (void)port; }

void nvme_put(struct nvme_queue *q, const struct nvme_sqe *command) {
    (void)q;
    assert_true(dev.count < NVME_SLOTS);
    dev.queue[dev.count++] = *command;
}

void nvme_ring(struct nvme_queue *q) {
    (void)q;
    if (dev.mood != SILENT)
        host_ring(5);
}

static void *at(u64 address) { return (void *)(uintptr_t)address; }

static void transfer(const struct nvme_sqe *s) {
    u64 sector = s->cdw10 | (u64)s->cdw11 << 32, left = ((u64)(s->cdw12 & 0xffff) + 1) * 512;
    assert_true(sector * 512 + left <= SECTORS * 512);
    u8 *data = dev.data + sector * 512;
    u64 first = PAGE_SIZE - s->prp1 % PAGE_SIZE, rest = left > first ? left - first : 0;
    for (u64 page = 0; left > 0; page++) {
        u64 address = s->prp1;
        if (page > 0) {
            address = rest <= PAGE_SIZE ? s->prp2 : ((u64 *)at(s->prp2))[page - 1];
            assert_int_equal(address % PAGE_SIZE, 0);
        }
        u64 piece = MIN(left, page ? PAGE_SIZE : first);
        if (s->opcode == NVME_READ)
            memcpy(at(address), data, piece);
        else
            memcpy(data, at(address), piece);
        data += piece;
        left -= piece;
    }
}

bool nvme_take(struct nvme_queue *q, u16 *id, u16 *status) {
    (void)q;
    if (dev.mood == SILENT || dev.count == 0)
        return false;
    struct nvme_sqe s = dev.queue[0];
    *id = dev.mood == BAD_ID ? 60000 : s.id;
    *status = dev.mood == ERRING ? 0x281 : 0;
    if (dev.mood == TWICE && !dev.repeated) {
        dev.repeated = true;
        return true;
    }
    assert_in_range(s.nsid, 3, 4);
    dev.by_namespace[s.nsid - 3]++;
    if (*status == 0 && s.opcode != NVME_FLUSH)
        transfer(&s);
    dev.commands++;
    memmove(dev.queue, dev.queue + 1, --dev.count * sizeof(s));
    return true;
}

static u8 buffer[2 << 20] __attribute__((aligned(4096)));
static u64 mapped_before;

static int setup(void **state) {
    (void)state;
    static struct pci_device pci = {.name = "00:05.0"};
    static u32 number;
    host_reset();
    event_init();
    free(dev.data);
    memset(&dev, 0, sizeof(dev));
    dev.data = calloc(SECTORS, 512);
    c = calloc(1, sizeof(*c));
    c->pci = &pci;
    c->port = 5;
    for (u32 i = 0; i < NVME_SLOTS; i++)
        c->lists[i] = aligned_alloc(PAGE_SIZE, PAGE_SIZE);
    nvme_io_init(c);
    event_port_bind(5, nvme_interrupt, c);
    struct nvme_namespace *n = calloc(1, sizeof(*n));
    n->controller = c;
    n->nsid = 3;
    c->namespaces[c->namespace_count++] = n;
    disk = &n->disk;
    snprintf(disk->name, sizeof(disk->name), "nvme%un3", number++);
    disk->sectors = SECTORS;
    disk->sector_size = 512;
    disk->flush = disk->page_runs = true;
    disk->max_segments = 256;
    disk->max_segment_bytes = disk->max_bytes = MIB;
    disk->ops = &nvme_ops;
    disk->driver = n;
    block_register(disk);
    mapped_before = dma_mapped();
    return 0;
}

static void every_shape(void **state) {
    (void)state;
    srand(2);
    for (unsigned i = 0; i < sizeof(buffer); i++)
        buffer[i] = (u8)rand();
    static u8 back[2 << 20] __attribute__((aligned(4096)));
    for (unsigned round = 0; round < 300; round++) {
        u64 from = (u64)(rand() % 24) * 512,
            bytes = (u64)(1 + rand() % (round % 3 ? 40 : 2500)) * 512;
        u64 sector = (u64)rand() % (SECTORS - bytes / 512);
        assert_int_equal(block_write(disk, sector, buffer + from, bytes), BLOCK_OK);
        assert_memory_equal(dev.data + sector * 512, buffer + from, bytes);
        assert_int_equal(block_read(disk, sector, back + from % 8192, bytes), BLOCK_OK);
        assert_memory_equal(back + from % 8192, buffer + from, bytes);
    }
    assert_int_equal(dma_mapped(), mapped_before);
}

static u32 done_count;
static struct block_request requests[100];
static struct block_segment segments[100];

static void done(struct block_request *r) {
    (void)r;
    done_count++;
}

static void run(u32 count) {
    done_count = 0;
    for (u32 i = 0; i < count; i++) {
        segments[i] = (struct block_segment){buffer + 512 * i, 512};
        requests[i] = (struct block_request){.device = disk,
                                             .op = (enum block_op)(i % 3),
                                             .sector = i,
                                             .segments = &segments[i],
                                             .segment_count = 1,
                                             .done = done};
        block_submit(&requests[i]);
    }
    while (done_count < count)
        event_pass(true);
    for (unsigned i = 0; i < 10; i++)
        event_pass(false);
    assert_int_equal(done_count, count);
    assert_int_equal(dma_mapped(), mapped_before);
}

static void many(void **state) {
    (void)state;
    run(100);
    assert_int_equal(dev.commands, 100);
    dev.mood = ERRING;
    run(50);
    assert_int_equal(requests[0].status, BLOCK_EIO);
    assert_int_equal(requests[49].status, BLOCK_EIO);
    dev.mood = HONEST;
    run(100);
    assert_int_equal(requests[99].status, BLOCK_OK);
}

static void nonsense(void **state) {
    (void)state;
    dev.mood = BAD_ID;
    run(40);
    assert_int_equal(requests[39].status, BLOCK_EFAILED);
    assert_true(disk->failed && dev.cut_off);
    setup(NULL);
    dev.mood = TWICE;
    run(1);
    assert_true(disk->failed); // the second answer to one command
}

static void silence(void **state) {
    (void)state;
    dev.mood = SILENT;
    run(40);
    assert_int_equal(requests[0].status, BLOCK_ETIMEOUT);
    assert_int_equal(dev.starts, 2); // 32 fit at a time
    dev.mood = HONEST;
    run(10);
    assert_int_equal(requests[9].status, BLOCK_OK);
    dev.mood = SILENT;
    for (unsigned i = 0; i < 4; i++)
        run(1);
    assert_int_equal(requests[0].status, BLOCK_EFAILED);
    assert_true(disk->failed);
}

static void reset_that_fails(void **state) {
    (void)state;
    dev.mood = SILENT;
    dev.refuses_start = true;
    run(3);
    assert_int_equal(requests[2].status, BLOCK_EFAILED);
    assert_true(disk->failed && dev.cut_off);
    assert_non_null(strstr(host_console, "it does not become ready"));
}

// One namespace that is kept full by its user does not keep the other from being served.
static void two_namespaces(void **state) {
    (void)state;
    struct nvme_namespace *n = calloc(1, sizeof(*n));
    n->controller = c;
    n->nsid = 4;
    c->namespaces[c->namespace_count++] = n;
    n->disk = *disk;
    snprintf(n->disk.name, sizeof(n->disk.name), "nvmeXn4");
    n->disk.driver = n;
    block_register(&n->disk);
    done_count = 0;
    dev.mood = SILENT;
    for (u32 i = 0; i < 60; i++) {
        segments[i] = (struct block_segment){buffer + 512 * i, 512};
        requests[i] = (struct block_request){.device = i < 50 ? disk : &n->disk,
                                             .sector = i,
                                             .segments = &segments[i],
                                             .segment_count = 1,
                                             .done = done};
        block_submit(&requests[i]);
        if (i == 49)
            for (unsigned pass = 0; pass < 10; pass++)
                event_pass(false); // the first takes all that it gets
    }
    for (unsigned pass = 0; pass < 10; pass++)
        event_pass(false);
    dev.mood = HONEST;
    for (unsigned pass = 0; pass < 2000 && done_count < 60; pass++)
        event_pass(true);
    assert_int_equal(done_count, 60);
    assert_int_equal(dev.by_namespace[1], 10);
    assert_int_equal(dma_mapped(), mapped_before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(every_shape, setup),
        cmocka_unit_test_setup(many, setup),
        cmocka_unit_test_setup(nonsense, setup),
        cmocka_unit_test_setup(silence, setup),
        cmocka_unit_test_setup(reset_that_fails, setup),
        cmocka_unit_test_setup(two_namespaces, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
