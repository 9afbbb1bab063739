// SPDX-License-Identifier: Apache-2.0
//
// The way of the log to the serial line. The kernel prints it itself until dom0 takes the console and drives the UART,
// and again when dom0 is gone or the kernel panics; meanwhile dom0 is rung for every new line and prints it between its
// own. Whoever prints goes on where the other one stopped.

#pragma once

#include "kernel/domain.h"

struct console {
    u16 port; // of the UART, 0: none
    u32 baud; // 0: as the firmware set it
};
extern struct console console;

/// Chooses the port (console=, else SPCR, else COM1) and programs it. Called again when SPCR is known.
void console_init(void);
/// Prints what is new in the log, or has it printed. The caller holds the log's lock, or is in a panic.
void console_news(void);
/// Handles VECTOR_CONSOLE: rings who prints.
void console_ring(void);
/// From now on `d` prints the log, and `port` rings for each new line; `shown` bytes of it are on the line already.
/// Returns how many are, or -BASALT_EINVAL if the log is not that long yet.
must_check i64 console_bind(struct domain *d, u32 port, u64 shown);
/// The kernel prints again if `d` did, with this port (0: any), and also when nobody had begun to.
void console_release(const struct domain *d, u32 port);
/// The kernel prints again, at once and for good: for a panic or a reset.
void console_take(void);
