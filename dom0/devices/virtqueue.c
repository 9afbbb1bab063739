// SPDX-License-Identifier: Apache-2.0
//
// The rings of a split virtqueue: taking chains from the available ring and handing them back
// through the used ring. Order of the writes: used element, then used index (release), then our own
// record, so that a crash at any point leaves either the chain in flight or the push finished
// (virtqueue_recover). Follows "Split Virtqueues" and "Used Buffer Notification Suppression" of
// virtio 1.2.

#include <string.h>

#include "virtqueue.h"
#include "virtqueue_walk.h"

#define RING_FLAGS     0u // of both rings: bit 0 = no interrupts / no kicks, please
#define RING_INDEX     2u
#define AVAIL_ENTRY    4u // 2 bytes each
#define USED_ENTRY     4u // 8 bytes each

#define RING_SUPPRESS  1u
#define NOT_COMPLETING 0xffffu

static void area_unmap(struct virtqueue *queue, struct virtqueue_area *area) {
    for (unsigned i = 0; i < 2; i++)
        if (area->pieces[i])
            host_guest_unpin(queue->memory);
    memset(area, 0, sizeof(*area));
}

static bool area_map(struct virtqueue *queue, struct virtqueue_area *area, uint64_t gpa,
                     size_t length, bool write) {
    memset(area, 0, sizeof(*area));
    for (unsigned i = 0; i < 2 && length; i++) {
        size_t piece = length;
        area->pieces[i] = host_guest_pin(queue->memory, gpa, &piece, write);
        if (!area->pieces[i])
            break;
        area->lengths[i] = piece;
        gpa += piece;
        length -= piece;
    }
    if (length)
        area_unmap(queue, area);
    return length == 0;
}

static uint16_t load16(const struct virtqueue_area *area, size_t offset) {
    return __atomic_load_n((const uint16_t *)virtqueue_area_at(area, offset), __ATOMIC_ACQUIRE);
}

static void store16(const struct virtqueue_area *area, size_t offset, uint16_t value) {
    __atomic_store_n((uint16_t *)virtqueue_area_at(area, offset), value, __ATOMIC_RELEASE);
}

static void store32(const struct virtqueue_area *area, size_t offset, uint32_t value) {
    __atomic_store_n((uint32_t *)virtqueue_area_at(area, offset), value, __ATOMIC_RELAXED);
}

static size_t driver_bytes(uint16_t size) {
    return AVAIL_ENTRY + 2u * size + 2u; // with used_event
}

static size_t device_bytes(uint16_t size) {
    return USED_ENTRY + 8u * size + 2u; // with avail_event
}

bool virtqueue_enable(struct virtqueue *queue) {
    const struct virtqueue_state *s = queue->state;
    if (s->size == 0 || s->size > VIRTQUEUE_SIZE || (s->size & (s->size - 1)))
        return false;
    if ((s->desc & 15) || (s->driver & 1) || (s->device & 3))
        return false;
    if (!area_map(queue, &queue->desc, s->desc, 16u * s->size, false))
        return false;
    if (area_map(queue, &queue->driver, s->driver, driver_bytes(s->size), false)) {
        if (area_map(queue, &queue->device, s->device, device_bytes(s->size), true)) {
            queue->mapped = true;
            return true;
        }
        area_unmap(queue, &queue->driver);
    }
    area_unmap(queue, &queue->desc);
    return false;
}

void virtqueue_disable(struct virtqueue *queue) {
    area_unmap(queue, &queue->desc);
    area_unmap(queue, &queue->driver);
    area_unmap(queue, &queue->device);
    queue->mapped = false;
}

void virtqueue_reset(struct virtqueue *queue) {
    virtqueue_disable(queue);
    memset(queue->state, 0, sizeof(*queue->state));
    queue->state->size = VIRTQUEUE_SIZE;
    queue->state->msix_vector = 0xffff;
    queue->state->completing = NOT_COMPLETING;
    queue->event_idx = queue->indirect = false;
}

static bool in_flight(const struct virtqueue_state *s, uint16_t head) {
    return s->in_flight[head / 64] >> (head % 64) & 1;
}

static void set_in_flight(struct virtqueue_state *s, uint16_t head, bool out) {
    uint64_t bit = 1ull << (head % 64);
    s->in_flight[head / 64] = out ? s->in_flight[head / 64] | bit : s->in_flight[head / 64] & ~bit;
}

enum virtqueue_result virtqueue_pop(struct virtqueue *queue, struct virtqueue_chain *chain) {
    struct virtqueue_state *s = queue->state;
    if (!queue->mapped)
        return VIRTQUEUE_EMPTY;
    uint16_t waiting = (uint16_t)(load16(&queue->driver, RING_INDEX) - s->last_avail);
    if (waiting == 0)
        return VIRTQUEUE_EMPTY;
    if (waiting > s->size)
        return VIRTQUEUE_MALFORMED;
    uint16_t head = load16(&queue->driver, AVAIL_ENTRY + 2u * (s->last_avail & (s->size - 1u)));
    if (head >= s->size || in_flight(s, head) || !virtqueue_walk(queue, head, chain))
        return VIRTQUEUE_MALFORMED;
    set_in_flight(s, head, true);
    __atomic_signal_fence(__ATOMIC_SEQ_CST); // see virtqueue_recover()
    s->last_avail++;
    return VIRTQUEUE_CHAIN_TAKEN;
}

enum virtqueue_result virtqueue_resume(struct virtqueue *queue, uint16_t head,
                                       struct virtqueue_chain *chain) {
    if (!queue->mapped || head >= queue->state->size || !in_flight(queue->state, head))
        return VIRTQUEUE_EMPTY;
    return virtqueue_walk(queue, head, chain) ? VIRTQUEUE_CHAIN_TAKEN : VIRTQUEUE_MALFORMED;
}

void virtqueue_unpop(struct virtqueue *queue, const struct virtqueue_chain *chain) {
    queue->state->last_avail--;
    set_in_flight(queue->state, chain->head, false);
}

void virtqueue_push(struct virtqueue *queue, uint16_t head, uint32_t written) {
    struct virtqueue_state *s = queue->state;
    if (!queue->mapped || head >= s->size || !in_flight(s, head))
        return;
    size_t entry = USED_ENTRY + 8u * (s->used_idx & (s->size - 1u));
    store32(&queue->device, entry, head);
    store32(&queue->device, entry + 4, written);
    s->completing_idx = s->used_idx;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    s->completing = head;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    store16(&queue->device, RING_INDEX, (uint16_t)(s->used_idx + 1));
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    s->used_idx++;
    set_in_flight(s, head, false);
    s->completing = NOT_COMPLETING;
}

void virtqueue_recover(struct virtqueue *queue) {
    struct virtqueue_state *s = queue->state;
    if (!queue->mapped)
        return;
    // Died between setting the bit and counting the entry as taken.
    uint16_t next = load16(&queue->driver, AVAIL_ENTRY + 2u * (s->last_avail & (s->size - 1u)));
    if (load16(&queue->driver, RING_INDEX) != s->last_avail && next < s->size && in_flight(s, next))
        s->last_avail++;
    // Died while pushing: if the driver can see the element, the push has happened.
    if (s->completing < s->size && load16(&queue->device, RING_INDEX) != s->completing_idx) {
        s->used_idx = (uint16_t)(s->completing_idx + 1);
        set_in_flight(s, s->completing, false);
    }
    s->completing = NOT_COMPLETING;
}

bool virtqueue_interrupt_wanted(struct virtqueue *queue) {
    struct virtqueue_state *s = queue->state;
    if (!queue->mapped || s->used_idx == s->signalled)
        return false;
    // The used index must be visible before the driver's wish is read: the driver writes it and
    // reads the index.
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    uint16_t before = s->signalled;
    s->signalled = s->used_idx;
    if (!queue->event_idx)
        return !(load16(&queue->driver, RING_FLAGS) & RING_SUPPRESS);
    uint16_t event = load16(&queue->driver, AVAIL_ENTRY + 2u * s->size);
    return (uint16_t)(s->used_idx - event - 1) < (uint16_t)(s->used_idx - before);
}

bool virtqueue_kicks(struct virtqueue *queue, bool wanted) {
    struct virtqueue_state *s = queue->state;
    if (!queue->mapped)
        return false;
    if (!queue->event_idx)
        store16(&queue->device, RING_FLAGS, (uint16_t)(wanted ? 0 : RING_SUPPRESS));
    else if (wanted)
        store16(&queue->device, USED_ENTRY + 8u * s->size, s->last_avail);
    if (!wanted)
        return false;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return load16(&queue->driver, RING_INDEX) != s->last_avail;
}
