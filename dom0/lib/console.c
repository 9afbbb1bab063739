// SPDX-License-Identifier: Apache-2.0
//
// The machine's console through the kernel. Output waits in a ring that is handed on whenever the
// kernel's transmit ring has room; the kernel rings the console port when it has again, and when
// input arrived.

#include "lib/console.h"

#include "lib/event.h"
#include "lib/hypercall.h"
#include "lib/timer.h"

#include <string.h>

#define CONSOLE_BUFFER 65536u // a power of two
#define CONSOLE_LATE   4096u  // bytes: more than a third of a second on a serial line

static char buffer[CONSOLE_BUFFER];
static u64 head, tail; // bytes ever queued, ever handed to the kernel
static u64 lost;       // bytes dropped since output last found room
static void (*input)(void *context, const u8 *data, size_t bytes);
static void *input_context;
static struct work input_work;

// Hands on what the kernel takes.
static void drain(void) {
    while (tail != head) {
        u64 offset = tail % CONSOLE_BUFFER;
        i64 taken = hc_console_write(buffer + offset, MIN(head - tail, CONSOLE_BUFFER - offset));
        if (taken <= 0)
            return;
        tail += (u64)taken;
    }
}

size_t console_space(void) { return CONSOLE_BUFFER - (size_t)(head - tail); }

static void queue(const char *data, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        buffer[head++ % CONSOLE_BUFFER] = data[i];
}

size_t console_write(const void *data, size_t bytes) {
    static const char notice[] = "\r\n[output lost]\r\n";
    if (lost && console_space() > CONSOLE_BUFFER / 4) {
        lost = 0;
        queue(notice, sizeof(notice) - 1);
    }
    size_t taken = MIN(bytes, console_space());
    queue(data, taken);
    lost += bytes - taken;
    drain();
    return taken;
}

void console_drop(void) {
    static const char notice[] = "\r\n[output skipped]\r\n";
    drain();
    if (head - tail <= CONSOLE_LATE)
        return;
    head = tail;
    lost = 0;
    queue(notice, sizeof(notice) - 1);
}

// A few reads per call, the rest after everyone else had a turn.
static void read_input(void *context) {
    (void)context;
    for (unsigned i = 0; input && i < EVENT_BUDGET; i++) {
        u64 bytes;
        i64 count = hc_console_read(&bytes);
        if (count <= 0 || count > 8)
            return;
        u8 data[8];
        memcpy(data, &bytes, sizeof(data));
        input(input_context, data, (size_t)count);
    }
    if (input)
        work_queue(&input_work);
}

static void rung(void *context) {
    drain();
    read_input(context);
}

void console_init(void) {
    input_work.handler = read_input;
    int port = event_port_alloc(rung, NULL);
    if (port >= 0)
        hc_console_bind((u32)port);
    drain();
}

void console_set_input(void (*handler)(void *context, const u8 *data, size_t bytes),
                       void *context) {
    input = handler;
    input_context = context;
    if (handler && input_work.handler)
        work_queue(&input_work);
}

void console_flush(unsigned milliseconds) {
    u64 end = time_ns() + milliseconds * NS_PER_MS;
    for (drain(); tail != head && time_ns() < end; drain())
        hc_yield();
}

void console_write_now(const char *text, size_t bytes) {
    u64 end = time_ns() + 5 * NS_PER_S;
    while (bytes > 0 && time_ns() < end) {
        i64 taken = hc_console_write(text, bytes);
        if (taken < 0)
            return;
        text += taken;
        bytes -= MIN((size_t)taken, bytes);
        if (taken == 0)
            hc_yield();
    }
}
