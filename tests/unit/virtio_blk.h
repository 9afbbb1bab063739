// SPDX-License-Identifier: Apache-2.0
//
// The scene of the virtio block device's tests: a machine with one disk, its driver, and requests of three descriptors.

#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/fake_host.h"

#include "tests/unit/fake_driver.h"

#define SECTORS  2048u
#define RING     0x100000u
#define HEADERS  0x110000u // 32 bytes each: header, status at 31
#define BUFFERS  0x200000u
#define ALL      (~0ull)
#define BLK_F_RO (1ull << 5)

static struct block_device disk;
static struct guest_machine *machine;
static struct fake_driver d;
static unsigned ended;

static inline void output(void *context, const char *bytes, size_t length) {
    (void)context, (void)bytes, (void)length;
}

static inline void done(void *context) {
    (void)context;
    ended++;
}

static inline struct machine_config configuration(void) {
    struct machine_config config = {
        .name = "test",
        .domain = 5,
        .vcpus = 2,
        .memory = 4u << 20,
        .disk_count = 1,
        .console_output = output,
    };
    config.disks[0].device = &disk;
    memcpy(config.disks[0].serial, "basalt-disk-0", 13);
    return config;
}

static inline void start_driver(uint64_t features) {
    assert_true(fake_probe(&d, machine, 2));
    fake_negotiate(&d, features);
    fake_queue_setup(&d, 0, RING);
    fake_driver_ok(&d);
    assert_int_equal(mmio(&d, d.common + 20, 1), 15);
}

static inline int setup(void **unused) {
    (void)unused;
    struct machine_config config = configuration();
    memset(&disk, 0, sizeof(disk));
    disk.sectors = SECTORS;
    disk.bytes = malloc(SECTORS * 512);
    for (unsigned i = 0; i < SECTORS * 512; i++)
        disk.bytes[i] = (uint8_t)(i * 7 + i / 512);
    assert_int_equal(machine_create(&machine, &config), 0);
    start_driver(ALL);
    fake_msi_count = 0;
    ended = 0;
    return 0;
}

static inline int teardown(void **unused) {
    (void)unused;
    machine_destroy(machine, done, NULL);
    fake_disk_run(&disk);
    fake_run(1000);
    assert_int_equal(ended, 1);
    assert_int_equal(fake_bell_count(), 0);
    assert_int_equal(fake_memory.pins, 0);
    fake_state_end();
    fake_memory_end();
    free(disk.bytes);
    return 0;
}

// Request `n` with descriptors 3n..3n+2: header, data, status.
static inline void request(unsigned n, uint32_t type, uint64_t sector, uint64_t buffer,
                           uint32_t bytes) {
    struct fake_queue *q = &d.queues[0];
    uint64_t header = HEADERS + 32 * n;
    uint16_t at = (uint16_t)(3 * n);
    fake_put(header, 8, type);
    fake_put(header + 8, 8, sector);
    fake_put(header + 31, 1, 0xee);
    fake_descriptor(q, at, header, 16, VIRTQ_DESC_NEXT, (uint16_t)(bytes ? at + 1 : at + 2));
    fake_descriptor(q, at + 1u, buffer, bytes,
                    (uint16_t)(VIRTQ_DESC_NEXT | (type == 1 ? 0 : VIRTQ_DESC_WRITE)),
                    (uint16_t)(at + 2));
    fake_descriptor(q, at + 2u, header + 31, 1, VIRTQ_DESC_WRITE, 0);
    fake_available(q, at);
}

static inline void settle(void) {
    do
        fake_disk_run(&disk);
    while (fake_run(100) || disk.waiting_count);
}

static inline void answered(unsigned n, uint8_t status, uint32_t written) {
    uint32_t head, bytes;
    assert_true(fake_harvest(&d.queues[0], &head, &bytes));
    assert_int_equal(head, 3 * n);
    assert_int_equal(bytes, written);
    assert_int_equal(fake_get(HEADERS + 32 * n + 31, 1), status);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
