// SPDX-License-Identifier: Apache-2.0
//
// The frame allocator: no frame is given out twice, none is lost, reserved memory is never touched, chunks come whole and
// go back whole, and the kernel's pool grows and shrinks. Random operations from a printed seed.
// sources: kernel/frames.c boot/memory_map.c tests/unit/host_kernel.c

#include "arch/paging.h"
#include "boot/boot.h"
#include "kernel/frames.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

extern u64 host_early_rest[2];
u16 host_frame_owner(u64 pa);

#define OWNER (FRAME_OWNER_DOMAIN + 3)

static struct boot_params boot;
static const struct boot_memory reserved[] = {
    {.base = 0, .end = 0x100000},
    {.base = 0x401000, .end = 0x403000},
    {.base = 0x1234000, .end = 0x1240000},
    {.base = 0x800000, .end = 0xa00000},
};

static bool is_reserved(u64 pa) {
    for (unsigned i = 0; i < ARRAY_SIZE(reserved); i++)
        if (pa >= reserved[i].base && pa < reserved[i].end)
            return true;
    return pa >= 0x2c00000 && pa < 0x2d00000; // a hole in RAM
}

static int setup(void **state) {
    (void)state;
    boot.memory_count = 3;
    boot.memory[0] = (struct boot_memory){0x1000, 0x2c00000, MEMORY_RAM};
    boot.memory[1] = (struct boot_memory){0x2c00000, 0x2d00000, MEMORY_RESERVED};
    boot.memory[2] = (struct boot_memory){0x2d00000, 0x3fff000, MEMORY_RAM};
    boot.ram_end = 0x3fff000;
    boot.ram_bytes = 0x3fff000 - 0x1000 - 0x100000;
    for (unsigned i = 0; i < ARRAY_SIZE(reserved); i++)
        assert_int_equal(memory_map_take(&boot, reserved[i].base, reserved[i].end), 0);
    host_early_rest[0] = 0x9f0000;
    host_early_rest[1] = 0xa00000;
    frames_init(&boot);
    return 0;
}

static void test_single_frames(void **state) {
    (void)state;
    static u8 seen[HOST_RAM / 4096];
    static hpa_t all[HOST_RAM / 4096];
    unsigned count = 0;
    u64 before = frames_free();

    for (;;) {
        hpa_t hpa = frame_alloc(OWNER);
        if (hpa.v == HPA_NONE.v)
            break;
        assert_false(is_reserved(hpa.v));
        assert_false(seen[hpa.v / 4096]);
        assert_int_equal(host_frame_owner(hpa.v), OWNER);
        assert_int_equal(frame_references(hpa), 1);
        seen[hpa.v / 4096] = 1;
        all[count++] = hpa;
    }
    assert_true(before == count * 4096ull);
    assert_true(frames_free() == 0);
    assert_true(frame_alloc_chunk(OWNER).v == HPA_NONE.v);
    for (unsigned i = 0; i < count; i++)
        frames_put(all[i], 1);
    assert_true(frames_free() == before);
}

static void test_reserved_is_not_managed(void **state) {
    (void)state;
    assert_int_equal(host_frame_owner(0x401000), FRAME_OWNER_RESERVED);
    assert_int_equal(host_frame_owner(0x2c00000), FRAME_OWNER_RESERVED);
    assert_int_equal(host_frame_owner(1ull << 40), FRAME_OWNER_RESERVED);
    assert_int_equal(host_frame_owner(0x3fff000), FRAME_OWNER_RESERVED);
}

static void test_references(void **state) {
    (void)state;
    hpa_t hpa = frame_alloc(OWNER);
    u64 free_now = frames_free();

    frames_get(hpa, 1);
    assert_int_equal(frame_references(hpa), 2);
    frames_put(hpa, 1);
    assert_true(frames_free() == free_now);
    frames_put(hpa, 1);
    assert_int_equal(host_frame_owner(hpa.v), FRAME_OWNER_NONE);
}

static void test_chunks(void **state) {
    (void)state;
    u64 before = frames_free();
    hpa_t a = frame_alloc_chunk(OWNER), b = frame_alloc_chunk(OWNER);

    assert_true(a.v != HPA_NONE.v && b.v != HPA_NONE.v && a.v != b.v);
    assert_true(!(a.v & (SUPERPAGE_SIZE - 1)));
    for (unsigned i = 0; i < 512; i++)
        assert_int_equal(host_frame_owner(a.v + i * 4096ull), OWNER);
    frames_put(HPA(a.v + 4096), 511); // a part: single frames can be taken from it
    assert_true(frames_free() == before - 1024 * 4096 + 511 * 4096);
    frames_put(a, 1);
    frames_put(b, 512);
    assert_true(frames_free() == before);
}

static void test_run(void **state) {
    (void)state;
    u64 before = frames_free();

    assert_true(frame_alloc_run(OWNER, 62 * MIB, 4 * GIB).v == HPA_NONE.v);
    assert_true(frame_alloc_run(OWNER, 8 * MIB, 4 * MIB).v == HPA_NONE.v); // not below the limit
    hpa_t base = frame_alloc_run(OWNER, 8 * MIB, 4 * GIB);
    assert_true(base.v != HPA_NONE.v);
    for (u64 pa = base.v; pa < base.v + 8 * MIB; pa += 4096)
        assert_false(is_reserved(pa));
    frames_put(base, 2048);
    assert_true(frames_free() == before);
}

static void test_kernel_pool(void **state) {
    (void)state;
    static void *pages[1200];
    u64 before = frames_free();

    for (unsigned round = 0; round < 2; round++) { // in the second one the pages come back dirty
        for (unsigned i = 0; i < 1200; i++) {
            pages[i] = frame_kernel_alloc();
            assert_non_null(pages[i]);
            for (unsigned k = 0; k < 4096; k++)
                assert_int_equal(((u8 *)pages[i])[k], 0);
            memset(pages[i], 0xaa, 4096);
            assert_int_equal(host_frame_owner(pool_hpa(pages[i]).v), FRAME_OWNER_KERNEL);
        }
        assert_true(frames_free() < before);
        for (unsigned i = 0; i < 1200; i++)
            frame_kernel_free(pages[i]);
        assert_true(frames_free() == before);
    }
}

static void test_early_rest(void **state) {
    (void)state;
    u64 before = frames_free();
    void *page = frame_kernel_alloc();

    assert_true(pool_hpa(page).v >= 0x9f0000 && pool_hpa(page).v < 0xa00000);
    assert_true(frames_free() == before); // the kernel's before
    frame_kernel_free(page);
    assert_int_equal(host_frame_owner(0x9ef000), FRAME_OWNER_RESERVED);
}

static void test_pool_mapping_fails(void **state) {
    (void)state;
    static void *pages[2000];
    u64 before = frames_free();
    unsigned count = 0;

    host_map_failures = 1;
    while (count < 2000 && (pages[count] = frame_kernel_alloc()))
        count++;
    assert_true(count < 520);
    host_map_failures = 0;
    while (count)
        frame_kernel_free(pages[--count]);
    assert_true(frames_free() == before);
}

static void test_random(void **state) {
    (void)state;
    static struct {
        hpa_t hpa;
        unsigned frames;
        void *kernel;
    } held[600];
    unsigned count = 0, seed = (unsigned)time(NULL);
    u64 before = frames_free();

    print_message("seed %u\n", seed);
    srand(seed);
    for (unsigned n = 0; n < 200000; n++) {
        if (count < 600 && rand() % 2) {
            unsigned kind = (unsigned)rand() % 16;
            held[count].kernel = kind > 10 ? frame_kernel_alloc() : NULL;
            held[count].frames = kind ? 1 : 512;
            held[count].hpa = kind > 10 ? HPA(0)
                              : kind    ? frame_alloc(OWNER)
                                        : frame_alloc_chunk(OWNER);
            if (kind > 10 ? held[count].kernel != NULL : held[count].hpa.v != HPA_NONE.v)
                count++;
        } else if (count) {
            unsigned i = (unsigned)rand() % count;
            if (held[i].kernel)
                frame_kernel_free(held[i].kernel);
            else
                frames_put(held[i].hpa, held[i].frames);
            held[i] = held[--count];
        }
    }
    while (count--)
        if (held[count].kernel)
            frame_kernel_free(held[count].kernel);
        else
            frames_put(held[count].hpa, held[count].frames);
    assert_true(frames_free() == before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_single_frames), cmocka_unit_test(test_reserved_is_not_managed),
        cmocka_unit_test(test_references),    cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_run),           cmocka_unit_test(test_early_rest),
        cmocka_unit_test(test_kernel_pool),   cmocka_unit_test(test_pool_mapping_fails),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
