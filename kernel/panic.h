// SPDX-License-Identifier: Apache-2.0
//
// The end: registers, a symbolised backtrace, and a record in low memory that survives a warm
// reset. For impossible states inside the kernel only; never for something that a domain did.

#pragma once

#include "arch/types.h"

struct trap_frame;

noreturn void panic(const char *format, ...) __attribute__((format(printf, 1, 2)));
/// The same with the registers of a trap; the backtrace starts there.
noreturn void panic_trap(const struct trap_frame *frame, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/// An impossible state inside the kernel; `reason` says why it is impossible.
#define assert(condition, reason)                                           \
    do {                                                                    \
        if (unlikely(!(condition)))                                         \
            panic("%s:%d: %s: %s", __FILE__, __LINE__, #condition, reason); \
    } while (0)

/// Shows the record of a panic before the last warm reset, if there is one, and clears it. Before
/// paging_init().
void panic_show_previous(void);
/// Keeps the record's page mapped. After paging_init().
void panic_map_record(void);

/// Ends a run under an emulator with a status when `testexit` is on the command line; else does
/// nothing.
void test_exit(unsigned status);

// Made by the build from the linked kernel; sorted by offset from the image's start.
struct symbol {
    u32 offset, name; // name: offset into symbol_names
};
extern const u32 symbol_count __attribute__((weak));
extern const struct symbol symbol_table[] __attribute__((weak));
extern const char symbol_names[] __attribute__((weak));

/// The name of the function around `address` ("?" if there is none) and the offset into it.
const char *symbol_find(u64 address, u64 *offset);
