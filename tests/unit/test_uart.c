// SPDX-License-Identifier: Apache-2.0
//
// The 16550A as Linux' 8250 driver treats it: detection, the start-up tests, interrupt-driven
// output and input; then FIFO, loopback, divisor latch and overruns, and random accesses.
//
// sources: dom0/devices/uart.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dom0/devices/uart.h"

static struct uart_state state;
static struct uart uart;
static char printed[4096];
static size_t printed_length;
static bool irq;
static unsigned irq_edges, rooms;

static void output(void *context, const char *bytes, size_t length) {
    (void)context;
    for (size_t i = 0; i < length; i++)
        printed[printed_length++ % sizeof(printed)] = bytes[i];
}

static void room(void *context) {
    (void)context;
    rooms++;
}

static void line(void *context, bool level) {
    (void)context;
    assert_int_not_equal(irq, level); // only changes are reported
    irq = level;
    irq_edges += level;
}

static struct {
    bool valid;
    uint8_t value;
} published[8];

static void publish(void *context, unsigned reg, bool valid, uint8_t value) {
    (void)context;
    published[reg].valid = valid;
    published[reg].value = value;
}

static int setup(void **unused) {
    (void)unused;
    irq = false;
    irq_edges = rooms = 0;
    printed_length = 0;
    memset(printed, 0, sizeof(printed));
    memset(published, 0, sizeof(published));
    uart = (struct uart){
        .state = &state, .output = output, .room = room, .line = line, .publish = publish};
    uart_reset(&uart);
    return 0;
}

// What is published is what a read gives, which then changes nothing.
static uint8_t in(unsigned reg) {
    bool valid = published[reg].valid;
    uint8_t expected = published[reg].value;
    struct uart_state before = state;
    uint8_t value = uart_read(&uart, reg);
    if (valid) {
        assert_int_equal(value, expected);
        assert_memory_equal(&state, &before, sizeof(state));
    }
    return value;
}

static void out(unsigned reg, uint8_t value) { uart_write(&uart, reg, value); }

// The steps of autoconfig() and autoconfig_16550a().
static void is_a_16550a_for_linux(void **unused) {
    (void)unused;
    uint8_t saved = in(1);
    out(1, 0);
    assert_int_equal(in(1) & 0x0f, 0);
    out(1, 0x0f);
    assert_int_equal(in(1) & 0x0f, 0x0f);
    out(1, saved);
    out(4, 0x10 | 0x0a); // loopback
    assert_int_equal(in(6) & 0xf0, 0x90);
    out(4, 0);
    out(3, 0xbf);
    out(2, 0); // EFR of better UARTs
    out(3, 0);
    out(2, 0x01);
    assert_int_equal(in(2) >> 6, 3); // a 16550A
    out(3, 0x80);
    assert_int_not_equal(in(2), 0); // no EFR: not a 16650
    out(3, 0xbf);
    assert_int_not_equal(in(2), 0);
    out(3, 0);
    out(2, 0x21); // 64-byte FIFO of a 16750
    assert_int_equal(in(2) & 0x20, 0);
    out(1, 0x40); // unit enable of an XScale
    assert_int_equal(in(1), 0);
    out(7, 0x5a);
    assert_int_equal(in(7), 0x5a);
}

// The tests of serial8250_do_startup() for UARTs that lose transmitter interrupts.
static void raises_transmitter_interrupts(void **unused) {
    (void)unused;
    assert_true(published[5].valid && published[1].valid); // from the beginning
    assert_int_equal(in(5), 0x60);
    out(1, 0x02);
    assert_int_equal(in(2) & 0x0f, 0x02);
    assert_int_equal(in(2) & 0x0f, 0x01); // reading it was the acknowledgement
    out(1, 0);
    out(1, 0x02);
    assert_int_equal(in(2) & 0x0f, 0x02);
    out(1, 0);
    assert_int_equal(irq, false);
}

static void prints_with_interrupts(void **unused) {
    (void)unused;
    const char *text = "hello, world";
    out(2, 0x07);
    out(1, 0x02);
    while (*text) {
        assert_true(irq);
        assert_int_equal(in(2) & 0x0f, 0x02);
        assert_false(irq);
        out(0, (uint8_t)*text++);
    }
    assert_string_equal(printed, "hello, world");
}

static void receives_with_interrupts(void **unused) {
    (void)unused;
    out(2, 0x87); // trigger at 8
    assert_false(uart_open(&uart));
    out(1, 0x05);
    assert_true(uart_open(&uart));
    assert_int_equal(uart_input(&uart, "abc", 3), 3);
    assert_true(irq);
    assert_int_equal(in(2), 0xcc); // below the trigger level: timeout
    assert_int_equal(uart_input(&uart, "defghijklmnopqrst", 17), 13);
    assert_int_equal(in(2), 0xc4);
    for (char c = 'a'; c <= 'p'; c++) {
        assert_int_equal(in(5), 0x61);
        assert_int_equal(rooms, 1); // when the driver began to listen
        assert_int_equal(in(0), c);
    }
    assert_int_equal(rooms, 2);
    assert_int_equal(in(5), 0x60);
    assert_false(irq);
    assert_int_equal(in(0), 0);
}

static void works_without_fifo(void **unused) {
    (void)unused;
    out(1, 0x01);
    assert_int_equal(uart_input(&uart, "ab", 2), 1);
    assert_int_equal(in(2), 0x04);
    assert_int_equal(in(0), 'a');
    assert_int_equal(in(2), 0x01);
}

static void clears_fifo(void **unused) {
    (void)unused;
    out(2, 0x01);
    out(1, 0x01);
    uart_input(&uart, "abc", 3);
    assert_true(irq);
    out(2, 0x03);
    assert_false(irq);
    assert_int_equal(in(5), 0x60);
    uart_input(&uart, "x", 1);
    out(2, 0x00); // switching it off clears too
    assert_int_equal(in(5), 0x60);
}

static void loops_back(void **unused) {
    (void)unused;
    out(4, 0x10);
    out(0, 'x');
    assert_int_equal(printed_length, 0);
    assert_int_equal(in(5), 0x61);
    assert_int_equal(uart_input(&uart, "y", 1), 0); // the line is cut
    out(0, 'z');                                    // no FIFO: overrun
    assert_false(published[5].valid);               // reading takes the overrun away
    assert_int_equal(in(5), 0x63);
    assert_true(published[5].valid);
    assert_int_equal(in(5), 0x61);
    assert_int_equal(in(0), 'x');
    static const uint8_t mcr[4] = {0x11, 0x12, 0x14, 0x18}, msr[4] = {0x20, 0x10, 0x40, 0x80};
    for (unsigned i = 0; i < 4; i++) {
        out(4, mcr[i]);
        assert_int_equal(in(6) & 0xf0, msr[i]);
    }
}

static void reports_modem_changes(void **unused) {
    (void)unused;
    out(4, 0x10); // from CTS, DSR, DCD to none
    assert_int_equal(in(6), 0x0b);
    assert_int_equal(in(6), 0x00);
    out(1, 0x08);
    out(4, 0x14);
    assert_int_equal(in(6), 0x40); // a beginning ring does not count
    out(4, 0x10);
    assert_true(irq);
    assert_int_equal(in(2), 0x00);
    assert_int_equal(in(6), 0x04); // its end does
    assert_false(irq);
}

static void has_a_divisor(void **unused) {
    (void)unused;
    out(3, 0x83);
    assert_int_equal(in(0), 12);
    out(0, 1);
    out(1, 0);
    assert_int_equal(in(0), 1);
    assert_int_equal(in(1), 0);
    out(3, 0x03);
    assert_int_equal(in(3), 0x03);
    assert_int_equal(printed_length, 0);
    assert_int_equal(in(1), 0);
}

static void orders_causes(void **unused) {
    (void)unused;
    out(4, 0x10);
    out(0, 'a');
    out(0, 'b'); // overrun
    out(1, 0x0f);
    assert_int_equal(in(2), 0x06);
    in(5);
    assert_int_equal(in(2), 0x04);
    in(0);
    assert_int_equal(in(2), 0x02);
    assert_int_equal(in(2), 0x00);
    in(6);
    assert_int_equal(in(2), 0x01);
}

// Whatever is done to it, line and IIR agree.
static void line_agrees_with_identification(void **unused) {
    (void)unused;
    srand(16550);
    for (unsigned i = 0; i < 200000; i++) {
        switch (rand() % 4) {
        case 0: in((unsigned)rand() % 8); break;
        case 1: uart_input(&uart, "0123456789abcdefghij", (size_t)(rand() % 20)); break;
        default: out((unsigned)rand() % 8, (uint8_t)rand()); break;
        }
        bool before = irq;
        uint8_t cause = in(2);
        assert_int_equal(before, !(cause & 1));
        assert_true(state.rx_count <= UART_FIFO);
    }
}

#define TEST(f) cmocka_unit_test_setup(f, setup)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(is_a_16550a_for_linux),
        TEST(raises_transmitter_interrupts),
        TEST(prints_with_interrupts),
        TEST(receives_with_interrupts),
        TEST(works_without_fifo),
        TEST(clears_fifo),
        TEST(loops_back),
        TEST(reports_modem_changes),
        TEST(has_a_divisor),
        TEST(orders_causes),
        TEST(line_agrees_with_identification),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
