// SPDX-License-Identifier: Apache-2.0
//
// Rings of random content: the input is guest memory with a block device's queue in it, kicked
// again and again while the memory changes. Whatever it holds, the backend stays within bounds and
// ends clean.
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

#include "tests/fuzz/fuzz.h"

#include "tests/unit/fake_host.h"

#include "tests/unit/fake_driver.h"

#define RING 0x10000u // descriptors, available ring one page on, used ring two

static unsigned dones;

static void output(void *context, const char *bytes, size_t length) {
    (void)context, (void)bytes, (void)length;
}

static void done(void *context) {
    (void)context;
    dones++;
}

// Records of 4 bytes and more: where (16-byte units from RING), how many bytes, the bytes; then
// kick.
static void rewrite(const uint8_t **data, size_t *size) {
    uint64_t at = RING + 16ull * ((*data)[0] | ((*data)[1] & 3) << 8);
    size_t length = (*data)[2] & 31;
    *data += 3;
    *size -= 3;
    if (length > *size)
        length = *size;
    fake_write(at, *data, length);
    *data += length;
    *size -= length;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct guest_machine *machine;
    static uint8_t bytes[64 * 512];
    struct block_device disk = {.sectors = 64, .bytes = bytes};
    struct machine_config config = {
        .domain = 1, .vcpus = 1, .memory = 1u << 20, .disk_count = 1, .console_output = output};
    struct fake_driver d;
    config.disks[0].device = &disk;
    dones = 0;
    if (machine_create(&machine, &config))
        abort();
    fake_probe(&d, machine, 2);
    fake_negotiate(&d, ~0ull);
    fake_queue_setup(&d, 0, RING);
    fake_driver_ok(&d);
    while (size > 3) {
        unsigned turn = data[1] >> 2;
        rewrite(&data, &size);
        if (turn & 1)
            fake_put(RING + 0x1002, 2, fake_get(RING + 0x1002, 2) + 1);
        if (turn & 2)
            fake_kick(&d, 0);
        if (turn & 4 && disk.waiting_count)
            fake_disk_complete(&disk, turn % disk.waiting_count);
        if (turn & 8)
            fake_run(3);
    }
    machine_destroy(machine, done, NULL);
    fake_disk_run(&disk);
    fake_run(1000);
    if (dones != 1 || fake_memory.pins)
        abort();
    fake_state_end();
    fake_memory_end();
    return 0;
}
