// SPDX-License-Identifier: Apache-2.0
//
// Handles: rights only shrink, what was delegated can be taken back, and nothing dangles: whoever loses its handle on a
// domain, or dies, is no server, doorbell or watcher of it any more, and has no share of its memory. A random run keeps
// checking every pointer.
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

#define ALL     BASALT_RIGHTS_DOMAIN
#define IO      BASALT_RIGHT_IO
#define DOMAINS 6u

static struct host_account empty;

static int setup(void **state unused) {
    host_seed();
    host_machine_init();
    return 0;
}

static int begin(void **state unused) {
    host_fail_at = 0;
    empty = host_account();
    return 0;
}

// A domain with an event page, so that it can be a server.
static struct domain *server_domain(void) {
    struct domain *d = host_domain(2 * MIB);

    d->identity = true;
    assert_int_equal(events_init(d), 0);
    return d;
}

static bool holds(const struct domain *holder, const struct domain *target) {
    list_for_each (l, &target->handles) {
        if (list_entry(l, struct handle, link)->holder == holder)
            return true;
    }
    return false;
}

static bool alive(struct domain *const *all, unsigned count, const struct domain *d) {
    for (unsigned i = 0; i < count; i++)
        if (all[i] == d)
            return true;
    return false;
}

// Whoever `d` points to is alive and has a handle on it.
static void check_pointer(struct domain *const *all, unsigned count, const struct domain *d,
                          const struct domain *to) {
    if (to) {
        assert_true(alive(all, count, to));
        assert_true(holds(to, d));
    }
}

static void check_domain(struct domain *const *all, unsigned count, struct domain *d) {
    unsigned listed = 0, found = 0;

    list_for_each (l, &d->handles) {
        struct handle *h = list_entry(l, struct handle, link);
        assert_ptr_equal(h->target, d);
        assert_ptr_equal(l->next->previous, l);
        assert_true(alive(all, count, h->holder));
        assert_ptr_equal(handle_find(h->holder, h->index), h);
        if (h->parent) {
            assert_ptr_equal(h->parent->target, d);
            assert_false(h->rights & BASALT_RIGHT_DELEGATE);
            assert_int_equal(h->rights & ~h->parent->rights, 0);
            assert_ptr_equal(handle_find(h->parent->holder, h->parent->index), h->parent);
        }
        listed++;
    }
    for (unsigned i = 0; i < count; i++) {
        struct handle *h;
        for (u32 cursor = 0; all[i] && (h = host_next_handle(all[i], &cursor)); cursor++)
            found += h->target == d && h != &d->self;
    }
    assert_int_equal(listed, found);
    for (u32 i = 1; i <= d->claim_count; i++)
        check_pointer(all, count, d, d->claims[i].server);
    for (unsigned i = 0; i < SERVERS_MAX; i++) {
        check_pointer(all, count, d, d->servers[i].domain);
        assert_int_equal(!d->servers[i].domain, !d->servers[i].page);
    }
    check_pointer(all, count, d, d->end_watcher.domain);
}

static void check_all(struct domain *const *all, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        if (all[i])
            check_domain(all, count, all[i]);
}

static void test_find_and_next(void **state unused) {
    struct domain *a = host_domain(4 * MIB), *b = host_domain(4 * MIB);
    u32 cursor = 0;

    struct handle *self = handle_find(a, BASALT_HANDLE_SELF);
    assert_non_null(self);
    assert_ptr_equal(self->target, a);
    assert_int_equal(self->rights, 0);
    assert_null(handle_find(a, 1));
    assert_null(handle_find(a, HANDLE_PAGES * HANDLES_PER_PAGE));
    assert_null(handle_find(a, ~0u));
    struct handle *h = handle_create(a, b, ALL);
    assert_int_equal(h->index, 1);
    assert_ptr_equal(host_next_handle(a, &cursor), self);
    cursor++;
    assert_ptr_equal(host_next_handle(a, &cursor), h);
    cursor++;
    assert_null(host_next_handle(a, &cursor));
    cursor = ~0u;
    assert_null(host_next_handle(a, &cursor));
    host_destroy(b);
    assert_null(handle_find(a, 1));
    host_destroy(a);
    host_assert_same(empty);
}

static void test_a_full_table(void **state unused) {
    struct domain *a = host_domain(4 * MIB), *b = host_domain(4 * MIB);
    unsigned count = 1;

    while (handle_create(a, b, ALL))
        count++;
    assert_int_equal(count, HANDLE_PAGES * HANDLES_PER_PAGE);
    assert_non_null(handle_find(a, count - 1));
    host_destroy(a);
    assert_true(list_empty(&b->handles));
    host_destroy(b);
    // A table that can't grow for lack of quota.
    a = host_domain(4 * PAGE_SIZE);
    b = host_domain(4 * MIB);
    for (count = 1; handle_create(a, b, ALL);)
        count++;
    assert_int_equal(count, HANDLES_PER_PAGE);
    host_destroy(b);
    host_destroy(a);
    host_assert_same(empty);
}

static void revoke(struct handle *parent) {
    unsigned budget = 1000;
    assert_int_equal(handle_revoke(parent, &budget), 0);
}

static void test_delegation(void **state unused) {
    struct domain *a = host_domain(4 * MIB), *b = host_domain(4 * MIB), *c = host_domain(4 * MIB);
    struct handle *h = handle_create(a, b, ALL),
                  *part = handle_create(a, c, IO | BASALT_RIGHT_DELEGATE);

    assert_int_equal(handle_delegate(h, 0, c), -BASALT_EINVAL);
    assert_int_equal(handle_delegate(h, ALL, c),
                     -BASALT_EINVAL); // the right to delegate is not passed on
    assert_int_equal(handle_delegate(h, IO | BASALT_RIGHT_POWER, c), -BASALT_EINVAL);
    assert_int_equal(handle_delegate(part, BASALT_RIGHT_LIFE, b),
                     -BASALT_EINVAL); // more than it has
    i64 index = handle_delegate(h, IO | BASALT_RIGHT_MEMORY, c);
    assert_int_equal(index, 1);
    struct handle *child = handle_find(c, (u32)index);
    assert_int_equal(child->rights, IO | BASALT_RIGHT_MEMORY);
    assert_ptr_equal(child->parent, h);
    revoke(part); // another one: no effect
    assert_ptr_equal(handle_find(c, (u32)index), child);
    check_all((struct domain *[]){a, b, c}, 3);
    revoke(h);
    assert_null(handle_find(c, (u32)index));
    assert_ptr_equal(handle_find(a, h->index), h);
    // At most so many handles on one domain.
    unsigned count = 0;
    while (handle_delegate(h, IO, c) > 0)
        count++;
    assert_true(count > 32 && count < 128);
    check_all((struct domain *[]){a, b, c}, 3);
    host_destroy(a); // with it goes what it delegated
    assert_null(handle_find(c, 1));
    check_all((struct domain *[]){b, c}, 2);
    host_destroy(b);
    host_destroy(c);
    host_assert_same(empty);
}

// Between two steps of its destruction a holder gets no new handle, which nobody would take back.
static void test_no_handle_for_a_dying_holder(void **state unused) {
    struct domain *a = host_domain(4 * MIB), *b = host_domain(4 * MIB), *c = host_domain(4 * MIB);
    struct handle *h = handle_create(a, b, ALL);

    while (handle_create(c, b, ALL))
        ;
    assert_true(domain_destroy(c) < 0);
    assert_int_equal(handle_delegate(h, IO, c), -BASALT_EINVAL);
    host_destroy(c);
    check_all((struct domain *[]){a, b}, 2);
    host_destroy(a);
    host_destroy(b);
    host_assert_same(empty);
}

// Everything that a holder can be to a domain.
static void engage(struct domain *d, struct domain *server) {
    i64 port = port_alloc(server), id;
    u64 page, bell = 0x1000u + 4 * server->info.id;

    if (port < 0)
        return;
    (void)!request_route(d, server, (u64)port, BASALT_SPACE_MEMORY_DOORBELL, bell, bell + 3);
    id = request_serve(d, server, (u32)port, &page);
    if (id >= 0)
        (void)!request_route(d, server, (u64)id, BASALT_SPACE_IO, server->info.id % 4096 * 8u,
                             server->info.id % 4096 * 8u + 7);
    d->end_watcher.domain = server;
    d->end_watcher.port = (u32)port;
}

static void test_nothing_stays_of_a_revoked_holder(void **state unused) {
    struct domain *a = server_domain(), *c = server_domain(), *d = host_domain(4 * MIB);
    struct handle *h = handle_create(a, d, ALL);
    u64 charged = d->info.memory_bytes;

    assert_true(handle_delegate(h, IO | BASALT_RIGHT_MEMORY | BASALT_RIGHT_LIFE, c) > 0);
    engage(d, c);
    check_all((struct domain *[]){a, c, d}, 3);
    u64 page = pool_hpa(d->servers[0].page).v;
    assert_true(ept_walk(&c->ept, GPA(page)).present);
    revoke(h);
    check_all((struct domain *[]){a, c, d}, 3);
    assert_false(ept_walk(&c->ept, GPA(page)).present);
    assert_int_equal(d->claim_count, 0);
    assert_null(d->end_watcher.domain);
    assert_int_equal(d->info.memory_bytes, charged);
    engage(d, a); // someone else takes over
    check_all((struct domain *[]){a, c, d}, 3);
    host_destroy(a);
    check_all((struct domain *[]){c, d}, 2);
    host_destroy(d);
    host_destroy(c);
    host_assert_same(empty);
}

// A holder with two handles loses one of them: it is still who it was.
static void test_one_of_two_handles(void **state unused) {
    struct domain *a = server_domain(), *c = server_domain(), *d = host_domain(4 * MIB);
    struct handle *h = handle_create(a, d, ALL);

    assert_non_null(handle_create(c, d, ALL));
    assert_true(handle_delegate(h, IO, c) > 0);
    engage(d, c);
    revoke(h);
    assert_ptr_equal(d->servers[0].domain, c);
    assert_int_equal(d->claim_count, 2);
    host_destroy(c);
    host_destroy(d);
    host_destroy(a);
    host_assert_same(empty);
}

// A domain that was given rights over itself loses them like any other.
static void test_rights_over_oneself(void **state unused) {
    struct domain *a = server_domain(), *d = server_domain();
    struct handle *h = handle_create(a, d, ALL);

    i64 index = handle_delegate(h, IO, d);
    assert_true(index > 0);
    engage(d, d);
    assert_ptr_equal(d->servers[0].domain, d);
    revoke(h);
    assert_null(handle_find(d, (u32)index));
    assert_null(d->servers[0].domain);
    assert_int_equal(d->claim_count, 0);
    host_destroy(d);
    host_destroy(a);
    host_assert_same(empty);
}

static void test_random(void **state unused) {
    struct domain *all[DOMAINS] = {0};

    for (unsigned n = 0; n < 4000; n++) {
        struct domain **slot = &all[host_random() % DOMAINS], *other = all[host_random() % DOMAINS];
        struct handle *h = NULL;
        if (!*slot) {
            *slot = server_domain();
            continue;
        }
        if (host_random() % 8 == 0)
            host_fail_at = 1 + host_random() % 4;
        h = handle_find(*slot, (u32)(host_random() % 8));
        switch (host_random() % 8) {
        case 0:
        case 1:
            if (other && other != *slot)
                (void)handle_create(*slot, other, ALL);
            break;
        case 2:
        case 3:
        case 4:
            if (h && other && h->rights & BASALT_RIGHT_DELEGATE)
                (void)handle_delegate(h, 1u << (host_random() % 5), other);
            break;
        case 5:
            if (other && holds(other, *slot))
                engage(*slot, other);
            break;
        case 6:
            if (h)
                revoke(h);
            break;
        default:
            if (host_random() % 5 == 0) {
                host_fail_at = 0;
                host_destroy(*slot);
                *slot = NULL;
            }
        }
        host_fail_at = 0;
        check_all(all, DOMAINS);
    }
    for (unsigned i = 0; i < DOMAINS; i++)
        if (all[i])
            host_destroy(all[i]);
    host_assert_same(empty);
}

#define TEST(name) cmocka_unit_test_setup(name, begin)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_find_and_next),
        TEST(test_a_full_table),
        TEST(test_delegation),
        TEST(test_no_handle_for_a_dying_holder),
        TEST(test_nothing_stays_of_a_revoked_holder),
        TEST(test_one_of_two_handles),
        TEST(test_rights_over_oneself),
        TEST(test_random),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
