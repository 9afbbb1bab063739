// SPDX-License-Identifier: Apache-2.0
//
// Shares. They stand in a page of their owner's; grantee and granter name them by a handle on the owner and the index
// there. Superpages are mapped as superpages where the range covers them.

#include "kernel/domain.h"

#include "arch/cpu.h"
#include "arch/paging.h"

#define PIECES_PER_CALL 32u // leaves mapped in one call

i64 share_grant(struct domain *owner, gpa_t gpa, u64 pages, u64 permissions, struct domain *grantee,
                const struct domain *granter) {
    if (!memory_range_ok(gpa, pages) || !(permissions & BASALT_SHARE_READ) ||
        permissions & ~(u64)(BASALT_SHARE_READ | BASALT_SHARE_WRITE) || owner == grantee ||
        owner->info.status == BASALT_STATUS_ENDED)
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
                            .granter = granter->info.id,
                            .permissions = (u8)permissions};
        list_add(&grantee->grants, &s->link);
        return i;
    }
    return -BASALT_ENOSPC;
}

struct share *share_find(struct domain *owner, u64 index, const struct domain *d) {
    if (index >= SHARES_MAX || !owner->share_page)
        return NULL;
    struct share *s = &owner->share_page[index];
    return s->owner && (s->grantee == d || s->granter == d->info.id) ? s : NULL;
}

static u64 target_of(const struct share *s, u64 page, hpa_t hpa) {
    return s->target == BASALT_SHARE_IDENTITY ? hpa.v : s->target + page * PAGE_SIZE;
}

// Maps the next page, or superpage where it is one here and there, if it comes at *next in the grantee or is the first one
// (*next is 0).
static int map_piece(struct share *s, u64 *next) {
    gpa_t at = GPA(s->gpa + s->mapped * PAGE_SIZE);
    struct ept_leaf leaf = ept_walk(&s->owner->ept, at);
    u32 flags = EPT_READ | EPT_FOREIGN | (s->permissions & BASALT_SHARE_WRITE ? EPT_WRITE : 0);

    if (!leaf.present && memory_fault(s->owner, at))
        leaf = ept_walk(&s->owner->ept, at);
    bool own = s->granter == s->owner->info.id;
    if (!leaf.present || leaf.flags & EPT_FOREIGN || (own && !(leaf.flags & EPT_READ)))
        return -BASALT_ENOENT;
    hpa_t hpa = HPA(leaf.hpa.v + (at.v - leaf.gpa));
    u64 target = target_of(s, s->mapped, hpa), big = SUPERPAGE_SIZE / PAGE_SIZE;
    if (*next && target != *next)
        return -BASALT_EAGAIN;
    bool whole = leaf.shift == SUPERPAGE_SHIFT && at.v == leaf.gpa && s->pages - s->mapped >= big &&
                 !(target & (SUPERPAGE_SIZE - 1));
    u64 pages = whole ? big : 1;
    int error =
        ept_map(&s->grantee->ept, GPA(target), hpa, whole ? SUPERPAGE_SHIFT : PAGE_SHIFT, flags);
    if (error)
        return error;
    frames_get(hpa, (unsigned)pages);
    s->mapped += pages;
    *next = target + pages * PAGE_SIZE;
    return 0;
}

i64 share_map(struct share *s, u64 target, u64 *pages) {
    bool identity = target == BASALT_SHARE_IDENTITY;
    u64 before = s->mapped, next = 0;
    int error = 0;

    if (s->ending || (s->mapping && s->target != target))
        return -BASALT_EBUSY;
    if (identity != s->grantee->identity ||
        (!identity && (target & ~PAGE_MASK || target >= EPT_LIMIT)))
        return -BASALT_EINVAL;
    s->target = target;
    s->mapping = true;
    for (unsigned i = 0; i < PIECES_PER_CALL && s->mapped < s->pages && !error; i++) {
        error = map_piece(s, &next);
        irq_window(); // handlers only set pending bits
    }
    *pages = s->mapped - before; // they stay so until the share ends
    return *pages ? (i64)(next - *pages * PAGE_SIZE) : error;
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

int shares_end(struct domain *owner, const struct domain *grantee, unsigned *budget) {
    struct share *shares = owner->share_page;
    int error = 0;

    for (unsigned i = 0; shares && i < SHARES_MAX; i++)
        shares[i].ending |= shares[i].grantee == grantee; // no more is mapped meanwhile
    for (unsigned i = 0; shares && i < SHARES_MAX && !error; i++)
        if (shares[i].owner && (!grantee || shares[i].grantee == grantee))
            error = share_end(&shares[i], budget);
    return error;
}

int shares_teardown(struct domain *d, unsigned *budget) {
    while (!list_empty(&d->grants))
        if (share_end(list_entry(d->grants.next, struct share, link), budget))
            return -BASALT_EINTR;
    return shares_end(d, NULL, budget);
}
