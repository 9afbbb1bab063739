// SPDX-License-Identifier: Apache-2.0
//
// dom0's device drivers, as main() and the scan for devices see them.

#pragma once

#include "lib/types.h"

#include "pci.h"

/// Finds every device that dom0 has a driver for, starts it, and reads the partition tables of the
/// disks found. What doesn't work is reported and left out.
void drivers_init(void);

/// Each probes one function and returns whether it is its kind (whether or not it works).
bool virtio_blk_probe(const struct pci_device *device);
bool ahci_probe(const struct pci_device *device);
bool nvme_probe(const struct pci_device *device);

/// One disk, labelled with the module's name, for each module whose name ends in ".img" or whose
/// arguments hold the word "disk".
void ramdisk_init(void);
