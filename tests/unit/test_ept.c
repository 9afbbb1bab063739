// SPDX-License-Identifier: Apache-2.0
//
// The second-level builder against a model (one record per 4 KiB page) in all three formats, with random operations
// from a printed seed, allocation failures included; and that every table page comes back.
// sources: ept/ept.c ept/format.c

#include "ept/ept.h"

#include "arch/paging.h"

#include <basalt/error.h>
#include <sanitizer/asan_interface.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define PAGES 4096u               // of the model: 16 MiB of guest-physical space at BASE
#define BASE  (1 * GIB - 8 * MIB) // crosses a table of the third level

struct model_page {
    u64 hpa;
    u32 flags;
    u8 policy;
    bool present;
};

static struct model_page model[PAGES];
// The tables come from the shim's memory, of which nothing else may be touched.
#define POOL_PAGES (HOST_RAM / 4096u)
u8 host_ram[HOST_RAM] __attribute__((aligned(0x200000)));
static bool taken[POOL_PAGES];
static unsigned pages_out, fail_after = ~0u;

void *ept_page_alloc(struct ept *ept) {
    assert_non_null(ept->format);
    if (fail_after != ~0u && !fail_after--) {
        fail_after = ~0u;
        return NULL;
    }
    unsigned n = (unsigned)rand() % POOL_PAGES;
    while (taken[n])
        n = (n + 1) % POOL_PAGES;
    taken[n] = true;
    ASAN_UNPOISON_MEMORY_REGION(&host_ram[n * 4096], 4096);
    memset(&host_ram[n * 4096], 0, 4096);
    pages_out++;
    return &host_ram[n * 4096];
}
void ept_page_free(struct ept *ept, void *page) {
    assert_non_null(ept->format);
    assert_non_null(page);
    assert_true(taken[pool_hpa(page).v / 4096]);
    taken[pool_hpa(page).v / 4096] = false;
    ASAN_POISON_MEMORY_REGION(page, 4096);
    pages_out--;
}

static u64 gpa_of(unsigned page) { return BASE + page * 4096ull; }

static void check_page(const struct ept *ept, unsigned page) {
    struct ept_leaf leaf = ept_walk(ept, GPA(gpa_of(page)));
    const struct model_page *m = &model[page];

    assert_int_equal(leaf.present, m->present);
    if (!m->present) {
        assert_int_equal(leaf.policy, m->policy);
        return;
    }
    assert_true(leaf.hpa.v + (gpa_of(page) - leaf.gpa) == m->hpa);
    u32 flags = m->flags;
    if (!ept->format->exec && !ept->format->no_exec)
        flags &= ~EPT_EXEC;
    if (!ept->format->uncached && !ept->format->write_back)
        flags &= ~EPT_UNCACHED;
    assert_int_equal(leaf.flags, flags);
}

static u32 random_flags(void) {
    u32 flags = rand() % 8 ? EPT_READ | ((u32)rand() & (EPT_WRITE | EPT_EXEC)) : 0;
    return flags | (rand() % 4 ? 0 : EPT_UNCACHED) | (rand() % 4 ? 0 : EPT_FOREIGN);
}

static bool any_present(unsigned page, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        if (model[page + i].present)
            return true;
    return false;
}

static void op_map(struct ept *ept, unsigned page, unsigned shift) {
    unsigned count = 1u << (shift - 12);
    u32 flags = random_flags();
    u64 hpa = (u64)(rand() % 1024) << 21 | (shift == 12 ? (u64)(rand() % 512) << 12 : 0);
    int error = ept_map(ept, GPA(gpa_of(page)), HPA(hpa), shift, flags);

    if (any_present(page, count)) {
        assert_true(error == -BASALT_EEXIST || error == -BASALT_ENOMEM);
        return;
    }
    if (error == -BASALT_ENOMEM)
        return;
    assert_int_equal(error, 0);
    for (unsigned i = 0; i < count; i++)
        model[page + i] = (struct model_page){hpa + i * 4096ull, flags, 0, true};
}

static void op_unmap(struct ept *ept, unsigned page, unsigned shift) {
    unsigned count = 1u << (shift - 12);
    struct ept_leaf before = ept_walk(ept, GPA(gpa_of(page))), old;
    int error = ept_unmap(ept, GPA(gpa_of(page)), shift, &old);

    if (!before.present || before.shift < shift) {
        assert_true(error == -BASALT_ENOENT || error == -BASALT_ENOMEM);
        return;
    }
    if (error == -BASALT_ENOMEM)
        return;
    assert_int_equal(error, 0);
    for (unsigned i = 0; i < count; i++)
        model[page + i] = (struct model_page){0};
}

static void op_policy(struct ept *ept, unsigned page) {
    enum ept_policy policy = (enum ept_policy)(rand() % 4);
    int error = ept_set_policy(ept, GPA(gpa_of(page)), 12, policy);

    if (model[page].present)
        assert_true(error == -BASALT_EEXIST || error == -BASALT_ENOMEM);
    else if (!error)
        model[page].policy = (u8)policy;
    else
        assert_int_equal(error, -BASALT_ENOMEM);
}

static void drain(struct ept *ept, unsigned piece) {
    struct ept_leaf leaf;
    for (;;) {
        unsigned budget = piece;
        int result = ept_pop(ept, &leaf, &budget);
        assert_true(budget <= piece);
        if (!result)
            break;
        if (result < 0)
            continue;
        for (u64 gpa = leaf.gpa; gpa < leaf.gpa + BIT(leaf.shift); gpa += 4096) {
            struct model_page *m = &model[(gpa - BASE) / 4096];
            assert_true(m->present);
            assert_true(m->hpa == leaf.hpa.v + (gpa - leaf.gpa));
            m->present = false;
        }
    }
    for (unsigned i = 0; i < PAGES; i++)
        assert_false(model[i].present);
    assert_int_equal(pages_out, 0);
    assert_null(ept->root);
}

static void run_model(const struct ept_format *format) {
    struct ept ept;
    u64 seed = (u64)time(NULL);

    print_message("seed %llu\n", (unsigned long long)seed);
    srand((unsigned)seed);
    memset(model, 0, sizeof(model));
    assert_int_equal(ept_init(&ept, format, 21), 0);
    for (unsigned n = 0; n < 30000; n++) {
        bool big = rand() % 8 == 0;
        unsigned page = (unsigned)rand() % PAGES & (big ? ~511u : ~0u), shift = big ? 21 : 12;
        if (rand() % 64 == 0)
            fail_after = (unsigned)rand() % 3;
        switch (rand() % 6) {
        case 0:
        case 1:
        case 2: op_map(&ept, page, shift); break;
        case 3: op_unmap(&ept, page, shift); break;
        case 4: op_unmap(&ept, page, shift); break;
        default: op_policy(&ept, page);
        }
        fail_after = ~0u;
        check_page(&ept, page);
        check_page(&ept, (unsigned)rand() % PAGES);
        if (n % 5000 == 0)
            for (unsigned i = 0; i < PAGES; i++)
                check_page(&ept, i);
    }
    drain(&ept, 1 + (unsigned)rand() % 700);
}

static void test_model_ept(void **state) {
    (void)state;
    run_model(&ept_format_ept);
}
static void test_model_npt(void **state) {
    (void)state;
    run_model(&ept_format_npt);
}
static void test_model_vtd(void **state) {
    (void)state;
    run_model(&ept_format_vtd);
}

static void test_bad_arguments(void **state) {
    (void)state;
    struct ept ept;
    struct ept_leaf old;

    assert_int_equal(ept_init(&ept, &ept_format_ept, 21), 0);
    assert_int_equal(ept_map(&ept, GPA(1), HPA(0), 12, EPT_RWX), -BASALT_EINVAL);
    assert_int_equal(ept_map(&ept, GPA(0), HPA(1), 12, EPT_RWX), -BASALT_EINVAL);
    assert_int_equal(ept_map(&ept, GPA(0x1000), HPA(0), 21, EPT_RWX), -BASALT_EINVAL);
    assert_int_equal(ept_map(&ept, GPA(0), HPA(0x1000), 21, EPT_RWX), -BASALT_EINVAL);
    assert_int_equal(ept_map(&ept, GPA(0), HPA(0), 30, EPT_RWX),
                     -BASALT_EINVAL); // beyond max_shift
    assert_int_equal(ept_map(&ept, GPA(EPT_LIMIT), HPA(0), 12, EPT_RWX), -BASALT_EINVAL);
    assert_int_equal(ept_map(&ept, GPA(0), HPA(BIT(52)), 12, EPT_RWX), -BASALT_EINVAL);
    assert_int_equal(ept_unmap(&ept, GPA(0), 12, &old), -BASALT_ENOENT);
    assert_false(ept_walk(&ept, GPA(~0ull)).present);
    drain(&ept, 4096);
}

// Entries as the processors read them, spelled out once per format.
static void test_formats(void **state) {
    (void)state;
    struct ept ept;
    const struct {
        const struct ept_format *format;
        u64 ram, ro, device, big;
    } want[] = {
        {&ept_format_ept, 0x5000 | 0x77, 0x5000 | 0x71, 0x5000 | 0x03, 0x200000 | 0xf7},
        {&ept_format_npt, 0x5000 | 0x07, 0x5000 | 0x05 | BIT(63), 0x5000 | 0x1f | BIT(63),
         0x200000 | 0x87},
        {&ept_format_vtd, 0x5000 | 0x03, 0x5000 | 0x01, 0x5000 | 0x03, 0x200000 | 0x83},
    };
    const u64 ours = BIT(55); // the builder's own, which all formats ignore

    for (unsigned i = 0; i < 3; i++) {
        memset(model, 0, sizeof(model));
        assert_int_equal(ept_init(&ept, want[i].format, 21), 0);
        assert_int_equal(ept_map(&ept, GPA(0), HPA(0x5000), 12, EPT_RWX), 0);
        assert_int_equal(ept_map(&ept, GPA(0x1000), HPA(0x5000), 12, EPT_READ), 0);
        assert_int_equal(
            ept_map(&ept, GPA(0x2000), HPA(0x5000), 12, EPT_READ | EPT_WRITE | EPT_UNCACHED), 0);
        assert_int_equal(ept_map(&ept, GPA(0x3000), HPA(0x5000), 12, 0), 0);
        assert_int_equal(ept_map(&ept, GPA(0x200000), HPA(0x200000), 21, EPT_RWX), 0);
        assert_int_equal(ept_map(&ept, GPA(0x400000), HPA(0x200000), 21, 0), 0);
        u64 address = 0x000ffffffffff000, *l3 = pool_ptr(HPA(ept.root[0] & address));
        u64 *l2 = pool_ptr(HPA(l3[0] & address)), *l1 = pool_ptr(HPA(l2[0] & address));
        assert_int_equal(l1[0], want[i].ram | ours);
        assert_int_equal(l1[1], want[i].ro | ours);
        assert_int_equal(l1[2], want[i].device | ours);
        assert_int_equal(l2[1], want[i].big | ours);
        // Without rights: none of the bits that make an entry a present one.
        assert_true(l1[3] && !(l1[3] & want[i].format->table));
        assert_true(l2[2] && !(l2[2] & want[i].format->table));
        assert_true(ept_walk(&ept, GPA(0x3000)).present && !ept_walk(&ept, GPA(0x3000)).flags);
        struct ept_leaf leaf;
        unsigned budget = ~0u;
        while (ept_pop(&ept, &leaf, &budget) > 0)
            ;
        assert_int_equal(pages_out, 0);
    }
}

// Every change that a cached translation must not outlive moves the generation; new mappings don't need to.
static void test_generation(void **state) {
    (void)state;
    struct ept ept;
    struct ept_leaf old;

    memset(model, 0, sizeof(model));
    assert_int_equal(ept_init(&ept, &ept_format_npt, 21), 0);
    u64 g = ept.generation;
    assert_int_equal(ept_map(&ept, GPA(0x200000), HPA(0), 21, EPT_RWX), 0);
    assert_true(ept.generation == g);
    assert_int_equal(ept_unmap(&ept, GPA(0x202000), 12, &old), 0);
    assert_true(ept.generation > g);
    g = ept.generation;
    unsigned budget = ~0u;
    while (ept_pop(&ept, &old, &budget) > 0)
        ;
    assert_true(ept.generation > g);
}

// Of a superpage that is not executable one page becomes so, in each format that has the right.
static void test_allow_exec(void **state) {
    (void)state;
    static const struct ept_format *const formats[] = {&ept_format_ept, &ept_format_npt};
    for (unsigned i = 0; i < 2; i++) {
        struct ept ept;
        struct ept_leaf leaf;
        unsigned budget = ~0u;

        assert_int_equal(ept_init(&ept, formats[i], 21), 0);
        assert_int_equal(ept_map(&ept, GPA(0x200000), HPA(0x600000), 21, EPT_READ | EPT_WRITE), 0);
        u64 g = ept.generation;
        assert_int_equal(ept_allow_exec(&ept, GPA(0x205000)), 0);
        assert_true(ept.generation > g);
        leaf = ept_walk(&ept, GPA(0x205000));
        assert_true(leaf.shift == 12 && leaf.flags == EPT_RWX && leaf.hpa.v == 0x605000);
        leaf = ept_walk(&ept, GPA(0x204000));
        assert_true(leaf.shift == 12 && leaf.flags == (EPT_READ | EPT_WRITE));
        assert_int_equal(ept_unmap(&ept, GPA(0x206000), 12, &leaf), 0);
        assert_int_equal(ept_allow_exec(&ept, GPA(0x206000)), -BASALT_ENOENT);
        assert_int_equal(ept_allow_exec(&ept, GPA(0x400000)), -BASALT_ENOENT);
        assert_false(ept_walk(&ept, GPA(0x206000)).present);
        while (ept_pop(&ept, &leaf, &budget) > 0)
            ;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model_ept),  cmocka_unit_test(test_model_npt),
        cmocka_unit_test(test_model_vtd),  cmocka_unit_test(test_bad_arguments),
        cmocka_unit_test(test_formats),    cmocka_unit_test(test_generation),
        cmocka_unit_test(test_allow_exec),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
