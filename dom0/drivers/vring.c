// SPDX-License-Identifier: Apache-2.0
//
// The driver's side of a split virtqueue; see vring.h.

#include "vring.h"

#include <string.h>

#define NO_DESC 0xffffu

static u64 avail_offset(u16 size) { return size * sizeof(struct vring_desc); }

static u64 used_offset(u16 size) {
    u64 avail_bytes = sizeof(struct vring_avail) + size * sizeof(u16) + sizeof(u16);
    return ALIGN_UP(avail_offset(size) + avail_bytes, 4);
}

u64 vring_bytes(u16 size) {
    u64 used_bytes = sizeof(struct vring_used) + size * sizeof(struct vring_used_elem) +
                     sizeof(u16);
    return ALIGN_UP(used_offset(size) + used_bytes, PAGE_SIZE);
}

void vring_init(struct vring *q, u16 size, void *memory) {
    u8 *bytes = memory;
    memset(q, 0, sizeof(*q));
    q->size = size;
    q->desc = (struct vring_desc *)bytes;
    q->avail = (struct vring_avail *)(bytes + avail_offset(size));
    q->used = (struct vring_used *)(bytes + used_offset(size));
    q->free_count = size;
    for (u16 i = 0; i < size; i++)
        q->next[i] = i + 1 < size ? (u16)(i + 1) : (u16)NO_DESC;
}

bool vring_add(struct vring *q, const struct vring_piece *pieces, u16 count, void *cookie) {
    if (count == 0 || count > q->free_count)
        return false;
    u16 head = q->free_head, index = head, last = head;
    u32 writable = 0;
    for (u16 i = 0; i < count; i++) {
        bool more = i + 1 < count;
        q->desc[index] = (struct vring_desc){
            .address = pieces[i].address,
            .length = pieces[i].bytes,
            .flags = (u16)((more ? VRING_DESC_NEXT : 0) | (pieces[i].write ? VRING_DESC_WRITE : 0)),
            .next = more ? q->next[index] : 0,
        };
        writable += pieces[i].write ? pieces[i].bytes : 0;
        last = index;
        index = q->next[index];
    }
    q->next[last] = NO_DESC;
    q->free_head = index;
    q->free_count = (u16)(q->free_count - count);
    q->cookie[head] = cookie;
    q->writable[head] = writable;
    q->avail->ring[q->avail_idx % q->size] = head;
    q->avail_idx++;
    return true;
}

bool vring_publish(struct vring *q) {
    // The entries before the index, and the index before the look at the device's wish.
    __atomic_store_n(&q->avail->idx, q->avail_idx, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return !(__atomic_load_n(&q->used->flags, __ATOMIC_RELAXED) & VRING_USED_NO_NOTIFY);
}

static void *free_chain(struct vring *q, u16 head) {
    void *cookie = q->cookie[head];
    q->cookie[head] = NULL;
    u16 last = head, count = 1;
    for (; q->next[last] != NO_DESC; count++)
        last = q->next[last];
    q->next[last] = q->free_head;
    q->free_head = head;
    q->free_count = (u16)(q->free_count + count);
    return cookie;
}

int vring_take(struct vring *q, void **cookie, u32 *length) {
    u16 idx = __atomic_load_n(&q->used->idx, __ATOMIC_ACQUIRE);
    u16 ready = (u16)(idx - q->used_idx), in_flight = (u16)(q->size - q->free_count);
    if (ready == 0)
        return 0;
    if (ready > in_flight)
        return -BASALT_EINVAL;
    const volatile struct vring_used_elem *entry = &q->used->ring[q->used_idx % q->size];
    u32 id = entry->id;
    *length = entry->length;
    if (id >= q->size || !q->cookie[id] || *length > q->writable[id])
        return -BASALT_EINVAL;
    q->used_idx++;
    *cookie = free_chain(q, (u16)id);
    return 1;
}

void *vring_detach(struct vring *q) {
    for (u16 head = 0; head < q->size; head++)
        if (q->cookie[head])
            return free_chain(q, head);
    return NULL;
}
