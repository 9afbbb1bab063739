// SPDX-License-Identifier: Apache-2.0
//
// The scheduler's loop with guests that compute, sleep on their local APIC's timer, or yield, on a clock that only moves
// when a guest runs or the CPU sleeps: shares, caps, latency of wake-ups, and that every tick is accounted for.
// sources: tests/unit/host_machine.c tests/unit/host_kernel.c
// sources: kernel/domain.c kernel/memory.c kernel/handle.c kernel/event.c kernel/request.c kernel/share.c
// sources: kernel/interrupt.c kernel/hypercall.c kernel/policy.c kernel/timer.c kernel/schedule.c kernel/trace.c kernel/frames.c
// sources: kernel/console.c ept/ept.c ept/format.c guest/vcpu.c guest/interrupt.c guest/walk.c guest/emulate.c
// sources: guest/run.c guest/decode.c guest/event.c
// sources: guest/cpuid.c guest/msr.c guest/cr.c guest/vlapic.c guest/vlapic_register.c
// sources: guest/vlapic_timer.c guest/control.c
// libs: -Wl,--wrap=frame_alloc -Wl,--wrap=frame_alloc_chunk -Wl,--wrap=frame_kernel_alloc

#include "tests/unit/host_machine.h"

#include <basalt/error.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MS     2000000ull // TSC ticks
#define US     2000ull
#define GUESTS 12u

enum behaviour { HOG, SLEEPER, YIELDER };

static struct host_account empty;
static struct guest {
    struct domain *d;
    struct vcpu *v;
    enum behaviour behaviour;
    u64 ran, work, period, due, latency, wakes;
} guests[GUESTS];
static unsigned count;
static u64 end_of_time, started, switches;
static struct vcpu *last;
static jmp_buf done;

static int setup(void **state unused) {
    host_seed();
    host_machine_init();
    host_log_quiet = true;
    return 0;
}

static int begin(void **state unused) {
    host_tsc = started = 1000 * MS;
    empty = host_account();
    memset(guests, 0, sizeof(guests));
    count = 0;
    last = NULL;
    switches = 0;
    host_idle_tsc = 0;
    return 0;
}

static int end(void **state unused) {
    this_queue()->current = NULL;
    for (unsigned i = 0; i < count; i++)
        if (guests[i].d)
            host_destroy(guests[i].d);
    assert_null(this_queue()->loaded);
    assert_false(sched_waiting(&this_queue()->queue));
    assert_null(this_queue()->timers.first);
    host_tsc = 0;
    host_assert_same(empty);
    return 0;
}

static struct guest *add(enum behaviour behaviour, u32 weight, u32 cap) {
    struct guest *g = &guests[count++];

    assert_int_equal(domain_create(256 * KIB, &g->d), 0);
    domain_schedule(g->d, weight, cap);
    assert_int_equal(memory_populate(g->d, GPA(0), 1, 0), 1);
    assert_int_equal(vcpu_create(g->d, 0), 0);
    g->v = g->d->vcpus[0];
    g->behaviour = behaviour;
    g->work = 50 * US;
    g->period = 10 * MS;
    host_set_mode(g->v, MODE_32);
    g->v->cpu.rflags = 2 | BIT(9);
    *vlapic_reg(&g->v->lapic, LAPIC_SVR) = 0x1ff;
    *vlapic_reg(&g->v->lapic, LAPIC_LVT_TIMER) = LVT_TIMER_DEADLINE | 0x50; // TSC deadline
    vcpu_unblock(g->v, BLOCK_NEW);
    assert_int_equal(domain_control(g->d, BASALT_OP_RESUME), 0);
    return g;
}

static struct guest *guest_of(const struct cpu_state *c) {
    for (unsigned i = 0; i < count; i++)
        if (guests[i].v && &guests[i].v->cpu == c)
            return &guests[i];
    abort();
}

static void spend(struct guest *g, u64 ticks) {
    host_tsc += ticks;
    g->ran += ticks;
}

// Sleeps until the next multiple of its period.
static struct exit sleep_of(struct guest *g) {
    g->due = (host_tsc / g->period + 1) * g->period;
    struct vlapic_effect effect =
        vlapic_set_tsc_deadline(&g->v->lapic, g->due + g->v->cpu.tsc_offset);
    vcpu_apic_effect(g->v, &effect);
    return (struct exit){.kind = BASALT_EXIT_HLT, .insn_length = 1};
}

static struct exit play(struct cpu_state *c) {
    struct guest *g = guest_of(c);

    if (host_tsc >= end_of_time)
        longjmp(done, 1);
    switches += last != g->v;
    last = g->v;
    if (c->queued.valid && c->queued.vector == 0x50) { // the timer it slept for
        struct vlapic_effect eoi;
        g->wakes++;
        g->latency = MAX(g->latency, host_tsc - g->due);
        vlapic_ack(&g->v->lapic, 0x50);
        eoi = vlapic_eoi(&g->v->lapic);
        vcpu_apic_effect(g->v, &eoi);
    }
    c->queued.valid = false;
    u64 left = host_timer - host_tsc;
    if (g->behaviour == SLEEPER) {
        spend(g, g->work);
        return sleep_of(g);
    }
    if (g->behaviour == YIELDER) {
        spend(g, MIN(left, 20 * US));
        return (struct exit){.kind = BASALT_EXIT_PAUSE, .insn_length = 2};
    }
    u64 chunk = 1 + host_random() % (3 * MS);
    spend(g, MIN(left, chunk) + 1);
    return (struct exit){.kind = left <= chunk ? BASALT_EXIT_PREEMPTION : BASALT_EXIT_WBINVD,
                         .insn_length = 2};
}

static void run_for(u64 ticks) {
    end_of_time = host_tsc + ticks;
    host_run = play;
    if (!setjmp(done))
        schedule_loop();
    struct vcpu *v = this_queue()->current; // whose turn the test broke off
    this_queue()->current = NULL;
    if (v && !v->blocked)
        sched_wake(&this_queue()->queue, &v->sched);
    host_run = NULL;
}

static double share(const struct guest *g) { return (double)g->ran / (double)(host_tsc - started); }

static void near(double got, double want, double tolerance) {
    if (got < want * (1 - tolerance) || got > want * (1 + tolerance))
        fail_msg("%.4f where %.4f is due", got, want);
}

static void test_shares(void **state unused) {
    static const u32 weights[] = {256, 512, 100, 1024, 32, 1};
    double sum = 0;
    u64 accounted = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(weights); i++)
        sum += add(HOG, weights[i], 0)->v->sched.weight;
    run_for(400000 * MS);
    for (unsigned i = 0; i < ARRAY_SIZE(weights); i++) {
        near(share(&guests[i]), weights[i] / sum, weights[i] < 32 ? 0.1 : 0.02);
        accounted += guests[i].v->stats.run_tsc;
    }
    assert_true(host_idle_tsc == 0);
    assert_true(host_tsc - started - accounted <
                10 * MS); // but for the turn that the test broke off
    print_message("%llu switches in %llu s\n", (unsigned long long)switches,
                  (unsigned long long)(400000 / 1000));
    assert_true(switches < 400000); // about one per slice, not per exit
}

// Alone there is nobody to switch to, and no timer to stop for.
static void test_alone(void **state unused) {
    add(HOG, 256, 0);
    run_for(10000 * MS);
    assert_int_equal(switches, 1);
    near(share(&guests[0]), 1, 0.001);
    assert_true(this_queue()->slice_end == ~0ull);
}

static void test_wake_up_latency(void **state unused) {
    struct guest *s = add(SLEEPER, 256, 0);

    for (unsigned i = 0; i < 5; i++)
        add(HOG, 256, 0);
    run_for(100 * MS); // in the beginning all are equals
    s->latency = 0;
    run_for(19900 * MS);
    print_message("%llu wake-ups, the latest after %llu us\n", (unsigned long long)s->wakes,
                  (unsigned long long)(s->latency / US));
    assert_true(s->wakes > 1900);
    assert_true(s->latency < 200 * US);
    near(share(s), 0.005, 0.05); // all that it asked for
}

static void test_many_sleepers(void **state unused) {
    u64 idle, ran = 0;

    for (unsigned i = 0; i < 10; i++) {
        struct guest *g = add(SLEEPER, 256, 0);
        g->period = (7 + i) * MS;
        g->work = 200 * US;
    }
    run_for(20000 * MS);
    for (unsigned i = 0; i < 10; i++) {
        assert_true(guests[i].latency < 4 * MS);
        near((double)guests[i].wakes, 20000.0 / (7 + i), 0.02);
        ran += guests[i].ran;
    }
    idle = host_idle_tsc;
    near((double)(idle + ran), (double)(host_tsc - started), 0.001); // every tick is someone's
}

static void test_caps(void **state unused) {
    struct guest *a = add(HOG, 1000, 25), *b = add(HOG, 100, 0), *c = add(HOG, 256, 10);

    run_for(50000 * MS);
    print_message("caps 25 and 10: %.2f %%, %.2f %%\n", 100 * share(a), 100 * share(c));
    // What a turn takes too much at the end of a period of 100 ms is not made up for.
    assert_true(share(a) > 0.24 && share(a) < 0.25 + 0.04);
    assert_true(share(c) > 0.095 && share(c) < 0.10 + 0.04);
    assert_true(share(a) + share(b) + share(c) > 0.999);
}

// With nobody else, a capped one leaves the CPU idle, and goes on in its next period.
static void test_cap_alone(void **state unused) {
    struct guest *a = add(HOG, 256, 30);

    run_for(20000 * MS);
    print_message("share %.4f\n", share(a));
    assert_true(share(a) > 0.29 && share(a) < 0.30 + 0.04);
    near((double)host_idle_tsc, (1 - share(a)) * (double)(host_tsc - started), 0.01);
}

static void test_yielding(void **state unused) {
    struct guest *y = add(YIELDER, 256, 0), *h = add(HOG, 256, 0);

    run_for(5000 * MS);
    assert_true(h->ran > 0 && y->ran > 0);
    assert_true(share(h) > 0.49); // who yields loses nothing to speak of, and takes nothing
}

// A domain that pauses, resumes, ends and is destroyed while others run.
static void test_comings_and_goings(void **state unused) {
    for (unsigned i = 0; i < 6; i++)
        add(i % 2 ? SLEEPER : HOG, 256, i == 4 ? 20 : 0);
    for (unsigned n = 0; n < 2000; n++) {
        struct guest *g = &guests[1 + host_random() % 5];
        run_for(1 + host_random() % (20 * MS));
        if (!g->d)
            continue;
        switch (host_random() % 4) {
        case 0: (void)domain_control(g->d, BASALT_OP_PAUSE); break;
        case 1:
        case 2: (void)domain_control(g->d, BASALT_OP_RESUME); break;
        default:
            if (n > 1000 && host_random() % 64 == 0) {
                host_destroy(g->d);
                g->d = NULL;
                g->v = NULL;
            }
        }
        for (unsigned i = 1; i < 6; i++)
            if (guests[i].d && guests[i].d->info.status == BASALT_STATUS_PAUSED)
                assert_false(guests[i].v->sched.queued);
    }
    u64 before = guests[0].ran;
    run_for(100 * MS);
    assert_true(guests[0].ran > before);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(int argc, char **argv) {
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        TEST(test_shares),
        TEST(test_alone),
        TEST(test_wake_up_latency),
        TEST(test_many_sleepers),
        TEST(test_caps),
        TEST(test_cap_alone),
        TEST(test_yielding),
        TEST(test_comings_and_goings),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
