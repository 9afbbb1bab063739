// SPDX-License-Identifier: Apache-2.0
//
// The scheduling policy in a simulator: shares follow weights, caps hold, a sleeper wakes up soon and gains nothing else by
// it, nobody starves among a thousand, and each operation touches no more than its entity and two neighbours.
// sources: kernel/policy.c

#include "kernel/policy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define KHZ  2000000u // 2 GHz
#define MS   ((u64)KHZ)
#define MANY 1000u

static struct sched_queue queue;
static struct sched_entity entities[MANY];
static u64 ran[MANY], last_run[MANY], blocked_until[MANY], now;

// An entity that ran goes back into the queue when the next one is picked.
static struct sched_entity *running;

static void put_back(struct sched_entity *e) { running = e; }

static struct sched_entity *pick(void) {
    struct sched_entity *before = running;

    running = NULL;
    return sched_next(&queue, before);
}

static int begin(void **state) {
    (void)state;
    sched_init(&queue, KHZ);
    memset(entities, 0, sizeof(entities));
    memset(ran, 0, sizeof(ran));
    memset(last_run, 0, sizeof(last_run));
    memset(blocked_until, 0, sizeof(blocked_until));
    now = 5 * MS;
    running = NULL;
    return 0;
}

static void add(unsigned i, u32 weight) {
    entities[i].weight = weight;
    sched_wake(&queue, &entities[i]);
}

static unsigned index_of(const struct sched_entity *e) { return (unsigned)(e - entities); }

// One entity runs for its slice, but not longer than `most`.
static unsigned turn(u64 most) {
    struct sched_entity *e = pick();

    assert_non_null(e);
    unsigned i = index_of(e);
    u64 ticks = MIN(sched_slice(&queue, e), most);
    now += ticks;
    ran[i] += ticks;
    last_run[i] = now;
    assert_int_equal(sched_charge(&queue, e, ticks, now), 0);
    put_back(e);
    return i;
}

static double run_and_measure(unsigned count, u64 duration, bool random_slices) {
    u64 end = now + duration, total = 0, weights = 0;
    double worst = 0;

    while (now < end)
        turn(random_slices ? 1 + (u64)rand() % queue.slice : ~0ull);
    for (unsigned i = 0; i < count; i++) {
        total += ran[i];
        weights += entities[i].weight;
    }
    for (unsigned i = 0; i < count; i++) {
        double share = (double)ran[i] / (double)total,
               due = (double)entities[i].weight / (double)weights;
        double error = share > due ? share / due - 1 : 1 - share / due;
        worst = error > worst ? error : worst;
    }
    return worst;
}

static void test_proportional_share(void **state) {
    static const u32 sets[][6] = {
        {256, 256},
        {256, 512},
        {100, 200, 300, 400},
        {64, 1024},
        {256, 256, 256, 256, 256, 32},
        {16, 256, 4096},
        {10000, 10000},
        {1, 1, 1},
        {10000, 256, 256},
    };

    for (unsigned n = 0; n < ARRAY_SIZE(sets); n++)
        for (unsigned random_slices = 0; random_slices < 2; random_slices++) {
            unsigned count = 0;
            begin(state);
            for (; count < 6 && sets[n][count]; count++)
                add(count, sets[n][count]);
            double worst = run_and_measure(count, 400000 * MS, random_slices);
            print_message("set %u: worst error %.2f %%\n", n, 100 * worst);
            assert_true(worst < 0.02);
        }
}

static void test_light_weights(void **state) {
    static const u32 sets[][3] = {{1000, 1000, 10}, {256, 256, 8}, {10000, 100, 1}};

    for (unsigned n = 0; n < 2 * ARRAY_SIZE(sets); n++) {
        begin(state);
        for (unsigned i = 0; i < 3; i++)
            add(i, sets[n / 2][i]);
        double worst = run_and_measure(3, 4000000 * MS, n % 2);
        print_message("light set %u: worst error %.2f %%\n", n, 100 * worst);
        assert_true(worst < 0.02);
    }
}

static void test_share_of_many(void **state) {
    (void)state;
    for (unsigned i = 0; i < 50; i++)
        add(i, 32 + (u32)rand() % 2000);
    double worst = run_and_measure(50, 1000000 * MS, true);
    print_message("50 entities: worst error %.2f %%\n", 100 * worst);
    assert_true(worst < 0.02);
}

// The extremes of the ABI: the light one may be imprecise, but gets neither nothing nor much.
static void test_extreme_weights(void **state) {
    (void)state;
    add(0, 1);
    add(1, SCHED_WEIGHT_MAX);
    for (u64 end = now + 4000000 * MS; now < end;)
        turn(~0ull);
    double share = (double)ran[0] / (double)(ran[0] + ran[1]);
    print_message("weight 1 against 10000: 1/%.0f\n", 1 / share);
    assert_true(ran[0] > 0);
    assert_true(share < 0.002);
}

static void test_nobody_starves(void **state) {
    (void)state;
    u64 worst = 0, weights = 0;

    for (unsigned i = 0; i < MANY; i++) {
        add(i, 128 + (u32)rand() % 512);
        weights += entities[i].weight;
    }
    for (unsigned n = 0; n < 100 * MANY; n++) {
        unsigned i = turn(~0ull);
        (void)i;
        if (n % MANY == 0 && n >= 10 * MANY)
            for (unsigned k = 0; k < MANY; k++)
                worst = MAX(worst, now - last_run[k]);
    }
    // After its slice the lightest is two slices of virtual time ahead, and waits at most one slot longer; meanwhile
    // each of the others gets what that is by its weight, and no more than finishes its slice besides.
    u64 ahead = queue.slice * SCHED_WEIGHT_DEFAULT / 128 + BIT(queue.slot_shift);
    print_message("longest wait %llu slices\n", (unsigned long long)(worst / queue.slice));
    assert_true(worst <= ahead * weights / SCHED_WEIGHT_DEFAULT + MANY * queue.slice);
}

// Those that come and go all the time don't keep one that always wants to run from running.
static void test_sleepers_do_not_starve_a_worker(void **state) {
    (void)state;
    u64 longest = 0, since = now;

    add(0, 256);
    for (unsigned i = 1; i < 20; i++)
        entities[i].weight = 256;
    for (unsigned n = 0; n < 200000; n++) {
        for (unsigned i = 1; i < 20; i++)
            if (!entities[i].queued && rand() % 4 == 0)
                sched_wake(&queue, &entities[i]);
        struct sched_entity *e = pick();
        u64 ticks = e == &entities[0] ? queue.slice : MS / 4;
        now += ticks;
        ran[index_of(e)] += ticks;
        (void)!sched_charge(&queue, e, ticks, now);
        if (e == &entities[0]) {
            longest = MAX(longest, now - ticks - since);
            since = now;
            put_back(e);
        }
    }
    u64 total = 0;
    for (unsigned i = 0; i < 20; i++)
        total += ran[i];
    print_message("the worker: %.1f %%, longest wait %llu ms\n",
                  100.0 * (double)ran[0] / (double)total, (unsigned long long)(longest / MS));
    assert_true((double)ran[0] > (double)total / 20 * 0.98); // no less than its share
    assert_true(longest < 200 * MS);
}

// A sleeper preempts, but only by its bonus: three slots of virtual time and a slice.
static void test_wake_bonus_is_bounded(void **state) {
    (void)state;
    u64 slot = BIT(queue.slot_shift);

    add(0, 256);
    entities[1].weight = 256;
    for (unsigned n = 0; n < 100000; n++)
        turn(~0ull); // the other one sleeps for 400 s
    struct sched_entity *current = pick();
    assert_ptr_equal(current, &entities[0]);
    sched_wake(&queue, &entities[1]);
    assert_true(sched_preempts(&queue, current));
    (void)!sched_charge(&queue, current, 1000, now);
    put_back(current);
    u64 before = 0;
    while (turn(MS / 8) == 1)
        before += MS / 8;
    print_message("after 400 s of sleep it runs %llu us alone\n",
                  (unsigned long long)(before * 1000 / MS));
    assert_true(before > 0 && before <= 6 * slot);
}

// Sleeping whenever it would have to wait gives nobody more than its share.
static void test_gaming_by_sleep(void **state) {
    (void)state;
    u64 wake_at = 0;

    add(0, 256);
    add(1, 256);
    for (u64 end = now + 200000 * MS; now < end;) {
        struct sched_entity *e = pick();
        u64 ticks = e == &entities[1] ? MS / 2 : MS;
        now += ticks;
        ran[index_of(e)] += ticks;
        (void)!sched_charge(&queue, e, ticks, now);
        if (e == &entities[1])
            wake_at = now + MS / 16;
        else
            put_back(e);
        if (!entities[1].queued && now >= wake_at)
            sched_wake(&queue, &entities[1]);
    }
    double share = (double)ran[1] / (double)(ran[0] + ran[1]);
    print_message("the gamer: %.1f %%\n", 100 * share);
    assert_true(share < 0.51);
}

static void test_caps(void **state) {
    static const u32 caps[] = {1, 10, 30, 50, 99, 100};

    for (unsigned c = 0; c < ARRAY_SIZE(caps); c++)
        for (unsigned others = 0; others < 2; others++) {
            begin(state);
            entities[0].cap = caps[c];
            add(0, 256);
            for (unsigned i = 1; i <= others; i++)
                add(i, 16);
            u64 start = now, end = now + 100000 * MS;
            while (now < end) {
                if (blocked_until[0] && now >= blocked_until[0]) {
                    blocked_until[0] = 0;
                    sched_wake(&queue, &entities[0]);
                }
                struct sched_entity *e = pick();
                if (!e) {
                    now = blocked_until[0];
                    continue;
                }
                u64 ticks = MS / 4 + (u64)rand() % (MS / 4), until;
                now += ticks;
                ran[index_of(e)] += ticks;
                until = sched_charge(&queue, e, ticks, now);
                if (until) {
                    assert_ptr_equal(e, &entities[0]);
                    assert_true(until > now - ticks && until <= now + queue.cap_period);
                    blocked_until[0] = until;
                } else {
                    put_back(e);
                }
            }
            double share = 100 * (double)ran[0] / (double)(now - start), cap = caps[c];
            print_message("cap %u %%, %u others: %.2f %%\n", caps[c], others, share);
            assert_true(share <
                        cap * 1.02 + 0.5); // a part of a slice more in each period of 100 ms
            assert_true(others || share > cap * 0.98 - 0.5);
        }
}

// ---- The structure itself ----

static void check_queue(void) {
    unsigned count = 0;

    if (queue.lone) {
        assert_true(queue.lone->queued && !queue.bitmap);
        count = 1;
    }
    for (unsigned s = 0; s < SCHED_SLOTS; s++) {
        assert_int_equal(!list_empty(&queue.slots[s]), queue.bitmap >> s & 1);
        list_for_each (l, &queue.slots[s]) {
            const struct sched_entity *e = list_entry(l, struct sched_entity, link);
            assert_true(e->queued);
            assert_int_equal(e->slot, s);
            assert_ptr_equal(l->next->previous, l);
            assert_ptr_equal(l->previous->next, l);
            count++;
        }
    }
    for (unsigned i = 0; i < MANY; i++)
        count -= entities[i].queued;
    assert_int_equal(count, 0);
}

// How many entities an operation changed: itself and its neighbours, however many there are.
static struct sched_entity before[MANY];

static void check_touched(unsigned most) {
    unsigned changed = 0;

    for (unsigned i = 0; i < MANY; i++)
        changed += memcmp(&before[i], &entities[i], sizeof(before[i])) != 0;
    assert_true(changed <= most);
}

static void test_random_operations(void **state) {
    (void)state;
    u64 vtime = queue.vtime;

    for (unsigned i = 0; i < MANY; i++)
        entities[i].weight = 1 + (u32)rand() % SCHED_WEIGHT_MAX;
    for (unsigned n = 0; n < 30000; n++) {
        struct sched_entity *e = &entities[rand() % (int)MANY];
        memcpy(before, entities, sizeof(before));
        switch (rand() % 6) {
        case 0:
        case 1:
            if (e == running)
                break;
            sched_wake(&queue, e);
            assert_true(e->queued);
            check_touched(3);
            break;
        case 2:
            sched_remove(&queue, e);
            assert_false(e->queued);
            check_touched(3);
            break;
        default:;
            bool nobody = !sched_waiting(&queue) && !running;
            e = pick();
            assert_int_equal(e == NULL, nobody);
            if (!e)
                break;
            assert_false(e->queued);
            check_touched(6); // one goes in, one comes out
            memcpy(before, entities, sizeof(before));
            now += 1 + (u64)rand() % (8 * MS);
            (void)!sched_charge(&queue, e, 1 + (u64)rand() % (8 * MS), now);
            (void)sched_preempts(&queue, e);
            if (rand() % 3)
                put_back(e);
            check_touched(1);
        }
        assert_true(queue.vtime >= vtime); // never back
        vtime = queue.vtime;
        if (n % 64 == 0)
            check_queue();
    }
    check_queue();
}

// No order of picking leaves someone behind the window for ever: who was woken first among equals runs first.
static void test_equals_take_turns(void **state) {
    (void)state;
    for (unsigned i = 0; i < 10; i++)
        add(i, 256);
    for (unsigned n = 0; n < 1000; n++)
        assert_int_equal(turn(~0ull), n % 10);
}

static void test_clock_extremes(void **state) {
    (void)state;
    static const u64 rates[] = {1, 1000, 100000, 10000000, 0xffffffff};

    for (unsigned i = 0; i < ARRAY_SIZE(rates); i++) {
        begin(state);
        sched_init(&queue, rates[i]);
        add(0, 256);
        add(1, 512);
        for (unsigned n = 0; n < 3000; n++)
            turn(~0ull);
        assert_true(ran[1] > ran[0] * 19 / 10 && ran[1] < ran[0] * 21 / 10);
    }
}

#define TEST(name) cmocka_unit_test_setup(name, begin)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_proportional_share),
        TEST(test_light_weights),
        TEST(test_share_of_many),
        TEST(test_extreme_weights),
        TEST(test_nobody_starves),
        TEST(test_sleepers_do_not_starve_a_worker),
        TEST(test_wake_bonus_is_bounded),
        TEST(test_gaming_by_sleep),
        TEST(test_caps),
        TEST(test_random_operations),
        TEST(test_equals_take_turns),
        TEST(test_clock_extremes),
    };
    const char *given = getenv("SEED");
    unsigned seed = given ? (unsigned)strtoul(given, NULL, 0) : (unsigned)time(NULL);

    print_message("seed %u (SEED=... repeats)\n", seed);
    srand(seed);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
