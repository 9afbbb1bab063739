// SPDX-License-Identifier: Apache-2.0
//
// Handle tables: up to 64 pages of 64 handles per domain, found by index in constant time. A target keeps a list of
// the handles on it, so that all of them die with it.

#include "kernel/handle.h"

#include "kernel/request.h"

#include <basalt/error.h>

#define DELEGATES_MAX 64u // handles on one domain

static bool in_use(const struct handle *h) { return h->holder; }

struct handle *handle_find(struct domain *holder, u64 index) {
    if (index >= HANDLE_PAGES * HANDLES_PER_PAGE || !holder->handle_pages[index / HANDLES_PER_PAGE])
        return NULL;
    struct handle *h = &holder->handle_pages[index / HANDLES_PER_PAGE][index % HANDLES_PER_PAGE];
    return in_use(h) ? h : NULL;
}

// Constant time: an entry that was freed, else the first that was never used.
static struct handle *free_handle(struct domain *holder) {
    struct handle *h = holder->free_handles;

    if (h) {
        holder->free_handles = h->next;
        return h;
    }
    u32 index = holder->handles_used;
    if (index == HANDLE_PAGES * HANDLES_PER_PAGE)
        return NULL;
    struct handle **table = &holder->handle_pages[index / HANDLES_PER_PAGE];
    if (!*table && !(*table = domain_page_alloc(holder)))
        return NULL;
    holder->handles_used++;
    h = &(*table)[index % HANDLES_PER_PAGE];
    h->index = index;
    return h;
}

struct handle *handle_create(struct domain *holder, struct domain *target, u32 rights) {
    struct handle *h = free_handle(holder);

    if (!h)
        return NULL;
    h->target = target;
    h->rights = rights;
    h->holder = holder;
    h->parent = h->next = h->previous = NULL;
    if (target) {
        h->next = target->handles;
        if (h->next)
            h->next->previous = h;
        target->handles = h;
    }
    return h;
}

static bool holds_another(const struct domain *target, const struct domain *holder) {
    for (const struct handle *h = target->handles; h; h = h->next)
        if (h->holder == holder && h->rights)
            return true;
    return false;
}

static void remove(struct handle *h) {
    struct domain *target = h->target;

    if (target) {
        if (h->previous)
            h->previous->next = h->next;
        else
            target->handles = h->next;
        if (h->next)
            h->next->previous = h->previous;
        if (!holds_another(target, h->holder))
            requests_forget(target, h->holder);
    }
    struct domain *holder = h->holder;
    *h = (struct handle){.index = h->index, .next = holder->free_handles};
    holder->free_handles = h;
}

struct handle *handle_next(struct domain *holder, u32 *cursor) {
    for (; *cursor < HANDLE_PAGES * HANDLES_PER_PAGE; ++*cursor) {
        if (!holder->handle_pages[*cursor / HANDLES_PER_PAGE])
            return NULL;
        struct handle *h = handle_find(holder, *cursor);
        if (h)
            return h;
    }
    return NULL;
}

i64 handle_delegate(struct handle *from, u64 rights, struct domain *to) {
    unsigned count = 0;

    if (!from->target || rights & ~(u64)(from->rights & ~BASALT_RIGHT_DELEGATE) || !rights)
        return -BASALT_EINVAL;
    for (struct handle *h = from->target->handles; h; h = h->next)
        count++;
    if (count >= DELEGATES_MAX)
        return -BASALT_ENOSPC;
    struct handle *h = handle_create(to, from->target, (u32)rights);
    if (!h)
        return -BASALT_ENOSPC;
    h->parent = from;
    return h->index;
}

void handle_revoke(struct handle *parent) {
    struct handle *next;

    for (struct handle *h = parent->target ? parent->target->handles : NULL; h; h = next) {
        next = h->next;
        if (h->parent == parent)
            remove(h);
    }
}

void handles_teardown(struct domain *d) {
    u32 cursor = 0;
    struct handle *h;

    while (d->handles)
        remove(d->handles);
    while ((h = handle_next(d, &cursor))) {
        handle_revoke(h);
        remove(h);
    }
}
