// SPDX-License-Identifier: Apache-2.0
//
// The PCI transport of modern virtio devices (virtio 1.2, "Virtio Over PCI Bus"), from the driver's
// side.

#pragma once

#include "lib/types.h"

#include "pci.h"
#include "vring.h"

#define VIRTIO_VENDOR             0x1af4
#define VIRTIO_F_VERSION_1        BIT(32)
#define VIRTIO_F_ACCESS_PLATFORM  BIT(33)

#define VIRTIO_STATUS_ACKNOWLEDGE 0x01
#define VIRTIO_STATUS_DRIVER      0x02
#define VIRTIO_STATUS_DRIVER_OK   0x04
#define VIRTIO_STATUS_FEATURES_OK 0x08
#define VIRTIO_STATUS_NEEDS_RESET 0x40
#define VIRTIO_STATUS_FAILED      0x80

struct virtio_device {
    const struct pci_device *pci;
    volatile u8 *common, *isr, *config, *notify;
    u32 config_bytes, notify_bytes, notify_multiplier;
    volatile u16 *doorbell; // of queue 0
    int port;               // of the interrupt; < 0: none
    bool line;              // it is the INTx line
};

/// Finds the configuration structures. Returns false if one that is needed lacks (a legacy device).
must_check bool virtio_open(struct virtio_device *v, const struct pci_device *pci);

/// Resets the device and waits until it has; false if it does not within half a second: then it is
/// cut off from memory.
must_check bool virtio_reset(struct virtio_device *v);

/// Resets and negotiates: of what the device offers, takes `wanted`. Returns false if it doesn't
/// speak virtio 1 or refuses; *features is what was agreed upon.
must_check bool virtio_begin(struct virtio_device *v, u64 wanted, u64 *features);

/// Binds queue 0's interrupt: MSI-X entry 0, else the INTx line. Only once. Without either, the
/// driver must poll.
void virtio_bind(struct virtio_device *v, event_handler handler, void *context);

/// Sets queue `index` up: its size is the device's, at most `limit`. `memory` has room for `limit`
/// entries. False if the device has no such queue.
must_check bool virtio_setup_queue(struct virtio_device *v, u16 index, struct vring *q, u16 limit,
                                   void *memory);

void virtio_ready(struct virtio_device *v);  // DRIVER_OK
void virtio_notify(struct virtio_device *v); // rings queue 0
void virtio_ack(struct virtio_device *v); // at the end of the handler: lets a line interrupt again
u8 virtio_status(struct virtio_device *v);

/// Reads `bytes` (1, 2, 4, 8) of the device's configuration; 0 beyond its end.
u64 virtio_config(struct virtio_device *v, u32 offset, u32 bytes);
