// SPDX-License-Identifier: Apache-2.0
//
// The virtio console and entropy devices behind a Linux-like driver, the choice between ttyS0 and
// hvc0 for input, and the generator of random bytes against the test vector of RFC 8439.
//
// sources: dom0/devices/virtqueue.c dom0/devices/virtqueue_walk.c dom0/devices/chain.c
// sources: dom0/devices/virtio.c dom0/devices/virtio_pci.c dom0/devices/virtio_common.c
// sources: dom0/devices/virtio_blk.c dom0/devices/virtio_blk_request.c
// sources: dom0/devices/virtio_console.c dom0/devices/virtio_rng.c dom0/devices/entropy.c
// sources: dom0/devices/vpci.c dom0/devices/vpci_msix.c dom0/devices/ioapic.c dom0/devices/machine.c
// sources: dom0/devices/machine_devices.c dom0/devices/ports.c dom0/devices/dispatch.c
// sources: dom0/devices/console.c dom0/devices/uart.c dom0/devices/rtc.c dom0/devices/pm.c
// sources: dom0/devices/acpi.c dom0/devices/acpi_dsdt.c dom0/devices/aml.c
// sources: dom0/devices/msr.c dom0/devices/pvclock.c dom0/devices/cpuid.c
// sources: dom0/devices/instruction.c dom0/emulator/emulate.c dom0/emulator/decode.c
// sources: dom0/emulator/alu.c dom0/emulator/walk.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/fake_host.h"

#include "tests/unit/fake_driver.h"

#include "dom0/devices/entropy.h"

#define RING    0x100000u
#define BUFFERS 0x200000u
#define ALL     (~0ull)

static struct guest_machine *machine;
static struct fake_driver d;
static char printed[1 << 20];
static size_t printed_length;
static unsigned rooms;

static void output(void *context, const char *bytes, size_t length) {
    (void)context;
    for (size_t i = 0; i < length; i++)
        printed[printed_length++ % sizeof(printed)] = bytes[i];
}

static void room(void *context) {
    (void)context;
    rooms++;
}

static void done(void *context) { (void)context; }

static int setup(void **unused) {
    (void)unused;
    struct machine_config config = {.domain = 1,
                                    .vcpus = 1,
                                    .memory = 4u << 20,
                                    .console_output = output,
                                    .console_room = room};
    assert_int_equal(machine_create(&machine, &config), 0);
    printed_length = rooms = 0;
    memset(printed, 0, sizeof(printed));
    fake_msi_count = 0;
    return 0;
}

static int teardown(void **unused) {
    (void)unused;
    machine_destroy(machine, done, NULL);
    fake_run(100);
    assert_int_equal(fake_memory.pins, 0);
    fake_state_end();
    fake_memory_end();
    return 0;
}

static void start(unsigned type, unsigned queues) {
    assert_true(fake_probe(&d, machine, type));
    fake_negotiate(&d, ALL);
    for (unsigned i = 0; i < queues; i++)
        fake_queue_setup(&d, i, RING + i * 0x3000);
    fake_driver_ok(&d);
    assert_int_equal(mmio(&d, d.common + 20, 1), 15);
}

static void post(unsigned queue, uint16_t n, uint64_t address, uint32_t length, uint16_t flags) {
    fake_descriptor(&d.queues[queue], n, address, length, flags, 0);
    fake_available(&d.queues[queue], n);
}

static void prints(void **unused) {
    (void)unused;
    uint32_t head, written;
    start(3, 2);
    fake_write(BUFFERS + 4090, "hello from hvc0", 15);
    post(1, 5, BUFFERS + 4090, 15, 0);
    fake_kick(&d, 1);
    assert_string_equal(printed, "hello from hvc0");
    assert_true(fake_harvest(&d.queues[1], &head, &written));
    assert_int_equal(head, 5);
    assert_int_equal(written, 0);
    assert_int_equal(fake_msi_count, 1);
    assert_int_equal(fake_msis[0].data, 0x41);
}

// A buffer of gigabytes is printed as far as it is memory, in turns.
static void long_output_takes_turns(void **unused) {
    (void)unused;
    uint32_t head, written;
    start(3, 2);
    for (unsigned i = 0; i < 100000; i++)
        fake_put(BUFFERS + i, 1, 'a' + i % 26);
    post(1, 0, BUFFERS, 100000, 0);
    post(1, 1, BUFFERS, 0xffff0000, 0);
    fake_kick(&d, 1);
    assert_int_equal(printed_length, 16384);
    assert_false(fake_harvest(&d.queues[1], &head, &written));
    assert_int_equal(fake_run(6), 6);
    assert_true(printed_length > 100000);
    assert_true(fake_harvest(&d.queues[1], &head, &written));
    for (unsigned i = 0; i < 100000; i++)
        assert_int_equal(printed[i], 'a' + i % 26);
    fake_run(1000);
    assert_int_equal(fake_work_count, 0);
    assert_int_equal(printed_length, 100000 + FAKE_PAGES * 4096 - BUFFERS);
    assert_true(fake_harvest(&d.queues[1], &head, &written));
}

static void reset_in_the_middle_of_output(void **unused) {
    (void)unused;
    start(3, 2);
    post(1, 0, BUFFERS, 100000, 0);
    fake_kick(&d, 1);
    mmio_write(&d, d.common + 20, 1, 0);
    assert_int_equal(mmio(&d, d.common + 20, 1), 0);
    size_t length = printed_length;
    fake_run(100);
    assert_int_equal(printed_length, length);
    start(3, 2);
    fake_write(BUFFERS, "again", 5);
    post(1, 0, BUFFERS, 5, 0);
    fake_kick(&d, 1);
    assert_int_equal(printed_length, length + 5);
}

static void takes_input(void **unused) {
    (void)unused;
    uint32_t head, written;
    char got[9] = {0};
    start(3, 2);
    assert_int_equal(machine_console_input(machine, "x", 1), 0); // no buffers yet
    post(0, 0, BUFFERS, 4, VIRTQ_DESC_WRITE);
    post(0, 1, BUFFERS + 4, 100, VIRTQ_DESC_WRITE);
    fake_kick(&d, 0);
    fake_run(10);
    assert_int_equal(rooms, 1);
    assert_int_equal(machine_console_input(machine, "abcdefgh", 8), 8);
    fake_read(BUFFERS, got, 8);
    assert_string_equal(got, "abcdefgh");
    assert_true(fake_harvest(&d.queues[0], &head, &written));
    assert_int_equal(written, 4);
    assert_true(fake_harvest(&d.queues[0], &head, &written));
    assert_int_equal(written, 4);
    assert_int_equal(fake_msi_count, 1);
    assert_int_equal(machine_console_input(machine, "ij", 2), 0);
    post(0, 2, BUFFERS, 4, VIRTQ_DESC_WRITE);
    fake_kick(&d, 0);
    fake_run(10);
    assert_int_equal(rooms, 2);
    fake_kick(&d, 0);
    fake_run(10);
    assert_int_equal(rooms, 2); // only after input was refused
    post(0, 3, BUFFERS, 4, 0);  // a buffer that cannot be written takes nothing
    post(0, 4, BUFFERS, 4, VIRTQ_DESC_WRITE);
    assert_int_equal(machine_console_input(machine, "ijklmnop", 8), 8);
}

static void uart_in(const char *text, size_t length) {
    for (size_t i = 0; i < length; i++)
        assert_int_equal(machine_read(machine, false, 0x3f8, 1), text[i]);
}

static void input_goes_to_who_listens(void **unused) {
    (void)unused;
    // Nobody: the serial port keeps what it can.
    machine_write(machine, false, 0x3fa, 1, 1);
    assert_int_equal(machine_console_input(machine, "a", 1), 1);
    uart_in("a", 1);
    start(3, 2);
    post(0, 0, BUFFERS, 64, VIRTQ_DESC_WRITE);
    assert_int_equal(machine_console_input(machine, "b", 1), 1);
    assert_int_equal(fake_get(BUFFERS, 1), 'b');
    // Both: who printed last.
    machine_write(machine, false, 0x3f9, 1, 1);
    machine_write(machine, false, 0x3f8, 1, '#');
    assert_int_equal(printed[0], '#');
    assert_int_equal(machine_console_input(machine, "c", 1), 1);
    assert_true(fake_line(machine, 4));
    uart_in("c", 1);
    fake_write(BUFFERS + 64, "$", 1);
    post(1, 0, BUFFERS + 64, 1, 0);
    fake_kick(&d, 1);
    post(0, 1, BUFFERS, 64, VIRTQ_DESC_WRITE);
    assert_int_equal(machine_console_input(machine, "d", 1), 1);
    assert_int_equal(fake_get(BUFFERS, 1), 'd');
    assert_int_equal(printed[1], '$');
}

static void malformed_console_ring(void **unused) {
    (void)unused;
    machine_write(machine, false, 0x3fa, 1, 1);
    for (unsigned queue = 0; queue < 2; queue++) {
        start(3, 2);
        fake_put(d.queues[queue].driver + 2, 2, 1000);
        if (queue)
            fake_kick(&d, 1);
        else
            assert_int_equal(machine_console_input(machine, "x", 1), 0);
        assert_int_equal(mmio(&d, d.common + 20, 1), 15 | VIRTIO_STATUS_NEEDS_RESET);
        fake_kick(&d, 0);
        fake_kick(&d, 1);
        assert_int_equal(fake_run(10), 0);
        assert_int_equal(machine_console_input(machine, "x", 1), 1); // the serial port's now
    }
}

static void gives_random_bytes(void **unused) {
    (void)unused;
    uint8_t a[64], b[64];
    uint32_t head, written;
    start(4, 1);
    post(0, 0, BUFFERS, 64, VIRTQ_DESC_WRITE);
    post(0, 1, BUFFERS + 4096, 64, VIRTQ_DESC_WRITE);
    fake_kick(&d, 0);
    for (unsigned i = 0; i < 2; i++) {
        assert_true(fake_harvest(&d.queues[0], &head, &written));
        assert_int_equal(written, 64);
    }
    fake_read(BUFFERS, a, 64);
    fake_read(BUFFERS + 4096, b, 64);
    assert_memory_not_equal(a, b, 64);
    assert_int_equal(fake_msi_count, 1);
}

static void random_bytes_are_rationed(void **unused) {
    (void)unused;
    uint32_t head, written;
    uint64_t total = 0;
    start(4, 1);
    for (unsigned i = 0; i < 100; i++)
        post(0, (uint16_t)i, BUFFERS, 16384, VIRTQ_DESC_WRITE);
    fake_kick(&d, 0);
    for (unsigned i = 0; i < 10; i++)
        fake_kick(&d, 0);
    while (fake_harvest(&d.queues[0], &head, &written))
        total += written;
    assert_int_equal(total, 16384);
    uint64_t before = fake_now;
    fake_pass(500000000);
    while (fake_harvest(&d.queues[0], &head, &written)) {
        assert_true(written > 0);
        total += written;
    }
    uint64_t allowed = 16384 + (fake_now - before) * 65536 / 1000000000;
    assert_true(total <= allowed && total >= allowed - 4096);
    mmio_write(&d, d.common + 20, 1, 0);
    fake_pass(1000000000);
    assert_false(fake_harvest(&d.queues[0], &head, &written));
}

static void malformed_entropy_ring(void **unused) {
    (void)unused;
    start(4, 1);
    post(0, 200, BUFFERS, 16, VIRTQ_DESC_WRITE);
    fake_kick(&d, 0);
    assert_int_equal(mmio(&d, d.common + 20, 1), 15 | VIRTIO_STATUS_NEEDS_RESET);
    start(4, 1);
    post(0, 0, FAKE_PAGES * 4096ull, 16, VIRTQ_DESC_WRITE); // no memory: nothing written
    post(0, 1, BUFFERS, 16, 0);                             // nothing to write to
    fake_kick(&d, 0);
    uint32_t head, written;
    assert_true(fake_harvest(&d.queues[0], &head, &written));
    assert_int_equal(written, 0);
    assert_true(fake_harvest(&d.queues[0], &head, &written));
    assert_int_equal(written, 0);
}

// "Test Vector for the ChaCha20 Block Function" of RFC 8439.
static void chacha_block(void **unused) {
    (void)unused;
    static const uint8_t expected[64] = {
        0x10, 0xf1, 0xe7, 0xe4, 0xd1, 0x3b, 0x59, 0x15, 0x50, 0x0f, 0xdd, 0x1f, 0xa3,
        0x20, 0x71, 0xc4, 0xc7, 0xd1, 0xf4, 0xc7, 0x33, 0xc0, 0x68, 0x03, 0x04, 0x22,
        0xaa, 0x9a, 0xc3, 0xd4, 0x6c, 0x4e, 0xd2, 0x82, 0x64, 0x46, 0x07, 0x9f, 0xaa,
        0x09, 0x14, 0xc2, 0xd7, 0x05, 0xd9, 0x8b, 0x02, 0xa2, 0xb5, 0x12, 0x9c, 0xd1,
        0xde, 0x16, 0x4e, 0xb9, 0xcb, 0xd0, 0x83, 0xe8, 0xa2, 0x50, 0x3c, 0x4e,
    };
    uint8_t key[32], out[64];
    uint32_t words[8];
    const uint32_t nonce[3] = {0x09000000, 0x4a000000, 0};
    for (unsigned i = 0; i < 32; i++)
        key[i] = (uint8_t)i;
    memcpy(words, key, 32);
    entropy_chacha_block(words, 1, nonce, out);
    assert_memory_equal(out, expected, 64);
}

static void entropy_never_repeats(void **unused) {
    (void)unused;
    static uint8_t bytes[4 << 20];
    for (size_t at = 0, length = 1; at + length < sizeof(bytes);
         at += length, length = length * 3 % 4001 + 1)
        entropy_fill(bytes + at, length);
    unsigned ones = 0;
    for (size_t i = 0; i < sizeof(bytes) - 8192; i++)
        ones += (unsigned)__builtin_popcount(bytes[i]);
    double share = ones / (8.0 * (sizeof(bytes) - 8192));
    assert_true(share > 0.499 && share < 0.501);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(prints),
        TEST(long_output_takes_turns),
        TEST(reset_in_the_middle_of_output),
        TEST(takes_input),
        TEST(input_goes_to_who_listens),
        TEST(malformed_console_ring),
        TEST(gives_random_bytes),
        TEST(random_bytes_are_rationed),
        TEST(malformed_entropy_ring),
        cmocka_unit_test(chacha_block),
        cmocka_unit_test(entropy_never_repeats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
