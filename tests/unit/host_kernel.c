// SPDX-License-Identifier: Apache-2.0
//
// What kernel files need to run on the host: memory, a CPU, a log that prints, a panic that aborts.

#include "arch/cpu.h"
#include "boot/boot.h"
#include "arch/paging.h"
#include "kernel/frames.h"
#include "kernel/log.h"
#include "kernel/panic.h"

#include <stdio.h>
#include <stdlib.h>

extern u64 host_early_rest[2];   // first and end
extern bool host_log_quiet;      // log_line() prints nothing
extern unsigned host_log_errors; // lines of level LOG_ERROR
extern unsigned host_log_lines;
u16 host_frame_owner(u64 pa);

u8 host_ram[HOST_RAM] __attribute__((aligned(0x200000)));
u8 host_tables[32 * MIB] __attribute__((aligned(4096)));
unsigned host_map_failures;
struct cpu host_cpu = {.news = true};
void (*host_window)(void);
bool host_log_quiet;
unsigned host_log_errors;
unsigned host_log_lines;
u64 host_early_rest[2];

void early_rest(u64 *base, u64 *end) {
    *base = host_early_rest[0];
    *end = host_early_rest[1];
}
u16 host_frame_owner(u64 pa) {
    return pa < HOST_RAM ? ((struct frame *)FRAME_TABLE_BASE)[pa / PAGE_SIZE].owner
                         : FRAME_OWNER_RESERVED;
}
bool boot_is_ram(u64 base, u64 end unused) { return base < HOST_RAM; }
hpa_t early_frame(void) { return HPA(0); }

void log_line(enum log_level level, const char *text, ...) {
    va_list args;

    host_log_lines++;
    host_log_errors += level == LOG_ERROR;
    if (host_log_quiet)
        return;
    va_start(args, text);
    vfprintf(stderr, text, args);
    fputc('\n', stderr);
    va_end(args);
}

void panic_trap(const struct trap_frame *trap unused, const char *text, ...) {
    va_list args;
    va_start(args, text);
    vfprintf(stderr, text, args);
    va_end(args);
    abort();
}
