// SPDX-License-Identifier: Apache-2.0
//
// A split virtqueue, seen from the device. Everything in the rings is hostile: a chain is walked at
// most VIRTQUEUE_CHAIN steps, each descriptor is copied once and only the copy is looked at, every
// address goes through host_guest_pin(). A malformed ring makes virtqueue_pop() fail for good; the
// device then asks for a reset. Invariant: a head is taken at most once until it is used, and
// state->in_flight names exactly the heads that are out, so that a restarted dom0 finds every
// request again. Follows "Split Virtqueues" of virtio 1.2.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host.h"
#include "state.h"

#define VIRTQUEUE_CHAIN VIRTQUEUE_SIZE // descriptors, those of an indirect table included

struct virtqueue_descriptor { // as in guest memory
    uint64_t address;
    uint32_t length;
    uint16_t flags;
    uint16_t next;
};
_Static_assert(sizeof(struct virtqueue_descriptor) == 16, "virtio ABI");

#define VIRTQ_DESC_NEXT     1u
#define VIRTQ_DESC_WRITE    2u
#define VIRTQ_DESC_INDIRECT 4u

struct virtqueue_buffer { // checked: the range does not wrap; mapped when it is used
    uint64_t address;
    uint32_t length;
};

// A request as the driver laid it out: buffers that the device reads, then buffers that it writes.
struct virtqueue_chain {
    uint16_t head;
    uint16_t count;    // of buffers
    uint16_t readable; // the first so many are for reading
    uint32_t read_bytes, write_bytes;
    struct virtqueue_buffer buffers[VIRTQUEUE_CHAIN];
};

// An area of a ring in dom0's memory; at most two pieces, since none is longer than a page.
struct virtqueue_area {
    uint8_t *pieces[2];
    size_t lengths[2];
};

struct virtqueue {
    struct virtqueue_state *state;
    struct guest_memory *memory;
    struct virtqueue_area desc, driver, device;
    bool event_idx; // VIRTIO_F_RING_EVENT_IDX was negotiated
    bool indirect;  // VIRTIO_F_INDIRECT_DESC was
    bool mapped;
};

/// Maps the areas that the state names and makes the queue ready. False if they are not guest
/// memory or not aligned.
bool virtqueue_enable(struct virtqueue *queue);

/// Unmaps. No chain may be out whose buffers are mapped.
void virtqueue_disable(struct virtqueue *queue);

/// As a driver finds it after a reset.
void virtqueue_reset(struct virtqueue *queue);

enum virtqueue_result { VIRTQUEUE_EMPTY = 0, VIRTQUEUE_CHAIN_TAKEN = 1, VIRTQUEUE_MALFORMED = -1 };

/// Takes the next available chain.
enum virtqueue_result virtqueue_pop(struct virtqueue *queue, struct virtqueue_chain *chain);

/// Takes chain `head` again after a restart of dom0, one that state->in_flight names.
enum virtqueue_result virtqueue_resume(struct virtqueue *queue, uint16_t head,
                                       struct virtqueue_chain *chain);

/// Puts a chain last popped back, as the next to be taken.
void virtqueue_unpop(struct virtqueue *queue, const struct virtqueue_chain *chain);

/// Hands a chain back with `written` bytes written to it.
void virtqueue_push(struct virtqueue *queue, uint16_t head, uint32_t written);

/// Finishes a push that dom0's death interrupted. Called once after virtqueue_enable() of a
/// restarted dom0.
void virtqueue_recover(struct virtqueue *queue);

/// True if the driver wants an interrupt for what was pushed since this function last said true.
bool virtqueue_interrupt_wanted(struct virtqueue *queue);

/// Asks the driver for a kick at the next available chain (or for none). Returns true if there is a
/// chain already, so that the caller must look again.
bool virtqueue_kicks(struct virtqueue *queue, bool wanted);

/// Copies from the chain's readable part / into its writable part, beginning `offset` bytes into
/// that part. Returns the bytes copied: fewer than asked at the part's end or where the buffer is
/// not guest memory.
size_t virtqueue_read(struct virtqueue *queue, const struct virtqueue_chain *chain, size_t offset,
                      void *to, size_t length);
size_t virtqueue_write(struct virtqueue *queue, const struct virtqueue_chain *chain, size_t offset,
                       const void *from, size_t length);

/// Maps up to `length` bytes of the readable (write == false: the device reads them) or writable
/// part, beginning `offset` bytes into it, as segments in place; at most `max` of them. Sets
/// *mapped to their total, and *count. False if a buffer is not guest memory: nothing is mapped
/// then. Undone by virtqueue_unmap().
bool virtqueue_map(struct virtqueue *queue, const struct virtqueue_chain *chain, bool write,
                   size_t offset, size_t length, struct host_segment *segments, unsigned max,
                   unsigned *count, size_t *mapped);
void virtqueue_unmap(struct virtqueue *queue, unsigned count);
