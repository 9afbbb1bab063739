// SPDX-License-Identifier: Apache-2.0
//
// The registers of a virtio device over PCI: a table of the common configuration's fields, read and
// written at any width; ISR, device configuration, notification ports, and the window through
// configuration space. Follows "Virtio Over PCI Bus" of virtio 1.2.

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

// Fields of the common configuration.
enum common_field {
    DEVICE_FEATURE_SELECT,
    DEVICE_FEATURE,
    DRIVER_FEATURE_SELECT,
    DRIVER_FEATURE,
    CONFIG_MSIX_VECTOR,
    NUM_QUEUES,
    DEVICE_STATUS,
    CONFIG_GENERATION,
    QUEUE_SELECT,
    QUEUE_SIZE,
    QUEUE_MSIX_VECTOR,
    QUEUE_ENABLE,
    QUEUE_NOTIFY_OFF,
    QUEUE_DESC_LOW,
    QUEUE_DESC_HIGH,
    QUEUE_DRIVER_LOW,
    QUEUE_DRIVER_HIGH,
    QUEUE_DEVICE_LOW,
    QUEUE_DEVICE_HIGH,
    COMMON_FIELDS
};

static const struct {
    uint8_t offset, size;
} common_fields[COMMON_FIELDS] = {
    [DEVICE_FEATURE_SELECT] = {0, 4}, [DEVICE_FEATURE] = {4, 4},
    [DRIVER_FEATURE_SELECT] = {8, 4}, [DRIVER_FEATURE] = {12, 4},
    [CONFIG_MSIX_VECTOR] = {16, 2},   [NUM_QUEUES] = {18, 2},
    [DEVICE_STATUS] = {20, 1},        [CONFIG_GENERATION] = {21, 1},
    [QUEUE_SELECT] = {22, 2},         [QUEUE_SIZE] = {24, 2},
    [QUEUE_MSIX_VECTOR] = {26, 2},    [QUEUE_ENABLE] = {28, 2},
    [QUEUE_NOTIFY_OFF] = {30, 2},     [QUEUE_DESC_LOW] = {32, 4},
    [QUEUE_DESC_HIGH] = {36, 4},      [QUEUE_DRIVER_LOW] = {40, 4},
    [QUEUE_DRIVER_HIGH] = {44, 4},    [QUEUE_DEVICE_LOW] = {48, 4},
    [QUEUE_DEVICE_HIGH] = {52, 4},
};
#define COMMON_SIZE 56u

static struct virtqueue_state *selected(struct virtio_device *device)
{
    unsigned queue = device->state->queue_select;
    return queue < device->model->queues ? &device->state->queues[queue] : NULL;
}

static uint64_t features_read(uint64_t features, uint32_t select)
{
    return select < 2 ? (uint32_t)(features >> (32 * select)) : 0;
}

static uint64_t queue_field(const struct virtqueue_state *q, unsigned queue,
                            enum common_field field)
{
    switch (field) {
    case QUEUE_SIZE: return q->size;
    case QUEUE_MSIX_VECTOR: return q->msix_vector;
    case QUEUE_ENABLE: return q->enabled;
    case QUEUE_NOTIFY_OFF: return queue;
    case QUEUE_DESC_LOW: return (uint32_t)q->desc;
    case QUEUE_DESC_HIGH: return q->desc >> 32;
    case QUEUE_DRIVER_LOW: return (uint32_t)q->driver;
    case QUEUE_DRIVER_HIGH: return q->driver >> 32;
    case QUEUE_DEVICE_LOW: return (uint32_t)q->device;
    case QUEUE_DEVICE_HIGH: return q->device >> 32;
    default: return 0;
    }
}

static uint64_t common_get(struct virtio_device *device, enum common_field field)
{
    const struct virtio_state *s = device->state;
    const struct virtqueue_state *q = selected(device);
    switch (field) {
    case DEVICE_FEATURE_SELECT: return s->device_feature_select;
    case DEVICE_FEATURE: return features_read(device->features, s->device_feature_select);
    case DRIVER_FEATURE_SELECT: return s->driver_feature_select;
    case DRIVER_FEATURE: return features_read(s->driver_features, s->driver_feature_select);
    case CONFIG_MSIX_VECTOR: return s->msix_config;
    case NUM_QUEUES: return device->model->queues;
    case DEVICE_STATUS: return s->status;
    case CONFIG_GENERATION: return s->generation;
    case QUEUE_SELECT: return s->queue_select;
    case QUEUE_MSIX_VECTOR: return q ? q->msix_vector : 0xffff;
    default: return q ? queue_field(q, s->queue_select, field) : 0;
    }
}

static void driver_features_set(struct virtio_state *s, uint32_t value)
{
    if (s->driver_feature_select >= 2 || (s->status & VIRTIO_STATUS_FEATURES_OK))
        return;
    unsigned shift = 32 * s->driver_feature_select;
    s->driver_features = (s->driver_features & ~(0xffffffffull << shift)) | (uint64_t)value
                                                                                << shift;
}

static void status_set(struct virtio_device *device, uint8_t value)
{
    struct virtio_state *s = device->state;
    if (value == 0) {
        virtio_device_reset(device);
        return;
    }
    if (s->resetting)
        return;
    bool acceptable = !(s->driver_features & ~device->features) &&
                      (s->driver_features & VIRTIO_F_VERSION_1);
    if (!acceptable)
        value &= (uint8_t)~VIRTIO_STATUS_FEATURES_OK;
    if (!(value & VIRTIO_STATUS_FEATURES_OK))
        value &= (uint8_t)~VIRTIO_STATUS_DRIVER_OK;
    bool was_running = s->status & VIRTIO_STATUS_DRIVER_OK;
    s->status = (uint8_t)(value & ~VIRTIO_STATUS_NEEDS_RESET) |
                (s->status & VIRTIO_STATUS_NEEDS_RESET);
    if (!was_running)
        virtio_device_kick_all(device); // buffers made available before DRIVER_OK
}

static uint16_t vector_checked(const struct virtio_device *device, uint32_t vector)
{
    return vector < device->function.vectors ? (uint16_t)vector : 0xffff;
}

static void queue_enable(struct virtio_device *device, struct virtqueue_state *q)
{
    if (!(device->state->status & VIRTIO_STATUS_FEATURES_OK))
        return;
    q->enabled = 1;
    if (!virtio_device_queue_enable(device, device->state->queue_select))
        virtio_device_broken(device, "a queue is not in guest memory");
}

static void low(uint64_t *address, uint32_t value)
{
    *address = (*address & ~0xffffffffull) | value;
}

static void high(uint64_t *address, uint32_t value)
{
    *address = (*address & 0xffffffffull) | (uint64_t)value << 32;
}

static void queue_set(struct virtio_device *device, struct virtqueue_state *q,
                      enum common_field field, uint32_t v)
{
    if (field == QUEUE_MSIX_VECTOR)
        q->msix_vector = vector_checked(device, v);
    if (q->enabled)
        return; // the rest is fixed until a reset
    switch (field) {
    case QUEUE_SIZE:
        if (v <= VIRTQUEUE_SIZE && v && !(v & (v - 1)))
            q->size = (uint16_t)v;
        break;
    case QUEUE_ENABLE:
        if (v == 1)
            queue_enable(device, q);
        break;
    case QUEUE_DESC_LOW: low(&q->desc, v); break;
    case QUEUE_DESC_HIGH: high(&q->desc, v); break;
    case QUEUE_DRIVER_LOW: low(&q->driver, v); break;
    case QUEUE_DRIVER_HIGH: high(&q->driver, v); break;
    case QUEUE_DEVICE_LOW: low(&q->device, v); break;
    case QUEUE_DEVICE_HIGH: high(&q->device, v); break;
    default: break;
    }
}

static void common_set(struct virtio_device *device, enum common_field field, uint32_t value)
{
    struct virtio_state *s = device->state;
    struct virtqueue_state *q = selected(device);
    switch (field) {
    case DEVICE_FEATURE_SELECT: s->device_feature_select = value; break;
    case DRIVER_FEATURE_SELECT: s->driver_feature_select = value; break;
    case DRIVER_FEATURE: driver_features_set(s, value); break;
    case CONFIG_MSIX_VECTOR: s->msix_config = vector_checked(device, value); break;
    case DEVICE_STATUS: status_set(device, (uint8_t)value); break;
    case QUEUE_SELECT: s->queue_select = (uint16_t)value; break;
    default:
        if (q && !s->resetting)
            queue_set(device, q, field, value);
        break;
    }
}

static uint64_t common_read(struct virtio_device *device, uint32_t offset, unsigned bytes)
{
    uint64_t result = 0;
    for (unsigned i = 0; i < COMMON_FIELDS; i++) {
        unsigned start = common_fields[i].offset, size = common_fields[i].size;
        if (access_touches(offset, bytes, start, size))
            result |=
                access_part(offset, bytes, start, size, common_get(device, (enum common_field)i));
    }
    return result;
}

static void common_write(struct virtio_device *device, uint32_t offset, unsigned bytes,
                         uint64_t data)
{
    for (unsigned i = 0; i < COMMON_FIELDS; i++) {
        unsigned start = common_fields[i].offset, size = common_fields[i].size;
        if (!access_touches(offset, bytes, start, size))
            continue;
        uint64_t old = common_get(device, (enum common_field)i);
        common_set(device, (enum common_field)i,
                   (uint32_t)access_merge(offset, bytes, start, size, old, data));
    }
}

static uint64_t isr_read(struct virtio_device *device)
{
    uint8_t isr = device->state->isr;
    device->state->isr = 0;
    vpci_set_line(&device->function, false);
    return isr;
}

static uint64_t bar_read(struct vpci_function *function, unsigned bar, uint32_t offset,
                         unsigned bytes)
{
    struct virtio_device *device = (struct virtio_device *)function;
    if (bar == BAR_NOTIFY)
        return 0;
    if (offset < AT_COMMON + COMMON_SIZE)
        return common_read(device, offset, bytes);
    if (access_touches(offset, bytes, AT_ISR, 1))
        return isr_read(device);
    if (offset >= AT_DEVICE && offset - AT_DEVICE + bytes <= VIRTIO_CONFIG_MAX)
        return access_load(device->config + (offset - AT_DEVICE), bytes);
    return 0;
}

static void bar_write(struct vpci_function *function, unsigned bar, uint32_t offset, unsigned bytes,
                      uint64_t data)
{
    struct virtio_device *device = (struct virtio_device *)function;
    if (bar == BAR_NOTIFY)
        virtio_device_kick(device, offset / NOTIFY_MULTIPLIER); // where no doorbell could be had
    else if (offset < AT_COMMON + COMMON_SIZE)
        common_write(device, offset, bytes, data);
}

static void bell_rung(void *context)
{
    struct virtio_bell *bell = context;
    virtio_device_kick(bell->device, bell->queue);
}

static uint64_t bell_port(const struct virtio_device *device, unsigned queue)
{
    return device->bell_address + queue * NOTIFY_MULTIPLIER;
}

void virtio_pci_unbind(struct virtio_device *device)
{
    for (unsigned i = 0; i < device->model->queues; i++) {
        if (device->bells[i].doorbell >= 0)
            host_doorbell_unbind(device->domain, bell_port(device, i), NOTIFY_BYTES,
                                 device->bells[i].doorbell);
        device->bells[i].doorbell = -1;
    }
    device->bell_address = 0;
}

static void decode_changed(struct vpci_function *function)
{
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
                   unsigned *bar, uint32_t *at, unsigned *length)
{
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

static void config_reading(struct vpci_function *function, unsigned offset, unsigned bytes)
{
    struct virtio_device *device = (struct virtio_device *)function;
    unsigned bar, length;
    uint32_t at;
    if (window(device, offset, bytes, &bar, &at, &length))
        access_store(function->state->config + device->window + WINDOW_DATA, length,
                     vpci_function_read(function, bar, at, length));
}

static void config_written(struct vpci_function *function, unsigned offset, unsigned bytes)
{
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
                               uint32_t offset, uint32_t length, bool fresh)
{
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

void virtio_pci_init(struct virtio_device *device, struct vpci_bus *bus, unsigned slot, bool fresh)
{
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
    add_capability(device, CAP_COMMON, BAR_REGISTERS, AT_COMMON, COMMON_SIZE, fresh);
    add_capability(device, CAP_ISR, BAR_REGISTERS, AT_ISR, 1, fresh);
    add_capability(device, CAP_NOTIFY, BAR_NOTIFY, 0, model->queues * NOTIFY_MULTIPLIER, fresh);
    add_capability(device, CAP_DEVICE, BAR_REGISTERS, AT_DEVICE, VIRTIO_CONFIG_MAX, fresh);
    device->window = (uint8_t)add_capability(device, CAP_PCI, 0, 0, 0, fresh);
}
