// SPDX-License-Identifier: Apache-2.0
//
// The machine's 16550 UART, which carries the console. Invariant: while the transmit interrupt is asked for, whoever
// sends is told when the transmitter is empty. Where no interrupt ever comes a timer looks instead. Without a UART
// (console=none) everything that is sent vanishes and nothing is received.

#pragma once

#include "lib/types.h"

/// Programs the UART that the boot information names. `ready` is called from the event loop when bytes were received
/// or the transmitter takes some again.
void serial_init(void (*ready)(void));

/// Hands the transmitter what it takes at once; returns how many bytes. `ready` follows when it did not take all.
size_t serial_send(const char *bytes, size_t count);

/// Takes up to `count` received bytes; returns how many.
size_t serial_receive(u8 *bytes, size_t count);

/// Whether the last bit has left.
bool serial_idle(void);
