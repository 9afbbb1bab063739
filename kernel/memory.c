// SPDX-License-Identifier: Apache-2.0
//
// A domain's physical memory: populating, releasing, copying in and out, and the identity maps of domains whose
// physical addresses are the machine's. Frames are zeroed before they become visible. Invariant: a leaf without
// EPT_FOREIGN holds the owner's own reference on each of its frames; a foreign one was counted by whoever mapped it.

#include "arch/cpu.h"
#include "arch/paging.h"
#include "arch/spec.h"
#include "kernel/domain.h"

#define PIECES_PER_CALL  64u
#define PAGES_ZEROED     512u // in one call, as a superpage
#define FRAMES_PER_ENTRY 8u   // frames freed for the price of one table entry looked at
#define WINDOWS          16u  // slots of memory_window(); the next is memory_zero()'s
#define ZERO_PIECE       16u  // pages zeroed between two looks at pending interrupts

typedef int piece_act(struct domain *d, gpa_t gpa, unsigned shift, u32 flags);

// Does `act` to a range, piece by piece: as superpages where they fit, else, and where `act` can't, as pages. Stops at an
// error, or after `limit` pieces; *done tells how many pages are done.
static int each_piece(struct domain *d, gpa_t gpa, u64 pages, u64 limit, piece_act *act, u32 flags,
                      u64 *done) {
    for (*done = 0; *done < pages && limit--;) {
        gpa_t at = GPA(gpa.v + *done * PAGE_SIZE);
        bool big = !(at.v & (SUPERPAGE_SIZE - 1)) && pages - *done >= SUPERPAGE_SIZE / PAGE_SIZE &&
                   d->ept.max_shift >= SUPERPAGE_SHIFT;
        unsigned shift = big ? SUPERPAGE_SHIFT : PAGE_SHIFT;
        int error = act(d, at, shift, flags);
        if (error && error != -BASALT_EBUSY && big)
            error = act(d, at, shift = PAGE_SHIFT, flags);
        if (error)
            return error;
        *done += BIT(shift - PAGE_SHIFT);
        irq_window(); // handlers only set pending bits
    }
    return 0;
}

// The same for a hypercall: a bounded step of it.
static i64 some_pieces(struct domain *d, gpa_t gpa, u64 pages, piece_act *act, u32 flags) {
    u64 done;
    int error = each_piece(d, gpa, pages, PIECES_PER_CALL, act, flags, &done);

    return done ? (i64)done : error;
}

void memory_zero(hpa_t base, u64 bytes) {
    for (u64 offset = 0; offset < bytes; offset += PAGE_SIZE) {
        memset(slot_map(WINDOWS, HPA(base.v + offset)), 0, PAGE_SIZE);
        if (offset / PAGE_SIZE % ZERO_PIECE == ZERO_PIECE - 1)
            irq_window();
    }
}

// Where superpages may hold no code it is allowed page by page, as the domain comes to fetch it (memory_allow_code()).
static u32 rights_of(unsigned shift, u32 flags) {
    return shift > PAGE_SHIFT && spec.flags & SPEC_SMALL_CODE ? flags & ~EPT_EXEC : flags;
}

static int populate(struct domain *d, gpa_t gpa, unsigned shift, u32 flags) {
    if (ept_walk(&d->ept, gpa).present)
        return -BASALT_EEXIST;
    if (!domain_charge(d, BIT(shift)))
        return -BASALT_ENOSPC;
    hpa_t hpa = shift == SUPERPAGE_SHIFT ? frame_alloc_chunk(d->owner) : frame_alloc(d->owner);
    int error = -BASALT_ENOMEM;
    if (hpa.v != HPA_NONE.v) {
        memory_zero(hpa, BIT(shift));
        error = ept_map(&d->ept, gpa, hpa, shift, rights_of(shift, flags));
        if (error)
            frames_put(hpa, (unsigned)BIT(shift - PAGE_SHIFT));
    }
    if (error)
        domain_uncharge(d, BIT(shift));
    return error;
}

static int promise(struct domain *d, gpa_t gpa, unsigned shift, u32 flags unused) {
    return ept_set_policy(&d->ept, gpa, shift, EPT_POLICY_POPULATE);
}

bool memory_range_ok(gpa_t gpa, u64 pages) {
    return !(gpa.v & ~PAGE_MASK) && pages && gpa.v < EPT_LIMIT &&
           pages <= (EPT_LIMIT - gpa.v) >> PAGE_SHIFT;
}

i64 memory_populate(struct domain *d, gpa_t gpa, u64 pages, u64 flags) {
    if (!memory_range_ok(gpa, pages) || flags > BASALT_POPULATE_HIDDEN || d->identity)
        return -BASALT_EINVAL;
    if (flags == BASALT_POPULATE_LAZY)
        return some_pieces(d, gpa, pages, promise, 0);
    bool big = !(gpa.v & (SUPERPAGE_SIZE - 1)) && pages >= PAGES_ZEROED;
    bool hidden = flags == BASALT_POPULATE_HIDDEN;
    i64 done = some_pieces(d, gpa, big ? PAGES_ZEROED : pages, populate, hidden ? 0 : EPT_RWX);
    if (hidden && done > 0 && !d->info.hidden)
        d->info.hidden = gpa.v;
    return done;
}

bool memory_fault(struct domain *d, gpa_t gpa) {
    struct ept_leaf hole = ept_walk(&d->ept, gpa);

    if (hole.present || hole.policy != EPT_POLICY_POPULATE)
        return false;
    if (hole.shift == SUPERPAGE_SHIFT && !populate(d, GPA(hole.gpa), SUPERPAGE_SHIFT, EPT_RWX))
        return true;
    return !populate(d, GPA(gpa.v & PAGE_MASK), PAGE_SHIFT, EPT_RWX);
}

bool memory_allow_code(struct domain *d, gpa_t gpa) {
    return !ept_allow_exec(&d->ept, GPA(gpa.v & PAGE_MASK));
}

static bool shared(hpa_t hpa, unsigned frames) {
    for (unsigned i = 0; i < frames; i++)
        if (frame_references(HPA(hpa.v + i * PAGE_SIZE)) > 1)
            return true;
    return false;
}

static int release(struct domain *d, gpa_t gpa, unsigned shift, u32 flags unused) {
    struct ept_leaf leaf = ept_walk(&d->ept, gpa);
    unsigned frames = (unsigned)BIT(shift - PAGE_SHIFT);

    if (!(leaf.flags & EPT_READ) || leaf.flags & EPT_FOREIGN || leaf.shift < shift)
        return -BASALT_ENOENT;
    if (shared(HPA(leaf.hpa.v + (gpa.v - leaf.gpa)), frames))
        return -BASALT_EBUSY;
    int error = ept_unmap(&d->ept, gpa, shift, &leaf);
    if (error)
        return error;
    slots_clear();
    frames_put(leaf.hpa, frames);
    domain_uncharge(d, BIT(shift));
    return 0;
}

i64 memory_release(struct domain *d, gpa_t gpa, u64 pages) {
    return memory_range_ok(gpa, pages) ? some_pieces(d, gpa, pages, release, 0) : -BASALT_EINVAL;
}

// What windows show: translations, two for each level of a guest's tables and eight for data. One holds as long as
// nothing was unmapped since; that something is mapped meanwhile does not matter, because holes are not kept.
static struct window {
    u64 page, generation;
    hpa_t frame;
    u32 domain;
    bool writable;
} windows[CPUS_MAX][WINDOWS];

static __attribute__((noinline)) bool find_page(struct domain *d, gpa_t gpa, struct window *w) {
    struct ept_leaf leaf = ept_walk(&d->ept, gpa);

    if (!leaf.present && memory_fault(d, gpa))
        leaf = ept_walk(&d->ept, gpa);
    if (!(leaf.flags & EPT_READ) || leaf.flags & EPT_UNCACHED)
        return false;
    *w = (struct window){.page = gpa.v >> PAGE_SHIFT,
                         .generation = d->ept.generation,
                         .frame = HPA((leaf.hpa.v + (gpa.v - leaf.gpa)) & PAGE_MASK),
                         .domain = d->info.id,
                         .writable = leaf.flags & EPT_WRITE};
    return true;
}

void *memory_window(struct domain *d, gpa_t gpa, bool write, unsigned level) {
    u64 page = gpa.v >> PAGE_SHIFT;
    unsigned slot = level ? 6 + level * 2 + (page & 1) : page % 8;
    struct window *w = &windows[this_cpu()->id][slot];
    bool known = w->page == page && w->domain == d->info.id && w->generation == d->ept.generation;

    if ((unlikely(!known) && !find_page(d, gpa, w)) || (write && !w->writable))
        return NULL;
    return slot_map(slot, HPA(w->frame.v | (gpa.v & ~PAGE_MASK)));
}

// Copies page by page; `write` is the direction seen from the kernel.
static int copy(struct domain *d, gpa_t gpa, void *buffer, u64 bytes, bool write) {
    u8 *kernel = buffer;

    while (bytes) {
        u64 piece = MIN(bytes, PAGE_SIZE - (gpa.v & ~PAGE_MASK));
        u8 *page = memory_window(d, gpa, write, 0);
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

static int map_own(struct domain *d, gpa_t gpa, unsigned shift, u32 flags) {
    return ept_map(&d->ept, gpa, HPA(gpa.v), shift, rights_of(shift, flags));
}

static int unmap_own(struct domain *d, gpa_t gpa, unsigned shift, u32 flags unused) {
    struct ept_leaf old = ept_walk(&d->ept, gpa);

    if (!old.present && old.shift >= shift)
        return 0;
    return ept_unmap(&d->ept, gpa, shift, &old);
}

int memory_map_identity(struct domain *d, hpa_t base, u64 bytes, u32 flags) {
    u64 done;
    int error =
        each_piece(d, GPA(base.v), bytes >> PAGE_SHIFT, ~0ull, map_own, flags | EPT_FOREIGN, &done);

    if (error)
        memory_unmap_identity(d, base, done << PAGE_SHIFT);
    return error;
}

int memory_give(struct domain *d, hpa_t base, u64 bytes) {
    u64 done;

    return domain_charge(d, bytes)
               ? each_piece(d, GPA(base.v), bytes >> PAGE_SHIFT, ~0ull, map_own, EPT_RWX, &done)
               : -BASALT_ENOSPC;
}

void memory_unmap_identity(struct domain *d, hpa_t base, u64 bytes) {
    u64 done; // where a table for a split is missing the rest stays mapped until the domain ends

    (void)!each_piece(d, GPA(base.v), bytes >> PAGE_SHIFT, ~0ull, unmap_own, 0, &done);
    slots_clear();
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
        irq_window();
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
