// SPDX-License-Identifier: Apache-2.0
//
// Request servers, routes and doorbells. The tables are one page each, sorted, charged to the domain that they serve.
// A request page is written by the kernel and read by the server; the kernel keeps what it needs in the vCPU.

#include "kernel/request.h"

#include "arch/paging.h"
#include "arch/string.h"
#include "kernel/event.h"
#include "kernel/trace.h"

#include <basalt/error.h>

i64 request_serve(struct domain *d, struct domain *server, u64 port, u64 *page_address) {
    for (unsigned i = 0; i < SERVERS_MAX; i++) {
        struct request_server *s = &d->servers[i];
        if (s->domain)
            continue;
        if (!port_find(server, port) || !server->identity)
            return -BASALT_EINVAL;
        struct basalt_request_page *page = memory_share_page(d, server);
        if (!page)
            return -BASALT_ENOSPC;
        *s = (struct request_server){.domain = server, .page = page, .port = (u32)port};
        *page_address = pool_hpa(page).v;
        return i;
    }
    return -BASALT_ENOSPC;
}

// The first route that does not lie wholly before (space, address).
static u32 route_index(const struct domain *d, u8 space, u64 address) {
    u32 low = 0, high = d->route_count;

    while (low < high) {
        u32 middle = (low + high) / 2;
        const struct route *r = &d->routes[middle];
        if (r->space < space || (r->space == space && r->last < address))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int request_route(struct domain *d, const struct domain *caller, u64 id, u64 space, u64 first,
                  u64 last) {
    if (id >= SERVERS_MAX || d->servers[id].domain != caller || space > BASALT_SPACE_MEMORY ||
        first > last || last >= (space == BASALT_SPACE_IO ? 0x10000 : EPT_LIMIT))
        return -BASALT_EINVAL;
    if (!d->routes && !(d->routes = domain_page_alloc(d)))
        return -BASALT_ENOSPC;
    u32 at = route_index(d, (u8)space, first);
    if (at < d->route_count && d->routes[at].space == space && d->routes[at].first <= last) {
        struct route *old = &d->routes[at];
        if (old->first != first || old->last != last || old->server != id)
            return -BASALT_EBUSY;
        // The same range again takes the route away.
        memmove(old, old + 1, (--d->route_count - at) * sizeof(*old));
        return 0;
    }
    if (d->route_count == ROUTES_MAX)
        return -BASALT_ENOSPC;
    memmove(&d->routes[at + 1], &d->routes[at], (d->route_count++ - at) * sizeof(*d->routes));
    d->routes[at] =
        (struct route){.first = first, .last = last, .space = (u8)space, .server = (u8)id};
    return 0;
}

bool request_send(struct vcpu *v, enum basalt_space space, u64 address, unsigned bytes, bool write,
                  u64 data) {
    struct domain *d = v->domain;
    u32 at = route_index(d, (u8)space, address);

    if (at == d->route_count || d->routes[at].space != space || d->routes[at].first > address)
        return false;
    struct request_server *s = &d->servers[d->routes[at].server];
    if (!s->domain)
        return false;
    v->io.server = d->routes[at].server;
    v->io.waiting = true;
    s->page->slots[v->index] = (struct basalt_request){
        .number = ++v->io.number,
        .address = address,
        .data = write ? data : 0,
        .space = (u8)space,
        .write = write,
        .bytes = (u8)bytes,
        .vcpu = v->index,
    };
    vcpu_block(v, BLOCK_REQUEST);
    v->requests++;
    trace(BASALT_TRACE_REQUEST, d->id, v->index, address, data);
    __atomic_fetch_or(&s->page->pending, BIT(v->index), __ATOMIC_SEQ_CST);
    event_ring(s->domain, s->port);
    return true;
}

int request_answer(struct domain *d, const struct domain *caller, u64 vcpu, u64 number, u64 data) {
    struct vcpu *v = vcpu < BASALT_VCPUS_MAX ? d->vcpus[vcpu] : NULL;

    if (!v || !v->io.waiting || v->io.number != number || d->servers[v->io.server].domain != caller)
        return -BASALT_ENOENT;
    v->io.waiting = false;
    v->io.data = data;
    v->io.answered = true;
    vcpu_unblock(v, BLOCK_REQUEST);
    return 0;
}

// The server's routes go, and who waits for it tries again (and then gets the answer that nobody gives).
static void close_server(struct domain *d, struct request_server *s) {
    unsigned id = (unsigned)(s - d->servers);
    u32 kept = 0;

    for (u32 i = 0; i < d->route_count; i++)
        if (d->routes[i].server != id)
            d->routes[kept++] = d->routes[i];
    d->route_count = kept;
    for (unsigned i = 0; i < BASALT_VCPUS_MAX; i++) {
        struct vcpu *v = d->vcpus[i];
        if (v && v->io.waiting && v->io.server == id) {
            v->io.waiting = false;
            vcpu_unblock(v, BLOCK_REQUEST);
        }
    }
    memory_unmap_identity(s->domain, pool_hpa(s->page), PAGE_SIZE);
    domain_page_free(d, s->page);
    *s = (struct request_server){0};
}

void requests_teardown(struct domain *d) {
    for (unsigned i = 0; i < SERVERS_MAX; i++)
        if (d->servers[i].domain)
            close_server(d, &d->servers[i]);
}

void requests_forget(struct domain *d, const struct domain *holder) {
    u32 kept = 0;

    for (u32 i = 0; i < d->doorbell_count; i++)
        if (d->doorbells[i].server != holder)
            d->doorbells[kept++] = d->doorbells[i];
    d->doorbell_count = kept;
    for (unsigned i = 0; i < SERVERS_MAX; i++)
        if (d->servers[i].domain == holder)
            close_server(d, &d->servers[i]);
    if (d->end_watcher.domain == holder)
        d->end_watcher.domain = NULL;
    if (d->state_holder == holder) {
        for (u32 i = 0; i < d->state_count; i++)
            memory_unmap_identity(d->state_holder, HPA(d->state_pages[i]), PAGE_SIZE);
        d->state_holder = NULL;
    }
}

static int compare(const struct doorbell *bell, u8 space, u64 address) {
    if (bell->space != space)
        return bell->space < space ? -1 : 1;
    return bell->address == address ? 0 : bell->address < address ? -1 : 1;
}

// The first doorbell at or after (space, address).
static u32 doorbell_index(const struct domain *d, u8 space, u64 address) {
    u32 low = 0, high = d->doorbell_count;

    while (low < high) {
        u32 middle = (low + high) / 2;
        if (compare(&d->doorbells[middle], space, address) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool same_trigger(const struct doorbell *a, const struct basalt_doorbell *b) {
    bool match = b->flags & BASALT_DOORBELL_MATCH;

    return a->bytes == b->bytes && a->match == match && (!match || a->value == b->value);
}

int doorbell_bind(struct domain *d, struct domain *server, const struct basalt_doorbell *bell) {
    u64 limit = bell->space == BASALT_SPACE_IO ? 0x10000 : EPT_LIMIT;

    if (bell->space > BASALT_SPACE_MEMORY || bell->address >= limit ||
        bell->flags & ~BASALT_DOORBELL_MATCH ||
        (bell->bytes != 1 && bell->bytes != 2 && bell->bytes != 4 && bell->bytes != 8) ||
        !port_find(server, bell->port))
        return -BASALT_EINVAL;
    if (!d->doorbells && !(d->doorbells = domain_page_alloc(d)))
        return -BASALT_ENOSPC;
    if (d->doorbell_count == DOORBELLS_MAX)
        return -BASALT_ENOSPC;
    u32 at = doorbell_index(d, (u8)bell->space, bell->address);
    for (u32 i = at;
         i < d->doorbell_count && !compare(&d->doorbells[i], (u8)bell->space, bell->address); i++)
        if (same_trigger(&d->doorbells[i], bell))
            return -BASALT_EBUSY;
    memmove(&d->doorbells[at + 1], &d->doorbells[at],
            (d->doorbell_count++ - at) * sizeof(*d->doorbells));
    d->doorbells[at] = (struct doorbell){
        .address = bell->address,
        .value = bell->value,
        .space = (u8)bell->space,
        .bytes = (u8)bell->bytes,
        .match = bell->flags & BASALT_DOORBELL_MATCH,
        .port = bell->port,
        .server = server,
    };
    return 0;
}

int doorbell_unbind(struct domain *d, struct domain *server, const struct basalt_doorbell *bell) {
    u32 at = bell->space > BASALT_SPACE_MEMORY ? d->doorbell_count
                                               : doorbell_index(d, (u8)bell->space, bell->address);

    for (; at < d->doorbell_count && !compare(&d->doorbells[at], (u8)bell->space, bell->address);
         at++)
        if (d->doorbells[at].server == server && same_trigger(&d->doorbells[at], bell)) {
            struct doorbell *old = &d->doorbells[at];
            memmove(old, old + 1, (--d->doorbell_count - at) * sizeof(*old));
            return 0;
        }
    return -BASALT_ENOENT;
}

bool doorbell_ring(struct vcpu *v, enum basalt_space space, u64 address, unsigned bytes,
                   u64 value) {
    struct domain *d = v->domain;
    u32 at = doorbell_index(d, (u8)space, address);

    for (; at < d->doorbell_count && !compare(&d->doorbells[at], (u8)space, address); at++) {
        const struct doorbell *bell = &d->doorbells[at];
        if (bell->bytes != bytes || (bell->match && bell->value != value))
            continue;
        v->doorbells++;
        trace(BASALT_TRACE_DOORBELL, d->id, v->index, address, bell->port);
        event_ring(bell->server, bell->port);
        return true;
    }
    return false;
}
