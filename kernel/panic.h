// SPDX-License-Identifier: Apache-2.0
//
// The end: registers, a symbolised backtrace, and a record in low memory that survives a warm
// reset. For impossible states inside the kernel only; never for something that a domain did. And
// the other end, of a machine that Basalt can't run on.

#pragma once

#include "arch/types.h"

struct trap_frame;

/// With the registers of a trap, where the backtrace starts then; NULL: of none.
noreturn void panic_trap(const struct trap_frame *trap, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#define panic(...) panic_trap(NULL, __VA_ARGS__)

/// An impossible state inside the kernel; `reason` says why it is impossible.
#define assert(condition, reason)                                                     \
    do {                                                                              \
        if (unlikely(!(condition)))                                                   \
            panic("%s:%u: %s: %s", __FILE__, (unsigned)__LINE__, #condition, reason); \
    } while (0)

/// Says what is missing (a format) and what to do about it, and stops the machine.
noreturn void refuse(const char *remedy, const char *missing, ...)
    __attribute__((format(printf, 2, 3)));

/// Shows the record of a panic before the last warm reset, if there is one, and clears it. Before
/// paging_init().
void panic_show_previous(void);
/// Keeps the record's page mapped. After paging_init().
void panic_map_record(void);

/// Ends a run under an emulator with a status when `testexit` is on the command line; else does
/// nothing.
void test_exit(unsigned status);
