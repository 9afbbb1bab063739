// SPDX-License-Identifier: Apache-2.0
//
// Shares. A share's id is its owner's domain id in the upper and its index in the owner's page in the lower half.
// Superpages are mapped as superpages where the range covers them.

#include "kernel/domain.h"

#include "arch/cpu.h"
#include "arch/paging.h"

#define PIECES_PER_CALL 32u   // leaves mapped in one call
#define EXTENT_STEPS    1024u // leaves looked at in one call

i64 share_grant(struct domain *owner, gpa_t gpa, u64 pages, u64 permissions,
                struct domain *grantee) {
    if (!memory_range_ok(gpa, pages) || !(permissions & BASALT_SHARE_READ) ||
        permissions & ~(u64)(BASALT_SHARE_READ | BASALT_SHARE_WRITE) || owner == grantee ||
        owner->status == BASALT_STATUS_ENDED)
        return -BASALT_EINVAL;
    if (!owner->share_page && !(owner->share_page = domain_page_alloc(owner)))
        return -BASALT_ENOSPC;
    for (unsigned i = 0; i < SHARES_MAX; i++) {
        struct share *s = &owner->share_page[i];
        if (s->owner)
            continue;
        *s = (struct share){.owner = owner,
                            .grantee = grantee,
                            .gpa = gpa.v,
                            .pages = pages,
                            .permissions = (u32)permissions};
        list_add(&grantee->grants, &s->link);
        return (i64)owner->id << 32 | i;
    }
    return -BASALT_ENOSPC;
}

struct share *share_find(struct domain *d, u64 id) {
    struct domain *owner = domain_by_id((u32)(id >> 32));
    u32 index = (u32)id;

    if (!owner || index >= SHARES_MAX || !owner->share_page)
        return NULL;
    struct share *s = &owner->share_page[index];
    return s->owner && (s->grantee == d || s->owner == d) ? s : NULL;
}

static u64 target_of(const struct share *s, u64 page, hpa_t hpa) {
    return s->target == BASALT_SHARE_IDENTITY ? hpa.v : s->target + page * PAGE_SIZE;
}

// The largest leaf that covers `page` of the share in the owner, and at the grantee's address, alike.
static unsigned piece_shift(const struct share *s, u64 page, const struct ept_leaf *leaf) {
    u64 at = s->gpa + page * PAGE_SIZE, size = BIT(leaf->shift);

    if (leaf->shift == SUPERPAGE_SHIFT && at == leaf->gpa &&
        s->pages - page >= size >> PAGE_SHIFT && !(target_of(s, page, leaf->hpa) & (size - 1)))
        return SUPERPAGE_SHIFT;
    return PAGE_SHIFT;
}

static int map_piece(struct share *s) {
    gpa_t at = GPA(s->gpa + s->mapped * PAGE_SIZE);
    struct ept_leaf leaf = ept_walk(&s->owner->ept, at);
    u32 flags = EPT_READ | EPT_FOREIGN | (s->permissions & BASALT_SHARE_WRITE ? EPT_WRITE : 0);

    if (!leaf.present && memory_fault(s->owner, at))
        leaf = ept_walk(&s->owner->ept, at);
    if (!leaf.present || leaf.flags & EPT_FOREIGN)
        return -BASALT_ENOENT;
    unsigned shift = piece_shift(s, s->mapped, &leaf);
    hpa_t hpa = HPA(leaf.hpa.v + (at.v - leaf.gpa));
    int error = ept_map(&s->grantee->ept, GPA(target_of(s, s->mapped, hpa)), hpa, shift, flags);
    if (error)
        return error;
    frames_get(hpa, (unsigned)(BIT(shift) >> PAGE_SHIFT));
    s->mapped += BIT(shift) >> PAGE_SHIFT;
    return 0;
}

int share_map(struct share *s, u64 target) {
    bool identity = target == BASALT_SHARE_IDENTITY;

    if (s->ending || (s->mapping && s->target != target))
        return -BASALT_EBUSY;
    if (identity != s->grantee->identity ||
        (!identity && (target & ~PAGE_MASK || target >= EPT_LIMIT)))
        return -BASALT_EINVAL;
    s->target = target;
    s->mapping = true;
    for (unsigned i = 0; i < PIECES_PER_CALL && s->mapped < s->pages; i++) {
        int error = map_piece(s);
        if (error)
            return error; // what is mapped stays so until the share ends
        irq_window();     // handlers only set pending bits
    }
    return s->mapped < s->pages ? -BASALT_EINTR : 0;
}

unsigned share_extents(struct share *s, u64 first, struct basalt_extent *out, unsigned count) {
    unsigned used = 0, steps = 0;

    for (u64 page = first; page < s->mapped && steps++ < EXTENT_STEPS;) {
        u64 at = s->gpa + page * PAGE_SIZE;
        struct ept_leaf leaf = ept_walk(&s->owner->ept, GPA(at));
        u64 offset = at - leaf.gpa, address = leaf.hpa.v + offset;
        u64 pages = MIN((BIT(leaf.shift) - offset) >> PAGE_SHIFT, s->mapped - page);
        struct basalt_extent *last = used ? &out[used - 1] : NULL;

        if (last && last->address + last->pages * PAGE_SIZE == address)
            last->pages += pages;
        else if (used == count)
            break;
        else
            out[used++] = (struct basalt_extent){.page = page, .address = address, .pages = pages};
        page += pages;
        irq_window();
    }
    return used;
}

// Takes back what is mapped, the last pages first, so that `mapped` stays true at every step.
static int unmap_pieces(struct share *s, unsigned *budget) {
    while (s->mapped) {
        if (!*budget)
            return -BASALT_EINTR;
        --*budget;
        u64 last = s->mapped - 1;
        struct ept_leaf leaf = ept_walk(&s->owner->ept, GPA(s->gpa + last * PAGE_SIZE));
        hpa_t hpa = HPA(leaf.hpa.v + (s->gpa + last * PAGE_SIZE - leaf.gpa));
        gpa_t target = GPA(target_of(s, last, hpa));
        struct ept_leaf mapped = ept_walk(&s->grantee->ept, target), old;
        unsigned frames = (unsigned)(BIT(mapped.shift) >> PAGE_SHIFT);

        if (ept_unmap(&s->grantee->ept, GPA(mapped.gpa), mapped.shift, &old))
            return -BASALT_EINTR; // can't be: a leaf of exactly that size is there
        s->mapped -= frames;
        frames_put(old.hpa, frames);
    }
    return 0;
}

int share_end(struct share *s, unsigned *budget) {
    s->ending = true;
    slots_clear();
    int error = unmap_pieces(s, budget);

    if (error)
        return error;
    list_remove(&s->link);
    *s = (struct share){0};
    return 0;
}

int shares_teardown(struct domain *d, unsigned *budget) {
    int error = 0;

    while (!list_empty(&d->grants) && !error)
        error = share_end(list_entry(d->grants.next, struct share, link), budget);
    for (unsigned i = 0; d->share_page && i < SHARES_MAX && !error; i++)
        if (d->share_page[i].owner)
            error = share_end(&d->share_page[i], budget);
    return error;
}
