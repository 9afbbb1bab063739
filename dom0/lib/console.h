// SPDX-License-Identifier: Apache-2.0
//
// The machine's console as dom0 sees it: bytes out through a buffer of dom0's own (drained when the
// kernel rings the console port), bytes in delivered to one handler. Output that finds the buffer
// full is dropped and counted.

#pragma once

#include "lib/types.h"

/// Binds the console port; output before it goes to the kernel at once.
void console_init(void);

/// Queues bytes for output; returns how many found room.
size_t console_write(const void *data, size_t bytes);

/// Forgets queued output, if it is so much that what comes next would have to wait for seconds.
void console_drop(void);

/// Bytes that console_write() would take now.
size_t console_space(void);

/// The one consumer of input; called from the event loop with 1..8 bytes at a time. Bytes that
/// arrive before a handler is set are kept by the kernel.
void console_set_input(void (*handler)(void *context, const u8 *data, size_t bytes), void *context);

/// Waits (without serving events) until everything has left, at most `milliseconds`. For fatal()
/// and power-off.
void console_flush(unsigned milliseconds);

/// Hands text to the kernel past the buffer, waiting for room (bounded): for the last words of
/// dom0.
void console_write_now(const char *text, size_t bytes);
