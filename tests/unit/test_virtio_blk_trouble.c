// SPDX-License-Identifier: Apache-2.0
//
// The virtio block device in trouble: broken by malformed requests, reset and destroyed with requests under way, driven
// against the rules, and taken up again after dom0's death.
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

int main(void) {
    const struct CMUnitTest tests[] = {
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
        TEST(resumes_after_a_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
