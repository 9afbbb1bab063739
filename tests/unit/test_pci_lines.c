// SPDX-License-Identifier: Apache-2.0
//
// How dom0's PCI functions share interrupt lines: the kernel binds a line to one port, all drivers on the line are called
// when it rings, and each of them acknowledges that port.
//
// sources: dom0/drivers/pci.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dom0/drivers/pci.h"

#include "lib/event.h"
#include "lib/hypercall.h"
#include "lib/log.h"
#include "lib/memory.h"

#include <basalt/error.h>
#include <basalt/hypercall.h>

#define PORTS 64u

static struct {
    event_handler handler;
    void *context;
} ports[PORTS];
static u32 ports_used, ports_freed, binds;
static u64 acked;
static i64 bind_error;

struct hypercall_result hypercall_raw(u64 number, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f) {
    (void)d;
    (void)e;
    (void)f;
    switch (number) {
    case BASALT_HC_PCI_READ: // the line of function n is n / 10
        assert_int_equal(c, 0x3c);
        return (struct hypercall_result){(i64)b / 10, 0};
    case BASALT_HC_IRQ_BIND: binds += !bind_error; return (struct hypercall_result){bind_error, 0};
    case BASALT_HC_IRQ_ACK: acked = a; return (struct hypercall_result){0, 0};
    default: fail_msg("hypercall %u", (unsigned)number);
    }
    return (struct hypercall_result){0, 0};
}

int event_port_alloc(event_handler handler, void *context) {
    assert_true(ports_used + 1 < PORTS);
    ports[++ports_used].handler = handler;
    ports[ports_used].context = context;
    return (int)ports_used;
}
void event_port_free(int port) {
    (void)port;
    ports_freed++;
}
void *phys_map(u64 base, u64 bytes) {
    (void)base;
    (void)bytes;
    return NULL;
}
void log_line(enum log_level level, const char *subject, const char *text, ...) {
    (void)level;
    (void)subject;
    (void)text;
}

static void count(void *context) { ++*(unsigned *)context; }

static int bind(u32 function, unsigned *calls) {
    const struct pci_device d = {.bdf = function};
    return pci_bind_line(&d, count, calls);
}

static void ring(int port) { ports[port].handler(ports[port].context); }

static void test_lines(void **state) {
    unsigned calls[4] = {0};
    (void)state;
    bind_error = -BASALT_ENODEV; // leaves nothing behind
    assert_int_equal(bind(100, &calls[0]), -BASALT_ENODEV);
    assert_int_equal(ports_freed, 1);
    bind_error = 0;
    int first = bind(100, &calls[0]), other = bind(110, &calls[1]);
    assert_true(first > 0 && other > 0 && first != other);
    assert_int_equal(bind(101, &calls[2]), first);
    assert_int_equal(binds, 2);
    ring(first);
    assert_true(calls[0] == 1 && calls[1] == 0 && calls[2] == 1);
    ring(other);
    assert_true(calls[0] == 1 && calls[1] == 1 && calls[2] == 1);
    pci_line_ack(first);
    assert_int_equal(acked, first);
}

// What has no room is refused, and the line goes on.
static void test_limits(void **state) {
    unsigned calls = 0, users = 0, lines = 0;
    (void)state;
    int port = bind(120, &calls);
    for (users = 1; bind(121, &calls) == port; users++)
        ;
    ring(port);
    assert_true(users > 1);
    assert_int_equal(calls, users);
    while (bind(130 + 10 * lines, &calls) > 0)
        lines++;
    assert_in_range(lines, 4, PORTS);
    assert_int_equal(bind(1000, &calls), -BASALT_ENOSPC);
    assert_true(bind(111, &calls) > 0); // a line that is there has room
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
