// SPDX-License-Identifier: Apache-2.0
//
// A domain's physical memory: populating, releasing, copying in and out, and the identity maps of domains whose
// physical addresses are the machine's. Frames are zeroed before they become visible. Invariant: a leaf without
// EPT_FOREIGN holds the owner's own reference on each of its frames; a foreign one was counted by whoever mapped it.

#include "arch/cpu.h"
#include "arch/paging.h"
#include "arch/string.h"
#include "kernel/domain.h"

#include <basalt/error.h>

#define FRAMES_PER_CALL  64u
#define FRAMES_PER_ENTRY 8u  // frames freed for the price of one table entry looked at
#define WINDOWS          16u // of slot_map()
#define ZERO_PIECE       16u // pages zeroed between two looks at pending interrupts

void memory_zero(hpa_t base, u64 bytes) {
    for (u64 offset = 0; offset < bytes; offset += PAGE_SIZE) {
        memset(page_peek(HPA(base.v + offset)), 0, PAGE_SIZE);
        if (offset / PAGE_SIZE % ZERO_PIECE == ZERO_PIECE - 1)
            irq_window(); // handlers only set pending bits
    }
}

// Populates one leaf of 1 << shift bytes.
static int populate_leaf(struct domain *d, gpa_t gpa, unsigned shift) {
    u64 bytes = BIT(shift);

    if (ept_walk(&d->ept, gpa).present)
        return -BASALT_EEXIST;
    if (!domain_charge(d, bytes))
        return -BASALT_ENOSPC;
    hpa_t hpa = shift == SUPERPAGE_SHIFT ? frame_alloc_chunk(d->owner) : frame_alloc(d->owner);
    if (hpa.v == HPA_NONE.v) {
        domain_uncharge(d, bytes);
        return -BASALT_ENOMEM;
    }
    memory_zero(hpa, bytes);
    int error = ept_map(&d->ept, gpa, hpa, shift, EPT_RWX);
    if (error) {
        frames_put(hpa, (unsigned)(bytes >> PAGE_SHIFT));
        domain_uncharge(d, bytes);
    }
    return error;
}

static bool range_ok(gpa_t gpa, u64 pages) {
    return !(gpa.v & ~PAGE_MASK) && pages && gpa.v < EPT_LIMIT &&
           pages <= (EPT_LIMIT - gpa.v) >> PAGE_SHIFT;
}

static i64 populate_lazily(struct domain *d, gpa_t gpa, u64 pages) {
    u64 done = 0;

    for (unsigned step = 0; done < pages && step < FRAMES_PER_CALL; step++) {
        gpa_t at = GPA(gpa.v + done * PAGE_SIZE);
        bool big = !(at.v & (SUPERPAGE_SIZE - 1)) && pages - done >= SUPERPAGE_SIZE / PAGE_SIZE;
        unsigned shift = big ? SUPERPAGE_SHIFT : PAGE_SHIFT;
        int error = ept_set_policy(&d->ept, at, shift, EPT_POLICY_POPULATE);
        if (error && big) { // something smaller is in the way: page by page
            shift = PAGE_SHIFT;
            error = ept_set_policy(&d->ept, at, shift, EPT_POLICY_POPULATE);
        }
        if (error)
            return done ? (i64)done : error;
        done += BIT(shift) >> PAGE_SHIFT;
    }
    return (i64)done;
}

i64 memory_populate(struct domain *d, gpa_t gpa, u64 pages, u64 flags) {
    u64 done = 0;

    if (!range_ok(gpa, pages) || flags & ~(u64)BASALT_POPULATE_LAZY || d->identity)
        return -BASALT_EINVAL;
    if (flags & BASALT_POPULATE_LAZY)
        return populate_lazily(d, gpa, pages);
    if (!(gpa.v & (SUPERPAGE_SIZE - 1)) && pages >= SUPERPAGE_SIZE / PAGE_SIZE &&
        d->ept.max_shift >= 21) {
        int error = populate_leaf(d, gpa, SUPERPAGE_SHIFT);
        if (!error)
            return SUPERPAGE_SIZE / PAGE_SIZE;
        if (error != -BASALT_ENOMEM) // no whole chunk left: try single frames
            return error;
    }
    while (done < MIN(pages, FRAMES_PER_CALL)) {
        int error = populate_leaf(d, GPA(gpa.v + done * PAGE_SIZE), PAGE_SHIFT);
        if (error)
            return done ? (i64)done : error;
        done++;
    }
    return (i64)done;
}

bool memory_fault(struct domain *d, gpa_t gpa) {
    struct ept_leaf hole = ept_walk(&d->ept, gpa);

    if (hole.present || hole.policy != EPT_POLICY_POPULATE)
        return false;
    if (hole.shift == SUPERPAGE_SHIFT && !populate_leaf(d, GPA(hole.gpa), SUPERPAGE_SHIFT))
        return true;
    return !populate_leaf(d, GPA(gpa.v & PAGE_MASK), PAGE_SHIFT);
}

static bool shared(hpa_t hpa, unsigned frames) {
    for (unsigned i = 0; i < frames; i++)
        if (frame_references(HPA(hpa.v + i * PAGE_SIZE)) > 1)
            return true;
    return false;
}

i64 memory_release(struct domain *d, gpa_t gpa, u64 pages) {
    u64 done = 0;

    if (!range_ok(gpa, pages))
        return -BASALT_EINVAL;
    for (unsigned step = 0; done < pages && step < FRAMES_PER_CALL; step++) {
        gpa_t at = GPA(gpa.v + done * PAGE_SIZE);
        struct ept_leaf leaf = ept_walk(&d->ept, at);
        bool whole = leaf.shift == SUPERPAGE_SHIFT && at.v == leaf.gpa && pages - done >= 512;
        unsigned shift = whole ? SUPERPAGE_SHIFT : PAGE_SHIFT;
        unsigned frames = (unsigned)(BIT(shift) >> PAGE_SHIFT);
        int error = !leaf.present || leaf.flags & EPT_FOREIGN ? -BASALT_ENOENT : 0;
        if (!error && shared(HPA(leaf.hpa.v + (at.v - leaf.gpa)), frames))
            error = -BASALT_EBUSY;
        if (!error)
            error = ept_unmap(&d->ept, at, shift, &leaf);
        if (error)
            return done ? (i64)done : error;
        slots_clear();
        frames_put(leaf.hpa, frames);
        domain_uncharge(d, BIT(shift));
        done += frames;
    }
    return (i64)done;
}

// What windows show: a direct-mapped cache of translations. An entry holds as long as nothing was unmapped since; that
// something is mapped meanwhile does not matter, because holes are not kept.
static struct window {
    u64 page, generation, frame;
    u32 domain;
    bool writable;
} windows[CPUS_MAX][WINDOWS];

void *memory_window(struct domain *d, gpa_t gpa, bool write) {
    u64 page = gpa.v >> PAGE_SHIFT;
    struct window *w = &windows[this_cpu()->id][page % WINDOWS];

    if (unlikely(w->page != page || w->domain != d->id || w->generation != d->ept.generation)) {
        struct ept_leaf leaf = ept_walk(&d->ept, gpa);
        if (!leaf.present && memory_fault(d, gpa))
            leaf = ept_walk(&d->ept, gpa);
        if (!leaf.present || leaf.flags & EPT_UNCACHED)
            return NULL;
        *w = (struct window){.page = page,
                             .generation = d->ept.generation,
                             .frame = (leaf.hpa.v + (gpa.v - leaf.gpa)) >> PAGE_SHIFT,
                             .domain = d->id,
                             .writable = leaf.flags & EPT_WRITE};
    }
    if (write && !w->writable)
        return NULL;
    return slot_map(page % WINDOWS, HPA(w->frame << PAGE_SHIFT | (gpa.v & ~PAGE_MASK)));
}

// Copies page by page; `write` is the direction seen from the kernel.
static int copy(struct domain *d, gpa_t gpa, void *buffer, u64 bytes, bool write) {
    u8 *kernel = buffer;

    while (bytes) {
        u64 piece = MIN(bytes, PAGE_SIZE - (gpa.v & ~PAGE_MASK));
        u8 *page = memory_window(d, gpa, write);
        if (!page)
            return -BASALT_EFAULT;
        memcpy(write ? page : kernel, write ? kernel : page, piece);
        kernel += piece;
        gpa.v += piece;
        bytes -= piece;
    }
    return 0;
}

int memory_read(struct domain *d, gpa_t gpa, void *buffer, u64 bytes) {
    return copy(d, gpa, buffer, bytes, false);
}

int memory_write(struct domain *d, gpa_t gpa, const void *buffer, u64 bytes) {
    return copy(d, gpa, (void *)buffer, bytes, true);
}

int memory_map_identity(struct domain *d, hpa_t base, u64 bytes, u32 flags) {
    for (u64 offset = 0; offset < bytes;) {
        u64 at = base.v + offset;
        bool big = !(at & (SUPERPAGE_SIZE - 1)) && bytes - offset >= SUPERPAGE_SIZE &&
                   d->ept.max_shift >= 21;
        unsigned shift = big ? SUPERPAGE_SHIFT : PAGE_SHIFT;
        int error = ept_map(&d->ept, GPA(at), HPA(at), shift, flags | EPT_FOREIGN);
        if (error) {
            memory_unmap_identity(d, base, offset);
            return error;
        }
        offset += BIT(shift);
    }
    return 0;
}

void memory_unmap_identity(struct domain *d, hpa_t base, u64 bytes) {
    for (u64 offset = 0; offset < bytes;) {
        u64 at = base.v + offset;
        struct ept_leaf leaf = ept_walk(&d->ept, GPA(at));
        bool big = leaf.shift == SUPERPAGE_SHIFT && leaf.gpa == at &&
                   bytes - offset >= SUPERPAGE_SIZE;
        unsigned shift = big ? SUPERPAGE_SHIFT : PAGE_SHIFT;
        if (leaf.present && ept_unmap(&d->ept, GPA(at), shift, &leaf))
            return; // a table for the split is missing: the rest stays mapped until the domain ends
        offset += BIT(shift);
    }
}

int memory_teardown(struct domain *d, unsigned *budget) {
    struct ept_leaf leaf;
    int more;

    slots_clear();
    while ((more = ept_pop(&d->ept, &leaf, budget)) > 0) {
        unsigned frames = (unsigned)(BIT(leaf.shift) >> PAGE_SHIFT);
        if (leaf.flags & EPT_FOREIGN)
            continue;
        frames_put(leaf.hpa, frames);
        domain_uncharge(d, BIT(leaf.shift));
        *budget -= MIN(*budget, frames / FRAMES_PER_ENTRY);
    }
    return more ? -BASALT_EINTR : 0;
}

void *memory_share_page(struct domain *d, struct domain *holder) {
    void *page = domain_page_alloc(d);

    if (page && memory_map_identity(holder, pool_hpa(page), PAGE_SIZE, EPT_READ | EPT_WRITE)) {
        domain_page_free(d, page);
        return NULL;
    }
    return page;
}

void state_trim(struct domain *d, u32 count) {
    while (d->state_count > count) {
        hpa_t hpa = HPA(d->state_pages[--d->state_count]);
        if (d->state_holder)
            memory_unmap_identity(d->state_holder, hpa, PAGE_SIZE);
        domain_page_free(d, pool_ptr(hpa));
    }
}

// Maps the pages that there are into a new holder, whose predecessor is gone.
static int adopt_state(struct domain *d, struct domain *holder) {
    if (d->state_holder == holder)
        return 0;
    for (u32 i = 0; i < d->state_count; i++) {
        int error =
            memory_map_identity(holder, HPA(d->state_pages[i]), PAGE_SIZE, EPT_READ | EPT_WRITE);
        if (error) {
            while (i--)
                memory_unmap_identity(holder, HPA(d->state_pages[i]), PAGE_SIZE);
            return error;
        }
    }
    d->state_holder = holder;
    return 0;
}

i64 state_alloc(struct domain *d, struct domain *holder, u64 pages) {
    u32 first = d->state_count;

    if (pages > STATE_PAGES_MAX - first || !holder->identity ||
        (d->state_holder && d->state_holder != holder))
        return -BASALT_EINVAL;
    if (!d->state_pages && !(d->state_pages = domain_page_alloc(d)))
        return -BASALT_ENOSPC;
    int failed = adopt_state(d, holder);
    if (failed)
        return failed;
    for (u64 i = 0; i < pages; i++) {
        void *page = memory_share_page(d, holder);
        if (!page) {
            state_trim(d, first);
            return -BASALT_ENOSPC;
        }
        d->state_pages[d->state_count++] = pool_hpa(page).v;
    }
    return first;
}
