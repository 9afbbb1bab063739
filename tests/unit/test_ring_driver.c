// SPDX-License-Identifier: Apache-2.0
//
// The driver's side of a virtqueue against an honest device and against a hostile one.
//
// sources: dom0/drivers/vring.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dom0/drivers/vring.h"

#include <stdlib.h>
#include <string.h>

#define SIZE 8

static struct vring q;
static u8 *memory;

static int setup(void **state) {
    (void)state;
    memory = aligned_alloc(PAGE_SIZE, vring_bytes(SIZE));
    memset(memory, 0, vring_bytes(SIZE));
    vring_init(&q, SIZE, memory);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    free(memory);
    return 0;
}

static bool add(u16 count, void *cookie) {
    static const struct vring_piece pieces[SIZE + 1] = {
        {0x1000, 16, false}, {0x2000, 512, true}, {0x3000, 512, true}, {0x4000, 1, true},
        {0x5000, 1, true},   {0x6000, 1, true},   {0x7000, 1, true},   {0x8000, 1, true},
    };
    return vring_add(&q, pieces, count, cookie);
}

static void answer(u32 id, u32 length) {
    q.used->ring[q.used->idx % SIZE] = (struct vring_used_elem){id, length};
    q.used->idx++;
}

static void layout(void **state) {
    (void)state;
    assert_int_equal(vring_bytes(8), PAGE_SIZE);
    assert_int_equal(vring_bytes(128), PAGE_SIZE); // 2048 + 262 + 1030 and padding
    assert_ptr_equal(q.avail, memory + 128);
    assert_int_equal((uintptr_t)q.used % 4, 0);
    assert_true((u8 *)q.used >= memory + 128 + 4 + 2 * SIZE + 2);
}

static void chains(void **state) {
    (void)state;
    int a, b;
    assert_true(add(3, &a));
    assert_true(add(5, &b));
    assert_false(add(1, &a));
    assert_int_equal(q.free_count, 0);
    assert_int_equal(q.avail->idx, 0);
    assert_true(vring_publish(&q));
    assert_int_equal(q.avail->idx, 2);
    // Walk the first chain as a device would.
    u16 d = q.avail->ring[0];
    assert_int_equal(q.desc[d].address, 0x1000);
    assert_int_equal(q.desc[d].flags, VRING_DESC_NEXT);
    d = q.desc[d].next;
    assert_int_equal(q.desc[d].flags, VRING_DESC_NEXT | VRING_DESC_WRITE);
    d = q.desc[d].next;
    assert_int_equal(q.desc[d].flags, VRING_DESC_WRITE);
    assert_int_equal(q.desc[d].address, 0x3000);
    q.used->flags = VRING_USED_NO_NOTIFY;
    assert_false(vring_publish(&q));
    // Answers in the other order.
    answer(q.avail->ring[1], 0);
    answer(q.avail->ring[0], 1024);
    void *cookie;
    u32 length;
    assert_int_equal(vring_take(&q, &cookie, &length), 1);
    assert_ptr_equal(cookie, &b);
    assert_int_equal(vring_take(&q, &cookie, &length), 1);
    assert_ptr_equal(cookie, &a);
    assert_int_equal(length, 1024);
    assert_int_equal(vring_take(&q, &cookie, &length), 0);
    assert_int_equal(q.free_count, SIZE);
    assert_false(add(0, &a));
    assert_false(add(SIZE + 1, &a));
}

static void nonsense(void **state) {
    (void)state;
    void *cookie;
    u32 length;
    int a;
    for (unsigned kind = 0; kind < 7; kind++) {
        vring_init(&q, SIZE, memory);
        memset(memory, 0, vring_bytes(SIZE));
        assert_true(add(3, &a));
        (void)vring_publish(&q);
        u16 head = q.avail->ring[0];
        switch (kind) {
        case 0: q.used->idx = 4; break;      // ahead of what is in flight
        case 1: q.used->idx = 0xffff; break; // behind
        case 2: answer(SIZE, 0); break;      // no such descriptor
        case 3: answer(0xffffffff, 0); break;
        case 4: answer(q.desc[head].next, 0); break; // inside of a chain
        case 5: answer(head, 1025); break;           // longer than the chain
        case 6: answer(head, 0xffffffff); break;
        }
        assert_int_equal(vring_take(&q, &cookie, &length), -BASALT_EINVAL);
        assert_ptr_equal(vring_detach(&q), &a);
        assert_null(vring_detach(&q));
        assert_int_equal(q.free_count, SIZE);
    }
}

static void the_same_answer_twice(void **state) {
    (void)state;
    void *cookie;
    u32 length;
    int a, b;
    assert_true(add(2, &a));
    assert_true(add(2, &b));
    (void)vring_publish(&q);
    answer(q.avail->ring[0], 0);
    answer(q.avail->ring[0], 0);
    assert_int_equal(vring_take(&q, &cookie, &length), 1);
    assert_int_equal(vring_take(&q, &cookie, &length), -BASALT_EINVAL);
}

// Descriptors and available ring are the device's to scribble on: the driver never reads them.
static void scribbling_device(void **state) {
    (void)state;
    static int cookies[SIZE];
    bool in_flight[SIZE] = {false};
    u16 heads[SIZE];
    srand(5);
    for (unsigned round = 0; round < 50000; round++) {
        unsigned i = (unsigned)rand() % SIZE;
        u16 count = (u16)(1 + rand() % 3);
        if (!in_flight[i] && q.free_count >= count) {
            u16 at = q.avail_idx % SIZE;
            assert_true(add(count, &cookies[i]));
            heads[i] = q.avail->ring[at];
            in_flight[i] = true;
            (void)vring_publish(&q);
        } else if (in_flight[i]) {
            void *cookie = NULL;
            u32 length;
            answer(heads[i], 0);
            assert_int_equal(vring_take(&q, &cookie, &length), 1);
            assert_ptr_equal(cookie, &cookies[i]);
            in_flight[i] = false;
        }
        for (unsigned n = 0; n < 4; n++)
            memory[(unsigned)rand() % 128] = (u8)rand();
        q.avail->ring[rand() % SIZE] = (u16)rand();
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(layout, setup, teardown),
        cmocka_unit_test_setup_teardown(chains, setup, teardown),
        cmocka_unit_test_setup_teardown(nonsense, setup, teardown),
        cmocka_unit_test_setup_teardown(the_same_answer_twice, setup, teardown),
        cmocka_unit_test_setup_teardown(scribbling_device, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
