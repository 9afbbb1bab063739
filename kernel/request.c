// SPDX-License-Identifier: Apache-2.0
//
// Request servers and what they claim. Routes and doorbells of a domain stand in one page, sorted by kind and address and
// charged to it: what is routed is found by its range, a doorbell by its first address. A request page is written by the
// kernel and read by the server; the kernel keeps what it needs in the vCPU.

#include "kernel/request.h"

#include "arch/paging.h"
#include "kernel/event.h"
#include "kernel/trace.h"

#define SPACE(route) (((route) >> 56) - 1)

int requests_init(struct domain *d) {
    if (!(d->claims = domain_page_alloc(d)))
        return -BASALT_ENOSPC;
    memset(d->claims + 1, 0xff, (CLAIMS_MAX + 1) * sizeof(struct claim));
    return 0;
}

// The first claim of the domain that does not lie wholly before `place`. It covers the place if it begins there or before.
static struct claim *find(const struct domain *d, u64 place) {
    struct claim *c = d->claims + 1;

    for (u32 left = d->claim_count; left;) {
        u32 half = left / 2;
        bool before = c[half].last < place;
        c = before ? c + half + 1 : c;
        left = before ? left - half - 1 : half;
    }
    return c;
}

static int insert(struct domain *d, const struct claim *claim) {
    if (d->claim_count == CLAIMS_MAX)
        return -BASALT_ENOSPC;
    struct claim *at = find(d, claim->first), *end = &d->claims[++d->claim_count];
    memmove(at + 1, at, (u64)end - (u64)at);
    *at = *claim;
    return 0;
}

static void take_out(struct domain *d, struct claim *c) {
    memmove(c, c + 1, (u64)&d->claims[d->claim_count-- + 2] - (u64)(c + 1));
}

static u64 space_end(u64 space) {
    return space == BASALT_SPACE_IO || space == BASALT_SPACE_IO_DOORBELL ? 0x10000 : EPT_LIMIT;
}

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

int request_route(struct domain *d, struct domain *caller, u64 id, u64 space, u64 first, u64 last) {
    bool bell = space >= BASALT_SPACE_IO_DOORBELL;

    if (space > BASALT_SPACE_MEMORY_DOORBELL || first > last || last >= space_end(space))
        return -BASALT_EINVAL;
    if (bell ? !port_find(caller, id) : id >= SERVERS_MAX || d->servers[id].domain != caller)
        return -BASALT_EINVAL;
    struct claim claim = {
        .first = ROUTE(space, first), .last = ROUTE(space, last), .id = (u32)id, .server = caller};
    struct claim *old = find(d, claim.first);
    if (old->first > claim.last)
        return insert(d, &claim);
    if (old->first != claim.first || old->last != claim.last || old->id != id ||
        old->server != caller)
        return -BASALT_EBUSY;
    take_out(d, old); // the same range again takes the claim away
    return 0;
}

// What the server has published of its registers, if reading the port gives that.
static bool published(const struct basalt_request_page *page, u64 port, u64 *value) {
    u32 reg = __atomic_load_n(&page->registers[port % BASALT_REGISTERS], __ATOMIC_RELAXED);

    if ((reg & ~BASALT_REGISTER_VALUE) != (BASALT_REGISTER_VALID | port))
        return false;
    *value = (reg & BASALT_REGISTER_VALUE) >> 16;
    return true;
}

// Sends what request_send() has found to be claimed.
static __attribute__((noinline)) bool send(struct vcpu *v, const struct claim *route, u64 place,
                                           unsigned bytes, bool write, u64 *data) {
    struct domain *d = v->domain;
    struct request_server *s = &d->servers[route->id];
    u64 space = SPACE(place), address = place - ROUTE(space, 0);
    bool read = !write && space != BASALT_SPACE_INSTRUCTION;

    if (read && bytes == 1 && space == BASALT_SPACE_IO && published(s->page, address, data))
        return false;
    v->io.server = (u8)route->id;
    v->io.place = place;
    v->io.bytes = (u8)bytes;
    v->io.write = write;
    v->io.sent = *data;
    s->page->slots[v->index] = (struct basalt_request){
        .number = ++v->io.number,
        .address = address,
        .data = read ? 0 : *data & insn_mask(bytes ? bytes : 8),
        .space = (u8)space,
        .write = write,
        .bytes = (u8)bytes,
        .vcpu = v->index,
    };
    vcpu_block(v, BLOCK_REQUEST);
    v->stats.requests++;
    trace(BASALT_TRACE_REQUEST, d->info.id, v->index, address, *data);
    __atomic_fetch_or(&s->page->pending, BIT(v->index), __ATOMIC_SEQ_CST);
    event_ring(s->domain, s->port);
    return true;
}

bool request_send(struct vcpu *v, enum basalt_space space, u64 address, unsigned bytes, bool write,
                  u64 *data) {
    u64 place = ROUTE(space, address);
    const struct claim *route = find(v->domain, place);

    if (!write && space != BASALT_SPACE_INSTRUCTION)
        *data = ~0ull;
    return route->first <= place && send(v, route, place, bytes, write, data);
}

bool request_again(struct vcpu *v) {
    struct io_state *io = &v->io;
    const struct claim *route = find(v->domain, io->place);
    u64 data = io->sent, number = io->number;

    if (route->first > io->place)
        return false;
    io->number--; // it is the same one
    if (send(v, route, io->place, io->bytes, io->write, &data))
        return true;
    io->number = number;
    return false;
}

struct vcpu *request_find(struct domain *d, const struct domain *caller, u64 vcpu, u64 number) {
    struct vcpu *v = vcpu < BASALT_VCPUS_MAX ? d->vcpus[vcpu] : NULL;

    if (!v || !(v->blocked & BLOCK_REQUEST) || v->io.number != number ||
        d->servers[v->io.server].domain != caller)
        return NULL;
    return v;
}

int request_answer(struct domain *d, const struct domain *caller, u64 vcpu, u64 number, u64 data) {
    struct vcpu *v = request_find(d, caller, vcpu, number);

    if (!v)
        return -BASALT_ENOENT;
    v->io.data = data;
    vcpu_unblock(v, BLOCK_REQUEST);
    return 0;
}

// Who waits for the server asks the next one, or gets the answer that nobody gives.
static void close_server(struct domain *d, struct request_server *s) {
    struct vcpu *v;

    for_each_vcpu (v, d) {
        if (!(v->blocked & BLOCK_REQUEST) || &d->servers[v->io.server] != s)
            continue;
        v->io.stage |= IO_AGAIN;
        v->lapic.answered = true;
        vcpu_unblock(v, BLOCK_REQUEST);
    }
    memory_unmap_identity(s->domain, pool_hpa(s->page), PAGE_SIZE);
    domain_page_free(d, s->page);
    *s = (struct request_server){0};
}

void requests_forget(struct domain *d, const struct domain *holder) {
    for (struct claim *c = d->claims + d->claim_count; c > d->claims; c--)
        if (!holder || c->server == holder)
            take_out(d, c);
    for (struct request_server *s = d->servers; s < &d->servers[SERVERS_MAX]; s++)
        if (s->domain && (!holder || s->domain == holder))
            close_server(d, s);
    if (d->end_watcher.domain == holder)
        d->end_watcher.domain = NULL;
}

// Rings the doorbell if the write is as wide.
static bool ring(struct vcpu *v, const struct claim *bell, unsigned bytes) {
    if (bell->last - bell->first + 1 != bytes)
        return false;
    v->stats.doorbells++;
    trace(BASALT_TRACE_DOORBELL, v->domain->info.id, v->index, bell->first & (BIT(56) - 1),
          bell->id);
    event_ring(bell->server, bell->id);
    return true;
}

// Most accesses are where the last one was, and find what that found. That an entry is the first behind its neighbour shows
// that it is the one, whatever has come or gone since.
static bool leads_to(const struct claim *c, u64 place) {
    return place <= c->last && place > c[-1].last;
}

bool request_access(struct vcpu *v, enum basalt_space space, u64 address, unsigned bytes,
                    bool write, u64 *data) {
    u64 place = ROUTE(space, address), bell = DOORBELL(space, address);

    if (!leads_to(v->io.route, place))
        v->io.route = find(v->domain, place);
    if (write && !leads_to(v->io.bell, bell))
        v->io.bell = find(v->domain, bell);
    if (write && v->io.bell->first == bell && ring(v, v->io.bell, bytes))
        return false;
    if (!write)
        *data = ~0ull;
    return v->io.route->first <= place && send(v, v->io.route, place, bytes, write, data);
}
