// SPDX-License-Identifier: Apache-2.0
//
// Bugs on demand: "crash=KIND" on dom0's command line makes dom0 do what it must not, for the tests
// of what is then seen on the console and of its own page tables.

#include "start/traps.h"

#include "lib/boot.h"
#include "lib/log.h"
#include "lib/memory.h"

#include <string.h>

static void write_to(u64 address) {
    volatile u8 *p;
    __asm__("" : "=r"(p) : "0"(address)); // the compiler must not see where
    *p = 0;
}

static u64 overflow_stack(u64 depth) {
    volatile u8 big[1024];
    big[depth % sizeof(big)] = (u8)depth;
    return depth == 1000000 ? 0 : overflow_stack(depth + 1) + big[depth % sizeof(big)];
}

static void run_data(void) {
    static u8 code[] = {0xc3}; // ret
    void (*function)(void);
    void *address = code;
    memcpy(&function, &address, sizeof(function));
    function();
}

void crash_on_request(void) {
    char kind[16];
    if (!boot_option("crash", kind, sizeof(kind)))
        return;
    if (strcmp(kind, "null") == 0)
        write_to(8);
    else if (strcmp(kind, "text") == 0)
        write_to((u64)&crash_on_request);
    else if (strcmp(kind, "alias") == 0) // the same code at its load address
        write_to(phys_of((const void *)(uintptr_t)&crash_on_request));
    else if (strcmp(kind, "stack") == 0)
        log_error("dom0", "%llu", (unsigned long long)overflow_stack(0));
    else if (strcmp(kind, "data") == 0)
        run_data();
    else if (strcmp(kind, "exit") == 0)
        fatal("crash=exit");
    else if (strcmp(kind, "guest") != 0) // toolstack/domain_load.c
        log_warning("dom0", "crash=%s ignored: null, text, alias, stack, data, exit or guest",
                    kind);
}
