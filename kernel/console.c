// SPDX-License-Identifier: Apache-2.0
//
// Who prints the log. Invariant: bytes [0, shown) of the log were printed (or lost with the ring's oldest part).

#include "kernel/console.h"

#include "arch/acpi.h"
#include "drivers/uart16550.h"
#include "kernel/cmdline.h"
#include "kernel/event.h"
#include "kernel/log.h"
#include "kernel/schedule.h"

#define COM1 0x3f8u

struct console console;
static struct watcher printer; // prints in the kernel's stead
static u64 shown;

static bool use(u16 port, u32 baud, const char *source) {
    if (console.port == port)
        return true;
    if (!uart_init(port, baud)) {
        log_warn("basalt: console: no UART at port 0x%x (%s)", port, source);
        return false;
    }
    console = (struct console){port, baud};
    shown = 0;
    log_info("basalt: console: 16550 at port 0x%x (%s)", port, source);
    return true;
}

void console_init(void) {
    if (options.no_console)
        return;
    if (options.console_port)
        (void)use(options.console_port, options.console_baud, "command line");
    else if ((!acpi.spcr_port || !use(acpi.spcr_port, acpi.spcr_baud, "SPCR")) && !console.port)
        (void)use(COM1, UART_BAUD_MAX, "COM1");
}

static void print(void) {
    const struct basalt_log *log = log_ring();
    shown = MAX(shown, log->head - MIN(log->head, log->bytes));
    while (console.port && shown < log->head) {
        u64 at = shown % log->bytes, piece = MIN(log->head - shown, log->bytes - at);
        uart_write(console.port, log->data + at, piece);
        shown += piece;
    }
}

// Rings only at the next schedule_poll(): a line can be logged with any lock held, and by a machine check's handler.
void console_news(void) {
    if (printer.domain) {
        irq_pend(VECTOR_CONSOLE);
        schedule_yield();
    } else if (!options.log_deferred) {
        print();
    }
}

void console_ring(void) {
    if (printer.domain)
        event_ring(printer.domain, printer.port);
}

i64 console_bind(struct domain *d, u32 port, u64 printed) {
    if (printed > log_ring()->head)
        return -BASALT_EINVAL;
    printer = (struct watcher){d, port};
    shown = MAX(shown, printed);
    return (i64)shown;
}

void console_take(void) {
    printer.domain = NULL;
    options.log_deferred = 0;
    if (console.port && uart_init(console.port, console.baud))
        log_write("", 0);
}

void console_release(const struct domain *d, u32 port) {
    bool mine = printer.domain == d && (!port || printer.port == port);
    if (mine || (!printer.domain && !port))
        console_take();
}
