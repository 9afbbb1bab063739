// SPDX-License-Identifier: Apache-2.0
//
// dom0's event loop, timers, console and log on a clock of the test's own.
//
// sources: tests/unit/dom0_host.c dom0/lib/event.c dom0/lib/timer.c dom0/lib/console.c dom0/lib/log.c dom0/lib/kernel_log.c dom0/lib/boot.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dom0_host.h"

#include "lib/boot.h"
#include "lib/console.h"
#include "lib/event.h"
#include "lib/hypercall.h"
#include "lib/log.h"
#include "lib/timer.h"

#include <stdlib.h>
#include <string.h>

static u32 order[4096], order_count;

static void note(void *context) { order[order_count++ % 4096] = (u32)(uintptr_t)context; }

static int setup(void **state) {
    (void)state;
    host_reset();
    event_init();
    order_count = 0;
    return 0;
}

static void each_port_once(void **state) {
    (void)state;
    static const u32 ports[] = {5, 63, 64, 700, 4095};
    for (unsigned i = 0; i < 5; i++) {
        event_port_bind(ports[i], note, (void *)(uintptr_t)ports[i]);
        host_ring(ports[i]);
        host_ring(ports[i]);
    }
    host_ring(9); // without a handler
    assert_true(event_pass(false));
    assert_int_equal(order_count, 5);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(order[i], ports[i]);
    assert_false(event_pass(false));
}

static void ring_self(void *context) {
    note(context);
    host_ring((u32)(uintptr_t)context);
}

// A port that rings again at once does not keep the others from being served.
static void fair(void **state) {
    (void)state;
    event_port_bind(5, ring_self, (void *)5);
    event_port_bind(100, note, (void *)100);
    host_ring(5);
    host_ring(100);
    event_pass(true);
    assert_int_equal(order_count, 2);
    event_pass(true);
    assert_int_equal(order_count, 3);
    assert_int_equal(host_blocks, 0);
    event_port_bind(5, NULL, NULL);
    event_pass(false);
}

static void ack_last(void *context) {
    note(context);
    event_last_call(BASALT_HC_IRQ_ACK, (u32)(uintptr_t)context, 0, 0, 0);
}

static void ack_seen(void *context) {
    note(context);
    assert_int_equal(host_acked, 5);
}

// A call that was put off is made before another handler runs, and at the end of a pass.
static void last_call_waits_for_nobody(void **state) {
    (void)state;
    struct work work = {.handler = ack_seen};
    struct timer timer = {.handler = ack_seen};
    event_port_bind(5, ack_last, (void *)5);
    event_port_bind(6, ack_seen, NULL);
    host_ring(5);
    host_ring(6);
    event_pass(false);
    host_acked = 0;
    host_ring(5);
    work_queue(&work);
    event_pass(false);
    host_acked = 0;
    host_ring(5);
    timer_set(&timer, 0);
    event_pass(false);
    host_acked = 0;
    host_ring(5);
    assert_true(event_pass(true));
    assert_int_equal(host_acked, 5);
    event_last_call(BASALT_HC_IRQ_ACK, 7, 0, 0, 0);
    event_last_call(BASALT_HC_IRQ_ACK, 8, 0, 0, 0);
    assert_int_equal(host_acked, 7);
    event_finish_call();
    event_finish_call();
    assert_int_equal(host_acked, 8);
    assert_int_equal(order_count, 7);
    assert_int_equal(host_then_blocks, 0);
}

static jmp_buf out_of_loop;

static void leave_loop(void) {
    if (host_blocks == 3)
        longjmp(out_of_loop, 1);
    host_ring(5);
}

// The loop makes it together with its wait, and never twice.
static void last_call_with_the_wait(void **state) {
    (void)state;
    event_port_bind(5, ack_last, (void *)5);
    host_on_block = leave_loop;
    if (!setjmp(out_of_loop))
        event_loop();
    assert_int_equal(order_count, 2);
    assert_int_equal(host_acked, 5);
    assert_int_equal(host_blocks, 3);
    assert_int_equal(host_then_blocks, 2); // all but the first wait, before which there was nothing
}

static bool flag;
static void set_the_flag(void *context) {
    (void)context;
    flag = true;
}

// Waits, inside a handler, for a port that the outer pass had taken already.
static void wait_inside(void *context) {
    (void)context;
    flag = false;
    assert_true(event_wait(&flag, NS_PER_S));
}

static void nested_wait_sees_taken_ports(void **state) {
    (void)state;
    event_port_bind(20, wait_inside, NULL);
    event_port_bind(21, set_the_flag, NULL);
    host_ring(20);
    host_ring(21);
    assert_true(event_pass(false));
    assert_true(flag);
}

static void freed_port_is_silent(void **state) {
    (void)state;
    int port = event_port_alloc(note, (void *)1);
    assert_true(port > 0);
    host_ring((u32)port);
    event_port_free(port);
    event_pass(false);
    assert_int_equal(order_count, 0);
    event_port_free(-1);
}

static struct work again;
static void requeue(void *context) {
    note(context);
    work_queue(&again);
}

static void work_in_order(void **state) {
    (void)state;
    struct work a = {.handler = note, .context = (void *)1},
                b = {.handler = note, .context = (void *)2},
                c = {.handler = note, .context = (void *)3};
    work_queue(&a);
    work_queue(&b);
    work_queue(&a);
    work_queue(&c);
    work_cancel(&b);
    work_cancel(&b);
    again = (struct work){.handler = requeue, .context = (void *)4};
    work_queue(&again);
    assert_true(event_pass(true));
    assert_int_equal(order_count, 3);
    assert_int_equal(order[0], 1);
    assert_int_equal(order[1], 3);
    assert_int_equal(order[2], 4);
    assert_int_equal(host_blocks, 0); // work is left, so it does not sleep
    work_cancel(&again);
    work_queue(&b);
    event_pass(false);
    assert_int_equal(order[3], 2);
}

static void cancel_the_last(void **state) {
    (void)state;
    struct work a = {.handler = note}, b = {.handler = note};
    work_queue(&a);
    work_queue(&b);
    work_cancel(&b);
    work_cancel(&a);
    work_queue(&b);
    assert_true(event_pass(false));
    assert_int_equal(order_count, 1);
}

static void timers_in_order(void **state) {
    (void)state;
    enum { COUNT = 500 };
    static struct timer timers[COUNT];
    memset(timers, 0, sizeof(timers));
    srand(3);
    u64 start = time_ns();
    for (unsigned i = 0; i < COUNT; i++) {
        timers[i] = (struct timer){.handler = note, .context = (void *)(uintptr_t)i};
        timer_set(&timers[i], start + 1000 + (u64)rand() % 1000000);
    }
    for (unsigned i = 0; i < COUNT; i += 3)
        timer_cancel(&timers[i]);
    for (unsigned i = 1; i < COUNT; i += 3)
        timer_set(&timers[i], start + 1000 + (u64)rand() % 1000000); // moves
    unsigned expected = COUNT - (COUNT + 2) / 3;
    while (order_count < expected)
        event_pass(true);
    for (unsigned i = 1; i < expected; i++)
        assert_true(timers[order[i - 1]].deadline <= timers[order[i]].deadline);
    assert_false(timer_run_due());
    for (unsigned i = 0; i < COUNT; i++)
        assert_false(timers[i].set);
}

static void timer_in_the_past(void **state) {
    (void)state;
    struct timer t = {.handler = note};
    timer_set(&t, 0);
    assert_true(event_pass(true));
    assert_int_equal(order_count, 1);
    assert_int_equal(host_blocks, 0);
}

static void wait_times_out(void **state) {
    (void)state;
    bool never = false;
    u64 before = time_ns();
    assert_false(event_wait(&never, 5 * NS_PER_S));
    assert_in_range(time_ns() - before, 5 * NS_PER_S, 5 * NS_PER_S + 10);
}

static void conversions(void **state) {
    (void)state;
    assert_int_equal(time_ns_of_ticks(2000000000ull), NS_PER_S);
    assert_int_equal(time_ticks_of_ns(NS_PER_S), 2000000000ull);
    u64 year = 365ull * 86400 * NS_PER_S;
    assert_int_equal(time_ns_of_ticks(time_ticks_of_ns(100 * year)), 100 * year);
}

static void console_and_log(void **state) {
    (void)state;
    console_init();
    log_info("test", "%d\x1b[2J", 7);
    log_debug("test", "not shown");
    assert_string_equal(host_console, "test: 7?[2J\r\n");
    char long_text[1000];
    memset(long_text, 'x', sizeof(long_text) - 1);
    long_text[999] = 0;
    log_error("test", "%s", long_text);
    assert_true(strlen(host_console) < 450);
    char text[4096];
    u64 cursor = 0;
    size_t n = log_read(&cursor, text, sizeof(text) - 1);
    text[n] = 0;
    assert_non_null(strstr(text, "debug   test: not shown\n"));
    assert_int_equal(log_read(&cursor, text, sizeof(text)), 0);
    assert_string_equal(error_text(-BASALT_EBUSY), "in use");
}

static void log_ring_wraps(void **state) {
    (void)state;
    char text[100];
    u64 cursor = 0;
    for (unsigned i = 0; i < 5000; i++)
        log_debug("test", "line %u", i);
    size_t total = 0, n;
    while ((n = log_read(&cursor, text, sizeof(text))) > 0)
        total += n;
    assert_int_equal(total, 65536);
}

static void options_and_modules(void **state) {
    (void)state;
    struct basalt_boot_info *info = (struct basalt_boot_info *)(uintptr_t)boot_info;
    char value[8];
    strcpy(info->cmdline, "  loglvl=debug  x quiet a=1 a=2 long=0123456789");
    assert_true(boot_option("loglvl", value, sizeof(value)));
    assert_string_equal(value, "debug");
    assert_true(boot_option("quiet", value, sizeof(value)));
    assert_string_equal(value, "");
    assert_true(boot_option("a", value, sizeof(value)));
    assert_string_equal(value, "1");
    assert_true(boot_option("long", value, sizeof(value)));
    assert_string_equal(value, "0123456");
    assert_false(boot_option("log", value, sizeof(value)));
    assert_false(boot_option("qui", value, sizeof(value)));
    info->module_count = 2;
    strcpy(info->modules[0].name, "/boot/disk.img read only");
    strcpy(info->modules[1].name, "plain");
    assert_ptr_equal(boot_module_find("disk.img"), &info->modules[0]);
    assert_ptr_equal(boot_module_find("plain"), &info->modules[1]);
    assert_null(boot_module_find("boot"));
    assert_string_equal(boot_module_arguments(&info->modules[0]), "read only");
    assert_string_equal(boot_module_arguments(&info->modules[1]), "");
    info->module_count = 1000;
    assert_null(boot_module(BASALT_BOOT_MODULES));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(each_port_once, setup),
        cmocka_unit_test_setup(fair, setup),
        cmocka_unit_test_setup(last_call_waits_for_nobody, setup),
        cmocka_unit_test_setup(last_call_with_the_wait, setup),
        cmocka_unit_test_setup(nested_wait_sees_taken_ports, setup),
        cmocka_unit_test_setup(freed_port_is_silent, setup),
        cmocka_unit_test_setup(work_in_order, setup),
        cmocka_unit_test_setup(cancel_the_last, setup),
        cmocka_unit_test_setup(timers_in_order, setup),
        cmocka_unit_test_setup(timer_in_the_past, setup),
        cmocka_unit_test_setup(wait_times_out, setup),
        cmocka_unit_test_setup(conversions, setup),
        cmocka_unit_test_setup(console_and_log, setup),
        cmocka_unit_test_setup(log_ring_wraps, setup),
        cmocka_unit_test_setup(options_and_modules, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
