// SPDX-License-Identifier: Apache-2.0
//
// The timer heap against an array: random arming, moving, cancelling and expiring, with callbacks that arm again; order,
// the limit per run, and the heap's own pointers.
// sources: kernel/timer.c

#include "kernel/timer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#define TIMERS 300u

static struct timer_queue queue;
static struct timer timers[TIMERS];
static u64 model[TIMERS]; // deadline, ~0: off
static u64 now, last_expired;
static unsigned expired;

static u64 random64(void) { return (u64)rand() << 40 ^ (u64)rand() << 20 ^ (u64)rand(); }

static unsigned check_heap(const struct timer *t, const struct timer *parent) {
    if (!t)
        return 0;
    assert_ptr_equal(t->parent, parent);
    assert_true(t->armed);
    assert_true(!parent || parent->deadline <= t->deadline);
    assert_true(model[t - timers] == t->deadline);
    return 1 + check_heap(t->left, t) + check_heap(t->right, t);
}

static void check(void) {
    unsigned armed = 0;
    u64 first = ~0ull;

    for (unsigned i = 0; i < TIMERS; i++) {
        armed += model[i] != ~0ull;
        first = model[i] < first ? model[i] : first;
        assert_int_equal(timers[i].armed, model[i] != ~0ull);
    }
    assert_true(timer_next(&queue) == first);
    assert_int_equal(check_heap(queue.first, NULL), armed);
}

static void arm(unsigned i, u64 deadline) {
    model[i] = deadline;
    timer_arm(&queue, &timers[i], deadline);
}

static void on_expiry(struct timer *t) {
    unsigned i = (unsigned)(t - timers);

    assert_false(t->armed);
    assert_true(model[i] <= now);
    for (unsigned k = 0; k < TIMERS; k++)
        assert_true(model[k] == ~0ull || model[k] >= model[i]); // the earliest first
    last_expired = model[i];
    model[i] = ~0ull;
    expired++;
    if (rand() % 3 == 0)
        arm(i, now + 1 + random64() % 500);
    if (rand() % 8 == 0) { // and another one, that may be due at once
        unsigned other = (unsigned)rand() % TIMERS;
        arm(other, now - 5 + random64() % 10);
    }
    if (rand() % 8 == 0) {
        unsigned other = (unsigned)rand() % TIMERS;
        model[other] = ~0ull;
        timer_cancel(&queue, &timers[other]);
    }
}

static void test_against_a_model(void **state) {
    (void)state;
    unsigned seed = (unsigned)time(NULL);

    print_message("seed %u\n", seed);
    srand(seed);
    now = 1000;
    for (unsigned i = 0; i < TIMERS; i++) {
        model[i] = ~0ull;
        timers[i].expire = on_expiry;
    }
    check();
    for (unsigned n = 0; n < 40000; n++) {
        unsigned i = (unsigned)rand() % TIMERS, limit = (unsigned)rand() % 10;
        switch (rand() % 8) {
        case 0:
        case 1:
        case 2: arm(i, now + random64() % 1000); break;
        case 3: arm(i, rand() % 2 ? 0 : ~0ull - 1); break;
        case 4:
        case 5:
            model[i] = ~0ull;
            timer_cancel(&queue, &timers[i]);
            break;
        default:
            now += random64() % 50;
            expired = 0;
            timer_run(&queue, now, limit);
            assert_true(expired <= limit);
            if (expired < limit)
                assert_true(timer_next(&queue) > now);
        }
        if (n % 16 == 0)
            check();
    }
    check();
}

// Ascending, descending and equal deadlines are what unbalanced heaps suffer from.
static void quiet(struct timer *t) {
    assert_true(t->deadline >= last_expired);
    last_expired = t->deadline;
    expired++;
}

static void test_patterns(void **state) {
    (void)state;
    for (unsigned pattern = 0; pattern < 4; pattern++) {
        queue.first = NULL;
        for (unsigned i = 0; i < TIMERS; i++) {
            timers[i] = (struct timer){.expire = quiet};
            timer_arm(&queue, &timers[i],
                      pattern == 0   ? i
                      : pattern == 1 ? TIMERS - i
                      : pattern == 2 ? 7
                                     : i % 2 * 1000 + i);
        }
        expired = 0;
        last_expired = 0;
        timer_run(&queue, ~0ull, TIMERS / 2);
        assert_int_equal(expired, TIMERS / 2);
        timer_run(&queue, ~0ull, ~0u);
        assert_int_equal(expired, TIMERS);
        assert_true(timer_next(&queue) == ~0ull);
        timer_run(&queue, ~0ull, ~0u); // nothing left
        timer_cancel(&queue, &timers[0]);
        assert_null(queue.first);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_against_a_model),
                                       cmocka_unit_test(test_patterns)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
