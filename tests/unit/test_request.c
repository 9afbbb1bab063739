// SPDX-License-Identifier: Apache-2.0
//
// Request servers, routes and doorbells, against models: who gets an access, who may answer it, which port rings, and what
// becomes of all of it when a server goes.
// sources: tests/unit/host_machine.c tests/unit/host_kernel.c
// sources: kernel/domain.c kernel/memory.c kernel/handle.c kernel/event.c kernel/request.c kernel/share.c
// sources: kernel/interrupt.c kernel/hypercall.c kernel/policy.c kernel/timer.c kernel/schedule.c kernel/trace.c kernel/frames.c
// sources: kernel/console.c ept/ept.c ept/format.c guest/vcpu.c guest/interrupt.c guest/walk.c guest/emulate.c
// sources: guest/run.c guest/decode.c guest/event.c
// sources: guest/cpuid.c guest/msr.c guest/cr.c guest/vlapic.c guest/vlapic_register.c
// sources: guest/vlapic_timer.c guest/control.c
// libs: -Wl,--wrap=frame_alloc -Wl,--wrap=frame_alloc_chunk -Wl,--wrap=frame_kernel_alloc

#include "tests/unit/host_machine.h"

#include "arch/paging.h"
#include "kernel/event.h"
#include "kernel/request.h"

#include <basalt/error.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define IO  BASALT_SPACE_IO
#define MEM BASALT_SPACE_MEMORY

static struct host_account empty;
static struct domain *a, *b, *d; // two servers, and the domain that they serve

static int setup(void **state unused) {
    host_seed();
    host_machine_init();
    return 0;
}

static struct domain *server_domain(struct domain *target) {
    struct domain *s = host_domain(2 * MIB);

    s->identity = true;
    assert_int_equal(events_init(s), 0);
    assert_non_null(handle_create(s, target, BASALT_RIGHTS_DOMAIN));
    return s;
}

static int begin(void **state unused) {
    empty = host_account();
    d = host_domain(8 * MIB);
    a = server_domain(d);
    b = server_domain(d);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(vcpu_create(d, i), 0);
    for (unsigned i = 0; i < 3; i++)
        vcpu_unblock(d->vcpus[i], BLOCK_NEW | BLOCK_SIPI);
    assert_int_equal(domain_control(d, BASALT_OP_RESUME), 0);
    host_load(d->vcpus[0]);
    return 0;
}

static int end(void **state unused) {
    if (a)
        host_destroy(a);
    host_destroy(d);
    host_destroy(b);
    host_load(NULL);
    host_assert_same(empty);
    return 0;
}

static bool rung(struct domain *server, u32 port) {
    u64 bit = BIT(port % 64), *word = &server->events->pending[port / 64];
    bool was = *word & bit;

    assert_int_equal(was, !!(server->events->summary & BIT(port / 64)));
    *word &= ~bit;
    server->events->summary = 0;
    return was;
}

static i64 serve(struct domain *server, u32 *port) {
    u64 page = 0;
    i64 new_port = port_alloc(server);

    assert_true(new_port > 0);
    *port = (u32)new_port;
    i64 id = request_serve(d, server, *port, &page);
    if (id >= 0) {
        assert_ptr_equal(pool_ptr(HPA(page)), d->servers[id].page);
        assert_true(ept_walk(&server->ept, GPA(page)).present);
    }
    return id;
}

static bool send(struct vcpu *v, enum basalt_space space, u64 address, unsigned bytes, bool write,
                 u64 data) {
    return request_send(v, space, address, bytes, write, &data);
}

static void test_serve(void **state unused) {
    u64 page;
    u32 port;

    assert_int_equal(request_serve(d, a, 0, &page), -BASALT_EINVAL); // no such port
    assert_int_equal(request_serve(d, a, 5000, &page), -BASALT_EINVAL);
    for (unsigned i = 0; i < SERVERS_MAX; i++)
        assert_int_equal(serve(i % 2 ? a : b, &port), i);
    assert_int_equal(serve(a, &port), -BASALT_ENOSPC);
    a->identity = false;
    assert_true(request_serve(d, a, port, &page) < 0);
    a->identity = true;
}

static void test_request_and_answer(void **state unused) {
    u32 pa, pb;
    struct vcpu *v = d->vcpus[0], *w = d->vcpus[2];
    u64 ia = (u64)serve(a, &pa), ib = (u64)serve(b, &pb);

    assert_int_equal(request_route(d, a, ia, IO, 0x60, 0x64), 0);
    assert_int_equal(request_route(d, b, ib, MEM, 0xd0000000, 0xd0000fff), 0);
    assert_false(send(v, IO, 0x5f, 1, false, 0));
    assert_false(send(v, IO, 0x65, 1, false, 0));
    assert_false(send(v, MEM, 0x60, 1, false, 0));
    assert_false(send(v, MEM, 0xd0001000, 1, false, 0));
    assert_int_equal(v->blocked, 0);
    assert_true(send(v, IO, 0x64, 1, true, 0xfe));
    assert_true(send(w, MEM, 0xd0000ff8, 8, false, 77));
    assert_true(rung(a, pa));
    assert_true(rung(b, pb));
    assert_int_equal(v->blocked, BLOCK_REQUEST);
    const struct basalt_request *r = &d->servers[ia].page->slots[0],
                                *s = &d->servers[ib].page->slots[2];
    assert_true(d->servers[ia].page->pending == 1 && d->servers[ib].page->pending == 4);
    assert_true(r->number == 1 && r->address == 0x64 && r->data == 0xfe && r->space == IO &&
                r->write == 1 && r->bytes == 1 && r->vcpu == 0);
    assert_true(s->number == 1 && s->address == 0xd0000ff8 && s->data == 0 && s->space == MEM &&
                s->write == 0 && s->bytes == 8 && s->vcpu == 2);
    // What the server writes into its page means nothing.
    memset(d->servers[ia].page, 0xff, PAGE_SIZE);
    assert_int_equal(request_answer(d, b, 0, 1, 5), -BASALT_ENOENT); // not the one that was asked
    assert_int_equal(request_answer(d, d, 0, 1, 5), -BASALT_ENOENT);
    assert_int_equal(request_answer(d, a, 0, 2, 5), -BASALT_ENOENT); // wrong number
    assert_int_equal(request_answer(d, a, 0, 0, 5), -BASALT_ENOENT);
    assert_int_equal(request_answer(d, a, 1, 1, 5), -BASALT_ENOENT); // one that doesn't wait
    assert_int_equal(request_answer(d, a, 2, 1, 5), -BASALT_ENOENT);
    assert_int_equal(request_answer(d, a, 3, 1, 5), -BASALT_ENOENT); // none at all
    assert_int_equal(request_answer(d, a, ~0ull, 1, 5), -BASALT_ENOENT);
    assert_int_equal(request_answer(d, a, 63, 1, 5), -BASALT_ENOENT);
    assert_int_equal(v->blocked, BLOCK_REQUEST);
    assert_int_equal(request_answer(d, a, 0, 1, 5), 0);
    assert_int_equal(v->blocked, 0);
    assert_int_equal(v->io.data, 5);
    assert_int_equal(request_answer(d, a, 0, 1, 5), -BASALT_ENOENT); // once
    assert_int_equal(request_answer(d, b, 2, 1, 9), 0);
    assert_true(send(v, IO, 0x60, 4, false, 0));
    assert_int_equal(d->servers[ia].page->slots[0].number, 2);
    assert_int_equal(v->stats.requests, 2);
}

// What a server has published is read without it, and that only: byte reads of that very port, routed to it.
static void test_published_registers(void **state unused) {
    const u32 reg = BASALT_REGISTER_VALID | 0x600000 | 0x3fd;
    u32 pa, pb;
    struct vcpu *v = d->vcpus[0];
    u64 ia = (u64)serve(a, &pa), ib = (u64)serve(b, &pb), data = 1;
    u32 *registers = d->servers[ia].page->registers;

    assert_int_equal(request_route(d, a, ia, IO, 0x3f8, 0x3ff), 0);
    assert_int_equal(request_route(d, b, ib, IO, 0x2f8, 0x2ff), 0);
    assert_int_equal(request_route(d, a, ia, MEM, 0x3f8, 0x3ff), 0);
    registers[5] = d->servers[ib].page->registers[5] = reg;
    assert_false(request_send(v, IO, 0x3fd, 1, false, &data));
    assert_int_equal(data, 0x60);
    assert_false(v->blocked || rung(a, pa));
    assert_false(request_send(v, IO, 0x35d, 1, false, &data)); // claimed by nobody
    assert_true(data == ~0ull);
    const struct {
        u64 address;
        u32 reg;
        enum basalt_space space;
        u8 bytes, write;
    } asked[] = {
        {0x3fd, reg, IO, 1, 1},
        {0x3fd, reg, IO, 2, 0},
        {0x3fd, reg, IO, 4, 0},
        {0x3fd, reg, MEM, 1, 0},
        {0x2fd, reg, IO, 1, 0},
        {0x3fc, reg, IO, 1, 0},
        {0x3fd, reg ^ BASALT_REGISTER_VALID, IO, 1, 0},
        {0x3fd, reg | BIT(24), IO, 1, 0},
        {0x3fd, ~0u, IO, 1, 0},
        {0x3fd, 0, IO, 1, 0},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(asked); i++) {
        registers[5] = asked[i].reg;
        assert_true(send(v, asked[i].space, asked[i].address, asked[i].bytes, asked[i].write, 3));
        struct domain *server = v->io.server == ia ? a : b;
        assert_int_equal(request_answer(d, server, 0, v->io.number, 0), 0);
    }
}

// The server goes: its virtual processors wait for nobody, nobody else may answer, its routes are free. Who claims the
// address gets the same request.
static void test_server_goes(void **state unused) {
    u32 pa, pb;
    struct vcpu *v = d->vcpus[0];
    u64 ia = (u64)serve(a, &pa);

    assert_int_equal(request_route(d, a, ia, IO, 0x60, 0x64), 0);
    assert_true(send(v, IO, 0x64, 1, true, 0xfe));
    u64 number = v->io.number;
    host_destroy(a);
    a = NULL;
    assert_int_equal(v->blocked & BLOCK_REQUEST, 0);
    u64 ib = (u64)serve(b, &pb);
    assert_int_equal(ib, ia); // the same place
    assert_int_equal(request_answer(d, b, 0, number, 5), -BASALT_ENOENT);
    assert_false(request_again(v)); // it did not ask for these ports
    assert_true(v->io.number == number && !v->blocked);
    assert_int_equal(request_route(d, b, ib, IO, 0x62, 0x6f), 0); // but can
    assert_true(request_again(v));
    const struct basalt_request *r = &d->servers[ib].page->slots[0];
    assert_true(rung(b, pb) && v->blocked == BLOCK_REQUEST);
    assert_true(r->number == number && r->address == 0x64 && r->data == 0xfe && r->space == IO);
    assert_true(r->write == 1 && r->bytes == 1);
    assert_int_equal(request_answer(d, b, 0, number, 5), 0);
    assert_true(send(v, IO, 0x64, 1, false, 0));
    assert_true(r->number == number + 1);
}

// A register that the next server has published is read at once; the number that is not sent again is not that of another.
static void test_published_by_the_next(void **state unused) {
    u32 pa, pb;
    struct vcpu *v = d->vcpus[0];
    u64 ia = (u64)serve(a, &pa);

    assert_int_equal(request_route(d, a, ia, IO, 0x3f8, 0x3ff), 0);
    assert_true(send(v, IO, 0x3fd, 1, false, 0));
    host_destroy(a);
    a = NULL;
    u64 ib = (u64)serve(b, &pb);
    assert_int_equal(request_route(d, b, ib, IO, 0x3f8, 0x3ff), 0);
    d->servers[ib].page->registers[5] = BASALT_REGISTER_VALID | 0x600000 | 0x3fd;
    assert_false(request_again(v));
    assert_true(send(v, IO, 0x3fc, 1, true, 0));
    assert_true(d->servers[ib].page->slots[0].number == 2);
}

// Two servers; the one at the higher index outlives the other and takes its range.
static void test_routes_of_the_dead(void **state unused) {
    u32 pa, pb;
    u64 ia = (u64)serve(a, &pa), ib = (u64)serve(b, &pb);

    assert_int_equal(request_route(d, a, ia, MEM, 0xfed00000, 0xfed00fff), 0);
    assert_int_equal(request_route(d, b, ib, MEM, 0xfed00000, 0xfed00fff), -BASALT_EBUSY);
    host_destroy(a);
    a = NULL;
    assert_int_equal(request_route(d, b, ib, MEM, 0xfed00000, 0xfed00fff), 0);
    assert_true(send(d->vcpus[1], MEM, 0xfed00000, 4, false, 0));
    assert_true(rung(b, pb));
    assert_int_equal(request_answer(d, b, 1, 1, 0), 0);
}

static void test_route_arguments(void **state unused) {
    u32 pa, pb;
    u64 ia = (u64)serve(a, &pa), ib = (u64)serve(b, &pb);

    assert_int_equal(request_route(d, a, ib, IO, 0, 1), -BASALT_EINVAL); // not its own
    assert_int_equal(request_route(d, a, 2, IO, 0, 1), -BASALT_EINVAL);
    assert_int_equal(request_route(d, a, ~0ull, IO, 0, 1), -BASALT_EINVAL);
    assert_int_equal(request_route(d, a, BIT(32) | ia, IO, 0, 1), -BASALT_EINVAL);
    assert_int_equal(request_route(d, a, ia, BASALT_SPACE_MEMORY_DOORBELL + 1, 0, 1),
                     -BASALT_EINVAL);
    assert_int_equal(request_route(d, a, ia, BIT(32), 0, 1), -BASALT_EINVAL);
    assert_int_equal(request_route(d, a, ia, IO, 2, 1), -BASALT_EINVAL);
    assert_int_equal(request_route(d, a, ia, IO, 0xffff, 0x10000), -BASALT_EINVAL);
    assert_int_equal(request_route(d, a, ia, MEM, 0, EPT_LIMIT), -BASALT_EINVAL);
    assert_int_equal(request_route(d, a, ia, MEM, 0, ~0ull), -BASALT_EINVAL);
    assert_int_equal(request_route(d, a, ia, IO, 0, 0xffff), 0);
    assert_int_equal(request_route(d, a, ia, MEM, 0, EPT_LIMIT - 1), 0);
    assert_int_equal(request_route(d, b, ib, IO, 0, 0xffff), -BASALT_EBUSY);
    assert_int_equal(request_route(d, a, ia, IO, 0, 0xffff), 0); // away again
    assert_int_equal(request_route(d, b, ib, IO, 0, 0xffff), 0);
}

// Routes against an array with an owner per port.
static void test_routes_model(void **state unused) {
    enum { PORTS = 512 };
    static u8 owner[2][PORTS]; // 0: none, else server + 1
    struct {
        u64 first, last;
        u8 space, server;
    } routes[CLAIMS_MAX];
    unsigned count = 0;
    u32 pa, pb;
    u64 ids[2] = {(u64)serve(a, &pa), (u64)serve(b, &pb)};
    struct vcpu *v = d->vcpus[0];

    memset(owner, 0, sizeof(owner));
    for (unsigned n = 0; n < 30000; n++) {
        u64 space = host_random() % 2, first = host_random() % PORTS, server = host_random() % 2;
        u64 length = host_random() % 6, last = MIN(first + length, PORTS - 1ull);
        unsigned same = ~0u, overlap = 0;
        if (count && host_random() % 8 < (n / 4000 % 2 ? 4 : 1)) {
            unsigned i = (unsigned)(host_random() % count);
            space = routes[i].space, first = routes[i].first, last = routes[i].last;
            server = host_random() % 8 ? routes[i].server : server;
        }
        for (unsigned i = 0; i < count; i++)
            if (routes[i].space == space && routes[i].first <= last && first <= routes[i].last) {
                overlap++;
                if (routes[i].first == first && routes[i].last == last &&
                    routes[i].server == server)
                    same = i;
            }
        int error = request_route(d, server ? b : a, ids[server], space, first, last);
        if (same != ~0u) {
            assert_int_equal(error, 0);
            memset(&owner[space][first], 0, last - first + 1);
            routes[same] = routes[--count];
        } else if (overlap) {
            assert_int_equal(error, -BASALT_EBUSY);
        } else if (count == CLAIMS_MAX) {
            assert_int_equal(error, -BASALT_ENOSPC);
        } else {
            assert_int_equal(error, 0);
            memset(&owner[space][first], (int)server + 1, last - first + 1);
            routes[count].space = (u8)space, routes[count].server = (u8)server;
            routes[count].first = first, routes[count++].last = last;
        }
        assert_int_equal(d->claim_count, count);
        for (u32 i = 1; i <= CLAIMS_MAX + 1; i++)
            assert_true(i <= count ? d->claims[i].last < ~0ull : d->claims[i].last == ~0ull);
        for (u32 i = 1; i <= count; i++)
            assert_true(d->claims[i - 1].last < d->claims[i].first);
        u64 probe = host_random() % PORTS, where = host_random() % 2;
        bool sent = send(v, (enum basalt_space)where, probe, 1, false, 0);
        assert_int_equal(sent, owner[where][probe] != 0);
        if (sent) {
            assert_int_equal(v->io.server, ids[owner[where][probe] - 1]);
            assert_int_equal(
                request_answer(d, owner[where][probe] == 1 ? a : b, 0, v->io.number, 0), 0);
        }
    }
}

// A doorbell comes, or goes if it is there.
static int bell(struct domain *server, u64 port, u64 space, u64 address, u64 bytes) {
    return request_route(d, server, port, BASALT_SPACE_IO_DOORBELL + space, address,
                         address + bytes - 1);
}

// Whether the write rings one.
static bool ring(struct vcpu *v, enum basalt_space space, u64 address, unsigned bytes) {
    u64 before = v->stats.doorbells, data = 0;

    assert_false(request_access(v, space, address, bytes, true, &data)); // no routes here
    return v->stats.doorbells > before;
}

static void test_doorbells(void **state unused) {
    struct vcpu *v = d->vcpus[0];
    u64 port = (u64)port_alloc(a), second = (u64)port_alloc(a), data = 0;

    assert_int_equal(bell(a, port, IO, 0xffff, 2), -BASALT_EINVAL);
    assert_int_equal(bell(a, port, 2, 0xc000, 2), -BASALT_EINVAL);
    assert_int_equal(bell(a, port, ~0ull, 0xc000, 2), -BASALT_EINVAL);
    assert_int_equal(bell(a, port, MEM, EPT_LIMIT - 1, 2), -BASALT_EINVAL);
    assert_int_equal(bell(a, port, IO, 0xc000, 0), -BASALT_EINVAL);
    assert_int_equal(bell(a, 4000, IO, 0xc000, 2), -BASALT_EINVAL);
    assert_int_equal(bell(a, BIT(32) | port, IO, 0xc000, 2), -BASALT_EINVAL);
    assert_int_equal(bell(b, port, IO, 0xc000, 2), -BASALT_EINVAL); // b has no such port
    assert_false(ring(v, IO, 0xc000, 2));
    assert_int_equal(bell(a, port, IO, 0xc000, 2), 0);
    assert_true(ring(v, IO, 0xc000, 2));
    assert_true(rung(a, (u32)port));
    assert_false(ring(v, IO, 0xc000, 1)); // other sizes
    assert_false(ring(v, IO, 0xc000, 4));
    assert_false(ring(v, MEM, 0xc000, 2));
    assert_false(ring(v, IO, 0xc001, 2));
    assert_false(ring(v, IO, 0xbfff, 2));
    assert_false(request_access(v, IO, 0xc000, 2, false, &data)); // a read
    assert_false(rung(a, (u32)port));
    assert_int_equal(bell(a, second, IO, 0xc000, 2), -BASALT_EBUSY);
    assert_int_equal(bell(a, port, IO, 0xc001, 1), -BASALT_EBUSY);
    while (port_alloc(b) < (i64)port)
        ;
    assert_int_equal(bell(b, port, IO, 0xc000, 2), -BASALT_EBUSY); // not its own
    assert_int_equal(bell(a, second, IO, 0xc002, 2), 0);
    assert_true(ring(v, IO, 0xc002, 2));
    assert_true(rung(a, (u32)second));
    assert_int_equal(bell(a, port, IO, 0xc000, 2), 0); // goes
    assert_false(ring(v, IO, 0xc000, 2));
    assert_int_equal(v->stats.doorbells, 2);
}

static void test_doorbells_model(void **state unused) {
    struct bell {
        u64 space, first, last;
        struct domain *server;
        u32 port;
    } bells[CLAIMS_MAX];
    unsigned count = 0;
    struct vcpu *v = d->vcpus[1];
    u32 ports[2][8];

    for (unsigned i = 0; i < 16; i++)
        ports[i / 8][i % 8] = (u32)port_alloc(i / 8 ? b : a);
    for (unsigned n = 0; n < 20000; n++) {
        bool other = host_random() % 2;
        struct bell new = {.space = host_random() % 2,
                           .first = host_random() % 400,
                           .server = other ? b : a,
                           .port = ports[other][host_random() % 8]};
        unsigned overlaps = 0, at = count;
        new.last = new.first + (1u << host_random() % 4) - 1;
        if (count && host_random() % (n / 3000 % 2 ? 2 : 4) == 0) // one that is there, or nearly
            new = bells[host_random() % count], new.port ^= host_random() % 4 == 0;
        for (unsigned i = 0; i < count; i++)
            if (bells[i].space == new.space &&
                bells[i].first <= new.last &&bells[i].last >= new.first) {
                overlaps++;
                if (memcmp(&bells[i], &new, sizeof(new)) == 0)
                    at = i;
            }
        int error = port_find(new.server, new.port)
                        ? request_route(d, new.server, new.port,
                                        BASALT_SPACE_IO_DOORBELL + new.space, new.first, new.last)
                        : 1;
        if (error == 1)
            continue;
        if (at < count) {
            assert_int_equal(error, 0);
            bells[at] = bells[--count];
        } else if (overlaps) {
            assert_int_equal(error, -BASALT_EBUSY);
        } else {
            assert_int_equal(error, count == CLAIMS_MAX ? -BASALT_ENOSPC : 0);
            if (!error)
                bells[count++] = new;
        }
        assert_int_equal(d->claim_count, count);
        // The one that matches rings, if there is one.
        u64 address = host_random() % 400, space = host_random() % 2, rings = 0, matches = 0;
        unsigned bytes = 1u << host_random() % 4;
        if (count && host_random() % 2)
            address = bells[host_random() % count].first;
        memset(a->events, 0, PAGE_SIZE);
        memset(b->events, 0, PAGE_SIZE);
        bool answer = ring(v, (enum basalt_space)space, address, bytes);
        for (unsigned i = 0; i < count; i++)
            if (bells[i].first == address && bells[i].space == space &&
                bells[i].last == address + bytes - 1) {
                matches++;
                rings += bells[i].server->events->pending[0] >> bells[i].port & 1;
            }
        assert_int_equal(answer, matches);
        assert_int_equal(rings, matches);
        assert_int_equal(__builtin_popcountll(a->events->pending[0]) +
                             __builtin_popcountll(b->events->pending[0]),
                         matches);
    }
}

// A port that is given back is no longer rung by what was bound to it, whoever gets its number next.
static void test_port_comes_back_quiet(void **state unused) {
    i64 port = port_alloc(a);

    assert_int_equal(bell(a, (u64)port, IO, 0xc000, 2), 0);
    assert_true(ring(d->vcpus[0], IO, 0xc000, 2));
    port_free(a, (u32)port);
    assert_false(a->events->pending[0] & BIT(port)); // what was pending is gone
    (void)ring(d->vcpus[0], IO, 0xc000, 2);
    assert_false(a->events->pending[0] & BIT(port)); // a free port does not ring
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

// Every port is given out once; a freed one is the next; its bit is not pending for its new owner.
static void test_ports_run_out(void **state unused) {
    static bool given[BASALT_PORTS];
    i64 port, count = 0, before = a->ports_used ? a->ports_used : 1;

    memset(given, 0, sizeof(given));
    while ((port = port_alloc(a)) > 0) {
        assert_false(given[port]);
        given[port] = true;
        count++;
    }
    assert_int_equal(port, -BASALT_ENOSPC);
    assert_int_equal(count, BASALT_PORTS - before);
    event_ring(a, 77);
    assert_true(rung(a, 77));
    event_ring(a, 77);
    port_free(a, 77);
    a->events->summary = 0;
    assert_null(port_find(a, 77));
    assert_int_equal(port_alloc(a), 77);
    assert_false(a->events->pending[1] & BIT(13));
    assert_int_equal(port_alloc(a), -BASALT_ENOSPC);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_serve),
        TEST(test_request_and_answer),
        TEST(test_published_registers),
        TEST(test_server_goes),
        TEST(test_published_by_the_next),
        TEST(test_routes_of_the_dead),
        TEST(test_route_arguments),
        TEST(test_routes_model),
        TEST(test_doorbells),
        TEST(test_doorbells_model),
        TEST(test_port_comes_back_quiet),
        TEST(test_ports_run_out),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
