// SPDX-License-Identifier: Apache-2.0
//
// A whole machine under random accesses: any register at any width, guest memory, doorbells, disk
// completions, time and console input, in the order that the input says. At the end everything must
// come down clean: no pin, no timer, no request left.
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

#include "tests/fuzz/virtio.h"

static uint64_t place(struct input *in, bool *memory) {
    uint64_t where = take(in, 1), offset = take(in, 2);
    *memory = where & 1;
    switch (where >> 1 & 7) {
    case 0: return MACHINE_ECAM + ((where >> 4) << 15) + offset % 256;
    case 1: return *memory ? MACHINE_PCI_MEMORY + offset % 0x10000 : 0x1000 + offset % 0x100;
    case 2:
        return *memory ? MACHINE_PCI_MEMORY + (where >> 4) * 0x2000 + offset % 64
                       : 0xcf8 + offset % 8;
    case 3:
        return *memory ? MACHINE_PCI_MEMORY + (where >> 4) * 0x2000 + 0x1000 + offset % 64
                       : 0x3f8 + offset % 8;
    case 4:
        return *memory ? MACHINE_PCI_MEMORY + (where >> 4) * 0x2000 + offset % 64
                       : 0x600 + offset % 12;
    case 5: return 0x70 + offset % 2;
    default: return offset;
    }
}

static void step(struct guest_machine *machine, struct block_device *disk, struct input *in) {
    bool memory;
    unsigned op = (unsigned)take(in, 1), bytes = 1u << (op >> 6);
    uint64_t at;
    switch (op & 15) {
    case 0:
    case 1:
    case 2:
    case 3:
        at = place(in, &memory);
        machine_write(machine, memory, at, bytes, take(in, bytes));
        break;
    case 4:
    case 5:
        at = place(in, &memory);
        machine_read(machine, memory, at, bytes);
        break;
    case 6:
    case 7:
    case 8:
        at = take(in, 2) * 16;
        fake_put(at % ((1u << 20) - 16), bytes, take(in, bytes));
        break;
    case 9: fake_ring(0x1000 + take(in, 1), 2); break;
    case 10:
        if (disk->waiting_count)
            fake_disk_complete(disk, (unsigned)take(in, 1) % disk->waiting_count);
        break;
    case 11: fake_run(4); break;
    case 12: fake_pass(take(in, 2) * 1000000); break;
    case 13: machine_console_input(machine, "0123456789", 10); break;
    case 14: machine_power_button(machine); break;
    default: disk->failing = !disk->failing; break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct block_device disk;
    struct guest_machine *machine = fuzz_machine(&disk);
    struct input in = {data, size};
    struct fake_driver d;

    // Half of the inputs begin with running devices.
    if (size && data[0] & 1)
        for (unsigned type = 2; type <= 4; type++) {
            fake_probe(&d, machine, type);
            fake_negotiate(&d, ~0ull);
            for (unsigned i = 0; i < (type == 3 ? 2 : 1); i++)
                fake_queue_setup(&d, i, 0x10000 * (type - 1) + 0x4000 * i);
            fake_driver_ok(&d);
        }
    while (in.size)
        step(machine, &disk, &in);
    fuzz_machine_end(machine, &disk);
    return 0;
}
