// SPDX-License-Identifier: Apache-2.0
//
// dom0's log. The ring keeps the last LOG_BYTES bytes of all levels, "[seconds] level subject:
// text" per line; what is at or above the threshold goes to the sink, too.

#include "lib/log.h"

#include "lib/console.h"
#include "lib/kernel_log.h"
#include "lib/timer.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#ifndef HOST_TEST
#include "start/traps.h"
#endif

#define LOG_BYTES 65536u // a power of two
#define LOG_LINE  400u

static char ring[LOG_BYTES];
static u64 ring_head;
static enum log_level threshold = LOG_INFO;
static void (*sink)(const char *text, size_t bytes);

static const char *const level_names[] = {"error", "warning", "info", "debug"};

void log_set_threshold(enum log_level level) { threshold = level; }

enum log_level log_threshold(void) { return threshold; }

void log_set_sink(void (*function)(const char *text, size_t bytes)) { sink = function; }

// A serial terminal wants a carriage return before each line feed.
static void console_text(const char *text, size_t bytes) {
    size_t start = 0;
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] != '\n')
            continue;
        console_write(text + start, i - start);
        console_write("\r\n", 2);
        start = i + 1;
    }
    console_write(text + start, bytes - start);
}

void log_text(const char *text, size_t bytes) {
    kernel_log_show(); // it may have said something about what is reported here
    (sink ? sink : console_text)(text, bytes);
}

static void ring_write(const char *text, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        ring[ring_head++ % LOG_BYTES] = text[i];
}

// Control characters may come from a guest's or a disk's names: they must not reach the operator's
// terminal.
static void make_printable(char *text) {
    for (unsigned char before = 0; *text; before = (unsigned char)*text++) {
        unsigned char c = (unsigned char)*text;
        bool upper = before == 0xc2 && c >= 0x80 && c < 0xa0; // of U+0080 to U+009F, in UTF-8
        if (upper)
            text[-1] = '?';
        if (upper || c < 0x20 || c == 0x7f)
            *text = '?';
    }
}

void log_line(enum log_level level, const char *subject, const char *format, ...) {
    char line[LOG_LINE], stamp[48];
    va_list args;
    va_start(args, format);
    size_t used = (size_t)snprintf(line, sizeof(line), "%s: ", subject);
    used = MIN(used, sizeof(line) - 1);
    vsnprintf(line + used, sizeof(line) - used, format, args);
    va_end(args);
    make_printable(line);
    size_t bytes = strlen(line);
    if (bytes == sizeof(line) - 1)
        bytes--;
    line[bytes++] = '\n';
    u64 milliseconds = time_ns() / NS_PER_MS;
    int n = snprintf(stamp, sizeof(stamp), "[%5llu.%03llu] %-7s ",
                     (unsigned long long)milliseconds / 1000,
                     (unsigned long long)milliseconds % 1000, level_names[level]);
    ring_write(stamp, (size_t)n);
    ring_write(line, bytes);
    if (level > threshold)
        return;
    static const char *const prefix[] = {"error: ", "warning: ", "", ""};
    char out[LOG_LINE + 16];
    n = snprintf(out, sizeof(out), "%s%.*s", prefix[level], (int)bytes, line);
    log_text(out, MIN((size_t)n, sizeof(out) - 1));
}

size_t log_read(u64 *cursor, char *text, size_t bytes) {
    u64 oldest = ring_head > LOG_BYTES ? ring_head - LOG_BYTES : 0;
    if (*cursor < oldest)
        *cursor = oldest;
    size_t count = 0;
    while (count < bytes && *cursor < ring_head)
        text[count++] = ring[(*cursor)++ % LOG_BYTES];
    return count;
}

#ifndef HOST_TEST
_Noreturn void fatal(const char *format, ...) {
    char text[LOG_LINE];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    console_flush(2000);
    console_write_now("\r\ndom0: ", 8);
    console_write_now(text, strlen(text));
    console_write_now("\r\n", 2);
    dom0_end();
}
#endif

const char *error_text(i64 error) {
    switch (error < 0 ? -error : error) {
    case 0: return "no error";
    case BASALT_EPERM: return "not permitted";
    case BASALT_ENOENT: return "does not exist";
    case BASALT_EINTR: return "interrupted";
    case BASALT_EBADF: return "no such handle";
    case BASALT_EAGAIN: return "not now";
    case BASALT_ENOMEM: return "out of memory";
    case BASALT_EFAULT: return "bad address";
    case BASALT_EBUSY: return "in use";
    case BASALT_EEXIST: return "exists already";
    case BASALT_ENODEV: return "no such device";
    case BASALT_EINVAL: return "invalid argument";
    case BASALT_ENOSPC: return "quota used up";
    case BASALT_ENOSYS: return "not implemented";
    default: return "unknown error";
    }
}
