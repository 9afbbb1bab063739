// SPDX-License-Identifier: Apache-2.0
//
// The log ring and its way to the console. Invariant: `head` counts all bytes ever written and is
// advanced after the bytes are there. Lock: log_lock, the innermost of all; a holder that was hit
// by a panic, NMI or machine check is not waited for longer than LOCK_TRIES.

#include "kernel/log.h"

#include "arch/spinlock.h"
#include "kernel/cmdline.h"
#include "kernel/console.h"

#define LOG_BYTES  65536u
#define LINE_MAX   512
#define LOCK_TRIES 1000000u

static union {
    struct basalt_log log;
    u8 pages[LOG_BYTES + PAGE_SIZE]; // header, data, room to the page's end
} ring __attribute__((aligned(4096))) = {.log = {.bytes = LOG_BYTES}};

static struct spinlock log_lock;

struct basalt_log *log_ring(void) {
    return &ring.log;
}

static void ring_write(const char *text, size_t length) {
    u64 head = ring.log.head;
    for (size_t i = 0; i < length; i++)
        ring.log.data[(head + i) % LOG_BYTES] = text[i];
    __atomic_store_n(&ring.log.head, head + length, __ATOMIC_RELEASE);
}

void log_write(const char *text, size_t length) {
    bool locked = false;
    for (unsigned i = 0; i < LOCK_TRIES && !(locked = spin_trylock(&log_lock)); i++)
        cpu_pause();
    ring_write(text, length);
    console_news();
    if (locked)
        spin_unlock(&log_lock);
}

void log_line(enum log_level level, const char *text, ...) {
    char line[LINE_MAX];
    va_list args;
    if (level > options.loglvl)
        return;
    va_start(args, text);
    size_t length = (size_t)format_va(line, sizeof(line) - 1, text, args);
    va_end(args);
    length = MIN(length, sizeof(line) - 2);
    line[length] = '\n';
    log_write(line, length + 1);
}
