// SPDX-License-Identifier: Apache-2.0
//
// The virtio block device, driven as Linux drives it: found on PCI, negotiated, read from, written to, flushed, with long
// requests and many of them. test_virtio_blk_trouble.c has what is not so peaceful.
//
// sources: dom0/devices/virtqueue.c dom0/devices/virtqueue_walk.c dom0/devices/chain.c
// sources: dom0/devices/virtio.c dom0/devices/virtio_pci.c dom0/devices/virtio_common.c
// sources: dom0/devices/virtio_blk.c dom0/devices/virtio_blk_request.c
// sources: dom0/devices/virtio_console.c dom0/devices/virtio_rng.c dom0/devices/entropy.c
// sources: dom0/devices/vpci.c dom0/devices/vpci_msix.c dom0/devices/ioapic.c dom0/devices/machine.c
// sources: dom0/devices/machine_devices.c dom0/devices/ports.c dom0/devices/dispatch.c
// sources: dom0/devices/console.c dom0/devices/uart.c dom0/devices/rtc.c dom0/devices/pm.c
// sources: dom0/devices/acpi.c dom0/devices/acpi_dsdt.c dom0/devices/aml.c
// sources: dom0/devices/msr.c dom0/devices/pvclock.c dom0/devices/cpuid.c
// sources: dom0/devices/instruction.c dom0/emulator/emulate.c dom0/emulator/decode.c
// sources: dom0/emulator/alu.c dom0/emulator/walk.c

#include "tests/unit/virtio_blk.h"

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
        TEST(random_requests_against_a_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
