// SPDX-License-Identifier: Apache-2.0
//
// dom0's RAM in pages: one bit per page, set when it is taken. Pages are given out from the top
// downwards, the heap of the C library grows upwards from the bottom, so either can use what the
// other does not need. Invariant: a page is taken exactly while its bit is set.

#include "lib/pages.h"

#include "lib/memory.h"

#include <string.h>

static u64 *bitmap;
static u64 first; // address of page 0 of the bitmap
static u64 total; // pages
static u64 free_pages;
static u64 hint;      // no page at or above it is free
static u64 heap_base; // the heap is [heap_base, heap_end), its last page taken as a whole
static u64 heap_end;

static bool is_taken(u64 page) { return bitmap[page / 64] >> page % 64 & 1; }

static void take(u64 page) {
    free_pages -= !is_taken(page);
    bitmap[page / 64] |= BIT(page % 64);
}

static void give(u64 page) {
    free_pages += is_taken(page);
    bitmap[page / 64] &= ~BIT(page % 64);
}

static void reserve(struct page_range range) {
    u64 end = MIN(range.base + range.bytes, first + total * PAGE_SIZE);
    for (u64 address = MAX(ALIGN_DOWN(range.base, PAGE_SIZE), first); address < end;
         address += PAGE_SIZE)
        take((address - first) / PAGE_SIZE);
}

// The lowest address from `base` on where `bytes` bytes touch no reserved range. Each round passes
// one more of them.
static u64 lowest_gap(u64 base, u64 bytes, const struct page_range *reserved, unsigned count) {
    for (unsigned i = 0; i < count;) {
        const struct page_range *r = &reserved[i++];
        if (r->base < base + bytes && base < r->base + r->bytes) {
            base = ALIGN_UP(r->base + r->bytes, PAGE_SIZE);
            i = 0;
        }
    }
    return base;
}

bool pages_init(u64 base, u64 bytes, const struct page_range *reserved, unsigned count) {
    first = base;
    total = bytes / PAGE_SIZE;
    struct page_range map = {base, ALIGN_UP((total + 63) / 64 * 8, PAGE_SIZE)};
    map.base = lowest_gap(base, map.bytes, reserved, count);
    if (total == 0 || map.bytes > bytes || map.base - base > bytes - map.bytes)
        return false;
    bitmap = (u64 *)(uintptr_t)map.base;
    memset(bitmap, 0, map.bytes);
    free_pages = hint = total;
    heap_base = heap_end = map.base + map.bytes;
    reserve(map);
    for (unsigned i = 0; i < count; i++)
        reserve(reserved[i]);
    return true;
}

// The highest free page below `limit`, or `total` if there is none.
static u64 highest_free(u64 limit) {
    while (limit > 0) {
        u64 word = (limit - 1) / 64;
        u64 below = limit % 64 ? BIT(limit % 64) - 1 : ~0ull;
        u64 bits = ~bitmap[word] & below;
        if (bits)
            return word * 64 + 63 - (u64)__builtin_clzll(bits);
        limit = word * 64;
    }
    return total;
}

// Lowest page of the highest run of `count` free pages, or `total`.
static u64 highest_run(u64 count) {
    u64 top = highest_free(hint);
    hint = top == total ? 0 : top + 1;
    while (top != total) {
        u64 page = top;
        while (page > 0 && top - page + 1 < count && !is_taken(page - 1))
            page--;
        if (top - page + 1 == count)
            return page;
        top = highest_free(page);
    }
    return total;
}

void *page_alloc(u64 count) {
    if (count == 0 || count > free_pages)
        return NULL;
    u64 page = highest_run(count);
    if (page == total)
        return NULL;
    for (u64 i = 0; i < count; i++)
        take(page + i);
    void *memory = (void *)(uintptr_t)(first + page * PAGE_SIZE);
    memset(memory, 0, count * PAGE_SIZE);
    return memory;
}

void page_free(void *pages, u64 count) {
    if (!pages)
        return;
    u64 page = ((u64)(uintptr_t)pages - first) / PAGE_SIZE;
    for (u64 i = 0; i < count && page + i < total; i++)
        give(page + i);
    hint = MAX(hint, page + count);
}

u64 page_count_free(void) { return free_pages; }

u64 page_count_total(void) { return total; }

// Index of the page at `address`, rounded up.
static u64 page_index(u64 address) { return (ALIGN_UP(address, PAGE_SIZE) - first) / PAGE_SIZE; }

static void *heap_shrink(u64 bytes) {
    u64 old = heap_end;
    if (bytes > heap_end - heap_base)
        return NULL;
    heap_end -= bytes;
    for (u64 page = page_index(heap_end); page < page_index(old); page++)
        give(page);
    hint = MAX(hint, page_index(old));
    return (void *)(uintptr_t)old;
}

void *pages_heap_grow(i64 change) {
    if (change < 0)
        return heap_shrink(0 - (u64)change);
    u64 bytes = (u64)change, start = heap_end, page = page_index(start);
    // Where a page is taken, try again above it; the heap's base moves, too, as it can't shrink
    // below that.
    while (bytes <= (first + total * PAGE_SIZE) - start && page < page_index(start + bytes)) {
        if (is_taken(page))
            start = first + (page + 1) * PAGE_SIZE;
        page++;
    }
    if (bytes > (first + total * PAGE_SIZE) - start)
        return NULL;
    for (page = page_index(start); page < page_index(start + bytes); page++)
        take(page);
    if (start != heap_end)
        heap_base = start;
    heap_end = start + bytes;
    return (void *)(uintptr_t)start;
}
