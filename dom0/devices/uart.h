// SPDX-License-Identifier: Apache-2.0
//
// A 16550A serial port (ttyS0 at 0x3f8, IRQ 4). Transmitting takes no time: a byte that is written
// has left. Follows the data sheet of National Semiconductor's PC16550D.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "state.h"

#define UART_PORT  0x3f8u
#define UART_PORTS 8u
#define UART_GSI   4u

struct uart {
    struct uart_state *state;
    void (*output)(void *context, const char *bytes, size_t length);
    void (*room)(void *context); // the receive FIFO is empty, or a driver has begun to listen
    void (*line)(void *context, bool level); // the interrupt line changed
    // Reading the register gives `value` and changes nothing, until this says otherwise; not `valid`: it must be asked.
    void (*publish)(void *context, unsigned reg, bool valid, uint8_t value);
    void *context;
    uint8_t published[4]; // line status, and whether it is valid; interrupt enable, the same
};

/// As after power-on.
void uart_reset(struct uart *uart);

/// Registers 0..7.
uint8_t uart_read(struct uart *uart, unsigned reg);
void uart_write(struct uart *uart, unsigned reg, uint8_t value);

/// Receives; returns how many bytes the FIFO took.
size_t uart_input(struct uart *uart, const char *bytes, size_t length);

/// True if a driver waits for input.
bool uart_open(const struct uart *uart);
