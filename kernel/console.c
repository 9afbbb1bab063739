// SPDX-License-Identifier: Apache-2.0
//
// Console hypercalls over the serial driver. Output is copied in pieces of bounded size: a long text takes several
// calls, none of which waits for the transmitter.

#include "kernel/console.h"

#include "drivers/uart16550.h"
#include "kernel/event.h"

#define PIECE 256u

static struct watcher listener;

void console_interrupt(void) {
    if (uart_interrupt() && listener.domain)
        event_ring(listener.domain, listener.port);
}

i64 console_write(struct domain *caller, gpa_t buffer, u64 bytes) {
    char text[PIECE];
    u64 length = MIN(MIN(bytes, uart_tx_space()), sizeof(text));
    int error = memory_read(caller, buffer, text, length);

    if (error)
        return error;
    uart_write(text, length);
    return (i64)length;
}

unsigned console_read(u64 *bytes) {
    unsigned count = 0;
    u8 byte;

    for (*bytes = 0; count < 8 && uart_rx(&byte); count++)
        *bytes |= (u64)byte << (8 * count);
    return count;
}

void console_bind(struct domain *d, u32 port) {
    listener.domain = d;
    listener.port = port;
}

void console_unbind(const struct domain *d, u32 port) {
    if (listener.domain == d && (!port || listener.port == port))
        listener.domain = NULL;
}
