// SPDX-License-Identifier: Apache-2.0
//
// The serial console: a 16550 UART with rings in both directions. Before interrupts are on, and in
// a panic, output waits for the transmitter; afterwards it goes through the transmit ring, emptied
// by interrupts.

#pragma once

#include "arch/types.h"

/// Chooses the port (console=, else SPCR, else COM1), probes and programs it. Called again when
/// SPCR is known: moves only if that names another port.
void uart_init(void);
/// Routes the UART's interrupt to VECTOR_CONSOLE on this CPU. Output still waits until the first
/// one was handled, so that a kernel that never gets to handle interrupts loses nothing. After
/// ioapic_init().
void uart_start_interrupts(void);
/// Back to waiting for the transmitter, for a panic or a reset; returns when all is out (bounded).
void uart_flush(void);
/// Handles VECTOR_CONSOLE: fills the transmitter, empties the receiver. Returns true if input came
/// in or the ring has space again.
bool uart_interrupt(void);
/// Takes all bytes, waiting for the transmitter when the ring is full.
void uart_write(const char *text, size_t length);
/// The same; newline becomes CR LF.
void uart_write_all(const char *text, size_t length);
/// The next received byte; false if there is none.
bool uart_rx(u8 *byte);
/// Bytes that the transmit ring can take now.
size_t uart_tx_space(void);
