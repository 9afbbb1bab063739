// SPDX-License-Identifier: Apache-2.0
//
// dom0's log: one line per message, "subject: text", kept in a ring that the shell can show and
// sent to the console when its level is at or above the threshold (command line:
// loglvl=error|warning|info|debug). Never blocks and never allocates.

#pragma once

#include "lib/types.h"

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

/// Logs one line (no newline at its end is needed); lines longer than 400 bytes are cut.
__attribute__((format(printf, 3, 4))) void log_line(enum log_level level, const char *subject,
                                                    const char *format, ...);
#define log_error(subject, ...)   log_line(LOG_ERROR, subject, __VA_ARGS__)
#define log_warning(subject, ...) log_line(LOG_WARNING, subject, __VA_ARGS__)
#define log_info(subject, ...)    log_line(LOG_INFO, subject, __VA_ARGS__)
#define log_debug(subject, ...)   log_line(LOG_DEBUG, subject, __VA_ARGS__)

/// Lines of a higher level than this go to the ring only. LOG_INFO at start.
void log_set_threshold(enum log_level level);
enum log_level log_threshold(void);

/// Where text for the operator goes: log lines and stdout. The toolstack sets its console
/// multiplexer here; NULL (and at start): console_write().
void log_set_sink(void (*sink)(const char *text, size_t bytes));

/// Sends text to the sink (stdout of the C library ends here).
void log_text(const char *text, size_t bytes);

/// Copies bytes of the ring from absolute position *cursor on (0: the oldest kept) to `buffer`,
/// advances the cursor; returns the count of bytes copied, 0 at the end.
size_t log_read(u64 *cursor, char *buffer, size_t bytes);

/// Says why and ends dom0: prints on the kernel's console, waits until the text has left, and
/// stops.
__attribute__((format(printf, 1, 2))) _Noreturn void fatal(const char *format, ...);

/// A short text for an error code (negative or positive value of <basalt/error.h>).
const char *error_text(i64 error);
