// SPDX-License-Identifier: Apache-2.0
//
// The 16550 UART, polled, output only: for the kernel's words before dom0 drives it, after dom0's end and in a panic.

#pragma once

#include "arch/types.h"

#define UART_BAUD_MAX 115200u

/// Lets what was written leave, and programs the UART at I/O port `port` for `baud` (0: as it is), 8 data bits, no
/// parity, no interrupts. Returns false if none answers there.
must_check bool uart_init(u16 port, u32 baud);
/// Writes text, newline as CR LF, and waits until it is out. A transmitter that is stuck loses it.
void uart_write(u16 port, const char *text, size_t length);
