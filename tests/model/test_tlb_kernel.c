// SPDX-License-Identifier: Apache-2.0
//
// What the kernel asks of a backend, against TLBs that forget nothing else: the real run loop, memory, shares, domains
// and processors, on the host's machine of the unit tests, with memory that is populated, released, lent and taken back,
// processors that get INIT, and domains that come and go and whose pages and tags are used again. Whatever a processor's
// tag reaches when it is entered must be what its domain's table says then.
// like: tests/unit/test_run.c

#include "tests/unit/host_machine.h"

#include "arch/paging.h"

#include <basalt/error.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { DOMAINS = 4, GUEST_PAGES = 1024 + 64, REMEMBERED = 4096 };

// One for each address that a processor's page, its tag, has ever used.
struct translation {
    const void *tag;
    u64 gpa, hpa;
    bool write, linear;
};

static struct backend model_backend;
static struct translation tlb[REMEMBERED];
static unsigned remembered, slots;
static struct domain *domains[DOMAINS];
static struct share *share;
static u64 shares[DOMAINS], uses;

static void forget(const void *tag, bool linear_only) {
    for (unsigned i = 0; i < remembered;)
        if (tlb[i].tag == tag && (!linear_only || tlb[i].linear))
            tlb[i] = tlb[--remembered];
        else
            i++;
}
static void flush_second_level(struct cpu_state *cpu) { forget(cpu->page, false); }
static void flush_linear(struct cpu_state *cpu) { forget(cpu->page, true); }

static struct domain *domain_of(const struct cpu_state *cpu) {
    return container_of(cpu, struct vcpu, cpu)->domain;
}

static void remember(const struct cpu_state *cpu, u64 gpa) {
    struct ept_leaf leaf = ept_walk(&domain_of(cpu)->ept, GPA(gpa));

    if (!leaf.present)
        return;
    unsigned at = remembered < REMEMBERED ? remembered++ : slots++ % REMEMBERED;
    tlb[at] = (struct translation){cpu->page, gpa, leaf.hpa.v + (gpa - leaf.gpa),
                                   leaf.flags & EPT_WRITE, host_random() & 1};
}

static void check(const struct cpu_state *cpu, const struct translation *t) {
    struct ept_leaf leaf = ept_walk(&domain_of(cpu)->ept, GPA(t->gpa));

    uses++;
    if (!leaf.present || leaf.hpa.v + (t->gpa - leaf.gpa) != t->hpa ||
        (t->write && !(leaf.flags & EPT_WRITE)))
        fail_msg("0x%llx still leads to frame 0x%llx", (unsigned long long)t->gpa,
                 (unsigned long long)t->hpa);
}

// The guest between entry and exit.
static struct exit enter(struct cpu_state *cpu) {
    for (unsigned i = 0; i < remembered; i++)
        if (tlb[i].tag == cpu->page)
            check(cpu, &tlb[i]);
    for (unsigned i = 0; i < 8; i++)
        remember(cpu, host_random() % GUEST_PAGES * PAGE_SIZE);
    cpu->queued.valid = false;
    schedule_yield();
    return (struct exit){.kind = BASALT_EXIT_SMI};
}

static void run(struct vcpu *v) {
    host_load(v);
    this_queue()->resched = false;
    this_queue()->slice_end = ~0ull;
    this_queue()->current = v;
    vcpu_run(v);
    this_queue()->current = NULL;
}

static struct domain *create(void) {
    struct domain *d = host_domain(12 * MIB);

    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(vcpu_create(d, i), 0);
        host_set_mode(d->vcpus[i], MODE_64);
        vcpu_unblock(d->vcpus[i], BLOCK_NEW | BLOCK_SIPI | BLOCK_PAUSED);
    }
    return d;
}

static void populate(struct domain *d) {
    u64 page = host_random() % GUEST_PAGES;

    if (host_random() & 1)
        page &= ~511ull;
    (void)memory_populate(d, GPA(page * PAGE_SIZE), host_random() & 1 ? 512 : 4,
                          host_random() & 1 ? BASALT_POPULATE_LAZY : 0);
}

static void release(struct domain *d) {
    u64 page = host_random() % GUEST_PAGES;

    (void)memory_release(d, GPA(page * PAGE_SIZE), host_random() & 7 ? 1 : 512);
}

// Domain i lends to the next; the pages appear behind the last page of its own memory or among them.
static void lend(unsigned i) {
    struct domain *from = domains[i], *to = domains[(i + 1) % DOMAINS];

    if (!shares[i]) {
        i64 id = share_grant(from, GPA(host_random() % 512 * PAGE_SIZE), 1 + host_random() % 8,
                             BASALT_SHARE_READ | (host_random() & 1 ? BASALT_SHARE_WRITE : 0), to,
                             from);
        shares[i] = id >= 0 ? (u64)id + 1 : 0;
        if ((share = share_find(from, shares[i] - 1, to)))
            (void)share_map(share, host_random() % GUEST_PAGES * PAGE_SIZE, &(u64){0});
        return;
    }
    unsigned budget = 1000;
    if ((share = share_find(from, shares[i] - 1, to)))
        (void)share_end(share, &budget);
    shares[i] = 0;
}

static void replace(unsigned i) {
    shares[i] = shares[(i + DOMAINS - 1) % DOMAINS] = 0;
    (void)domain_control(domains[i], BASALT_OP_END);
    host_destroy(domains[i]);
    domains[i] = create();
}

static void test_flushes(void **state unused) {
    host_seed();
    host_machine_init();
    host_log_quiet = true;
    model_backend = *backend;
    model_backend.flush_second_level = flush_second_level;
    model_backend.flush_linear = flush_linear;
    backend = &model_backend;
    host_run = enter;
    for (unsigned i = 0; i < DOMAINS; i++)
        domains[i] = create();
    for (unsigned step = 0; step < 40000; step++) {
        unsigned i = host_random() % DOMAINS;
        switch (host_random() % 32) {
        case 0:
        case 1:
        case 2:
        case 3: populate(domains[i]); break;
        case 4:
        case 5: release(domains[i]); break;
        case 6:
        case 7: lend(i); break;
        case 8:
            if (!(host_random() % 16))
                replace(i);
            break;
        default: run(domains[i]->vcpus[host_random() & 1]);
        }
    }
    print_message("%llu translations used\n", (unsigned long long)uses);
    assert_true(uses > 10000);
    for (unsigned i = 0; i < DOMAINS; i++)
        host_destroy(domains[i]);
}

// INIT switches paging off: what the guest's own tables said before must not translate any more.
static void test_init(void **state unused) {
    struct domain *d = create();
    struct vcpu *v = d->vcpus[1];

    assert_int_equal(memory_populate(d, GPA(0), 4, 0), 4);
    run(v);
    remembered = 0;
    tlb[remembered++] = (struct translation){v->cpu.page, 0, 0, false, true};
    vcpu_init_ipi(v);
    assert_int_equal(remembered, 0);
    host_destroy(d);
}

// So does a state that is set from outside, with other tables or none.
static void test_set_state(void **state unused) {
    struct domain *d = create();
    struct vcpu *v = d->vcpus[1];
    struct basalt_vcpu_state s;

    vcpu_get_state(v, &s);
    remembered = 0;
    tlb[remembered++] = (struct translation){v->cpu.page, 0, 0, false, true};
    s.cr3 = 0x1000;
    assert_int_equal(vcpu_set_state(v, &s), 0);
    assert_int_equal(remembered, 0);
    host_destroy(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_flushes), cmocka_unit_test(test_init),
                                       cmocka_unit_test(test_set_state)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
