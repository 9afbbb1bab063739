// SPDX-License-Identifier: Apache-2.0
//
// dom0's page allocator and heap against a model, and guest_access() at every border.
//
// sources: tests/unit/dom0_host.c dom0/lib/boot.c dom0/lib/pages.c dom0/lib/guest_memory.c dom0/lib/dma.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dom0_host.h"

#include "lib/memory.h"
#include "lib/pages.h"

#include <stdlib.h>
#include <string.h>

#define RAM_PAGES 256u

static u8 *ram;

static u64 page_address(u64 page) { return (u64)(uintptr_t)ram + page * PAGE_SIZE; }

static int setup(void **state) {
    (void)state;
    host_reset();
    ram = aligned_alloc(PAGE_SIZE, RAM_PAGES * PAGE_SIZE);
    memset(ram, 0xee, RAM_PAGES * PAGE_SIZE);
    struct page_range reserved[] = {{page_address(0), 10 * PAGE_SIZE - 5}, // image
                                    {page_address(10), PAGE_SIZE},         // right behind it
                                    {page_address(40) + 100, 10},          // in the heap's way
                                    {page_address(250), 100 * PAGE_SIZE},  // beyond the end
                                    {0, 4096}};
    assert_true(pages_init(page_address(0), RAM_PAGES * PAGE_SIZE, reserved, 5));
    return 0;
}

static int teardown(void **state) {
    (void)state;
    free(ram);
    return 0;
}

static void pages_do_not_overlap(void **state) {
    (void)state;
    static u8 owner[RAM_PAGES];
    static void *runs[64];
    static u64 counts[64];
    memset(owner, 0, sizeof(owner));
    memset(runs, 0, sizeof(runs));
    u64 at_start = page_count_free();
    assert_int_equal(at_start,
                     RAM_PAGES - 12 - 1 - 6); // image and neighbour, bitmap; page 40; the end
    srand(1);
    for (unsigned round = 0; round < 20000; round++) {
        unsigned slot = (unsigned)rand() % 64;
        if (runs[slot]) {
            u64 page = ((u64)(uintptr_t)runs[slot] - page_address(0)) / PAGE_SIZE;
            memset(owner + page, 0, counts[slot]);
            page_free(runs[slot], counts[slot]);
            runs[slot] = NULL;
            continue;
        }
        counts[slot] = 1 + (u64)rand() % (round % 7 ? 4 : 40);
        u8 *p = runs[slot] = page_alloc(counts[slot]);
        if (!p)
            continue;
        u64 page = ((u64)(uintptr_t)p - page_address(0)) / PAGE_SIZE;
        assert_true(page >= 12 && page + counts[slot] <= 250 &&
                    (page > 40 || page + counts[slot] <= 40));
        for (u64 i = 0; i < counts[slot]; i++)
            assert_false(owner[page + i]);
        for (u64 i = 0; i < counts[slot] * PAGE_SIZE; i += 511)
            assert_int_equal(p[i], 0);
        memset(owner + page, 1, counts[slot]);
        memset(p, 0xcc, counts[slot] * PAGE_SIZE);
    }
    for (unsigned slot = 0; slot < 64; slot++)
        page_free(runs[slot], counts[slot]);
    assert_int_equal(page_count_free(), at_start);
    assert_int_equal(page_count_total(), RAM_PAGES);
    assert_null(page_alloc(0));
    assert_null(page_alloc(~0ull));
    void *largest = page_alloc(250 - 41);
    assert_non_null(largest);
    assert_null(page_alloc(29)); // 28 are left below page 40
    assert_non_null(page_alloc(28));
    assert_null(page_alloc(1));
}

static void heap_grows_and_shrinks(void **state) {
    (void)state;
    u64 at_start = page_count_free();
    u8 *a = pages_heap_grow(100);
    u8 *b = pages_heap_grow(5000);
    assert_ptr_equal(b, a + 100);
    assert_int_equal(page_count_free(), at_start - 2);
    assert_ptr_equal(pages_heap_grow(-5100), b + 5000);
    assert_int_equal(page_count_free(), at_start);
    assert_null(pages_heap_grow(-1));
    u8 *c = pages_heap_grow(30 * (i64)PAGE_SIZE); // does not fit below page 40
    assert_ptr_equal(c, (u8 *)page_address(41));
    void *top = page_alloc(1);
    assert_ptr_equal(top, (u8 *)page_address(249));
    u8 *d = pages_heap_grow((i64)((249 - 71) * PAGE_SIZE)); // up to the page given out
    assert_ptr_equal(d, c + 30 * PAGE_SIZE);
    assert_null(pages_heap_grow(1));
    page_free(top, 1);
    assert_ptr_equal(pages_heap_grow(1), top);
    assert_null(pages_heap_grow(INT64_MAX));
    assert_null(pages_heap_grow(INT64_MIN));
}

static void too_small_for_a_bitmap(void **state) {
    (void)state;
    struct page_range all = {page_address(0), 2 * PAGE_SIZE};
    assert_false(pages_init(page_address(0), 2 * PAGE_SIZE, &all, 1));
    assert_false(pages_init(page_address(0), 0, NULL, 0));
}

// ---- guest memory: the guest's pages 16..27, in three pieces of the host's, and pages 1000..1001 read-only ----

static u8 *pieces;
static struct guest_memory guest;

static int guest_setup(void **state) {
    (void)state;
    host_reset();
    pieces = aligned_alloc(PAGE_SIZE, 32 * PAGE_SIZE);
    memset(pieces, 0, 32 * PAGE_SIZE);
    u64 base = (u64)(uintptr_t)pieces;
    guest_memory_init(&guest, 5);
    host_extents[0] = (struct host_extent){base + 20 * PAGE_SIZE, 4};
    host_extents[1] = (struct host_extent){base, 2};
    host_extents[2] = (struct host_extent){base + 2 * PAGE_SIZE, 2}; // continues
    host_extents[3] = (struct host_extent){base + 10 * PAGE_SIZE, 4};
    host_extent_count = 4;
    assert_int_equal(guest_memory_add(&guest, 16 * PAGE_SIZE, 12, GUEST_READ | GUEST_WRITE), 0);
    host_extents[0] = (struct host_extent){base + 30 * PAGE_SIZE, 2};
    host_extent_count = 1;
    assert_int_equal(guest_memory_add(&guest, 1000 * PAGE_SIZE, 2, GUEST_READ), 0);
    assert_int_equal(guest.extent_count, 4);
    return 0;
}

static int guest_teardown(void **state) {
    (void)state;
    assert_int_equal(guest.pins, 0);
    assert_int_equal(guest_memory_destroy(&guest), 0);
    assert_int_equal(host_shares, 0);
    free(pieces);
    return 0;
}

static void *look(u64 gpa, u64 bytes, unsigned flags, u64 *contiguous) {
    void *p = guest_access(&guest, gpa, bytes, flags, contiguous);
    guest_release(&guest, p ? 1 : 0);
    return p;
}

static void access_borders(void **state) {
    (void)state;
    u64 n;
    assert_ptr_equal(look(16 * PAGE_SIZE, 10, GUEST_READ, &n), pieces + 20 * PAGE_SIZE);
    assert_int_equal(n, 10);
    assert_ptr_equal(look(16 * PAGE_SIZE + 5, ~0ull, GUEST_WRITE, &n), pieces + 20 * PAGE_SIZE + 5);
    assert_int_equal(n, 4 * PAGE_SIZE - 5);
    assert_ptr_equal(look(20 * PAGE_SIZE, 5 * PAGE_SIZE, GUEST_READ, &n), pieces);
    assert_int_equal(n, 4 * PAGE_SIZE); // two extents in one
    assert_ptr_equal(look(28 * PAGE_SIZE - 1, 2, GUEST_READ, &n), pieces + 14 * PAGE_SIZE - 1);
    assert_int_equal(n, 1);
    assert_null(look(28 * PAGE_SIZE, 1, GUEST_READ, &n));
    assert_null(look(16 * PAGE_SIZE - 1, 1, GUEST_READ, &n));
    assert_null(look(16 * PAGE_SIZE, 0, GUEST_READ, &n));
    assert_null(look(0, 1, GUEST_READ, &n));
    assert_null(look(~0ull, 1, GUEST_READ, &n));
    assert_null(look(~0ull - PAGE_SIZE, 2 * PAGE_SIZE, GUEST_READ, &n));
    assert_null(look(1002 * PAGE_SIZE, 1, GUEST_READ, &n));
    assert_ptr_equal(look(1001 * PAGE_SIZE, 1, GUEST_READ, &n), pieces + 31 * PAGE_SIZE);
    assert_null(look(1001 * PAGE_SIZE, 1, GUEST_WRITE, &n));
    assert_null(look(1001 * PAGE_SIZE, 1, GUEST_READ | GUEST_WRITE, &n));
}

static void all_or_nothing_without_contiguous(void **state) {
    (void)state;
    assert_non_null(look(16 * PAGE_SIZE, 4 * PAGE_SIZE, GUEST_READ, NULL));
    assert_null(look(16 * PAGE_SIZE, 4 * PAGE_SIZE + 1, GUEST_READ, NULL));
}

static void copies_across_pieces(void **state) {
    (void)state;
    static u8 data[12 * 4096], back[12 * 4096];
    for (unsigned i = 0; i < sizeof(data); i++)
        data[i] = (u8)(i * 31 + i / 256);
    assert_true(guest_write(&guest, 16 * PAGE_SIZE, data, sizeof(data)));
    assert_true(guest_read(&guest, 16 * PAGE_SIZE, back, sizeof(back)));
    assert_memory_equal(data, back, sizeof(data));
    assert_memory_equal(pieces + 20 * PAGE_SIZE, data, 4 * PAGE_SIZE);
    assert_memory_equal(pieces, data + 4 * PAGE_SIZE, 4 * PAGE_SIZE);
    assert_false(guest_write(&guest, 27 * PAGE_SIZE, data, PAGE_SIZE + 1));
    assert_false(guest_write(&guest, 1000 * PAGE_SIZE, data, 1));
    assert_true(guest_fill(&guest, 19 * PAGE_SIZE + 4000, 9, 200));
    assert_int_equal(pieces[24 * PAGE_SIZE - 1], 9);
    assert_int_equal(pieces[103], 9);
    assert_true(pieces[104] == data[4 * PAGE_SIZE + 104]);
}

static void pins_hold_the_memory(void **state) {
    (void)state;
    u64 n;
    assert_non_null(guest_access(&guest, 16 * PAGE_SIZE, 1, GUEST_READ, &n));
    assert_int_equal(guest_memory_destroy(&guest), -BASALT_EBUSY);
    assert_int_equal(guest_memory_remove(&guest, 1000 * PAGE_SIZE, 2), -BASALT_EBUSY);
    guest_release(&guest, 1);
    assert_int_equal(guest_memory_remove(&guest, 1000 * PAGE_SIZE, 1), -BASALT_ENOENT);
    assert_int_equal(guest_memory_remove(&guest, 1000 * PAGE_SIZE, 2), 0);
    assert_null(look(1000 * PAGE_SIZE, 1, GUEST_READ, &n));
    assert_non_null(look(27 * PAGE_SIZE, 1, GUEST_READ, &n));
}

static void refused_ranges(void **state) {
    (void)state;
    host_extents[0] = (struct host_extent){(u64)(uintptr_t)pieces, 1};
    host_extent_count = 1;
    u64 n;
    assert_int_equal(guest_memory_add(&guest, 27 * PAGE_SIZE, 1, GUEST_READ),
                     -BASALT_EINVAL); // overlaps
    assert_int_equal(guest_memory_add(&guest, 0, 17, GUEST_READ), -BASALT_EINVAL);
    assert_int_equal(guest_memory_add(&guest, 5, 1, GUEST_READ), -BASALT_EINVAL);
    assert_int_equal(guest_memory_add(&guest, 0, 0, GUEST_READ), -BASALT_EINVAL);
    assert_int_equal(guest_memory_add(&guest, 0, ~0ull, GUEST_READ), -BASALT_EINVAL);
    assert_int_equal(guest_memory_add(&guest, 0, 2, GUEST_READ),
                     -BASALT_EFAULT); // one page only
    host_extents[0].pages = 3;
    assert_int_equal(guest_memory_add(&guest, 0, 2, GUEST_READ), -BASALT_EFAULT); // more than asked
    assert_null(look(0, 1, GUEST_READ, &n));
    host_share_error = -BASALT_ENOMEM;
    assert_int_equal(guest_memory_add(&guest, 0, 1, GUEST_READ), -BASALT_ENOMEM);
    assert_int_equal(host_shares, 2);
}

static void dma_counts(void **state) {
    (void)state;
    u64 before = dma_mapped();
    u64 bus = dma_map(pieces, 4096);
    assert_int_equal(bus, (u64)(uintptr_t)pieces);
    assert_int_equal(dma_mapped(), before + 1);
    dma_unmap(bus, 4096);
    assert_int_equal(dma_mapped(), before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(pages_do_not_overlap, setup, teardown),
        cmocka_unit_test_setup_teardown(heap_grows_and_shrinks, setup, teardown),
        cmocka_unit_test_setup_teardown(too_small_for_a_bitmap, setup, teardown),
        cmocka_unit_test_setup_teardown(access_borders, guest_setup, guest_teardown),
        cmocka_unit_test_setup_teardown(all_or_nothing_without_contiguous, guest_setup,
                                        guest_teardown),
        cmocka_unit_test_setup_teardown(copies_across_pieces, guest_setup, guest_teardown),
        cmocka_unit_test_setup_teardown(pins_hold_the_memory, guest_setup, guest_teardown),
        cmocka_unit_test_setup_teardown(refused_ranges, guest_setup, guest_teardown),
        cmocka_unit_test_setup_teardown(dma_counts, guest_setup, guest_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
