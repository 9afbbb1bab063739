// SPDX-License-Identifier: Apache-2.0
//
// A virtio device over PCI, modern interface only: the part that all models share. BAR 0 (memory, 8
// KiB) holds common, ISR and device configuration and the MSI-X structures; BAR 2 (I/O) holds one
// 16-bit notification port per queue, each of them a doorbell, so that a kick needs no instruction
// decoding and no answer. A malformed ring stops the device (DEVICE_NEEDS_RESET), never the
// backend. Follows "Virtio Over PCI Bus" and "Basic Facilities of a Virtio Device" of virtio 1.2.

#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "state.h"
#include "virtqueue.h"
#include "vpci.h"

#define VIRTIO_F_INDIRECT_DESC    (1ull << 28)
#define VIRTIO_F_EVENT_IDX        (1ull << 29)
#define VIRTIO_F_VERSION_1        (1ull << 32)

#define VIRTIO_STATUS_ACKNOWLEDGE 1u
#define VIRTIO_STATUS_DRIVER      2u
#define VIRTIO_STATUS_DRIVER_OK   4u
#define VIRTIO_STATUS_FEATURES_OK 8u
#define VIRTIO_STATUS_NEEDS_RESET 64u
#define VIRTIO_STATUS_FAILED      128u

#define VIRTIO_CONFIG_MAX         64 // bytes of device configuration

struct virtio_device;

struct virtio_model {
    uint16_t type; // virtio device id
    uint16_t kind; // enum state_kind
    uint32_t class;
    uint8_t queues;
    uint64_t features; // of the device's own
    // The driver kicked `queue`, or the device can go on with it. Only called while the device
    // runs.
    void (*kick)(struct virtio_device *device, unsigned queue);
    // Stops all work. Returns true if nothing is under way any more; false: virtio_device_drained()
    // follows.
    bool (*stop)(struct virtio_device *device);
    // dom0 was restarted and the device was running: takes up what is in flight. May be NULL.
    void (*resume)(struct virtio_device *device);
};

struct virtio_bell {
    struct virtio_device *device;
    unsigned queue;
    int doorbell; // < 0: none
};

struct virtio_device {
    struct vpci_function function; // first: the PCI side's pointer is this one's
    const struct virtio_model *model;
    struct virtio_function_state *page;
    struct virtio_state *state;
    uint32_t domain;
    uint32_t bell_address; // of the doorbells that are bound
    uint64_t features;     // offered
    unsigned complaints;   // lines about malformed rings in the log: a few are enough
    struct virtqueue queues[VIRTIO_QUEUES];
    struct virtio_bell bells[VIRTIO_QUEUES];
    uint8_t config[VIRTIO_CONFIG_MAX];
    void (*ended)(void *context); // set by virtio_device_end(): the last request has ended
    void *ended_context;
    uint8_t window; // offset of the capability that gives access through configuration space
};

/// Puts the device on the bus. config is filled in before. fresh: not after a restart of dom0.
void virtio_device_init(struct virtio_device *device, const struct virtio_model *model,
                        struct vpci_bus *bus, unsigned slot, struct guest_memory *memory,
                        struct virtio_function_state *page, uint64_t features, bool fresh);

/// Takes back its doorbells, stops it and unmaps its queues. False: requests are under way; `ended`
/// will be called.
bool virtio_device_end(struct virtio_device *device, void (*ended)(void *context), void *context);

/// The driver has set DRIVER_OK and the device has not met a malformed ring.
bool virtio_device_running(const struct virtio_device *device);

/// Lets the model go on with `queue`, if the device runs and the queue is enabled.
void virtio_device_kick(struct virtio_device *device, unsigned queue);

/// Something is in the used ring of `queue`: interrupts the driver if it wants that.
void virtio_device_used(struct virtio_device *device, unsigned queue);

/// The ring or a request is malformed: the device asks for a reset and does nothing until then.
void virtio_device_broken(struct virtio_device *device, const char *why);

/// For the model: the work that stop() could not end at once has ended.
void virtio_device_drained(struct virtio_device *device);
