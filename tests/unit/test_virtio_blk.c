// SPDX-License-Identifier: Apache-2.0
//
// The virtio block device, driven as Linux drives it: found on PCI, negotiated, read from, written
// to, flushed, reset with requests under way, broken by malformed requests, and taken up again
// after dom0's death.
//
// sources: dom0/devices/virtqueue.c dom0/devices/virtqueue_walk.c dom0/devices/chain.c
// sources: dom0/devices/virtio.c dom0/devices/virtio_pci.c dom0/devices/virtio_common.c
// sources: dom0/devices/virtio_blk.c dom0/devices/virtio_blk_request.c
// sources: dom0/devices/virtio_console.c dom0/devices/virtio_rng.c dom0/devices/entropy.c
// sources: dom0/devices/vpci.c dom0/devices/vpci_msix.c dom0/devices/ioapic.c dom0/devices/machine.c
// sources: dom0/devices/machine_devices.c dom0/devices/ports.c dom0/devices/dispatch.c
// sources: dom0/devices/console.c dom0/devices/uart.c dom0/devices/rtc.c dom0/devices/pm.c
// sources: dom0/devices/acpi.c dom0/devices/acpi_dsdt.c dom0/devices/aml.c
// sources: dom0/devices/instruction.c dom0/emulator/emulate.c dom0/emulator/decode.c
// sources: dom0/emulator/alu.c dom0/emulator/walk.c

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

static void output(void *context, const char *bytes, size_t length) {
    (void)context, (void)bytes, (void)length;
}

static void done(void *context) {
    (void)context;
    ended++;
}

static struct machine_config configuration(void) {
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

static void start_driver(uint64_t features) {
    assert_true(fake_probe(&d, machine, 2));
    fake_negotiate(&d, features);
    fake_queue_setup(&d, 0, RING);
    fake_driver_ok(&d);
    assert_int_equal(mmio(&d, d.common + 20, 1), 15);
}

static int setup(void **unused) {
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

static int teardown(void **unused) {
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
static void request(unsigned n, uint32_t type, uint64_t sector, uint64_t buffer, uint32_t bytes) {
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

static void settle(void) {
    do
        fake_disk_run(&disk);
    while (fake_run(100) || disk.waiting_count);
}

static void answered(unsigned n, uint8_t status, uint32_t written) {
    uint32_t head, bytes;
    assert_true(fake_harvest(&d.queues[0], &head, &bytes));
    assert_int_equal(head, 3 * n);
    assert_int_equal(bytes, written);
    assert_int_equal(fake_get(HEADERS + 32 * n + 31, 1), status);
}

static void shows_its_configuration(void **unused) {
    (void)unused;
    assert_int_equal(mmio(&d, d.config, 8), SECTORS);
    assert_int_equal(mmio(&d, d.config + 12, 4), 126);
    assert_int_equal(mmio(&d, d.config + 20, 4), 512);
    assert_int_equal(mmio(&d, d.common + 18, 2), 1); // queues
    uint64_t offered = fake_negotiate(&d, ALL);
    assert_true(offered & VIRTIO_F_VERSION_1);
    assert_true(offered & VIRTIO_F_EVENT_IDX);
    assert_true(offered & (1 << 9)); // flush
    assert_false(offered & BLK_F_RO);
}

static void reads(void **unused) {
    (void)unused;
    uint8_t got[8192];
    request(0, 0, 3, BUFFERS + 0xe00, 8192); // across pages
    fake_kick(&d, 0);
    assert_int_equal(disk.waiting_count, 1);
    settle();
    answered(0, 0, 8193);
    fake_read(BUFFERS + 0xe00, got, sizeof(got));
    assert_memory_equal(got, disk.bytes + 3 * 512, sizeof(got));
    assert_int_equal(fake_msi_count, 1);
    assert_int_equal(fake_msis[0].data, 0x40);
}

static void writes_and_flushes(void **unused) {
    (void)unused;
    uint8_t data[1024];
    memset(data, 0x5a, sizeof(data));
    fake_write(BUFFERS, data, sizeof(data));
    request(0, 1, SECTORS - 2, BUFFERS, 1024);
    request(1, 4, 0, 0, 0);
    fake_kick(&d, 0);
    assert_int_equal(disk.waiting_count, 2);
    settle();
    answered(0, 0, 1);
    answered(1, 0, 1);
    assert_memory_equal(disk.bytes + (SECTORS - 2) * 512, data, 1024);
    assert_int_equal(disk.flushes, 1);
    assert_int_equal(fake_msi_count, 1); // one for both
}

static void flush_waits_for_the_disk(void **unused) {
    (void)unused;
    uint32_t head, bytes;
    request(0, 4, 0, 0, 0);
    fake_kick(&d, 0);
    fake_run(100);
    assert_false(fake_harvest(&d.queues[0], &head, &bytes));
    settle();
    answered(0, 0, 1);
}

static void tells_its_id(void **unused) {
    (void)unused;
    char id[21] = {0};
    request(0, 8, 0, BUFFERS, 20);
    fake_kick(&d, 0);
    settle();
    answered(0, 0, 21);
    fake_read(BUFFERS, id, 20);
    assert_string_equal(id, "basalt-disk-0");
    request(1, 8, 0, BUFFERS, 5); // a short buffer
    fake_kick(&d, 0);
    settle();
    answered(1, 0, 6);
}

static void refuses(void **unused) {
    (void)unused;
    static const struct {
        uint32_t type;
        uint64_t sector, buffer;
        uint32_t bytes;
        uint8_t status;
    } bad[] = {
        {0, SECTORS, BUFFERS, 512, 1},           // beyond the end
        {0, SECTORS - 1, BUFFERS, 1024, 1},      // partly
        {0, 5, BUFFERS, (SECTORS + 1) * 512, 1}, // longer than the disk
        {0, ~0ull, BUFFERS, 512, 1},             // wraps
        {1, ~0ull - 1, BUFFERS, 1024, 1},        //
        {0, 0, BUFFERS, 511, 1},                 // not whole sectors
        {1, 0, FAKE_PAGES * 4096ull, 512, 1},    // no memory
        {0, 0, FAKE_PAGES * 4096ull, 512, 1},    //
        {0, 0, FAKE_PAGES * 4096 - 100, 512, 1}, // its end is none
        {3, 0, BUFFERS, 512, 2},                 // unknown types
        {0xffffffff, 0, BUFFERS, 512, 2},        //
        {11, 0, BUFFERS, 512, 2},                // discard was not offered
    };
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        request(i, bad[i].type, bad[i].sector, bad[i].buffer, bad[i].bytes);
        fake_kick(&d, 0);
        assert_int_equal(disk.waiting_count, 0);
        settle();
        answered(i, bad[i].status, 1);
    }
    request(0, 0, 0, BUFFERS, 512);
    fake_kick(&d, 0);
    settle();
    answered(0, 0, 513);
}

static void reports_disk_errors(void **unused) {
    (void)unused;
    disk.failing = true;
    request(0, 0, 0, BUFFERS, 512);
    request(1, 4, 0, 0, 0);
    fake_kick(&d, 0);
    settle();
    uint32_t head, bytes;
    assert_true(fake_harvest(&d.queues[0], &head, &bytes));
    assert_int_equal(fake_get(HEADERS + 31, 1), 1);
    answered(1, 1, 1);
    struct machine_disk_stats stats;
    assert_int_equal(machine_disk_stats(machine, 0, &stats), 0);
    assert_int_equal(stats.errors, 2);
    assert_int_equal(machine_disk_stats(machine, 1, &stats), -BASALT_ENOENT);
}

// More segments than go to the disk at once: it goes in slices. Segments of odd lengths, sectors
// across them.
static void slices(uint32_t block) {
    struct fake_queue *q = &d.queues[0];
    uint64_t table = RING + 0x8000, at = BUFFERS;
    uint32_t total = 0;
    unsigned n = 0;
    struct virtqueue_descriptor list[128];
    fake_put(HEADERS, 8, 0);
    fake_put(HEADERS + 8, 8, block / 512);
    list[n] = (struct virtqueue_descriptor){HEADERS, 16, VIRTQ_DESC_NEXT, 1};
    for (n = 1; n < 100; n++) {
        uint32_t length = 3000 + 4 * n;
        if (n == 99)
            length = block - total % block;
        list[n] = (struct virtqueue_descriptor){at, length, VIRTQ_DESC_NEXT | VIRTQ_DESC_WRITE,
                                                (uint16_t)(n + 1)};
        total += length;
        at += length + 12;
    }
    list[n] = (struct virtqueue_descriptor){HEADERS + 31, 1, VIRTQ_DESC_WRITE, 0};
    fake_write(table, list, 16 * (n + 1));
    fake_descriptor(q, 0, table, 16 * (n + 1), VIRTQ_DESC_INDIRECT, 0);
    fake_available(q, 0);
    fake_kick(&d, 0);
    settle();
    answered(0, 0, total + 1);
    assert_true(disk.most_segments <= 64);
    for (unsigned i = 1, from = block; i < 100; from += list[i++].length) {
        uint8_t got[4096];
        fake_read(list[i].address, got, list[i].length);
        assert_memory_equal(got, disk.bytes + from, list[i].length);
    }
}

static void slices_long_requests(void **unused) {
    (void)unused;
    slices(512);
}

static void slices_for_disks_with_large_blocks(void **unused) {
    (void)unused;
    machine_destroy(machine, done, NULL);
    fake_state_end();
    struct machine_config config = configuration();
    disk.block_size = 4096;
    assert_int_equal(machine_create(&machine, &config), 0);
    ended = 0;
    start_driver(ALL);
    assert_int_equal(mmio(&d, d.config + 20, 4), 4096);
    slices(4096);
}

// The header cut into three, the status in the data's last descriptor: legal since framing is the
// driver's choice.
static void takes_any_framing(void **unused) {
    (void)unused;
    struct fake_queue *q = &d.queues[0];
    uint8_t got[512];
    fake_put(HEADERS, 8, 0);
    fake_put(HEADERS + 8, 8, 9);
    fake_descriptor(q, 0, HEADERS, 3, VIRTQ_DESC_NEXT, 1);
    fake_descriptor(q, 1, HEADERS + 3, 12, VIRTQ_DESC_NEXT, 2);
    fake_descriptor(q, 2, HEADERS + 15, 1, VIRTQ_DESC_NEXT, 3);
    fake_descriptor(q, 3, BUFFERS, 513, VIRTQ_DESC_WRITE, 0);
    fake_put(BUFFERS + 512, 1, 0xee);
    fake_available(q, 0);
    fake_kick(&d, 0);
    settle();
    uint32_t head, bytes;
    assert_true(fake_harvest(q, &head, &bytes));
    assert_int_equal(bytes, 513);
    assert_int_equal(fake_get(BUFFERS + 512, 1), 0);
    fake_read(BUFFERS, got, 512);
    assert_memory_equal(got, disk.bytes + 9 * 512, 512);
}

static void many_in_flight_share_an_interrupt(void **unused) {
    (void)unused;
    for (unsigned i = 0; i < 40; i++)
        request(i, 0, i, BUFFERS + 4096 * i, 512);
    fake_kick(&d, 0);
    assert_int_equal(disk.waiting_count, 40);
    while (disk.waiting_count)
        fake_disk_complete(&disk, disk.waiting_count / 2); // out of order
    fake_run(100);
    assert_int_equal(fake_msi_count, 1);
    uint32_t head, bytes, seen = 0;
    while (fake_harvest(&d.queues[0], &head, &bytes)) {
        uint8_t got[512];
        fake_read(BUFFERS + 4096 * (head / 3), got, 512);
        assert_memory_equal(got, disk.bytes + 512 * (head / 3), 512);
        seen++;
    }
    assert_int_equal(seen, 40);
}

static void needs_reset(void) {
    fake_kick(&d, 0);
    fake_run(100);
    assert_int_equal(mmio(&d, d.common + 20, 1) & VIRTIO_STATUS_NEEDS_RESET,
                     VIRTIO_STATUS_NEEDS_RESET);
    unsigned waiting = disk.waiting_count;
    request(20, 0, 0, BUFFERS, 512);
    fake_kick(&d, 0);
    assert_int_equal(disk.waiting_count, waiting); // does nothing more
    settle();
    start_driver(ALL); // and works again after a reset
    request(0, 0, 0, BUFFERS, 512);
    fake_kick(&d, 0);
    settle();
    answered(0, 0, 513);
}

static void broken_by_no_header(void **unused) {
    (void)unused;
    fake_descriptor(&d.queues[0], 0, HEADERS, 15, VIRTQ_DESC_NEXT, 1);
    fake_descriptor(&d.queues[0], 1, BUFFERS, 512, VIRTQ_DESC_WRITE, 0);
    fake_available(&d.queues[0], 0);
    needs_reset();
}

static void broken_by_no_status(void **unused) {
    (void)unused;
    fake_descriptor(&d.queues[0], 0, HEADERS, 512 + 16, 0, 0);
    fake_available(&d.queues[0], 0);
    needs_reset();
}

static void broken_by_header_outside_memory(void **unused) {
    (void)unused;
    fake_descriptor(&d.queues[0], 0, FAKE_PAGES * 4096ull - 8, 16, VIRTQ_DESC_NEXT, 1);
    fake_descriptor(&d.queues[0], 1, BUFFERS, 513, VIRTQ_DESC_WRITE, 0);
    fake_available(&d.queues[0], 0);
    needs_reset();
}

static void broken_by_ring_with_requests_under_way(void **unused) {
    (void)unused;
    request(0, 0, 0, BUFFERS, 512);
    fake_kick(&d, 0);
    fake_put(d.queues[0].driver + 2, 2, 5000);
    needs_reset();
}

static void broken_by_queue_outside_memory(void **unused) {
    (void)unused;
    fake_negotiate(&d, ALL);
    mmio_write(&d, d.common + 32, 8, FAKE_PAGES * 4096ull);
    mmio_write(&d, d.common + 28, 2, 1);
    assert_int_equal(mmio(&d, d.common + 20, 1) & VIRTIO_STATUS_NEEDS_RESET,
                     VIRTIO_STATUS_NEEDS_RESET);
    start_driver(ALL);
}

// The status reads 0 only when the disk lets go of the guest's pages.
static void reset_waits_for_requests(void **unused) {
    (void)unused;
    request(0, 0, 0, BUFFERS, 512);
    request(1, 0, 1, BUFFERS + 4096, 512);
    fake_kick(&d, 0);
    mmio_write(&d, d.common + 20, 1, 0);
    assert_int_not_equal(mmio(&d, d.common + 20, 1), 0);
    mmio_write(&d, d.common + 20, 1, 1); // too early: not heard
    fake_disk_complete(&disk, 0);
    assert_int_not_equal(mmio(&d, d.common + 20, 1), 0);
    fake_disk_complete(&disk, 0);
    assert_int_equal(mmio(&d, d.common + 20, 1), 0);
    assert_int_equal(fake_get(d.queues[0].device + 2, 2), 0); // nothing was used
    assert_int_equal(fake_memory.pins, 0);
    assert_int_equal(mmio(&d, d.common + 28, 2), 0); // queue disabled
    start_driver(ALL);
}

static void destroy_waits_for_requests(void **unused) {
    (void)unused;
    request(0, 0, 0, BUFFERS, 512);
    fake_kick(&d, 0);
    machine_destroy(machine, done, NULL);
    assert_int_equal(ended, 0);
    settle();
    assert_int_equal(ended, 1);
    assert_int_equal(fake_memory.pins, 0);
    fake_state_end();
    struct machine_config config = configuration();
    assert_int_equal(machine_create(&machine, &config), 0);
    ended = 0;
}

static void read_only_disk(void **unused) {
    (void)unused;
    machine_destroy(machine, done, NULL);
    fake_state_end();
    struct machine_config config = configuration();
    config.disks[0].read_only = true;
    assert_int_equal(machine_create(&machine, &config), 0);
    ended = 0;
    assert_true(fake_probe(&d, machine, 2));
    assert_true(fake_negotiate(&d, ALL) & BLK_F_RO);
    fake_queue_setup(&d, 0, RING);
    fake_driver_ok(&d);
    request(0, 1, 0, BUFFERS, 512);
    request(1, 0, 0, BUFFERS, 512);
    fake_kick(&d, 0);
    settle();
    answered(0, 1, 1);
    answered(1, 0, 513);
}

static void not_before_driver_ok(void **unused) {
    (void)unused;
    fake_negotiate(&d, ALL);
    fake_queue_setup(&d, 0, RING);
    request(0, 0, 0, BUFFERS, 512);
    fake_kick(&d, 0);
    assert_int_equal(disk.waiting_count, 0);
    fake_driver_ok(&d); // takes what is there
    assert_int_equal(disk.waiting_count, 1);
    settle();
    answered(0, 0, 513);
}

static void not_without_bus_mastering(void **unused) {
    (void)unused;
    cfg_write(&d, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
    request(0, 0, 0, BUFFERS, 512);
    fake_kick(&d, 0);
    assert_int_equal(disk.waiting_count, 0);
    cfg_write(&d, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    assert_int_equal(disk.waiting_count, 1);
    settle();
    answered(0, 0, 513);
}

static void features_are_checked(void **unused) {
    (void)unused;
    fake_negotiate(&d, ALL & ~VIRTIO_F_VERSION_1); // a legacy driver
    assert_int_equal(mmio(&d, d.common + 20, 1), 3);
    mmio_write(&d, d.common + 20, 1, 0);
    mmio_write(&d, d.common + 20, 1, 3);
    mmio_write(&d, d.common + 8, 4, 1);
    mmio_write(&d, d.common + 12, 4, 0x80000001); // one that was not offered
    mmio_write(&d, d.common + 20, 1, 15);
    assert_int_equal(mmio(&d, d.common + 20, 1), 3);
    start_driver(ALL);
}

static void works_without_event_index_and_doorbell(void **unused) {
    (void)unused;
    start_driver(VIRTIO_F_VERSION_1);
    request(0, 0, 7, BUFFERS, 512);
    machine_write(machine, false, d.queues[0].notify, 4,
                  0); // a width that the doorbell does not have
    settle();
    answered(0, 0, 513);
    assert_int_equal(fake_msi_count, 1);
    fake_put(d.queues[0].driver, 2, 1); // no interrupts, please
    request(1, 0, 7, BUFFERS, 512);
    fake_kick(&d, 0);
    settle();
    answered(1, 0, 513);
    assert_int_equal(fake_msi_count, 1);
}

static void survives_want_of_memory(void **unused) {
    (void)unused;
    fake_alloc_fails = 2;
    for (unsigned i = 0; i < 3; i++)
        request(i, 0, i, BUFFERS + 4096 * i, 512);
    fake_kick(&d, 0);
    assert_int_equal(disk.waiting_count, 1);
    settle();
    fake_alloc_fails = 0;
    settle();
    for (unsigned i = 0; i < 3; i++)
        answered(i, 0, 513);
}

static void interrupts_by_wire(void **unused) {
    (void)unused;
    unsigned cap = (unsigned)cfg(&d, 0x34, 1);
    cfg_write(&d, cap + 2, 2, 0); // MSI-X off
    start_driver(ALL);            // turns it on again
    cfg_write(&d, cap + 2, 2, 0);
    request(0, 0, 0, BUFFERS, 512);
    fake_kick(&d, 0);
    settle();
    unsigned gsi = 16 + (d.slot & 7);
    assert_true(fake_line(machine, gsi));
    assert_int_equal(cfg(&d, PCI_STATUS, 1) & PCI_STATUS_INTX, PCI_STATUS_INTX);
    assert_int_equal(mmio(&d, d.isr, 1), 1);
    assert_false(fake_line(machine, gsi));
    assert_int_equal(mmio(&d, d.isr, 1), 0);
    assert_int_equal(fake_msi_count, 0);
    answered(0, 0, 513);
}

static void random_requests_against_a_model(void **unused) {
    (void)unused;
    uint8_t *model = malloc(SECTORS * 512);
    memcpy(model, disk.bytes, SECTORS * 512);
    srand(7);
    for (unsigned round = 0; round < 3000; round++) {
        uint32_t type = (uint32_t)rand() % 2, sectors = 1 + (uint32_t)rand() % 40;
        uint64_t sector = (uint64_t)rand() % (SECTORS - sectors),
                 buffer = BUFFERS + (uint64_t)(rand() % 4096 * 4);
        uint8_t bytes[40 * 512];
        for (uint32_t i = 0; i < sectors * 512; i++)
            bytes[i] = (uint8_t)rand();
        fake_write(buffer, bytes, sectors * 512);
        if (type == 1)
            memcpy(model + sector * 512, bytes, sectors * 512);
        request(round % 42, type, sector, buffer, sectors * 512);
        fake_kick(&d, 0);
        settle();
        answered(round % 42, 0, type ? 1 : sectors * 512 + 1);
        fake_read(buffer, bytes, sectors * 512);
        assert_memory_equal(bytes, model + sector * 512, sectors * 512);
    }
    assert_memory_equal(disk.bytes, model, SECTORS * 512);
    free(model);
}

// dom0 dies with requests under way; a new one builds the device from its state page.
static void resumes_after_a_crash(void **unused) {
    (void)unused;
    static struct vpci_bus bus;
    static struct virtio_blk again;
    struct machine_disk description = {.device = &disk};
    uint8_t got[512];
    for (unsigned i = 0; i < 3; i++)
        request(i, 0, i + 5, BUFFERS + 4096 * i, 512);
    fake_kick(&d, 0);
    fake_disk_complete(&disk, 1);
    assert_int_equal(machine->disks[0].device.state->queues[0].in_flight[0], 1 << 0 | 1 << 6);
    static uint8_t page[4096];
    memcpy(page, machine->disks[0].device.page, sizeof(page));
    // The old dom0's requests vanish with it.
    long pins = fake_memory.pins;
    struct host_disk_request *old[2] = {disk.waiting[0], disk.waiting[1]};
    disk.waiting_count = 0;
    vpci_bus_init(&bus, 5, machine->state);
    memset(&again, 0, sizeof(again));
    unsigned bells = fake_bell_count();
    for (int i = 0; i < 64; i++)
        if (fake_bells[i].bound && fake_bells[i].address == d.queues[0].notify)
            fake_bells[i].bound = false, bells--;
    assert_int_equal(
        virtio_blk_init(&again, &description, &bus, d.slot, &fake_memory, (void *)page, false), 0);
    assert_int_equal(disk.waiting_count, 2);
    assert_int_equal(fake_bell_count(), bells + 1);
    settle();
    assert_int_equal(again.device.state->queues[0].in_flight[0], 0);
    answered(1, 0, 513);
    answered(0, 0, 513);
    answered(2, 0, 513);
    for (unsigned i = 0; i < 3; i++) {
        fake_read(BUFFERS + 4096 * i, got, 512);
        assert_memory_equal(got, disk.bytes + 512 * (i + 5), 512);
    }
    assert_true(virtio_device_end(&again.device, NULL, NULL));
    virtio_blk_free(&again);
    assert_int_equal(fake_memory.pins, pins);
    // Back to the old one, so that it can be taken down.
    machine->disks[0].device.bells[0].doorbell = -1;
    disk.waiting[0] = old[0], disk.waiting[1] = old[1];
    disk.waiting_count = 2;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(shows_its_configuration),
        TEST(reads),
        TEST(writes_and_flushes),
        TEST(flush_waits_for_the_disk),
        TEST(tells_its_id),
        TEST(refuses),
        TEST(reports_disk_errors),
        TEST(slices_long_requests),
        TEST(slices_for_disks_with_large_blocks),
        TEST(takes_any_framing),
        TEST(many_in_flight_share_an_interrupt),
        TEST(broken_by_no_header),
        TEST(broken_by_no_status),
        TEST(broken_by_header_outside_memory),
        TEST(broken_by_ring_with_requests_under_way),
        TEST(broken_by_queue_outside_memory),
        TEST(reset_waits_for_requests),
        TEST(destroy_waits_for_requests),
        TEST(read_only_disk),
        TEST(not_before_driver_ok),
        TEST(not_without_bus_mastering),
        TEST(features_are_checked),
        TEST(works_without_event_index_and_doorbell),
        TEST(survives_want_of_memory),
        TEST(interrupts_by_wire),
        TEST(random_requests_against_a_model),
        TEST(resumes_after_a_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
