// SPDX-License-Identifier: Apache-2.0
//
// What kernel files need to run on the host: memory, a CPU, a log that prints, a panic that aborts.

#include "arch/cpu.h"
#include "arch/early.h"
#include "arch/paging.h"
#include "kernel/log.h"
#include "kernel/panic.h"

#include <stdio.h>
#include <stdlib.h>

extern struct range host_early_rest;
extern bool host_log_quiet;      // log_line() prints nothing
extern unsigned host_log_errors; // lines of level LOG_ERROR

u8 host_ram[HOST_RAM] __attribute__((aligned(0x200000)));
u8 host_tables[32 * MIB] __attribute__((aligned(4096)));
unsigned host_map_failures;
struct cpu host_cpu;
bool host_log_quiet;
unsigned host_log_errors;
struct range host_early_rest;
static const struct range *taken;
static unsigned taken_count;

void host_set_reserved(const struct range *ranges, unsigned count);
void host_set_reserved(const struct range *ranges, unsigned count) {
    taken = ranges;
    taken_count = count;
}
const struct range *early_reserved(unsigned *count) {
    *count = taken_count;
    return taken;
}
struct range early_rest(void) {
    return host_early_rest;
}
hpa_t early_frame(void) { return HPA(0); }

void log_line(enum log_level level, const char *text, ...) {
    va_list args;

    host_log_errors += level == LOG_ERROR;
    if (host_log_quiet)
        return;
    va_start(args, text);
    vfprintf(stderr, text, args);
    fputc('\n', stderr);
    va_end(args);
}

void panic(const char *text, ...) {
    va_list args;
    va_start(args, text);
    vfprintf(stderr, text, args);
    va_end(args);
    abort();
}
