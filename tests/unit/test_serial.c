// SPDX-License-Identifier: Apache-2.0
//
// dom0's driver of the machine's UART against a 16550 whose bits take their time, and the kernel's log between dom0's own
// lines: nothing is lost or doubled, with interrupts, without, and when one gets lost.
//
// sources: tests/unit/dom0_host.c dom0/drivers/serial.c dom0/lib/event.c dom0/lib/timer.c dom0/lib/console.c
// sources: dom0/lib/log.c dom0/lib/kernel_log.c dom0/lib/boot.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dom0_host.h"

#include "lib/boot.h"
#include "lib/console.h"
#include "lib/event.h"
#include "lib/kernel_log.h"
#include "lib/log.h"
#include "lib/ports.h"
#include "lib/timer.h"

#include <basalt/trace.h>
#include <string.h>

#define BASE    0x2f8
#define BYTE_NS 86806u // at 115200 baud

// ---- The chip ----

static struct {
    u8 ier, lcr, mcr, divisor[2];
    u8 tx[16], rx[16];
    unsigned tx_count, rx_count;
    u64 out_at; // when the byte in the shift register is out
    char line[200000];
    size_t line_used;
    bool transmit_pending, interrupt; // the line's level
    unsigned lose;                    // edges that nobody notices
    bool dead;                        // no interrupt ever comes
} chip;

// The line rises: an edge.
static void update(void) {
    bool level = chip.mcr & 8 &&
                 ((chip.ier & 1 && chip.rx_count) || (chip.ier & 2 && chip.transmit_pending));
    if (level && !chip.interrupt && !chip.dead && host_isa_port) {
        if (chip.lose)
            chip.lose--;
        else
            host_ring(host_isa_port);
    }
    chip.interrupt = level;
}

static void pass(void) {
    while (chip.tx_count && time_ns() >= chip.out_at) {
        chip.line[chip.line_used++] = (char)chip.tx[0];
        chip.line[chip.line_used] = 0;
        memmove(chip.tx, chip.tx + 1, --chip.tx_count);
        chip.out_at += BYTE_NS;
        chip.transmit_pending |= !chip.tx_count;
    }
    update();
}

u8 in8(u16 port) {
    host_advance(500);
    pass();
    switch (port - BASE) {
    case 0: {
        assert_true(chip.rx_count);
        u8 byte = chip.rx[0];
        memmove(chip.rx, chip.rx + 1, --chip.rx_count);
        update();
        return byte;
    }
    case 2:
        chip.transmit_pending = false;
        update();
        return 1;
    case 5: return (u8)((chip.rx_count ? 1 : 0) | (chip.tx_count ? 0 : 0x60));
    default: fail(); return 0;
    }
}

void out8(u16 port, u8 value) {
    host_advance(500);
    pass();
    unsigned reg = port - BASE;
    if (reg < 2 && chip.lcr & 0x80) {
        chip.divisor[reg] = value;
    } else if (reg == 0) {
        assert_true(chip.tx_count < 16);
        if (!chip.tx_count)
            chip.out_at = time_ns() + BYTE_NS;
        chip.tx[chip.tx_count++] = value;
        chip.transmit_pending = false;
    } else if (reg == 1) {
        chip.transmit_pending |= value & ~chip.ier & 2 && !chip.tx_count;
        chip.ier = value;
    } else if (reg == 3) {
        chip.lcr = value;
    } else if (reg == 4) {
        chip.mcr = value;
    }
    update();
}

static void receive(const char *text) {
    for (; *text && chip.rx_count < 16; text++)
        chip.rx[chip.rx_count++] = (u8)*text;
    update();
}

// Lets time go on, as hardware does while dom0 sleeps.
static void sleep_a_little(void) {
    host_advance(BYTE_NS);
    pass();
}

static char typed[100];

static void note_input(void *context, const u8 *data, size_t bytes) {
    (void)context;
    strncat(typed, (const char *)data, bytes);
}

static union {
    struct basalt_log log;
    char room[sizeof(struct basalt_log) + 64];
} kernel = {.log = {.bytes = 64}};

static void kernel_says(const char *text) {
    for (; *text; text++)
        kernel.log.data[kernel.log.head++ % 64] = *text;
    if (host_console_port)
        host_ring(host_console_port);
}

static int setup(void **state) {
    (void)state;
    host_reset();
    memset(&chip, 0, sizeof(chip));
    struct basalt_boot_info *info = (struct basalt_boot_info *)(uintptr_t)boot_info;
    info->console_port = BASE;
    info->console_baud = 9600;
    info->log_base = (u64)(uintptr_t)&kernel;
    kernel.log.head = 0;
    typed[0] = 0;
    event_init();
    return 0;
}

static void start(void) {
    console_init();
    console_set_input(note_input, NULL);
}

static void run(u64 ms) {
    for (u64 end = time_ns() + ms * NS_PER_MS; time_ns() < end; sleep_a_little())
        event_pass(false);
}

static void programs(void **state) {
    (void)state;
    start();
    assert_int_equal(chip.divisor[0] | chip.divisor[1] << 8, 12);
    assert_int_equal(chip.lcr, 3);
    assert_int_equal(host_isa_irq, 3);
}

// More than the FIFO holds, while bytes come in: all of it goes out in order, and no time is spent waiting.
static void both_ways(void) {
    char text[3001];
    for (unsigned i = 0; i < sizeof(text) - 1; i++)
        text[i] = (char)('a' + i % 26);
    text[sizeof(text) - 1] = 0;
    u64 before = time_ns();
    console_write(text, 3000);
    assert_true(time_ns() - before < 20 * BYTE_NS);
    for (unsigned i = 0; i < 10; i++) {
        receive(&"0123456789"[i]);
        run(30);
    }
    run(200);
    assert_string_equal(chip.line, text);
    assert_string_equal(typed, "0123456789123456789234567893456789456789567896789789899");
}

static void with_interrupts(void **state) {
    (void)state;
    start();
    both_ways();
    host_timer_deadline = 0;
    event_pass(false);
    assert_int_equal(chip.ier, 1);
    host_on_block = sleep_a_little;
    receive("x"); // wakes it, and no timer runs when there is nothing to send
    event_pass(true);
    assert_int_equal(host_timer_deadline, 0);
}

static void without_interrupts(void **state) {
    (void)state;
    chip.dead = true;
    start();
    both_ways();
}

static void lost_interrupt(void **state) {
    (void)state;
    start();
    run(1);
    console_write("12345678901234567890", 20);
    chip.lose = 1;
    run(300);
    assert_string_equal(chip.line, "12345678901234567890");
}

static void last_words(void **state) {
    (void)state;
    start();
    console_write("queued and queued and queued ", 29);
    console_flush(100);
    console_write_now("and this", 8);
    assert_string_equal(chip.line, "queued and queued and queued and this");
}

// In order, and told to the kernel once it is on the line.
static void kernel_log(void **state) {
    (void)state;
    kernel_says("early\n");
    start();
    host_console_shown = 2; // the kernel got that far
    kernel_log_init();
    run(10);
    assert_string_equal(chip.line, "rly\r\n");
    assert_int_equal(host_console_shown, 6);
    kernel_says("first\n");
    log_info("dom0", "second");
    assert_int_equal(host_console_shown, 6);
    kernel_says("third\n");
    run(10);
    assert_string_equal(chip.line, "rly\r\nfirst\r\ndom0: second\r\nthird\r\n");
    assert_int_equal(host_console_shown, 18);
    chip.line_used = 0;
    kernel_says("0123456789012345678901234567890123456789012345678901234567890123456789");
    run(20); // the oldest was overwritten
    assert_string_equal(chip.line,
                        "6789012345678901234567890123456789012345678901234567890123456789");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(programs, setup),
        cmocka_unit_test_setup(with_interrupts, setup),
        cmocka_unit_test_setup(without_interrupts, setup),
        cmocka_unit_test_setup(lost_interrupt, setup),
        cmocka_unit_test_setup(last_words, setup),
        cmocka_unit_test_setup(kernel_log, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
