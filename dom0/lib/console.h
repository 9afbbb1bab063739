// SPDX-License-Identifier: Apache-2.0
//
// The machine's console: bytes out through a buffer that the UART drains, bytes in delivered to one handler. Output
// that finds the buffer full is dropped and counted.

#pragma once

#include "lib/types.h"

/// Starts the UART's driver and sends what was written before.
void console_init(void);

/// Queues bytes for output; returns how many found room.
size_t console_write(const void *data, size_t bytes);

/// Forgets queued output, if it is so much that what comes next would have to wait for seconds.
void console_drop(void);

/// Bytes that console_write() would take now.
size_t console_space(void);

/// The one consumer of input, called from the event loop. Bytes that arrive before a handler is set are kept, a thousand
/// of them.
void console_set_input(void (*handler)(void *context, const u8 *data, size_t bytes), void *context);

/// Hands on what the UART takes now.
void console_drain(void);

/// Waits (without serving events) until everything has left, at most `milliseconds`. For fatal()
/// and power-off.
void console_flush(unsigned milliseconds);

/// Sends text past the buffer and waits until it has left (bounded): for the last words of dom0.
void console_write_now(const char *text, size_t bytes);
