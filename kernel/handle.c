// SPDX-License-Identifier: Apache-2.0
//
// Handle tables: up to 64 pages of 64 handles per domain, found by index in constant time. A target keeps a list of
// the handles on it, so that all of them die with it.

#include "kernel/domain.h"

#include "arch/cpu.h"
#include "kernel/request.h"

#define DELEGATES_MAX 64u // handles on one domain

static struct handle *entry(struct domain *holder, u32 index) {
    return &holder->handle_pages[index / HANDLES_PER_PAGE][index % HANDLES_PER_PAGE];
}

struct handle *handle_find(struct domain *holder, u64 index) {
    if (index == BASALT_HANDLE_SELF)
        return &holder->self;
    struct handle *h = index < holder->handles_used ? entry(holder, (u32)index) : NULL;
    return h && h->holder ? h : NULL;
}

// Constant time: an entry that was freed, else the first that was never used.
struct handle *handle_create(struct domain *holder, struct domain *target, u32 rights) {
    u32 index = holder->handles_used;
    struct handle **table = &holder->handle_pages[index / HANDLES_PER_PAGE], *h;

    if (!list_empty(&holder->free_handles)) {
        h = list_entry(holder->free_handles.next, struct handle, link);
        index = h->index;
        list_remove(&h->link);
    } else {
        if (index == HANDLE_PAGES * HANDLES_PER_PAGE ||
            (!*table && !(*table = domain_page_alloc(holder))))
            return NULL;
        holder->handles_used++;
        h = entry(holder, index);
    }
    *h = (struct handle){.index = index, .target = target, .rights = rights, .holder = holder};
    list_init(&h->link);
    if (target)
        list_add(&target->handles, &h->link);
    return h;
}

static unsigned held_by(const struct domain *holder, const struct domain *target) {
    unsigned count = 0;

    list_for_each (l, &target->handles)
        count += list_entry(l, struct handle, link)->holder == holder;
    return count;
}

static void remove(struct handle *h) {
    struct domain *target = h->target, *holder = h->holder;

    list_remove(&h->link);
    if (target && !held_by(holder, target))
        requests_forget(target, holder);
    h->holder = NULL;
    list_add(&holder->free_handles, &h->link);
    irq_window(); // handlers only set pending bits
}

i64 handle_delegate(struct handle *from, u64 rights, struct domain *to) {
    unsigned count = 0;

    if (!from->target || rights & ~(u64)(from->rights & ~BASALT_RIGHT_DELEGATE) || !rights ||
        to->info.status == BASALT_STATUS_ENDED) // its table is being taken apart
        return -BASALT_EINVAL;
    list_for_each (l, &from->target->handles)
        count++;
    struct handle *h = count < DELEGATES_MAX ? handle_create(to, from->target, (u32)rights) : NULL;
    if (!h)
        return -BASALT_ENOSPC;
    h->parent = from;
    return h->index;
}

int handle_revoke(struct handle *parent, unsigned *budget) {
    struct list *head = parent->target ? &parent->target->handles : NULL, *next;

    for (struct list *l = head ? head->next : NULL; l != head; l = next) {
        struct handle *h = list_entry(l, struct handle, link);
        next = l->next;
        if (h->parent != parent)
            continue;
        h->rights = 0; // from the first step on
        if (held_by(h->holder, parent->target) == 1 &&
            shares_end(parent->target, h->holder, budget))
            return -BASALT_EINTR;
        remove(h);
    }
    return 0;
}

int handles_teardown(struct domain *d, unsigned *budget) {
    for (; d->handles_used > BASALT_HANDLE_SELF + 1; d->handles_used--) {
        struct handle *h = handle_find(d, d->handles_used - 1);
        if (!*budget)
            return -BASALT_EINTR;
        --*budget;
        if (h && handle_revoke(h, budget))
            return -BASALT_EINTR;
        if (h)
            remove(h);
    }
    while (!list_empty(&d->handles)) // last: whoever destroys the domain does it by its handle
        remove(list_entry(d->handles.next, struct handle, link));
    return 0;
}
