// SPDX-License-Identifier: Apache-2.0
//
// The kernel's log: one line per subject, "basalt: cpu: ...", kept in a ring that dom0 reads and
// shown on the console. Formats: %s %u %x %%, with l, ll, z, a width and 0, and a precision for
// %s.

#pragma once

#include "arch/types.h"

#include <basalt/trace.h>
#include <stdarg.h>

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

/// Writes one line (no newline in the format). Lines above the level of `loglvl=` go nowhere.
void log_line(enum log_level level, const char *text, ...) __attribute__((format(printf, 2, 3)));
#define log_err(...)   log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARNING, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

/// Raw characters to the ring and, as kernel/console.h has it, to the console: log_line's and panic's way out.
void log_write(const char *text, size_t length);

/// Like the C library's: always terminates, returns the length that the whole would have.
int format_va(char *buffer, size_t size, const char *text, va_list args);
int format(char *buffer, size_t size, const char *text, ...) __attribute__((format(printf, 3, 4)));

/// The ring: page aligned, in the kernel's image; nothing else is in its last page.
struct basalt_log *log_ring(void);
