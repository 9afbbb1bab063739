// SPDX-License-Identifier: Apache-2.0
//
// Guests' memory in dom0. Each range is one share with dom0 itself as the grantee; the kernel tells
// where it mapped its pages as extents, which are kept merged and sorted, so that a guest of superpages
// takes a handful of entries and a lookup is a binary search (and nearly always the entry found
// last time). Invariants: extents do not overlap, each belongs to one range, and shares outlive
// every pin.

#include "lib/memory.h"

#include "lib/hypercall.h"

#include <stdlib.h>
#include <string.h>

void guest_memory_init(struct guest_memory *m, u32 handle) {
    *m = (struct guest_memory){.handle = handle};
}

// Makes room for one more element of `size` bytes.
static bool grow(void **array, u32 count, u32 *room, size_t size) {
    if (count < *room)
        return true;
    u32 wanted = *room ? *room * 2 : 4;
    void *larger = realloc(*array, wanted * size);
    if (!larger)
        return false;
    *array = larger;
    *room = wanted;
    return true;
}

// Index of the first extent that ends above `page`; extent_count if there is none.
static u32 extent_after(const struct guest_memory *m, u64 page) {
    u32 low = 0, high = m->extent_count;
    while (low < high) {
        u32 middle = low + (high - low) / 2;
        const struct guest_extent *e = &m->extents[middle];
        if (e->gpa_page + e->pages > page)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static bool overlaps(const struct guest_memory *m, u64 page, u64 pages) {
    u32 i = extent_after(m, page);
    return i < m->extent_count && m->extents[i].gpa_page < page + pages;
}

static bool continues(const struct guest_extent *a, const struct guest_extent *b) {
    return a->gpa_page + a->pages == b->gpa_page && a->hpa_page + a->pages == b->hpa_page;
}

static const struct guest_range *range_of(const struct guest_memory *m, u64 page) {
    for (u32 i = 0; i < m->range_count; i++)
        if (page - m->ranges[i].gpa_page < m->ranges[i].pages)
            return &m->ranges[i];
    return NULL;
}

// Inserts in order. Extents merge only within one range, so that each can be taken out again with
// its range.
static bool insert_extent(struct guest_memory *m, const struct guest_extent *e, u64 range_page) {
    u32 i = extent_after(m, e->gpa_page);
    if (i > 0 && e->gpa_page > range_page && continues(&m->extents[i - 1], e)) {
        m->extents[i - 1].pages += e->pages;
        return true;
    }
    if (!grow((void **)&m->extents, m->extent_count, &m->extent_room, sizeof(*e)))
        return false;
    memmove(&m->extents[i + 1], &m->extents[i], (m->extent_count - i) * sizeof(*e));
    m->extents[i] = *e;
    m->extent_count++;
    return true;
}

static void remove_extents(struct guest_memory *m, u64 page, u64 pages) {
    u32 from = extent_after(m, page), to = from;
    while (to < m->extent_count && m->extents[to].gpa_page < page + pages)
        to++;
    if (to == from)
        return;
    memmove(&m->extents[from], &m->extents[to], (m->extent_count - to) * sizeof(*m->extents));
    m->extent_count -= to - from;
    m->last = 0;
}

// Maps the share's pages, piece by piece as they lie behind each other in the machine's memory.
static i64 map_pages(struct guest_memory *m, const struct guest_range *range) {
    for (u64 page = 0, pages; page < range->pages; page += pages) {
        i64 address = hc_share_map(m->handle, range->share, BASALT_SHARE_IDENTITY, &pages);
        if (address < 0)
            return address;
        if (pages == 0 || pages > range->pages - page)
            return -BASALT_EFAULT;
        struct guest_extent e = {range->gpa_page + page, (u64)address / PAGE_SIZE, pages};
        if (!phys_map((u64)address, pages * PAGE_SIZE) || !insert_extent(m, &e, range->gpa_page))
            return -BASALT_ENOMEM;
    }
    return 0;
}

int guest_memory_add(struct guest_memory *m, u64 gpa, u64 pages, u32 flags) {
    u64 page = gpa / PAGE_SIZE;
    if (gpa % PAGE_SIZE || pages == 0 || pages > BIT(40) || page > BIT(40) ||
        overlaps(m, page, pages))
        return -BASALT_EINVAL;
    if (!grow((void **)&m->ranges, m->range_count, &m->range_room, sizeof(*m->ranges)))
        return -BASALT_ENOMEM;
    u32 permissions = (flags & GUEST_READ ? BASALT_SHARE_READ : 0) |
                      (flags & GUEST_WRITE ? BASALT_SHARE_WRITE : 0);
    i64 share = hc_share_grant(m->handle, gpa, pages, permissions, BASALT_HANDLE_SELF);
    if (share < 0)
        return (int)share;
    struct guest_range range = {page, pages, (u64)share, flags};
    i64 r = map_pages(m, &range);
    if (r < 0) {
        remove_extents(m, page, pages);
        hc_share_end(m->handle, (u64)share);
        return (int)r;
    }
    m->ranges[m->range_count++] = range;
    return 0;
}

int guest_memory_remove(struct guest_memory *m, u64 gpa, u64 pages) {
    if (m->pins)
        return -BASALT_EBUSY;
    for (u32 i = 0; i < m->range_count; i++) {
        struct guest_range *range = &m->ranges[i];
        if (range->gpa_page * PAGE_SIZE != gpa || range->pages != pages)
            continue;
        remove_extents(m, range->gpa_page, pages);
        i64 r = hc_share_end(m->handle, range->share);
        *range = m->ranges[--m->range_count];
        return (int)r;
    }
    return -BASALT_ENOENT;
}

int guest_memory_destroy(struct guest_memory *m) {
    if (m->pins)
        return -BASALT_EBUSY;
    for (u32 i = 0; i < m->range_count; i++)
        hc_share_end(m->handle, m->ranges[i].share);
    free(m->extents);
    free(m->ranges);
    guest_memory_init(m, m->handle);
    return 0;
}

// The extent that `page` lies in; NULL if it is not guest memory.
static const struct guest_extent *find(struct guest_memory *m, u64 page) {
    if (m->last < m->extent_count &&
        page - m->extents[m->last].gpa_page < m->extents[m->last].pages)
        return &m->extents[m->last];
    u32 i = extent_after(m, page);
    if (i == m->extent_count || m->extents[i].gpa_page > page)
        return NULL;
    m->last = i;
    return &m->extents[i];
}

void *guest_access(struct guest_memory *m, u64 gpa, u64 bytes, unsigned flags, u64 *contiguous) {
    u64 page = gpa / PAGE_SIZE;
    const struct guest_extent *e = find(m, page);
    if (!e || bytes == 0)
        return NULL;
    const struct guest_range *range = range_of(m, page);
    if (!range || flags & ~range->flags)
        return NULL;
    u64 available = (e->gpa_page + e->pages) * PAGE_SIZE - gpa;
    if (!contiguous && available < bytes)
        return NULL;
    if (contiguous)
        *contiguous = MIN(bytes, available);
    m->pins++;
    return (void *)(uintptr_t)((e->hpa_page + (page - e->gpa_page)) * PAGE_SIZE + gpa % PAGE_SIZE);
}

void guest_release(struct guest_memory *m, u64 count) { m->pins -= MIN(count, m->pins); }

// Calls for each contiguous piece of a range, which must be guest memory as a whole.
#define for_each_piece(m, gpa, bytes, flags, pointer, piece)                            \
    for (u64 piece; (bytes) > 0; (gpa) += piece, (bytes) -= piece, guest_release(m, 1)) \
        if (!(pointer = guest_access(m, gpa, bytes, flags, &piece)))                    \
            return false;                                                               \
        else

bool guest_read(struct guest_memory *m, u64 gpa, void *to, u64 bytes) {
    const void *from;
    u8 *out = to;
    for_each_piece(m, gpa, bytes, GUEST_READ, from, piece) {
        memcpy(out, from, piece);
        out += piece;
    }
    return true;
}

bool guest_write(struct guest_memory *m, u64 gpa, const void *from, u64 bytes) {
    void *to;
    const u8 *in = from;
    for_each_piece(m, gpa, bytes, GUEST_WRITE, to, piece) {
        memcpy(to, in, piece);
        in += piece;
    }
    return true;
}

bool guest_fill(struct guest_memory *m, u64 gpa, u8 value, u64 bytes) {
    void *to;
    for_each_piece(m, gpa, bytes, GUEST_WRITE, to, piece) memset(to, value, piece);
    return true;
}
