// SPDX-License-Identifier: Apache-2.0
//
// The buffers of a virtqueue's chain: a device model sees its readable and its writable part as two
// runs of bytes, wherever the driver cut them ("Message Framing" of virtio 1.2), and maps pieces of
// them in place. Invariant: what is mapped is unmapped by the same segments; no address reaches
// memory but through host_guest_pin().

#include <string.h>

#include "virtqueue.h"

bool virtqueue_map(struct virtqueue *queue, const struct virtqueue_chain *chain, bool write,
                   size_t offset, size_t length, struct host_segment *segments, unsigned max,
                   unsigned *count, size_t *mapped) {
    unsigned i = write ? chain->readable : 0;
    unsigned end = write ? chain->count : chain->readable;
    *count = 0;
    *mapped = 0;
    for (; i < end && length && *count < max; i++) {
        uint32_t bytes = chain->buffers[i].length;
        if (offset >= bytes) {
            offset -= bytes;
            continue;
        }
        while (offset < bytes && length && *count < max) {
            size_t piece = bytes - offset < length ? bytes - offset : length;
            void *pointer =
                host_guest_pin(queue->memory, chain->buffers[i].address + offset, &piece, write);
            if (!pointer) {
                virtqueue_unmap(queue, *count);
                *count = 0;
                *mapped = 0;
                return false;
            }
            segments[(*count)++] = (struct host_segment){pointer, (uint32_t)piece};
            *mapped += piece;
            offset += piece;
            length -= piece;
        }
        offset = 0;
    }
    return true;
}

void virtqueue_unmap(struct virtqueue *queue, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        host_guest_unpin(queue->memory);
}

// Copies one mapped piece at a time. `bytes` is written to the guest or filled from it.
static size_t copy(struct virtqueue *queue, const struct virtqueue_chain *chain, bool write,
                   size_t offset, uint8_t *bytes, size_t length) {
    size_t done = 0;
    while (done < length) {
        struct host_segment segment;
        unsigned count;
        size_t mapped;
        if (!virtqueue_map(queue, chain, write, offset + done, length - done, &segment, 1, &count,
                           &mapped))
            break;
        if (count == 0)
            break;
        if (write)
            memcpy(segment.pointer, bytes + done, segment.length);
        else
            memcpy(bytes + done, segment.pointer, segment.length);
        virtqueue_unmap(queue, 1);
        done += mapped;
    }
    return done;
}

size_t virtqueue_read(struct virtqueue *queue, const struct virtqueue_chain *chain, size_t offset,
                      void *to, size_t length) {
    return copy(queue, chain, false, offset, to, length);
}

size_t virtqueue_write(struct virtqueue *queue, const struct virtqueue_chain *chain, size_t offset,
                       const void *from, size_t length) {
    return copy(queue, chain, true, offset, (uint8_t *)(uintptr_t)from, length);
}
