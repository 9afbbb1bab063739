// SPDX-License-Identifier: Apache-2.0
//
// The polled 16550. Every wait is bounded. Follows the data sheet of the PC16550D.

#include "drivers/uart16550.h"

#include "arch/x86.h"

// Registers, from the base port.
#define DATA        0u // transmit; with LCR.DLAB: divisor low
#define IER         1u // interrupt enable; with LCR.DLAB: divisor high
#define FCR         2u // FIFO control
#define LCR         3u // line control
#define MCR         4u // modem control
#define LSR         5u // line status

#define FCR_ENABLE  0x07u // FIFOs on and cleared
#define LCR_8N1     0x03u
#define LCR_DLAB    0x80u
#define MCR_DTR_RTS 0x03u
#define LSR_ABSENT  0xffu // no device answers
#define LSR_THRE    0x20u // the transmitter takes a byte
#define LSR_TEMT    0x40u // the last bit is out
#define SPIN_MAX    200000u

static bool wait_for(u16 port, unsigned lsr_bit) {
    for (unsigned i = 0; i < SPIN_MAX; i++)
        if (inb(port + LSR) & lsr_bit)
            return true;
    return false;
}

bool uart_init(u16 port, u32 baud) {
    if (inb(port + LSR) == LSR_ABSENT)
        return false;
    (void)wait_for(port, LSR_TEMT);
    outb(port + IER, 0);
    if (baud) {
        outb(port + LCR, LCR_DLAB);
        outb(port + DATA, (u8)(UART_BAUD_MAX / baud));
        outb(port + IER, (u8)(UART_BAUD_MAX / baud >> 8));
    }
    outb(port + LCR, LCR_8N1);
    outb(port + FCR, FCR_ENABLE);
    outb(port + MCR, MCR_DTR_RTS);
    return true;
}

static bool put(u16 port, char c) {
    if (!wait_for(port, LSR_THRE))
        return false;
    outb(port + DATA, (u8)c);
    return true;
}

void uart_write(u16 port, const char *text, size_t length) {
    for (size_t i = 0; i < length; i++)
        if ((text[i] == '\n' && !put(port, '\r')) || !put(port, text[i]))
            return;
    (void)wait_for(port, LSR_TEMT);
}
