// SPDX-License-Identifier: Apache-2.0
//
// The ASID allocator against a model of a TLB: no state ever runs with an ASID under which entries
// of another state, or entries from before a flush that it asked for, can be left.
//
// sources: svm/asid.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "svm/svm.h"

enum { STATES = 50, CPUS = 3, ASIDS = 16 };

static struct asid_pool pools[CPUS];
static struct cpu_state states[STATES];
static u64 version[STATES];  // of a state's mappings: counts its flushes
static u64 tlb[CPUS][ASIDS]; // whose entries an ASID's may be: state * 2^32 + version, 0: none

static void test_one_state_keeps_its_asid(void **state) {
    (void)state;
    struct asid_pool pool;
    struct cpu_state s = {0};

    asid_pool_init(&pool, 0, 8);
    assert_int_equal(asid_assign(&pool, &s), TLB_CONTROL_FLUSH_ALL); // what was there before us
    assert_int_equal(s.tag, 1);
    for (int i = 0; i < 100; i++)
        assert_int_equal(asid_assign(&pool, &s), TLB_CONTROL_NOTHING);
    assert_int_equal(s.tag, 1);
}

static void test_generation_ends(void **state) {
    (void)state;
    struct asid_pool pool;
    struct cpu_state s[9] = {0};

    asid_pool_init(&pool, 0, 8);
    for (unsigned i = 0; i < 7; i++) {
        u8 flush = asid_assign(&pool, &s[i]);
        assert_int_equal(flush, i == 0 ? TLB_CONTROL_FLUSH_ALL : TLB_CONTROL_NOTHING);
        assert_int_equal(s[i].tag, i + 1);
    }
    assert_int_equal(asid_assign(&pool, &s[7]), TLB_CONTROL_FLUSH_ALL);
    assert_int_equal(s[7].tag, 1);
    assert_int_equal(asid_assign(&pool, &s[0]), TLB_CONTROL_NOTHING); // its old one is void
    assert_int_equal(s[0].tag, 2);
}

static void test_smallest_and_largest(void **state) {
    (void)state;
    struct asid_pool pool;
    struct cpu_state a = {0}, b = {0};

    asid_pool_init(&pool, 0, 2); // one for guests: every switch flushes
    for (int i = 0; i < 5; i++) {
        assert_int_equal(asid_assign(&pool, &a), TLB_CONTROL_FLUSH_ALL);
        assert_int_equal(asid_assign(&pool, &b), TLB_CONTROL_FLUSH_ALL);
        assert_int_equal(a.tag, 1);
        assert_int_equal(b.tag, 1);
    }
    asid_pool_init(&pool, 0, 0xffffffff);
    for (u32 i = 0; i < 0x20000; i++) {
        a.tag = 0;
        u8 flush = asid_assign(&pool, &a);
        assert_int_equal(flush == TLB_CONTROL_FLUSH_ALL, a.tag == 1);
        assert_int_not_equal(a.tag, 0);
    }
}

static void test_pools_of_cpus_differ(void **state) {
    (void)state;
    struct asid_pool first, second;
    struct cpu_state a = {0}, b = {0};

    asid_pool_init(&first, 0, 8);
    asid_pool_init(&second, 1, 8);
    assert_int_equal(asid_assign(&first, &a), TLB_CONTROL_FLUSH_ALL);
    assert_int_equal(asid_assign(&second, &b), TLB_CONTROL_FLUSH_ALL);
    assert_int_equal(a.tag, b.tag);
    assert_int_not_equal(a.tag_generation, b.tag_generation);
    assert_int_equal(asid_assign(&second, &a), TLB_CONTROL_NOTHING); // moved
    assert_int_equal(a.tag, 2);
}

static void run(unsigned cpu, unsigned i) {
    u64 content = (u64)(i + 1) << 32 | version[i];

    if (asid_assign(&pools[cpu], &states[i]) == TLB_CONTROL_FLUSH_ALL)
        memset(tlb[cpu], 0, sizeof(tlb[cpu]));
    assert_in_range(states[i].tag, 1, ASIDS - 1);
    u64 *entries = &tlb[cpu][states[i].tag];
    assert_true(*entries == 0 || *entries == content);
    *entries = content;
}

static void test_against_model(void **state) {
    (void)state;
    srand(4);
    for (unsigned cpu = 0; cpu < CPUS; cpu++)
        asid_pool_init(&pools[cpu], cpu, ASIDS);
    for (unsigned cpu = 0; cpu < CPUS; cpu++)
        memset(tlb[cpu], 0xff, sizeof(tlb[cpu])); // someone's
    for (int step = 0; step < 200000; step++) {
        unsigned i = (unsigned)rand() % STATES;
        if (rand() % 8 == 0) { // as the backend's flush does it
            states[i].tag = 0;
            version[i]++;
        }
        run((unsigned)rand() % CPUS, i);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_state_keeps_its_asid),
        cmocka_unit_test(test_generation_ends),
        cmocka_unit_test(test_smallest_and_largest),
        cmocka_unit_test(test_pools_of_cpus_differ),
        cmocka_unit_test(test_against_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
