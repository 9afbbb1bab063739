// SPDX-License-Identifier: Apache-2.0
//
// Between virtqueue.c (rings) and virtqueue_walk.c (descriptors).

#pragma once

#include "virtqueue.h"

/// Bytes at `offset` of a ring's area. Accesses are naturally aligned and pieces end at page
/// boundaries, so none straddles two pieces.
static inline void *virtqueue_area_at(const struct virtqueue_area *area, size_t offset) {
    return offset < area->lengths[0] ? area->pieces[0] + offset
                                     : area->pieces[1] + (offset - area->lengths[0]);
}

/// Follows the chain that begins at `head` (below the queue's size). False if it is malformed.
bool virtqueue_walk(struct virtqueue *queue, uint16_t head, struct virtqueue_chain *chain);
