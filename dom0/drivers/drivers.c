// SPDX-License-Identifier: Apache-2.0
//
// Starts dom0's drivers: each PCI function is offered to each driver in turn, RAM disks come from
// modules, and then the disks' partition tables are read.

#include "drivers/drivers.h"

#include "block/block.h"
#include "lib/log.h"

static bool (*const probes[])(const struct pci_device *device) = {
    virtio_blk_probe,
    ahci_probe,
    nvme_probe,
};

void drivers_init(void) {
    u32 functions = pci_scan();
    for (u32 i = 0; i < functions; i++)
        for (unsigned p = 0; p < ARRAY_SIZE(probes); p++)
            if (probes[p](pci_at(i)))
                break;
    ramdisk_init();
    struct block_device *next;
    for (struct block_device *disk = block_first(); disk; disk = next) {
        next = block_next(disk); // before its partitions come
        if (!disk->disk)
            partition_scan(disk);
    }
    if (!block_first())
        log_warning(
            "disk",
            "no disk found: give the machine a virtio-blk, AHCI or NVMe disk, or a module *.img");
}
