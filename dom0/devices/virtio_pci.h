// SPDX-License-Identifier: Apache-2.0
//
// Between virtio.c (the device's life), virtio_pci.c (its PCI function) and virtio_common.c (the
// common configuration).

#pragma once

#include "virtio.h"

/// Capabilities, BARs and MSI-X of the function.
void virtio_pci_init(struct virtio_device *device, struct vpci_bus *bus, unsigned slot, bool fresh);

/// Takes the doorbells back.
void virtio_pci_unbind(struct virtio_device *device);

void virtio_device_kick_all(struct virtio_device *device);
void virtio_device_reset(struct virtio_device *device);
bool virtio_device_queue_enable(struct virtio_device *device, unsigned queue);

#define VIRTIO_COMMON_SIZE 56u // bytes of the common configuration

/// An access to the common configuration, naturally aligned, that begins inside of it.
uint64_t virtio_common_read(struct virtio_device *device, uint32_t offset, unsigned bytes);
void virtio_common_write(struct virtio_device *device, uint32_t offset, unsigned bytes,
                         uint64_t data);
