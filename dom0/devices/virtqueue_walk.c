// SPDX-License-Identifier: Apache-2.0
//
// From a head to the buffers of its chain. Each descriptor is copied once, checked, and forgotten;
// the number of steps is bounded, so that a loop ends as a chain that is too long. Follows "The
// Virtqueue Descriptor Table" and "Indirect Descriptors" of virtio 1.2.

#include <string.h>

#include "virtqueue_walk.h"

// Where the descriptors of a walk are: the ring's own table, or an indirect one.
struct table {
    struct virtqueue *queue;
    uint64_t address; // of an indirect table
    uint32_t entries;
    bool indirect;
};

static bool table_fetch(const struct table *table, uint32_t index,
                        struct virtqueue_descriptor *descriptor) {
    if (index >= table->entries)
        return false;
    if (!table->indirect) {
        memcpy(descriptor, virtqueue_area_at(&table->queue->desc, 16u * index), 16);
    } else {
        uint8_t *to = (uint8_t *)descriptor;
        for (size_t have = 0, piece; have < 16; have += piece) {
            piece = 16 - have;
            uint64_t from = table->address + 16ull * index + have;
            void *pointer = host_guest_pin(table->queue->memory, from, &piece, false);
            if (!pointer)
                return false;
            memcpy(to + have, pointer, piece);
            host_guest_unpin(table->queue->memory);
        }
    }
    // The guest may write the table at any time: what was copied is what counts.
    __asm__ volatile("" ::: "memory");
    return true;
}

static bool chain_add(struct virtqueue_chain *chain, const struct virtqueue_descriptor *d) {
    bool write = d->flags & VIRTQ_DESC_WRITE;
    uint32_t *total = write ? &chain->write_bytes : &chain->read_bytes;
    if (chain->count == VIRTQUEUE_CHAIN || d->address + d->length < d->address)
        return false;
    if (!write && chain->readable != chain->count)
        return false; // the device's readable part comes first
    if (__builtin_add_overflow(*total, d->length, total))
        return false;
    chain->buffers[chain->count++] = (struct virtqueue_buffer){d->address, d->length};
    if (!write)
        chain->readable = chain->count;
    return true;
}

static bool enter_indirect(struct table *table, const struct virtqueue_descriptor *d) {
    if (!table->queue->indirect || table->indirect || (d->flags & VIRTQ_DESC_NEXT))
        return false;
    if (d->length == 0 || d->length % 16 || d->length / 16 > 65536 ||
        d->address + d->length < d->address)
        return false;
    table->indirect = true;
    table->address = d->address;
    table->entries = d->length / 16;
    return true;
}

bool virtqueue_walk(struct virtqueue *queue, uint16_t head, struct virtqueue_chain *chain) {
    struct table table = {.queue = queue, .entries = queue->state->size};
    struct virtqueue_descriptor d;
    uint32_t index = head;
    chain->head = head;
    chain->count = chain->readable = 0;
    chain->read_bytes = chain->write_bytes = 0;
    // One step more than a chain has descriptors, for the one that leads to an indirect table.
    for (unsigned steps = 0; steps <= VIRTQUEUE_CHAIN; steps++) {
        if (!table_fetch(&table, index, &d))
            return false;
        if (d.flags & VIRTQ_DESC_INDIRECT) {
            if (!enter_indirect(&table, &d))
                return false;
            index = 0;
            continue;
        }
        if (!chain_add(chain, &d))
            return false;
        if (!(d.flags & VIRTQ_DESC_NEXT))
            return true;
        index = d.next;
    }
    return false; // a loop
}
