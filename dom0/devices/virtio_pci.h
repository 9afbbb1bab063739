// SPDX-License-Identifier: Apache-2.0
//
// Between virtio.c (the device's life) and virtio_pci.c (its registers).

#pragma once

#include "virtio.h"

/// Capabilities, BARs and MSI-X of the function.
void virtio_pci_init(struct virtio_device *device, struct vpci_bus *bus, unsigned slot, bool fresh);

/// Takes the doorbells back.
void virtio_pci_unbind(struct virtio_device *device);

void virtio_device_kick(struct virtio_device *device, unsigned queue);
void virtio_device_kick_all(struct virtio_device *device);
void virtio_device_reset(struct virtio_device *device);
bool virtio_device_queue_enable(struct virtio_device *device, unsigned queue);
