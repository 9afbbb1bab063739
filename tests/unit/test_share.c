// SPDX-License-Identifier: Apache-2.0
//
// Shares: granting, mapping into identity-mapped and other domains, step by step, ending from either side at any point,
// destruction of either side in every order. A frame's references are its owner's and one for each share that maps it,
// always; checked over all frames, in a random run too.
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

#include <basalt/error.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define READ BASALT_SHARE_READ
#define BOTH (BASALT_SHARE_READ | BASALT_SHARE_WRITE)

static struct host_account empty;

static int setup(void **state unused) {
    host_seed();
    host_machine_init();
    return 0;
}

static int begin(void **state unused) {
    host_fail_at = 0;
    host_fail_rest = false;
    empty = host_account();
    return 0;
}

// A guest with a superpage at 0, 100 pages behind it, and a lazy superpage at 4 MiB.
static struct domain *guest(void) {
    struct domain *d = host_domain(16 * MIB);

    assert_int_equal(memory_populate(d, GPA(0), 512, 0), 512);
    assert_int_equal(memory_populate(d, GPA(0x200000), 64, 0), 64);
    assert_int_equal(memory_populate(d, GPA(0x240000), 36, 0), 36);
    assert_int_equal(memory_populate(d, GPA(0x400000), 512, BASALT_POPULATE_LAZY), 512);
    return d;
}

static struct domain *identity_domain(void) {
    struct domain *d = host_domain(4 * MIB);

    d->identity = true;
    return d;
}

static struct share *grant(struct domain *owner, u64 gpa, u64 pages, u64 permissions,
                           struct domain *grantee) {
    i64 id = share_grant(owner, GPA(gpa), pages, permissions, grantee, owner);

    assert_true(id >= 0);
    struct share *s = share_find(owner, (u64)id, grantee);
    assert_non_null(s);
    assert_ptr_equal(share_find(owner, (u64)id, owner), s);
    return s;
}

static hpa_t frame_at(const struct domain *d, u64 gpa) {
    struct ept_leaf leaf = ept_walk(&d->ept, GPA(gpa));

    assert_true(leaf.present);
    return HPA(leaf.hpa.v + (gpa - leaf.gpa));
}

static void map_all(struct share *s, u64 target) {
    u64 pages, before = s->mapped;

    do {
        i64 address = share_map(s, target, &pages);
        assert_true(address >= 0 && before + pages == s->mapped);
        for (u64 page = before; page < s->mapped; page++) { // it lies where it is said to
            hpa_t frame = frame_at(s->owner, s->gpa + page * PAGE_SIZE);
            assert_true(frame_at(s->grantee, (u64)address + (page - before) * PAGE_SIZE).v ==
                        frame.v);
        }
        before = s->mapped;
    } while (pages);
    assert_int_equal(s->mapped, s->pages);
}

// One step, which is refused.
static int map_error(struct share *s, u64 target) {
    u64 pages = 1, before = s->mapped;
    i64 error = share_map(s, target, &pages);

    assert_true(error < 0 && s->mapped == before);
    return (int)error;
}

// Steps as far as an error.
static int map_until_error(struct share *s, u64 target) {
    u64 pages;
    i64 result;

    while ((result = share_map(s, target, &pages)) >= 0)
        assert_true(pages);
    return (int)result;
}

static void end_all(struct share *s) {
    for (;;) {
        unsigned budget = 3;
        int error = share_end(s, &budget);
        assert_true(budget <= 3);
        if (!error)
            return;
        assert_int_equal(error, -BASALT_EINTR);
    }
}

// Every mapped page of the share, as its grantee sees it.
static void check_mapping(const struct share *s) {
    for (u64 page = 0; page < s->mapped; page++) {
        hpa_t frame = frame_at(s->owner, s->gpa + page * PAGE_SIZE);
        u64 target = s->target == BASALT_SHARE_IDENTITY ? frame.v : s->target + page * PAGE_SIZE;
        struct ept_leaf leaf = ept_walk(&s->grantee->ept, GPA(target));
        assert_true(leaf.present);
        assert_true(leaf.hpa.v + (target - leaf.gpa) == frame.v);
        assert_int_equal(leaf.flags, EPT_READ | EPT_FOREIGN |
                                         (s->permissions & BASALT_SHARE_WRITE ? EPT_WRITE : 0));
    }
}

static u8 expected[HOST_RAM / PAGE_SIZE];

// References of all frames against what the domains' tables and shares say.
static void check_references(struct domain *const *all, unsigned count) {
    memset(expected, 0, sizeof(expected));
    for (unsigned i = 0; i < count; i++) {
        if (!all[i])
            continue;
        for (u64 gpa = 0; gpa < 0x700000; gpa += PAGE_SIZE) {
            struct ept_leaf leaf = ept_walk(&all[i]->ept, GPA(gpa));
            if (leaf.present && !(leaf.flags & EPT_FOREIGN))
                expected[(leaf.hpa.v + (gpa - leaf.gpa)) / PAGE_SIZE]++;
        }
        for (unsigned k = 0; all[i]->share_page && k < SHARES_MAX; k++) {
            const struct share *s = &all[i]->share_page[k];
            if (!s->owner)
                continue;
            check_mapping(s);
            for (u64 page = 0; page < s->mapped; page++)
                expected[frame_at(s->owner, s->gpa + page * PAGE_SIZE).v / PAGE_SIZE]++;
        }
    }
    for (u64 pa = 0; pa < HOST_RAM; pa += PAGE_SIZE)
        for (unsigned i = 0; i < count; i++)
            if (all[i] && host_frame_owner(pa) == all[i]->owner)
                assert_int_equal(frame_references(HPA(pa)), expected[pa / PAGE_SIZE]);
}

// dom0 reaches a guest's memory by shares that it grants itself: the guest can't end them under it.
static void test_owner_ends_what_it_granted(void **state unused) {
    struct domain *owner = guest(), *dom0 = identity_domain();
    i64 own = share_grant(owner, GPA(0), 1, READ, dom0, owner);
    i64 reached = share_grant(owner, GPA(PAGE_SIZE), 1, READ, dom0, dom0);

    assert_true(own >= 0 && reached >= 0);
    assert_non_null(share_find(owner, (u64)own, owner));
    assert_null(share_find(owner, (u64)reached, owner));
    end_all(share_find(owner, (u64)reached, dom0));
    end_all(share_find(owner, (u64)own, owner));
}

// Who has the right to a domain's memory ends what it granted of it to a third; neither the domain nor another such one does.
static void test_granter_ends_what_it_granted(void **state unused) {
    struct domain *owner = guest(), *granter = host_domain(4 * MIB), *third = host_domain(4 * MIB),
                  *other = host_domain(4 * MIB);
    u64 id = (u64)share_grant(owner, GPA(0), 600, BOTH, third, granter);
    struct share *s = share_find(owner, id, granter);

    assert_non_null(s);
    assert_ptr_equal(share_find(owner, id, third), s);
    assert_null(share_find(owner, id, owner));
    assert_null(share_find(owner, id, other));
    map_all(s, 0x40000000);
    end_all(s);
    assert_null(share_find(owner, id, granter));
    assert_false(ept_walk(&third->ept, GPA(0x40000000)).present);
    // A domain that comes where the granter was has granted nothing.
    id = (u64)share_grant(owner, GPA(0), 1, READ, third, granter);
    host_destroy(granter);
    granter = host_domain(4 * MIB);
    assert_null(share_find(owner, id, granter));
    host_destroy(owner);
    host_destroy(granter);
    host_destroy(third);
    host_destroy(other);
    host_assert_same(empty);
}

static void test_grant_arguments(void **state unused) {
    struct domain *a = guest(), *b = guest(), *c = guest();

    assert_int_equal(share_grant(a, GPA(1), 1, READ, b, a), -BASALT_EINVAL);
    assert_int_equal(share_grant(a, GPA(0), 0, READ, b, a), -BASALT_EINVAL);
    assert_int_equal(share_grant(a, GPA(0), 1, 0, b, a), -BASALT_EINVAL);
    assert_int_equal(share_grant(a, GPA(0), 1, BASALT_SHARE_WRITE, b, a), -BASALT_EINVAL);
    assert_int_equal(share_grant(a, GPA(0), 1, 4 | READ, b, a), -BASALT_EINVAL);
    assert_int_equal(share_grant(a, GPA(0), 1, BIT(32) | READ, b, a), -BASALT_EINVAL);
    assert_int_equal(share_grant(a, GPA(0), 1, READ, a, a), -BASALT_EINVAL);
    assert_int_equal(share_grant(a, GPA(EPT_LIMIT), 1, READ, b, a), -BASALT_EINVAL);
    assert_int_equal(share_grant(a, GPA(EPT_LIMIT - PAGE_SIZE), 2, READ, b, a), -BASALT_EINVAL);
    assert_int_equal(share_grant(a, GPA(PAGE_SIZE), ~0ull, READ, b, a), -BASALT_EINVAL);
    assert_int_equal(share_grant(a, GPA(PAGE_SIZE), BIT(52), READ, b, a), -BASALT_EINVAL);
    i64 id = share_grant(a, GPA(0), 1, READ, b, a);
    assert_true(id >= 0);
    assert_null(share_find(a, (u64)id, c)); // neither owner nor grantee
    assert_null(share_find(b, (u64)id, b)); // not among that one's
    assert_null(share_find(a, (u64)id + 1, b));
    assert_null(share_find(a, (u64)id + SHARES_MAX, b));
    assert_null(share_find(a, (u64)id | 1ull << 32, b));
    assert_null(share_find(a, ~0ull, b));
    assert_int_equal(map_error(share_find(a, (u64)id, b), 1), -BASALT_EINVAL);
    assert_int_equal(map_error(share_find(a, (u64)id, b), EPT_LIMIT), -BASALT_EINVAL);
    assert_int_equal(map_error(share_find(a, (u64)id, b), BASALT_SHARE_IDENTITY), -BASALT_EINVAL);
    end_all(share_find(a, (u64)id, b));
    assert_null(share_find(a, (u64)id, b));
    // A target range that leaves the address space is refused when it is met, and nothing stays.
    struct share *s = grant(a, 0, 4, READ, b);
    assert_true(map_until_error(s, EPT_LIMIT - 2 * PAGE_SIZE) < 0);
    assert_int_equal(s->mapped, 2);
    end_all(s);
    check_references((struct domain *[]){a, b, c}, 3);
    // The page of shares is full at SHARES_MAX.
    unsigned count = 0;
    while (share_grant(a, GPA(0), 1, READ, b, a) >= 0)
        count++;
    assert_int_equal(count, SHARES_MAX);
    domain_end(a, BASALT_END_CONTROL, 0, 0);
    assert_true(share_grant(a, GPA(0), 1, READ, b, a) < 0);
    host_destroy(a);
    assert_true(list_empty(&b->grants));
    host_destroy(b);
    host_destroy(c);
    host_assert_same(empty);
}

static void test_identity_map(void **state unused) {
    struct domain *a = guest(), *dom0 = identity_domain();
    struct share *s = grant(a, 0x10000, 512 + 84, BOTH, dom0),
                 *small = grant(a, 0x1000, 3, READ, dom0);

    assert_int_equal(map_error(s, 0x1000),
                     -BASALT_EINVAL); // an identity-mapped domain takes no other map
    map_all(s, BASALT_SHARE_IDENTITY);
    map_all(small, BASALT_SHARE_IDENTITY);
    u64 more = 1;
    assert_int_equal(share_map(s, BASALT_SHARE_IDENTITY, &more), 0); // again: nothing left to do
    assert_int_equal(more, 0);
    check_references((struct domain *[]){a, dom0}, 2);
    // dom0 reads what the guest wrote, and writes where it may.
    u64 word = 0xdead, hpa = frame_at(a, 0x1008).v, got = 0;
    assert_int_equal(memory_write(a, GPA(0x1008), &word, 8), 0);
    assert_int_equal(memory_read(dom0, GPA(hpa), &got, 8), 0);
    assert_true(got == word);
    assert_int_equal(memory_write(dom0, GPA(hpa), &word, 8), -BASALT_EFAULT);
    assert_int_equal(
        memory_write(dom0, frame_at(a, 0x10000).v ? GPA(frame_at(a, 0x10000).v) : GPA(0), &word, 8),
        0);
    // What is shared stays.
    assert_int_equal(memory_release(a, GPA(0x1000), 1), -BASALT_EBUSY);
    assert_int_equal(memory_release(a, GPA(0x4000), 1), 1);
    assert_int_equal(memory_release(dom0, GPA(hpa & PAGE_MASK), 1),
                     -BASALT_ENOENT); // not dom0's to release
    // One page can't be mapped twice at its own address.
    struct share *twice = grant(a, 0x3000, 1, READ, dom0);
    assert_int_equal(map_error(twice, BASALT_SHARE_IDENTITY), -BASALT_EEXIST);
    end_all(twice);
    end_all(s);
    assert_int_equal(memory_release(a, GPA(0x1000), 1), -BASALT_EBUSY);
    end_all(small);
    assert_int_equal(memory_release(a, GPA(0x1000), 1), 1);
    check_references((struct domain *[]){a, dom0}, 2);
    host_destroy(a);
    host_destroy(dom0);
    host_assert_same(empty);
}

// A step maps what lies behind each other, and no more: the rest is the next one's.
static void test_steps(void **state unused) {
    struct domain *a = guest(), *dom0 = identity_domain();
    struct share *s = grant(a, 0x8000, 504 + 100, READ, dom0);
    u64 pages;

    while (s->mapped < s->pages) {
        u64 before = s->mapped;
        i64 address = share_map(s, BASALT_SHARE_IDENTITY, &pages);
        assert_true(address > 0 && pages && pages <= 32);
        for (u64 k = 0; k < pages; k++)
            assert_true(frame_at(a, s->gpa + (before + k) * PAGE_SIZE).v ==
                        (u64)address + k * PAGE_SIZE);
        if (s->mapped < s->pages && pages < 32)
            assert_true(frame_at(a, s->gpa + s->mapped * PAGE_SIZE).v !=
                        (u64)address + pages * PAGE_SIZE);
    }
    host_destroy(dom0);
    host_destroy(a);
    host_assert_same(empty);
}

static void test_map_at(void **state unused) {
    struct domain *a = guest(), *b = host_domain(4 * MIB);
    struct share *s = grant(a, 0, 520, BOTH, b);

    map_all(s, 0x40000000);
    assert_int_equal(ept_walk(&b->ept, GPA(0x40000000)).shift,
                     21); // a superpage stays one where it fits
    assert_int_equal(map_error(s, 0x50000000), -BASALT_EBUSY);
    check_references((struct domain *[]){a, b}, 2);
    struct share *t = grant(a, 0, 520, READ, b);
    map_all(t, 0x60001000); // where it does not
    assert_int_equal(ept_walk(&b->ept, GPA(0x60001000)).shift, 12);
    check_references((struct domain *[]){a, b}, 2);
    // What b got it can't pass on.
    struct domain *c = host_domain(4 * MIB);
    struct share *on = grant(b, 0x40000000, 1, READ, c);
    assert_int_equal(map_error(on, 0x1000), -BASALT_ENOENT);
    // Something is there already: what was mapped before it stays until the end.
    assert_int_equal(memory_populate(b, GPA(0x70002000), 1, 0), 1);
    struct share *over = grant(a, 0x10000, 4, READ, b);
    assert_int_equal(map_until_error(over, 0x70000000), -BASALT_EEXIST);
    assert_int_equal(over->mapped, 2);
    check_references((struct domain *[]){a, c}, 2);
    end_all(over);
    assert_true(ept_walk(&b->ept, GPA(0x70002000)).present);
    host_destroy(b);
    assert_true(list_empty(&c->grants));
    host_destroy(a);
    host_destroy(c);
    host_assert_same(empty);
}

static void test_holes_and_lazy_memory(void **state unused) {
    struct domain *a = guest(), *b = host_domain(4 * MIB);
    struct share *lazy = grant(a, 0x400000, 512, BOTH, b), *hole = grant(a, 0x262000, 4, READ, b);

    map_all(lazy, 0x80000000);
    assert_int_equal(map_until_error(hole, 0x1000), -BASALT_ENOENT);
    assert_int_equal(hole->mapped, 2);
    assert_int_equal(memory_populate(a, GPA(0x264000), 2, 0), 2);
    map_all(hole, 0x1000); // it is there now
    check_references((struct domain *[]){a, b}, 2);
    end_all(lazy);
    host_destroy(b);
    host_destroy(a);
    host_assert_same(empty);
}

// What a domain holds but can't touch: whoever has the right to its memory may share it, itself may not.
static void test_hidden_memory(void **state unused) {
    struct domain *a = guest(), *b = identity_domain(), *c = host_domain(4 * MIB);
    u64 at = 0x300000, pages, word = 0;

    assert_int_equal(memory_populate(a, GPA(at), 3, 3), -BASALT_EINVAL);
    assert_int_equal(memory_populate(a, GPA(0x1000), 1, BASALT_POPULATE_HIDDEN), -BASALT_EEXIST);
    assert_int_equal(a->info.hidden, 0);
    assert_int_equal(memory_populate(a, GPA(at), 3, BASALT_POPULATE_HIDDEN), 3);
    assert_int_equal(memory_populate(a, GPA(at), 3, 0), -BASALT_EEXIST);
    assert_int_equal(a->info.hidden, at);
    assert_int_equal(memory_read(a, GPA(at), &word, 8), -BASALT_EFAULT);
    assert_int_equal(memory_write(a, GPA(at), &word, 8), -BASALT_EFAULT);
    assert_int_equal(memory_release(a, GPA(at), 1), -BASALT_ENOENT);
    struct share *own = grant(a, at, 3, READ, c);
    assert_int_equal(map_until_error(own, 0x1000), -BASALT_ENOENT);
    assert_int_equal(own->mapped, 0);
    i64 id = share_grant(a, GPA(at), 3, BOTH, b, b);
    assert_true(id >= 0);
    struct share *s = share_find(a, (u64)id, b);
    i64 address = share_map(s, BASALT_SHARE_IDENTITY, &pages);
    assert_int_equal(address, frame_at(a, at).v);
    assert_int_equal(pages, 3);
    word = 0x1234;
    assert_int_equal(memory_write(b, GPA((u64)address), &word, 8), 0);
    check_references((struct domain *[]){a, b, c}, 3);
    end_all(s); // the contents stay for the next one
    s = share_find(a, (u64)share_grant(a, GPA(at), 3, BOTH, b, b), b);
    assert_int_equal(share_map(s, BASALT_SHARE_IDENTITY, &pages), address);
    assert_int_equal(memory_read(b, GPA((u64)address), &word, 8), 0);
    assert_int_equal(word, 0x1234);
    host_destroy(a);
    assert_false(ept_walk(&b->ept, GPA((u64)address)).present);
    host_destroy(b);
    host_destroy(c);
    host_assert_same(empty);
}

// Either side ends the share, or is destroyed, with nothing, a part or all of it mapped.
static void test_every_order(void **state unused) {
    for (unsigned variant = 0; variant < 3 * 2 * 6; variant++) {
        unsigned mapped = variant % 3, way = variant / 6;
        bool identity = variant / 3 & 1;
        struct domain *a = guest(), *b = identity ? identity_domain() : host_domain(4 * MIB);
        u64 target = identity ? BASALT_SHARE_IDENTITY : 0x10000000;
        struct share *s[3] = {grant(a, 0, 600, BOTH, b), NULL, NULL};

        s[1] = identity ? NULL : grant(a, 0x3000, 70, READ, b);
        s[2] = identity ? NULL : grant(a, 0x400000, 40, READ, b);
        for (unsigned i = 0; i < 3 && mapped; i++)
            if (s[i]) {
                u64 pages;
                assert_true(share_map(s[i], target + (identity ? 0 : i * 0x1000000), &pages) >= 0);
                if (mapped == 2)
                    map_all(s[i], target + (identity ? 0 : i * 0x1000000));
            }
        check_references((struct domain *[]){a, b}, 2);
        if (way == 2 || way == 3) {
            end_all(s[0]);
            check_references((struct domain *[]){a, b}, 2);
        }
        if (way == 4 || way == 5) { // an end that was begun and not finished
            unsigned budget = 1;
            (void)share_end(s[0], &budget);
            if (s[0]->owner)
                assert_int_equal(map_error(s[0], target), -BASALT_EBUSY);
        }
        host_destroy(way & 1 ? a : b);
        check_references((struct domain *[]){way & 1 ? b : a}, 1);
        assert_true(!(way & 1) || list_empty(&b->grants));
        host_destroy(way & 1 ? b : a);
        host_assert_same(empty);
    }
}

static void share_something(void) {
    struct domain *a = NULL, *b = NULL;
    i64 id = -1;

    (void)!domain_create(8 * MIB, &a);
    (void)!domain_create(8 * MIB, &b);
    if (a && b) {
        (void)memory_populate(a, GPA(0), 512, 0);
        (void)memory_populate(a, GPA(0x200000), 512, BASALT_POPULATE_LAZY);
        (void)memory_populate(a, GPA(0x400000), 10, 0);
        id = share_grant(a, GPA(0x1000), 1030, BOTH, b, a);
        if (id >= 0)
            for (u64 pages = 1;
                 pages && share_map(share_find(a, (u64)id, b), 0x40001000, &pages) >= 0;)
                ;
        (void)memory_release(a, GPA(0), 1);
        check_references((struct domain *[]){a, b}, 2);
    }
    if (b)
        host_destroy(b);
    if (a)
        host_destroy(a);
}

static void test_memory_runs_out(void **state unused) {
    for (unsigned rest = 0; rest < 2; rest++) {
        u64 needed = 0;
        for (u64 n = 0; n == 0 || n <= needed; n++) {
            host_allocations = 0;
            host_fail_at = n;
            host_fail_rest = rest;
            share_something();
            host_fail_at = 0;
            needed = n ? needed : host_allocations;
            host_assert_same(empty);
        }
        assert_true(needed > 12);
    }
}

static void random_step(struct domain **all, unsigned count) {
    unsigned i = (unsigned)(host_random() % count), k = (unsigned)(host_random() % count);
    struct domain *a = all[i], *b = all[k];
    unsigned budget = 1 + (unsigned)(host_random() % 64);

    if (!a) {
        all[i] = i == 0 ? identity_domain() : guest();
        return;
    }
    struct share *s = a->share_page ? &a->share_page[host_random() % 6] : NULL;
    switch (host_random() % 10) {
    case 0:
    case 1:
        if (b)
            (void)share_grant(a, GPA(host_random() % 0x600 * PAGE_SIZE), 1 + host_random() % 600,
                              BOTH, b, a);
        break;
    case 2:
    case 3:
    case 4:
    case 5: // asked for by the grantee, which therefore runs
        if (s && s->owner && s->grantee->info.status != BASALT_STATUS_ENDED)
            (void)share_map(s,
                            s->mapping             ? s->target
                            : s->grantee->identity ? BASALT_SHARE_IDENTITY
                                                   : GIB + (host_random() % 512) * 0x80000,
                            &(u64){0});
        break;
    case 6:
    case 7:
        if (s && s->owner)
            (void)share_end(s, &budget);
        break;
    case 8:
        if (i)
            (void)memory_release(a, GPA(host_random() % 0x600 * PAGE_SIZE),
                                 1 + host_random() % 512);
        break;
    default:
        if (host_random() % 6 == 0 && !domain_destroy(a))
            all[i] = NULL;
        else if (i && a->info.status != BASALT_STATUS_ENDED)
            (void)memory_populate(a, GPA(host_random() % 0x600 * PAGE_SIZE), 1 + host_random() % 20,
                                  0);
        else if (a->info.status == BASALT_STATUS_ENDED && !domain_destroy(a))
            all[i] = NULL;
    }
}

static void test_random(void **state unused) {
    struct domain *all[4] = {0};

    for (unsigned n = 0; n < 6000; n++) {
        host_fail_at = host_random() % 16 ? 0 : 1 + host_random() % 3;
        if (!all[0] || !all[1] || !all[2] || !all[3])
            host_fail_at = 0;
        random_step(all, 4);
        host_fail_at = 0;
        if (n % 8 == 0)
            check_references(all, 4);
    }
    for (unsigned i = 0; i < 4; i++)
        if (all[i])
            host_destroy(all[i]);
    host_assert_same(empty);
}

#define TEST(name) cmocka_unit_test_setup(name, begin)

// Whoever loses its last handle on a domain loses what it had of its memory, in steps, however it came to it.
static void test_revoked_handle(void **state unused) {
    struct domain *holder = host_domain(4 * MIB), *owner = guest(), *other = host_domain(4 * MIB),
                  *third = host_domain(4 * MIB);
    struct handle *h = handle_create(holder, owner, BASALT_RIGHTS_DOMAIN);
    i64 part = handle_delegate(h, BASALT_RIGHT_MEMORY, other),
        more = handle_delegate(h, BASALT_RIGHT_LIFE, other), steps = 0;
    struct share *own =
        share_find(owner, (u64)share_grant(owner, GPA(0), 512, BOTH, other, other), other);
    struct share *given = grant(owner, 0x200000, 64, READ, other),
                 *others = grant(owner, 0x200000, 64, READ, third);

    assert_true(part > 0 && more > 0);
    map_all(own, 0x40001000);
    map_all(given, 0x80000000);
    map_all(others, 0x80000000);
    unsigned budget = 100;
    while (handle_revoke(h, &budget) == -BASALT_EINTR) {
        assert_true(handle_find(other, (u64)more) || handle_find(other, (u64)part));
        assert_true(!own->owner || map_error(own, 0x40001000) == -BASALT_EBUSY);
        budget = 100;
        steps++;
    }
    assert_true(steps >= 5);
    assert_null(handle_find(other, (u64)part));
    assert_null(handle_find(other, (u64)more));
    assert_true(!own->owner && !given->owner);
    assert_int_equal(frame_references(frame_at(owner, 0)), 1);
    assert_int_equal(frame_references(frame_at(owner, 0x200000)), 2);
    assert_false(ept_walk(&other->ept, GPA(0x40001000)).present);
    assert_false(ept_walk(&other->ept, GPA(0x80000000)).present);
    assert_true(ept_walk(&third->ept, GPA(0x80000000)).present);
    host_destroy(third);
    host_destroy(other);
    host_destroy(owner);
    host_destroy(holder);
    host_assert_same(empty);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_revoked_handle),
        TEST(test_grant_arguments),
        TEST(test_owner_ends_what_it_granted),
        TEST(test_granter_ends_what_it_granted),
        TEST(test_identity_map),
        TEST(test_steps),
        TEST(test_map_at),
        TEST(test_holes_and_lazy_memory),
        TEST(test_hidden_memory),
        TEST(test_every_order),
        TEST(test_memory_runs_out),
        TEST(test_random),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
