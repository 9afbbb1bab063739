// SPDX-License-Identifier: Apache-2.0
//
// The common configuration of a virtio device: a table of its fields, read and written at any
// width, and what each of them does. Invariant: a queue's addresses and size change only while it
// is disabled; features only before FEATURES_OK. Follows "Common configuration structure layout" of
// virtio 1.2.

#include "access.h"
#include "virtio.h"
#include "virtio_pci.h"

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
_Static_assert(VIRTIO_COMMON_SIZE == 56, "the last field's end");

static struct virtqueue_state *selected(struct virtio_device *device) {
    unsigned queue = device->state->queue_select;
    return queue < device->model->queues ? &device->state->queues[queue] : NULL;
}

static uint64_t features_read(uint64_t features, uint32_t select) {
    return select < 2 ? (uint32_t)(features >> (32 * select)) : 0;
}

static uint64_t queue_field(const struct virtqueue_state *q, unsigned queue,
                            enum common_field field) {
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

static uint64_t common_get(struct virtio_device *device, enum common_field field) {
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

static void driver_features_set(struct virtio_state *s, uint32_t value) {
    if (s->driver_feature_select >= 2 || (s->status & VIRTIO_STATUS_FEATURES_OK))
        return;
    unsigned shift = 32 * s->driver_feature_select;
    s->driver_features = (s->driver_features & ~(0xffffffffull << shift)) | (uint64_t)value
                                                                                << shift;
}

static void status_set(struct virtio_device *device, uint8_t value) {
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

static uint16_t vector_checked(const struct virtio_device *device, uint32_t vector) {
    return vector < device->function.vectors ? (uint16_t)vector : 0xffff;
}

static void queue_enable(struct virtio_device *device, struct virtqueue_state *q) {
    if (!(device->state->status & VIRTIO_STATUS_FEATURES_OK))
        return;
    q->enabled = 1;
    if (!virtio_device_queue_enable(device, device->state->queue_select))
        virtio_device_broken(device, "a queue is not in guest memory");
}

static void low(uint64_t *address, uint32_t value) {
    *address = (*address & ~0xffffffffull) | value;
}

static void high(uint64_t *address, uint32_t value) {
    *address = (*address & 0xffffffffull) | (uint64_t)value << 32;
}

static void queue_set(struct virtio_device *device, struct virtqueue_state *q,
                      enum common_field field, uint32_t v) {
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

static void common_set(struct virtio_device *device, enum common_field field, uint32_t value) {
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

uint64_t virtio_common_read(struct virtio_device *device, uint32_t offset, unsigned bytes) {
    uint64_t result = 0;
    for (unsigned i = 0; i < COMMON_FIELDS; i++) {
        unsigned start = common_fields[i].offset, size = common_fields[i].size;
        if (access_touches(offset, bytes, start, size))
            result |=
                access_part(offset, bytes, start, size, common_get(device, (enum common_field)i));
    }
    return result;
}

void virtio_common_write(struct virtio_device *device, uint32_t offset, unsigned bytes,
                         uint64_t data) {
    for (unsigned i = 0; i < COMMON_FIELDS; i++) {
        unsigned start = common_fields[i].offset, size = common_fields[i].size;
        if (!access_touches(offset, bytes, start, size))
            continue;
        uint64_t old = common_get(device, (enum common_field)i);
        common_set(device, (enum common_field)i,
                   (uint32_t)access_merge(offset, bytes, start, size, old, data));
    }
}
