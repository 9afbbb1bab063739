// SPDX-License-Identifier: Apache-2.0
//
// The machine's console. Output waits in a ring that is handed on as the UART takes it; the driver calls when it takes
// more, and when input arrived.

#include "lib/console.h"

#include "drivers/serial.h"
#include "lib/event.h"
#include "lib/hypercall.h"
#include "lib/kernel_log.h"
#include "lib/timer.h"

#define CONSOLE_BUFFER 65536u // a power of two
#define CONSOLE_LATE   4096u  // bytes: more than a third of a second on a serial line

static char buffer[CONSOLE_BUFFER];
static u64 head, tail; // bytes ever queued, ever handed to the UART
static u64 lost;       // bytes dropped since output last found room
static void (*input)(void *context, const u8 *data, size_t bytes);
static void *input_context;
static struct work input_work;

void console_drain(void) {
    while (tail != head) {
        u64 offset = tail % CONSOLE_BUFFER;
        size_t sent = serial_send(buffer + offset, MIN(head - tail, CONSOLE_BUFFER - offset));
        if (!sent)
            return;
        tail += sent;
    }
    kernel_log_sent();
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
    console_drain();
    return taken;
}

void console_drop(void) {
    static const char notice[] = "\r\n[output skipped]\r\n";
    console_drain();
    if (head - tail <= CONSOLE_LATE)
        return;
    head = tail;
    lost = 0;
    queue(notice, sizeof(notice) - 1);
}

// Some bytes per call, the rest after everyone else had a turn.
static void read_input(void *context) {
    u8 data[EVENT_BUDGET];
    (void)context;
    if (!input)
        return;
    size_t count = serial_receive(data, sizeof(data));
    if (count)
        input(input_context, data, count);
    if (count == sizeof(data))
        work_queue(&input_work);
}

static void ready(void) {
    console_drain();
    read_input(NULL);
}

void console_init(void) {
    input_work.handler = read_input;
    serial_init(ready);
    console_drain();
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
    for (console_drain(); (tail != head || !serial_idle()) && time_ns() < end; console_drain())
        hc_yield();
}

void console_write_now(const char *text, size_t bytes) {
    u64 end = time_ns() + 5 * NS_PER_S;
    while (bytes > 0 && time_ns() < end) {
        size_t sent = serial_send(text, bytes);
        text += sent;
        bytes -= sent;
    }
    while (!serial_idle() && time_ns() < end)
        continue;
}
