// SPDX-License-Identifier: Apache-2.0
//
// The life of a virtio device: status, reset, feature negotiation's outcome, notifications in both
// directions. The registers themselves are in virtio_pci.c. Invariant: queues are mapped exactly
// while they are enabled; a reset is complete (the status reads 0) only when no request of the old
// life can touch guest memory any more. Follows "Device Status Field" and "Device Reset" of virtio
// 1.2.

#include <string.h>

#include "virtio.h"
#include "virtio_pci.h"

#define ISR_QUEUE  1u
#define ISR_CONFIG 2u

#define COMPLAINTS 4u // a guest that breaks its rings for ever does not fill the log

bool virtio_device_running(const struct virtio_device *device) {
    return (device->state->status & (VIRTIO_STATUS_DRIVER_OK | VIRTIO_STATUS_NEEDS_RESET)) ==
               VIRTIO_STATUS_DRIVER_OK &&
           !device->state->resetting && (vpci_command(&device->function) & PCI_COMMAND_MASTER);
}

void virtio_device_kick(struct virtio_device *device, unsigned queue) {
    if (queue < device->model->queues && device->queues[queue].mapped &&
        virtio_device_running(device))
        device->model->kick(device, queue);
}

void virtio_device_kick_all(struct virtio_device *device) {
    for (unsigned i = 0; i < device->model->queues; i++)
        virtio_device_kick(device, i);
}

static void interrupt(struct virtio_device *device, uint16_t vector, uint8_t isr) {
    if (vpci_msix_enabled(&device->function)) {
        vpci_msix_send(&device->function, vector);
        return;
    }
    device->state->isr |= isr;
    vpci_set_line(&device->function, true);
}

void virtio_device_used(struct virtio_device *device, unsigned queue) {
    if (virtqueue_interrupt_wanted(&device->queues[queue]))
        interrupt(device, device->state->queues[queue].msix_vector, ISR_QUEUE);
}

void virtio_device_broken(struct virtio_device *device, const char *why) {
    struct virtio_state *s = device->state;
    if (s->status & VIRTIO_STATUS_NEEDS_RESET)
        return;
    if (device->complaints++ < COMPLAINTS)
        host_log("virtio device %u of slot %u: %s; it waits for a reset", device->model->type,
                 device->function.slot, why);
    s->status |= VIRTIO_STATUS_NEEDS_RESET;
    if (s->status & VIRTIO_STATUS_DRIVER_OK) {
        s->generation++;
        interrupt(device, s->msix_config, ISR_CONFIG);
    }
}

// What a driver finds after a reset.
static void pristine(struct virtio_device *device) {
    for (unsigned i = 0; i < device->model->queues; i++)
        virtqueue_reset(&device->queues[i]);
    struct virtio_state *s = device->state;
    s->device_feature_select = s->driver_feature_select = 0;
    s->driver_features = 0;
    s->queue_select = 0;
    s->msix_config = 0xffff;
    s->status = s->isr = s->resetting = 0;
    vpci_set_line(&device->function, false);
}

void virtio_device_drained(struct virtio_device *device) {
    if (device->state->resetting)
        pristine(device);
    if (device->ended)
        device->ended(device->ended_context); // the device may be gone after this
}

void virtio_device_reset(struct virtio_device *device) {
    device->state->resetting = 1;
    if (device->model->stop(device))
        pristine(device);
}

bool virtio_device_queue_enable(struct virtio_device *device, unsigned queue) {
    struct virtqueue *q = &device->queues[queue];
    q->event_idx = device->state->driver_features & VIRTIO_F_EVENT_IDX;
    q->indirect = device->state->driver_features & VIRTIO_F_INDIRECT_DESC;
    return virtqueue_enable(q);
}

static void resume(struct virtio_device *device) {
    for (unsigned i = 0; i < device->model->queues; i++) {
        if (!device->state->queues[i].enabled)
            continue;
        if (!virtio_device_queue_enable(device, i))
            virtio_device_broken(device, "a queue is not in guest memory");
        virtqueue_recover(&device->queues[i]);
    }
    if (device->state->resetting)
        pristine(device);
    else if (device->model->resume && virtio_device_running(device))
        device->model->resume(device);
    device->function.line = device->state->isr != 0;
}

void virtio_device_init(struct virtio_device *device, const struct virtio_model *model,
                        struct vpci_bus *bus, unsigned slot, struct guest_memory *memory,
                        struct virtio_function_state *page, uint64_t features, bool fresh) {
    device->model = model;
    device->page = page;
    device->state = &page->virtio;
    device->domain = bus->domain;
    device->features = VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC | features;
    for (unsigned i = 0; i < VIRTIO_QUEUES; i++) {
        device->queues[i].state = &page->virtio.queues[i];
        device->queues[i].memory = memory;
        device->bells[i] = (struct virtio_bell){device, i, -1};
    }
    virtio_pci_init(device, bus, slot, fresh);
    if (fresh)
        pristine(device);
    vpci_ready(&device->function);
    if (!fresh) {
        resume(device);
        virtio_device_kick_all(device);
    }
}

bool virtio_device_end(struct virtio_device *device, void (*ended)(void *context), void *context) {
    virtio_pci_unbind(device);
    device->state->resetting = 1;
    bool stopped = device->model->stop(device);
    if (stopped) {
        pristine(device);
    } else {
        device->ended = ended;
        device->ended_context = context;
    }
    return stopped;
}
