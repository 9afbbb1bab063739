// SPDX-License-Identifier: Apache-2.0
//
// The PCI transport of modern virtio devices; see virtio_pci.h. Follows "Virtio Over PCI Bus" and
// "Device Initialization" of virtio 1.2. Transitional devices are driven through their modern
// interface.

#include "virtio_pci.h"

#include "lib/log.h"
#include "lib/memory.h"
#include "lib/timer.h"

#define PCI_CAP_VENDOR 0x09

// struct virtio_pci_cap
#define CAP_TYPE       3
#define CAP_BAR        4
#define CAP_OFFSET     8
#define CAP_LENGTH     12
#define CAP_MULTIPLIER 16 // notify only

enum { TYPE_COMMON = 1, TYPE_NOTIFY = 2, TYPE_ISR = 3, TYPE_DEVICE = 4 };

// struct virtio_pci_common_cfg
#define COMMON_DEVICE_FEATURE_SELECT 0
#define COMMON_DEVICE_FEATURE        4
#define COMMON_DRIVER_FEATURE_SELECT 8
#define COMMON_DRIVER_FEATURE        12
#define COMMON_CONFIG_MSIX_VECTOR    16
#define COMMON_DEVICE_STATUS         20
#define COMMON_CONFIG_GENERATION     21
#define COMMON_QUEUE_SELECT          22
#define COMMON_QUEUE_SIZE            24
#define COMMON_QUEUE_MSIX_VECTOR     26
#define COMMON_QUEUE_ENABLE          28
#define COMMON_QUEUE_NOTIFY_OFF      30
#define COMMON_QUEUE_DESC            32
#define COMMON_QUEUE_DRIVER          40
#define COMMON_QUEUE_DEVICE          48
#define COMMON_BYTES                 56

#define NO_VECTOR                    0xffffu

static u8 get8(volatile u8 *base, u32 offset) { return base[offset]; }
static u16 get16(volatile u8 *base, u32 offset) { return *(volatile u16 *)(base + offset); }
static u32 get32(volatile u8 *base, u32 offset) { return *(volatile u32 *)(base + offset); }
static void put8(volatile u8 *base, u32 offset, u8 value) { base[offset] = value; }
static void put16(volatile u8 *base, u32 offset, u16 value) {
    *(volatile u16 *)(base + offset) = value;
}
static void put32(volatile u8 *base, u32 offset, u32 value) {
    *(volatile u32 *)(base + offset) = value;
}

// 64-bit fields may be written as two halves.
static void put64(volatile u8 *base, u32 offset, u64 value) {
    put32(base, offset, (u32)value);
    put32(base, offset + 4, (u32)(value >> 32));
}

static void take_capability(struct virtio_device *v, u32 cap) {
    const struct pci_device *d = v->pci;
    u32 type = pci_read(d, cap + CAP_TYPE, 1), bar = pci_read(d, cap + CAP_BAR, 1);
    u32 offset = pci_read(d, cap + CAP_OFFSET, 4), bytes = pci_read(d, cap + CAP_LENGTH, 4);
    // A BAR is aligned to its size: what a capability names beyond that is someone else's, perhaps
    // RAM.
    u64 most = bar < PCI_BARS ? d->bars[bar] & -d->bars[bar] : 0;
    bool inside = bytes && offset < most && bytes <= most - offset;
    volatile u8 *p = inside ? pci_map(d, bar, offset, bytes) : NULL;
    if (!p)
        return;
    if (type == TYPE_COMMON && !v->common && bytes >= COMMON_BYTES)
        v->common = p;
    if (type == TYPE_ISR && !v->isr)
        v->isr = p;
    if (type == TYPE_DEVICE && !v->config) {
        v->config = p;
        v->config_bytes = bytes;
    }
    if (type == TYPE_NOTIFY && !v->notify) {
        v->notify = p;
        v->notify_bytes = bytes;
        v->notify_multiplier = pci_read(d, cap + CAP_MULTIPLIER, 4);
    }
}

bool virtio_open(struct virtio_device *v, const struct pci_device *pci) {
    *v = (struct virtio_device){.pci = pci, .port = -1};
    u32 cap = 0;
    for (unsigned i = 0; i < 48; i++) {
        cap = pci_capability(pci, PCI_CAP_VENDOR, cap);
        if (!cap)
            break;
        take_capability(v, cap);
    }
    if (!v->common || !v->notify || !v->isr)
        return false;
    pci_enable(pci);
    return true;
}

u8 virtio_status(struct virtio_device *v) { return get8(v->common, COMMON_DEVICE_STATUS); }

static void add_status(struct virtio_device *v, u8 bits) {
    put8(v->common, COMMON_DEVICE_STATUS, virtio_status(v) | bits);
}

bool virtio_reset(struct virtio_device *v) {
    put8(v->common, COMMON_DEVICE_STATUS, 0);
    u64 end = time_ns() + 500 * NS_PER_MS;
    while (virtio_status(v) != 0) {
        if (time_ns() > end) {
            pci_disable(v->pci);
            return false;
        }
        delay_us(10);
    }
    return true;
}

static u64 offered_features(struct virtio_device *v) {
    put32(v->common, COMMON_DEVICE_FEATURE_SELECT, 0);
    u64 low = get32(v->common, COMMON_DEVICE_FEATURE);
    put32(v->common, COMMON_DEVICE_FEATURE_SELECT, 1);
    return low | (u64)get32(v->common, COMMON_DEVICE_FEATURE) << 32;
}

bool virtio_begin(struct virtio_device *v, u64 wanted, u64 *features) {
    if (!virtio_reset(v))
        return false;
    add_status(v, VIRTIO_STATUS_ACKNOWLEDGE);
    add_status(v, VIRTIO_STATUS_DRIVER);
    *features = offered_features(v) & (wanted | VIRTIO_F_VERSION_1 | VIRTIO_F_ACCESS_PLATFORM);
    if (!(*features & VIRTIO_F_VERSION_1))
        return false;
    for (u32 half = 0; half < 2; half++) {
        put32(v->common, COMMON_DRIVER_FEATURE_SELECT, half);
        put32(v->common, COMMON_DRIVER_FEATURE, (u32)(*features >> 32 * half));
    }
    add_status(v, VIRTIO_STATUS_FEATURES_OK);
    return virtio_status(v) & VIRTIO_STATUS_FEATURES_OK;
}

void virtio_bind(struct virtio_device *v, event_handler handler, void *context) {
    if (v->pci->msix)
        v->port = pci_bind_msi(v->pci, 0, handler, context);
    if (v->port >= 0)
        return;
    v->port = pci_bind_line(v->pci, handler, context);
    v->line = v->port >= 0;
    if (v->port < 0)
        log_warning("virtio", "%s: no interrupt (%s): it is polled", v->pci->name,
                    error_text(v->port));
}

bool virtio_setup_queue(struct virtio_device *v, u16 index, struct vring *q, u16 limit,
                        void *memory) {
    put16(v->common, COMMON_QUEUE_SELECT, index);
    u16 size = get16(v->common, COMMON_QUEUE_SIZE);
    if (size == 0 || (size & (size - 1)))
        return false;
    size = MIN(size, limit);
    u32 notify = get16(v->common, COMMON_QUEUE_NOTIFY_OFF) * v->notify_multiplier;
    if (notify > v->notify_bytes || v->notify_bytes - notify < sizeof(u16))
        return false;
    v->doorbell = (volatile u16 *)(v->notify + notify);
    vring_init(q, size, memory);
    u16 vector = v->port >= 0 && !v->line ? 0 : NO_VECTOR;
    put16(v->common, COMMON_QUEUE_SIZE, size);
    put16(v->common, COMMON_CONFIG_MSIX_VECTOR, NO_VECTOR);
    put16(v->common, COMMON_QUEUE_MSIX_VECTOR, vector);
    if (get16(v->common, COMMON_QUEUE_MSIX_VECTOR) != vector)
        return false;
    put64(v->common, COMMON_QUEUE_DESC, phys_of(q->desc)); // pinned by the caller, for good
    put64(v->common, COMMON_QUEUE_DRIVER, phys_of(q->avail));
    put64(v->common, COMMON_QUEUE_DEVICE, phys_of(q->used));
    put16(v->common, COMMON_QUEUE_ENABLE, 1);
    return true;
}

void virtio_ready(struct virtio_device *v) { add_status(v, VIRTIO_STATUS_DRIVER_OK); }

void virtio_notify(struct virtio_device *v) { *v->doorbell = 0; }

void virtio_ack(struct virtio_device *v) {
    if (!v->line)
        return;
    (void)get8(v->isr, 0); // reading clears it and lowers the line
    pci_line_ack(v->port);
}

u64 virtio_config(struct virtio_device *v, u32 offset, u32 bytes) {
    if (!v->config || bytes > v->config_bytes || offset > v->config_bytes - bytes)
        return 0;
    for (unsigned tries = 0; tries < 8; tries++) {
        u8 before = get8(v->common, COMMON_CONFIG_GENERATION);
        u64 value = 0;
        if (bytes == 8)
            value = get32(v->config, offset) | (u64)get32(v->config, offset + 4) << 32;
        else if (bytes == 4)
            value = get32(v->config, offset);
        else
            value = bytes == 2 ? get16(v->config, offset) : get8(v->config, offset);
        if (before == get8(v->common, COMMON_CONFIG_GENERATION))
            return value;
    }
    return 0;
}
