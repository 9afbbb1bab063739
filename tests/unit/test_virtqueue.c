// SPDX-License-Identifier: Apache-2.0
//
// The device's side of a split virtqueue: random chains of a correct driver against a model,
// event-index arithmetic, and every way in which a ring can be malformed.
//
// sources: dom0/devices/virtqueue.c dom0/devices/virtqueue_walk.c dom0/devices/chain.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/fake_host.h"

#include "dom0/devices/virtqueue.h"

#define DESC   0x1000u
#define DRIVER 0x2000u
#define DEVICE 0x3000u
#define TABLE  0x4000u // indirect
#define DATA   0x10000u

static struct virtqueue_state state;
static struct virtqueue queue;
static struct virtqueue_chain chain;
static uint16_t avail;

static void setup_at(uint16_t size, uint64_t desc, uint64_t driver, uint64_t device) {
    fake_memory_init(64);
    for (unsigned i = 0; i < 64; i++)
        memset(fake_memory.pages[i], 0, FAKE_PAGE);
    memset(&queue, 0, sizeof(queue));
    queue.state = &state;
    queue.memory = &fake_memory;
    virtqueue_reset(&queue);
    state.size = size;
    state.desc = desc;
    state.driver = driver;
    state.device = device;
    queue.event_idx = queue.indirect = true;
    avail = 0;
}

static int setup(void **unused) {
    (void)unused;
    setup_at(16, DESC, DRIVER, DEVICE);
    assert_true(virtqueue_enable(&queue));
    return 0;
}

static int teardown(void **unused) {
    (void)unused;
    virtqueue_disable(&queue);
    assert_int_equal(fake_memory.pins, 0);
    fake_memory_end();
    return 0;
}

static void put_descriptor(uint64_t at, uint64_t address, uint32_t length, uint16_t flags,
                           uint16_t next) {
    struct virtqueue_descriptor d = {address, length, flags, next};
    assert_true(fake_write(at, &d, sizeof(d)));
}

static void descriptor(unsigned i, uint64_t address, uint32_t length, uint16_t flags,
                       uint16_t next) {
    put_descriptor(state.desc + 16 * i, address, length, flags, next);
}

static void make_available(uint16_t head) {
    fake_put(state.driver + 4 + 2 * (avail % state.size), 2, head);
    fake_put(state.driver + 2, 2, ++avail);
}

static void takes_and_returns(void **unused) {
    (void)unused;
    char text[32] = {0};
    assert_int_equal(virtqueue_pop(&queue, &chain), VIRTQUEUE_EMPTY);
    descriptor(3, DATA, 10, VIRTQ_DESC_NEXT, 7);
    descriptor(7, DATA + 0x1ffe, 6, VIRTQ_DESC_NEXT, 1); // crosses a page
    descriptor(1, DATA + 0x3000, 100, VIRTQ_DESC_WRITE, 0);
    fake_write(DATA, "0123456789", 10);
    fake_write(DATA + 0x1ffe, "abcdef", 6);
    make_available(3);
    assert_int_equal(virtqueue_pop(&queue, &chain), VIRTQUEUE_CHAIN_TAKEN);
    assert_int_equal(chain.head, 3);
    assert_int_equal(chain.read_bytes, 16);
    assert_int_equal(chain.write_bytes, 100);
    assert_int_equal(state.in_flight[0], 1 << 3);
    assert_int_equal(virtqueue_read(&queue, &chain, 4, text, 30), 12);
    assert_string_equal(text, "456789abcdef");
    assert_int_equal(virtqueue_write(&queue, &chain, 98, "xyz", 3), 2);
    assert_int_equal(fake_get(DATA + 0x3000 + 98, 2), 'x' | 'y' << 8);
    virtqueue_push(&queue, 3, 55);
    assert_int_equal(fake_get(DEVICE + 2, 2), 1);
    assert_int_equal(fake_get(DEVICE + 4, 4), 3);
    assert_int_equal(fake_get(DEVICE + 8, 4), 55);
    assert_int_equal(state.in_flight[0], 0);
    virtqueue_push(&queue, 3, 55); // not out: nothing happens
    assert_int_equal(fake_get(DEVICE + 2, 2), 1);
}

static void puts_back(void **unused) {
    (void)unused;
    descriptor(0, DATA, 10, 0, 0);
    make_available(0);
    assert_int_equal(virtqueue_pop(&queue, &chain), VIRTQUEUE_CHAIN_TAKEN);
    virtqueue_unpop(&queue, &chain);
    assert_int_equal(state.in_flight[0], 0);
    assert_int_equal(virtqueue_pop(&queue, &chain), VIRTQUEUE_CHAIN_TAKEN);
}

static void maps_in_place(void **unused) {
    (void)unused;
    struct host_segment segments[4];
    unsigned count;
    size_t mapped;
    descriptor(0, DATA + 0x800, 0x2000, VIRTQ_DESC_NEXT | VIRTQ_DESC_WRITE, 1);
    descriptor(1, DATA + 0x5000, 0, VIRTQ_DESC_NEXT | VIRTQ_DESC_WRITE,
               2); // empty ones are allowed
    descriptor(2, DATA + 0x6000, 0x1000, VIRTQ_DESC_WRITE, 0);
    make_available(0);
    assert_int_equal(virtqueue_pop(&queue, &chain), VIRTQUEUE_CHAIN_TAKEN);
    long pins = fake_memory.pins;
    assert_true(virtqueue_map(&queue, &chain, true, 0x100, 0x2400, segments, 4, &count, &mapped));
    assert_int_equal(count, 4);
    assert_int_equal(mapped, 0x2400);
    assert_ptr_equal(segments[0].pointer, fake_memory.pages[DATA / 4096] + 0x900);
    assert_int_equal(segments[0].length, 0x700);
    assert_int_equal(segments[1].length, 0x1000);
    assert_int_equal(segments[2].length, 0x800);
    assert_ptr_equal(segments[3].pointer, fake_memory.pages[DATA / 4096 + 6]);
    assert_int_equal(segments[3].length, 0x500);
    assert_int_equal(fake_memory.pins, pins + 4);
    virtqueue_unmap(&queue, count);
    assert_true(virtqueue_map(&queue, &chain, true, 0, 0x3000, segments, 2, &count, &mapped));
    assert_int_equal(mapped, 0x1800); // as far as two segments reach
    virtqueue_unmap(&queue, count);
    assert_true(virtqueue_map(&queue, &chain, false, 0, 10, segments, 2, &count, &mapped));
    assert_int_equal(count, 0);
    assert_int_equal(fake_memory.pins, pins);
}

static void refuses_to_map_what_is_no_memory(void **unused) {
    (void)unused;
    struct host_segment segments[4];
    unsigned count;
    size_t mapped;
    descriptor(0, DATA, 0x100, VIRTQ_DESC_NEXT, 1);
    descriptor(1, 64 * 4096 - 0x10, 0x20, 0, 0);
    make_available(0);
    assert_int_equal(virtqueue_pop(&queue, &chain), VIRTQUEUE_CHAIN_TAKEN);
    long pins = fake_memory.pins;
    assert_false(virtqueue_map(&queue, &chain, false, 0, 0x120, segments, 4, &count, &mapped));
    assert_int_equal(count, 0);
    assert_int_equal(fake_memory.pins, pins);
    uint8_t bytes[0x120];
    assert_int_equal(virtqueue_read(&queue, &chain, 0, bytes, sizeof(bytes)), 0x110);
}

static void malformed(void) {
    uint16_t last = state.last_avail;
    assert_int_equal(virtqueue_pop(&queue, &chain), VIRTQUEUE_MALFORMED);
    assert_int_equal(state.last_avail, last);
    assert_int_equal(state.in_flight[0] | state.in_flight[1], 0);
}

static void rejects_index_too_far(void **unused) {
    (void)unused;
    fake_put(DRIVER + 2, 2, 17);
    malformed();
    fake_put(DRIVER + 2, 2, 0xffff);
    malformed();
}

static void rejects_head_out_of_range(void **unused) {
    (void)unused;
    make_available(16);
    malformed();
    fake_put(DRIVER + 4, 2, 128);
    malformed();
    fake_put(DRIVER + 4, 2, 0xffff);
    malformed();
}

static void rejects_next_out_of_range(void **unused) {
    (void)unused;
    descriptor(0, DATA, 1, VIRTQ_DESC_NEXT, 16);
    make_available(0);
    malformed();
}

static void rejects_loop(void **unused) {
    (void)unused;
    descriptor(0, DATA, 1, VIRTQ_DESC_NEXT, 1);
    descriptor(1, DATA, 1, VIRTQ_DESC_NEXT, 0);
    make_available(0);
    malformed();
    descriptor(0, DATA, 0, VIRTQ_DESC_NEXT, 0); // empty, onto itself
    malformed();
}

static void rejects_readable_after_writable(void **unused) {
    (void)unused;
    descriptor(0, DATA, 1, VIRTQ_DESC_NEXT | VIRTQ_DESC_WRITE, 1);
    descriptor(1, DATA, 1, 0, 0);
    make_available(0);
    malformed();
}

static void rejects_wrapping_address(void **unused) {
    (void)unused;
    descriptor(0, ~0ull - 3, 8, 0, 0);
    make_available(0);
    malformed();
}

static void rejects_total_over_4_gib(void **unused) {
    (void)unused;
    descriptor(0, 0, 0xffffffff, VIRTQ_DESC_NEXT, 1);
    descriptor(1, 0, 1, 0, 0);
    make_available(0);
    malformed();
}

static void rejects_head_taken_twice(void **unused) {
    (void)unused;
    descriptor(0, DATA, 1, 0, 0);
    make_available(0);
    make_available(0);
    assert_int_equal(virtqueue_pop(&queue, &chain), VIRTQUEUE_CHAIN_TAKEN);
    assert_int_equal(virtqueue_pop(&queue, &chain), VIRTQUEUE_MALFORMED);
}

static void walks_indirect(void **unused) {
    (void)unused;
    uint64_t table = TABLE + 0xff8; // entries straddle a page
    put_descriptor(table, DATA, 5, VIRTQ_DESC_NEXT, 2);
    put_descriptor(table + 16, DATA + 64, 7, VIRTQ_DESC_WRITE, 0);
    put_descriptor(table + 32, DATA + 32, 6, VIRTQ_DESC_NEXT, 1);
    descriptor(9, table, 48, VIRTQ_DESC_INDIRECT | VIRTQ_DESC_WRITE, 0); // WRITE is to be ignored
    make_available(9);
    assert_int_equal(virtqueue_pop(&queue, &chain), VIRTQUEUE_CHAIN_TAKEN);
    assert_int_equal(chain.head, 9);
    assert_int_equal(chain.count, 3);
    assert_int_equal(chain.read_bytes, 11);
    assert_int_equal(chain.write_bytes, 7);
}

static void walks_direct_then_indirect(void **unused) {
    (void)unused;
    descriptor(0, DATA, 5, VIRTQ_DESC_NEXT, 1);
    descriptor(1, TABLE, 16, VIRTQ_DESC_INDIRECT, 0);
    put_descriptor(TABLE, DATA, 9, VIRTQ_DESC_WRITE, 0);
    make_available(0);
    assert_int_equal(virtqueue_pop(&queue, &chain), VIRTQUEUE_CHAIN_TAKEN);
    assert_int_equal(chain.read_bytes, 5);
    assert_int_equal(chain.write_bytes, 9);
}

static void rejects_bad_indirect(void **unused) {
    (void)unused;
    static const struct {
        uint64_t address;
        uint32_t length;
        uint16_t flags;
    } bad[] = {
        {TABLE, 0, VIRTQ_DESC_INDIRECT},                    // empty
        {TABLE, 17, VIRTQ_DESC_INDIRECT},                   // not whole descriptors
        {TABLE, 16, VIRTQ_DESC_INDIRECT | VIRTQ_DESC_NEXT}, // goes on
        {~0ull - 7, 16, VIRTQ_DESC_INDIRECT},               // wraps
        {64 * 4096, 16, VIRTQ_DESC_INDIRECT},               // no memory
        {TABLE, 0xfffffff0, VIRTQ_DESC_INDIRECT},           // too long
        {TABLE + 64, 16, VIRTQ_DESC_INDIRECT},  // an indirect table in an indirect table
        {TABLE + 128, 16, VIRTQ_DESC_INDIRECT}, // next out of the table
        {TABLE + 256, 32, VIRTQ_DESC_INDIRECT}, // a loop
    };
    put_descriptor(TABLE, DATA, 1, 0, 0);
    put_descriptor(TABLE + 64, TABLE, 16, VIRTQ_DESC_INDIRECT, 0);
    put_descriptor(TABLE + 128, DATA, 1, VIRTQ_DESC_NEXT, 1);
    put_descriptor(TABLE + 256, DATA, 1, VIRTQ_DESC_NEXT, 1);
    put_descriptor(TABLE + 272, DATA, 1, VIRTQ_DESC_NEXT, 0);
    make_available(0);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        descriptor(0, bad[i].address, bad[i].length, bad[i].flags, 1);
        malformed();
    }
    descriptor(0, TABLE, 16, VIRTQ_DESC_INDIRECT, 0);
    queue.indirect = false; // not negotiated
    malformed();
    queue.indirect = true;
    assert_int_equal(virtqueue_pop(&queue, &chain), VIRTQUEUE_CHAIN_TAKEN);
}

static void rejects_bad_areas(void **unused) {
    (void)unused;
    static const struct {
        uint16_t size;
        uint64_t desc, driver, device;
    } bad[] = {
        {0, DESC, DRIVER, DEVICE},          {24, DESC, DRIVER, DEVICE},
        {256, DESC, DRIVER, DEVICE},        {16, DESC + 8, DRIVER, DEVICE},
        {16, DESC, DRIVER + 1, DEVICE},     {16, DESC, DRIVER, DEVICE + 2},
        {16, 64 * 4096, DRIVER, DEVICE},    {16, DESC, 64 * 4096 - 4, DEVICE},
        {16, DESC, DRIVER, 64 * 4096 - 16}, {16, ~15ull, DRIVER, DEVICE},
    };
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        virtqueue_disable(&queue);
        setup_at(bad[i].size, bad[i].desc, bad[i].driver, bad[i].device);
        assert_false(virtqueue_enable(&queue));
        assert_int_equal(fake_memory.pins, 0);
        assert_int_equal(virtqueue_pop(&queue, &chain), VIRTQUEUE_EMPTY);
    }
}

// Used element 0 of a ring that begins 4 bytes before a page's last 4 straddles the border.
static void rings_across_pages(void **unused) {
    (void)unused;
    virtqueue_disable(&queue);
    setup_at(128, DESC + 0x800, DRIVER + 0xff0, DEVICE + 0xff8);
    assert_true(virtqueue_enable(&queue));
    for (unsigned i = 0; i < 128; i++)
        descriptor(i, DATA + i, 1, 0, 0);
    for (unsigned i = 0; i < 300; i++) {
        make_available((uint16_t)(i * 37 % 128));
        assert_int_equal(virtqueue_pop(&queue, &chain), VIRTQUEUE_CHAIN_TAKEN);
        assert_int_equal(chain.buffers[0].address, DATA + i * 37 % 128);
        virtqueue_push(&queue, chain.head, i);
        assert_int_equal(fake_get(state.device + 4 + 8 * (i % 128), 4), i * 37 % 128);
        assert_int_equal(fake_get(state.device + 8 + 8 * (i % 128), 4), i);
        assert_int_equal(fake_get(state.device + 2, 2), i + 1);
    }
}

// vring_need_event() of the specification, for all positions of a small window around the wrap.
static void interrupts_by_event_index(void **unused) {
    (void)unused;
    descriptor(0, DATA, 1, 0, 0);
    for (unsigned start = 0xfff0; start < 0x10010; start++)
        for (unsigned pushes = 1; pushes < 8; pushes++)
            for (int event = -2; event < 10; event++) {
                state.used_idx = state.signalled = (uint16_t)start;
                fake_put(state.driver + 4 + 2 * 16, 2, (uint16_t)((int)start + event));
                for (unsigned i = 0; i < pushes; i++) {
                    state.in_flight[0] = 1;
                    virtqueue_push(&queue, 0, 0);
                }
                assert_int_equal(virtqueue_interrupt_wanted(&queue),
                                 event >= 0 && event < (int)pushes);
                assert_false(virtqueue_interrupt_wanted(&queue));
            }
}

static void interrupts_by_flag(void **unused) {
    (void)unused;
    queue.event_idx = false;
    for (unsigned flag = 0; flag < 2; flag++) {
        fake_put(state.driver, 2, flag);
        state.in_flight[0] = 1;
        virtqueue_push(&queue, 0, 0);
        assert_int_equal(virtqueue_interrupt_wanted(&queue), !flag);
    }
}

static void asks_for_kicks(void **unused) {
    (void)unused;
    descriptor(0, DATA, 1, 0, 0);
    assert_false(virtqueue_kicks(&queue, true));
    assert_int_equal(fake_get(DEVICE + 4 + 8 * 16, 2), 0);
    make_available(0);
    assert_true(virtqueue_kicks(&queue, true));
    virtqueue_pop(&queue, &chain);
    assert_false(virtqueue_kicks(&queue, true));
    assert_int_equal(fake_get(DEVICE + 4 + 8 * 16, 2), 1);
    queue.event_idx = false;
    assert_false(virtqueue_kicks(&queue, false));
    assert_int_equal(fake_get(DEVICE, 2), 1);
    virtqueue_kicks(&queue, true);
    assert_int_equal(fake_get(DEVICE, 2), 0);
}

static void recovers_after_a_crash(void **unused) {
    (void)unused;
    for (unsigned i = 0; i < 4; i++) {
        descriptor(i, DATA + i, 1, 0, 0);
        make_available((uint16_t)i);
        assert_int_equal(virtqueue_pop(&queue, &chain), VIRTQUEUE_CHAIN_TAKEN);
    }
    // Died before the used index was written: the push has not happened.
    state.completing = 2;
    state.completing_idx = 0;
    virtqueue_recover(&queue);
    assert_int_equal(state.in_flight[0], 0xf);
    assert_int_equal(state.used_idx, 0);
    // Died after it: the push counts.
    state.completing = 2;
    fake_put(DEVICE + 2, 2, 1);
    virtqueue_recover(&queue);
    assert_int_equal(state.in_flight[0], 0xb);
    assert_int_equal(state.used_idx, 1);
    // Died a moment later, when our own index was already counted.
    state.completing = 2;
    state.in_flight[0] |= 1 << 2;
    virtqueue_recover(&queue);
    assert_int_equal(state.in_flight[0], 0xb);
    assert_int_equal(state.used_idx, 1);
    assert_int_equal(virtqueue_resume(&queue, 2, &chain), VIRTQUEUE_EMPTY);
    assert_int_equal(virtqueue_resume(&queue, 3, &chain), VIRTQUEUE_CHAIN_TAKEN);
    assert_int_equal(chain.buffers[0].address, DATA + 3);
    // Died between marking a chain as taken and counting it.
    descriptor(5, DATA + 5, 1, 0, 0);
    make_available(5);
    state.in_flight[0] |= 1 << 5;
    virtqueue_recover(&queue);
    assert_int_equal(state.last_avail, 5);
    assert_int_equal(virtqueue_pop(&queue, &chain), VIRTQUEUE_EMPTY);
}

// A correct driver with random chains, direct and indirect, used in random order; the model is what
// it put there.
static void random_chains_against_a_model(void **unused) {
    (void)unused;
    srand(20261121);
    for (unsigned round = 0; round < 2000; round++) {
        unsigned count = 1 + (unsigned)rand() % 15, readable = (unsigned)rand() % (count + 1);
        bool indirect = rand() % 2;
        uint8_t order[16], model[2][4096];
        size_t bytes[2] = {0, 0};
        for (unsigned i = 0; i < 16; i++)
            order[i] = (uint8_t)i;
        for (unsigned i = 15; i > 0 && !indirect;
             i--) { // an indirect table begins with its first entry
            unsigned j = (unsigned)rand() % (i + 1);
            uint8_t swap = order[i];
            order[i] = order[j], order[j] = swap;
        }
        for (unsigned i = 0; i < count; i++) {
            bool write = i >= readable;
            uint32_t length = (uint32_t)rand() % 200;
            uint64_t address = DATA + i * 0x1000u + (uint64_t)(rand() % 4096);
            uint16_t flags =
                (uint16_t)((write ? VIRTQ_DESC_WRITE : 0) | (i + 1 < count ? VIRTQ_DESC_NEXT : 0));
            put_descriptor((indirect ? TABLE : DESC) + 16u * order[i], address, length, flags,
                           i + 1 < count ? order[i + 1] : 0);
            for (uint32_t k = 0; k < length; k++) {
                uint8_t byte = (uint8_t)rand();
                fake_write(address + k, &byte, 1);
                model[write][bytes[write]++] = byte;
            }
        }
        uint16_t head = (uint16_t)(indirect ? rand() % 16 : order[0]);
        if (indirect)
            descriptor(head, TABLE, count * 16, VIRTQ_DESC_INDIRECT, 0);
        make_available(head);
        assert_int_equal(virtqueue_pop(&queue, &chain), VIRTQUEUE_CHAIN_TAKEN);
        assert_int_equal(chain.head, head);
        assert_int_equal(chain.read_bytes, bytes[0]);
        assert_int_equal(chain.write_bytes, bytes[1]);
        uint8_t got[4096];
        // Buffers may overlap at their ends, so only single ones are compared byte by byte.
        assert_int_equal(virtqueue_read(&queue, &chain, 0, got, sizeof(got)), bytes[0]);
        if (readable == 1)
            assert_memory_equal(got, model[0], bytes[0]);
        for (size_t i = 0; i < bytes[1]; i++)
            got[i] = (uint8_t)rand();
        assert_int_equal(virtqueue_write(&queue, &chain, 0, got, sizeof(got)), bytes[1]);
        virtqueue_push(&queue, head, (uint32_t)bytes[1]);
        assert_int_equal(fake_get(DEVICE + 2, 2), (uint16_t)(round + 1));
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(takes_and_returns),
        TEST(puts_back),
        TEST(maps_in_place),
        TEST(refuses_to_map_what_is_no_memory),
        TEST(rejects_index_too_far),
        TEST(rejects_head_out_of_range),
        TEST(rejects_next_out_of_range),
        TEST(rejects_loop),
        TEST(rejects_readable_after_writable),
        TEST(rejects_wrapping_address),
        TEST(rejects_total_over_4_gib),
        TEST(rejects_head_taken_twice),
        TEST(walks_indirect),
        TEST(walks_direct_then_indirect),
        TEST(rejects_bad_indirect),
        TEST(rejects_bad_areas),
        TEST(rings_across_pages),
        TEST(interrupts_by_event_index),
        TEST(interrupts_by_flag),
        TEST(asks_for_kicks),
        TEST(recovers_after_a_crash),
        TEST(random_chains_against_a_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
