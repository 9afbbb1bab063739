// SPDX-License-Identifier: Apache-2.0
//
// Who prints the log: the kernel, a domain that takes the console, and the kernel again when that ends, gives up its port, or
// the machine goes down. Nothing is lost or printed twice.
//
// sources: kernel/console.c kernel/log.c kernel/format.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/acpi.h"
#include "arch/cpu.h"
#include "drivers/uart16550.h"
#include "kernel/cmdline.h"
#include "kernel/console.h"
#include "kernel/event.h"
#include "kernel/log.h"
#include "kernel/schedule.h"

#include <basalt/error.h>

#define PORT 7u

struct acpi_info acpi;
struct options options;
static struct domain printer, other;
static char line[200000]; // what the kernel has printed
static size_t used;
static unsigned inits, rings, pending;

bool uart_init(u16 port unused, u32 baud unused) {
    inits++;
    return true;
}
void uart_write(u16 port unused, const char *text, size_t length) {
    assert_true(used + length < sizeof(line));
    memcpy(line + used, text, length);
    used += length;
}
void event_ring(struct domain *d, u32 port) {
    assert_ptr_equal(d, &printer);
    assert_int_equal(port, PORT);
    rings++;
}
void irq_record(unsigned vector) {
    assert_int_equal(vector, VECTOR_CONSOLE);
    pending++;
}
void schedule_yield(void) {}

static int fresh(void **state unused) {
    console_take();
    options = (struct options){.loglvl = LOG_INFO, .console_port = 0x3f8};
    console_init();
    used = inits = rings = pending = 0;
    return 0;
}

static void assert_printed(const char *text) {
    assert_int_equal(used, strlen(text));
    assert_memory_equal(line, text, used);
}

// The printer has printed up to the n-th byte from the end of the log.
static void printed_until(u64 from_the_end) {
    assert_true(console_bind(&printer, PORT, log_ring()->head - from_the_end) >= 0);
}

static void the_kernel_prints(void **state unused) {
    log_info("one");
    log_info("two");
    assert_printed("one\ntwo\n");
}

static void a_domain_prints(void **state unused) {
    printed_until(0);
    log_info("three");
    assert_printed("");
    assert_true(pending && !rings);
    console_ring();
    assert_int_equal(rings, 1);
    assert_int_equal(console_bind(&printer, PORT, log_ring()->head + 1), -BASALT_EINVAL);
    assert_true(console_bind(&printer, PORT, 0) == (i64)log_ring()->head - 6); // never back
}

// What it has not printed yet the kernel does, from there on.
static void the_printer_goes(void **state unused) {
    for (unsigned by_port = 0; by_port < 2; by_port++) {
        fresh(NULL);
        printed_until(0);
        log_info("four");
        log_info("five");
        printed_until(5);
        console_release(&other, 0);
        console_release(&other, PORT);
        console_release(&printer, PORT + 1);
        assert_printed("");
        console_release(&printer, by_port ? PORT : 0);
        assert_int_equal(inits, 1);
        assert_printed("five\n");
        log_info("six");
        assert_printed("five\nsix\n");
        console_ring(); // one that was under way
        assert_int_equal(rings, 0);
        console_release(&printer, PORT);
        assert_int_equal(inits, 1);
    }
}

static void a_log_kept_for_a_printer_that_never_came(void **state unused) {
    options.log_deferred = 1;
    log_info("seven");
    console_release(&printer, PORT); // some port
    assert_printed("");
    console_release(&printer, 0);
    assert_printed("seven\n");
}

static void the_machine_goes_down(void **state unused) {
    printed_until(0);
    log_info("eight");
    console_take();
    log_info("nine");
    assert_printed("eight\nnine\n");
}

// The ring's oldest part was lost before anybody printed it.
static void more_than_the_ring_holds(void **state unused) {
    const struct basalt_log *log = log_ring();

    printed_until(0);
    for (unsigned i = 0; i < 2 * log->bytes / 8; i++)
        log_info("line %02u", i % 100);
    console_release(&printer, 0);
    assert_int_equal(used, log->bytes);
    assert_memory_equal(line + used - 8, log->data + (log->head - 8) % log->bytes, 8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(the_kernel_prints, fresh),
        cmocka_unit_test_setup(a_domain_prints, fresh),
        cmocka_unit_test_setup(the_printer_goes, fresh),
        cmocka_unit_test_setup(a_log_kept_for_a_printer_that_never_came, fresh),
        cmocka_unit_test_setup(the_machine_goes_down, fresh),
        cmocka_unit_test_setup(more_than_the_ring_holds, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
