// SPDX-License-Identifier: Apache-2.0
//
// A virtio driver in a test, as Linux' virtio-pci does it: it finds the device through the PCI
// configuration space of a machine, sizes BARs, walks capabilities, negotiates, sets up queues and
// MSI-X, kicks and harvests. It sees the device only through machine_read() and machine_write(),
// and doorbells. Include after fake_host.h.

#pragma once

#include "dom0/devices/guest_machine.h"

#define DRIVER_QUEUES   2
#define ECAM_SLOT(slot) (MACHINE_ECAM + ((slot) << 15))

struct fake_queue {
    uint64_t desc, driver, device, notify;
    uint16_t size, avail, seen;
};

struct fake_driver {
    struct guest_machine *machine;
    unsigned slot;
    uint64_t common, isr, config, notify, table; // addresses; notify: a port
    uint32_t multiplier;
    struct fake_queue queues[DRIVER_QUEUES];
};

static inline uint64_t mmio(struct fake_driver *d, uint64_t address, unsigned bytes) {
    return machine_read(d->machine, true, address, bytes);
}

static inline void mmio_write(struct fake_driver *d, uint64_t address, unsigned bytes,
                              uint64_t value) {
    machine_write(d->machine, true, address, bytes, value);
}

static inline uint64_t cfg(struct fake_driver *d, unsigned offset, unsigned bytes) {
    return mmio(d, ECAM_SLOT(d->slot) + offset, bytes);
}

static inline void cfg_write(struct fake_driver *d, unsigned offset, unsigned bytes,
                             uint64_t value) {
    mmio_write(d, ECAM_SLOT(d->slot) + offset, bytes, value);
}

static inline uint64_t fake_bar(struct fake_driver *d, unsigned bar) {
    uint64_t value = cfg(d, PCI_BAR0 + 4 * bar, 4);
    return value & 1 ? value & ~3ull : value & ~15ull;
}

/// Finds the device of virtio type `type` and where its structures are. False if there is none.
static inline bool fake_probe(struct fake_driver *d, struct guest_machine *machine, unsigned type) {
    memset(d, 0, sizeof(*d));
    d->machine = machine;
    for (d->slot = 0; d->slot < 32; d->slot++)
        if (cfg(d, 0, 4) == ((0x1040u + type) << 16 | 0x1af4u))
            break;
    if (d->slot == 32)
        return false;
    cfg_write(d, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    for (unsigned cap = (unsigned)cfg(d, 0x34, 1); cap; cap = (unsigned)cfg(d, cap + 1, 1)) {
        if (cfg(d, cap, 1) == 0x11) {
            d->table = fake_bar(d, cfg(d, cap + 4, 4) & 7) + (cfg(d, cap + 4, 4) & ~7u);
            cfg_write(d, cap + 2, 2, 0x8000);
        }
        if (cfg(d, cap, 1) != 9)
            continue;
        uint64_t at = fake_bar(d, (unsigned)cfg(d, cap + 4, 1)) + cfg(d, cap + 8, 4);
        switch (cfg(d, cap + 3, 1)) {
        case 1: d->common = at; break;
        case 2:
            d->notify = at;
            d->multiplier = (uint32_t)cfg(d, cap + 16, 4);
            break;
        case 3: d->isr = at; break;
        case 4: d->config = at; break;
        default: break;
        }
    }
    return true;
}

static inline void fake_vector(struct fake_driver *d, unsigned vector, uint64_t address,
                               uint32_t data) {
    mmio_write(d, d->table + 16 * vector, 8, address);
    mmio_write(d, d->table + 16 * vector + 8, 4, data);
    mmio_write(d, d->table + 16 * vector + 12, 4, 0);
}

/// Reset, acknowledge, take `wanted` of the offered features. Returns those that were offered.
static inline uint64_t fake_negotiate(struct fake_driver *d, uint64_t wanted) {
    mmio_write(d, d->common + 20, 1, 0);
    mmio_write(d, d->common + 20, 1, 1);
    mmio_write(d, d->common + 20, 1, 3);
    mmio_write(d, d->common, 4, 0);
    uint64_t offered = mmio(d, d->common + 4, 4);
    mmio_write(d, d->common, 4, 1);
    offered |= mmio(d, d->common + 4, 4) << 32;
    mmio_write(d, d->common + 8, 4, 0);
    mmio_write(d, d->common + 12, 4, wanted & offered);
    mmio_write(d, d->common + 8, 4, 1);
    mmio_write(d, d->common + 12, 4, (wanted & offered) >> 32);
    mmio_write(d, d->common + 20, 1, 11);
    return offered;
}

/// Queue `n` at `at` in guest memory (3 pages), interrupting with vector n + 1.
static inline void fake_queue_setup(struct fake_driver *d, unsigned n, uint64_t at) {
    struct fake_queue *q = &d->queues[n];
    mmio_write(d, d->common + 22, 2, n);
    *q = (struct fake_queue){
        at, at + 0x1000, at + 0x2000, 0, (uint16_t)mmio(d, d->common + 24, 2), 0, 0};
    for (unsigned i = 0; i < 0x3000; i += 8)
        fake_put(at + i, 8, 0);
    q->notify = d->notify + mmio(d, d->common + 30, 2) * d->multiplier;
    mmio_write(d, d->common + 32, 8, q->desc);
    mmio_write(d, d->common + 40, 4, q->driver);
    mmio_write(d, d->common + 44, 4, q->driver >> 32);
    mmio_write(d, d->common + 48, 8, q->device);
    fake_vector(d, n + 1, 0xfee00000u + (n << 12), 0x40 + n);
    mmio_write(d, d->common + 26, 2, n + 1);
    mmio_write(d, d->common + 28, 2, 1);
}

static inline void fake_driver_ok(struct fake_driver *d) { mmio_write(d, d->common + 20, 1, 15); }

static inline void fake_descriptor(struct fake_queue *q, unsigned i, uint64_t address,
                                   uint32_t length, uint16_t flags, uint16_t next) {
    struct virtqueue_descriptor descriptor = {address, length, flags, next};
    fake_write(q->desc + 16 * i, &descriptor, 16);
}

static inline void fake_available(struct fake_queue *q, uint16_t head) {
    fake_put(q->driver + 4 + 2 * (q->avail % q->size), 2, head);
    fake_put(q->driver + 2, 2, ++q->avail);
    fake_put(q->driver + 4 + 2 * q->size, 2, q->seen); // used_event: interrupt at the next one
}

static inline void fake_kick(struct fake_driver *d, unsigned n) {
    if (!fake_ring(d->queues[n].notify, 2))
        machine_write(d->machine, false, d->queues[n].notify, 2, n);
}

/// The next used element: true if there is one.
static inline bool fake_harvest(struct fake_queue *q, uint32_t *head, uint32_t *written) {
    if ((uint16_t)fake_get(q->device + 2, 2) == q->seen)
        return false;
    *head = (uint32_t)fake_get(q->device + 4 + 8 * (q->seen % q->size), 4);
    *written = (uint32_t)fake_get(q->device + 8 + 8 * (q->seen % q->size), 4);
    q->seen++;
    return true;
}
