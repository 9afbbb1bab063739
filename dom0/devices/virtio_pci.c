// SPDX-License-Identifier: Apache-2.0
//
// Where the registers of a virtio device lie in its PCI function: capabilities, ISR, device
// configuration, notification ports with their doorbells, and the window through configuration
// space. Follows "Virtio Structure PCI Capabilities" of virtio 1.2.

#include <stddef.h>
#include <string.h>

#include "access.h"
#include "machine.h"
#include "virtio.h"
#include "virtio_pci.h"

#define VIRTIO_VENDOR      0x1af4u
#define VIRTIO_DEVICE_BASE 0x1040u // + device type

#define BAR_REGISTERS      0u
#define BAR_REGISTERS_SIZE 0x2000u
#define AT_COMMON          0x000u
#define AT_ISR             0x100u
#define AT_DEVICE          0x200u
#define AT_MSIX_TABLE      0x1000u
#define AT_MSIX_PBA        0x1800u
#define BAR_NOTIFY         2u
#define BAR_NOTIFY_SIZE    16u
#define NOTIFY_MULTIPLIER  4u // one port per queue
#define NOTIFY_BYTES       2u

#define CAP_VENDOR         0x09u
#define CAP_COMMON         1u
#define CAP_NOTIFY         2u
#define CAP_ISR            3u
#define CAP_DEVICE         4u
#define CAP_PCI            5u

static uint64_t isr_read(struct virtio_device *device) {
    uint8_t isr = device->state->isr;
    device->state->isr = 0;
    vpci_set_line(&device->function, false);
    return isr;
}

static uint64_t bar_read(struct vpci_function *function, unsigned bar, uint32_t offset,
                         unsigned bytes) {
    struct virtio_device *device = (struct virtio_device *)function;
    if (bar == BAR_NOTIFY)
        return 0;
    if (offset < AT_COMMON + VIRTIO_COMMON_SIZE)
        return virtio_common_read(device, offset, bytes);
    if (access_touches(offset, bytes, AT_ISR, 1))
        return isr_read(device);
    if (offset >= AT_DEVICE && offset - AT_DEVICE + bytes <= VIRTIO_CONFIG_MAX)
        return access_load(device->config + (offset - AT_DEVICE), bytes);
    return 0;
}

static void bar_write(struct vpci_function *function, unsigned bar, uint32_t offset, unsigned bytes,
                      uint64_t data) {
    struct virtio_device *device = (struct virtio_device *)function;
    if (bar == BAR_NOTIFY)
        virtio_device_kick(device, offset / NOTIFY_MULTIPLIER); // where no doorbell could be had
    else if (offset < AT_COMMON + VIRTIO_COMMON_SIZE)
        virtio_common_write(device, offset, bytes, data);
}

static void bell_rung(void *context) {
    struct virtio_bell *bell = context;
    virtio_device_kick(bell->device, bell->queue);
}

static uint64_t bell_port(const struct virtio_device *device, unsigned queue) {
    return device->bell_address + queue * NOTIFY_MULTIPLIER;
}

void virtio_pci_unbind(struct virtio_device *device) {
    for (unsigned i = 0; i < device->model->queues; i++) {
        if (device->bells[i].doorbell >= 0)
            host_doorbell_unbind(device->domain, bell_port(device, i), NOTIFY_BYTES,
                                 device->bells[i].doorbell);
        device->bells[i].doorbell = -1;
    }
    device->bell_address = 0;
}

static void decode_changed(struct vpci_function *function) {
    struct virtio_device *device = (struct virtio_device *)function;
    uint32_t address = vpci_bar_address(function, BAR_NOTIFY);
    bool decoded = (vpci_command(function) & PCI_COMMAND_IO) && address >= MACHINE_PCI_IO &&
                   address <= 0x10000 - BAR_NOTIFY_SIZE;
    if (device->bell_address != (decoded ? address : 0)) {
        virtio_pci_unbind(device);
        device->bell_address = decoded ? address : 0;
        for (unsigned i = 0; decoded && i < device->model->queues; i++)
            device->bells[i].doorbell = host_doorbell_bind(
                device->domain, bell_port(device, i), NOTIFY_BYTES, bell_rung, &device->bells[i]);
    }
    virtio_device_kick_all(device); // bus mastering may have come back
}

// The window through configuration space: fields of its capability.
#define WINDOW_BAR    4u
#define WINDOW_OFFSET 8u
#define WINDOW_LENGTH 12u
#define WINDOW_DATA   16u

static bool window(const struct virtio_device *device, unsigned offset, unsigned bytes,
                   unsigned *bar, uint32_t *at, unsigned *length) {
    const uint8_t *cap = device->function.state->config + device->window;
    *bar = cap[WINDOW_BAR];
    *at = (uint32_t)access_load(cap + WINDOW_OFFSET, 4);
    uint32_t wanted = (uint32_t)access_load(cap + WINDOW_LENGTH, 4);
    *length = wanted;
    if (!device->window || !access_touches(offset, bytes, device->window + WINDOW_DATA, 4))
        return false;
    if ((wanted != 1 && wanted != 2 && wanted != 4) || *at % wanted)
        return false;
    return *bar < VPCI_BARS && device->function.bar_size[*bar] &&
           *at < device->function.bar_size[*bar];
}

static void config_reading(struct vpci_function *function, unsigned offset, unsigned bytes) {
    struct virtio_device *device = (struct virtio_device *)function;
    unsigned bar, length;
    uint32_t at;
    if (window(device, offset, bytes, &bar, &at, &length))
        access_store(function->state->config + device->window + WINDOW_DATA, length,
                     vpci_function_read(function, bar, at, length));
}

static void config_written(struct vpci_function *function, unsigned offset, unsigned bytes) {
    struct virtio_device *device = (struct virtio_device *)function;
    unsigned bar, length;
    uint32_t at;
    if (window(device, offset, bytes, &bar, &at, &length))
        vpci_function_write(
            function, bar, at, length,
            access_load(function->state->config + device->window + WINDOW_DATA, length));
}

static const struct vpci_ops virtio_pci_ops = {
    .bar_read = bar_read,
    .bar_write = bar_write,
    .decode_changed = decode_changed,
    .config_reading = config_reading,
    .config_written = config_written,
};

static unsigned add_capability(struct virtio_device *device, unsigned type, unsigned bar,
                               uint32_t offset, uint32_t length, bool fresh) {
    unsigned size = type == CAP_NOTIFY || type == CAP_PCI ? 20 : 16;
    uint8_t body[18] = {(uint8_t)size, (uint8_t)type, (uint8_t)bar};
    uint8_t writable[18] = {0};
    access_store(body + 6, 4, offset);
    access_store(body + 10, 4, length);
    if (type == CAP_NOTIFY)
        access_store(body + 14, 4, NOTIFY_MULTIPLIER);
    if (type == CAP_PCI) {
        writable[WINDOW_BAR - 2] = 0xff;
        memset(writable + WINDOW_OFFSET - 2, 0xff, 12);
    }
    return vpci_add_capability(&device->function, CAP_VENDOR, size, body, writable, fresh);
}

void virtio_pci_init(struct virtio_device *device, struct vpci_bus *bus, unsigned slot,
                     bool fresh) {
    const struct virtio_model *model = device->model;
    struct vpci_function *f = &device->function;
    const struct vpci_id id = {
        .vendor = VIRTIO_VENDOR,
        .device = (uint16_t)(VIRTIO_DEVICE_BASE + model->type),
        .subsystem_vendor = VIRTIO_VENDOR,
        .subsystem = (uint16_t)(VIRTIO_DEVICE_BASE + model->type),
        .class = model->class,
        .revision = 1,
        .interrupt = true,
    };
    vpci_add(bus, f, slot, &device->page->pci, &id, &virtio_pci_ops, fresh);
    vpci_add_bar(f, BAR_REGISTERS, BAR_REGISTERS_SIZE, false, fresh);
    vpci_add_bar(f, BAR_NOTIFY, BAR_NOTIFY_SIZE, true, fresh);
    vpci_add_msix(f, model->queues + 1u, BAR_REGISTERS, AT_MSIX_TABLE, AT_MSIX_PBA, fresh);
    add_capability(device, CAP_COMMON, BAR_REGISTERS, AT_COMMON, VIRTIO_COMMON_SIZE, fresh);
    add_capability(device, CAP_ISR, BAR_REGISTERS, AT_ISR, 1, fresh);
    add_capability(device, CAP_NOTIFY, BAR_NOTIFY, 0, model->queues * NOTIFY_MULTIPLIER, fresh);
    add_capability(device, CAP_DEVICE, BAR_REGISTERS, AT_DEVICE, VIRTIO_CONFIG_MAX, fresh);
    device->window = (uint8_t)add_capability(device, CAP_PCI, 0, 0, 0, fresh);
}
