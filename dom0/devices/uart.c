// SPDX-License-Identifier: Apache-2.0
//
// The registers of a 16550A. Invariant: the interrupt line is high exactly while an enabled cause
// is pending; it is computed anew after every access that may change it. The receiver's timeout comes at once rather
// than four characters later. Follows the data sheet of the PC16550D.

#include <string.h>

#include "uart.h"

enum { RBR_THR = 0, IER = 1, IIR_FCR = 2, LCR = 3, MCR = 4, LSR = 5, MSR = 6, SCR = 7 };

#define IER_RECEIVED          0x01u
#define IER_TRANSMITTER       0x02u
#define IER_LINE_STATUS       0x04u
#define IER_MODEM             0x08u

#define IIR_NONE              0x01u
#define IIR_MODEM             0x00u
#define IIR_TRANSMITTER       0x02u
#define IIR_RECEIVED          0x04u
#define IIR_LINE_STATUS       0x06u
#define IIR_TIMEOUT           0x0cu
#define IIR_FIFOS             0xc0u

#define FCR_ENABLE            0x01u
#define FCR_CLEAR_RX          0x02u
#define FCR_TRIGGER           0xc0u

#define LCR_DIVISOR           0x80u

#define MCR_DTR               0x01u
#define MCR_RTS               0x02u
#define MCR_OUT1              0x04u
#define MCR_OUT2              0x08u
#define MCR_LOOPBACK          0x10u

#define LSR_READY             0x01u
#define LSR_OVERRUN           0x02u
#define LSR_TRANSMITTER_EMPTY 0x60u // holding and shift register

#define MSR_CTS               0x10u
#define MSR_DSR               0x20u
#define MSR_RI                0x40u
#define MSR_DCD               0x80u

static unsigned trigger(const struct uart_state *s) {
    static const uint8_t levels[4] = {1, 4, 8, 14};
    return s->fcr & FCR_ENABLE ? levels[s->fcr >> 6] : 1;
}

static uint8_t cause(const struct uart_state *s) {
    if ((s->ier & IER_LINE_STATUS) && s->lsr_errors)
        return IIR_LINE_STATUS;
    if ((s->ier & IER_RECEIVED) && s->rx_count)
        return s->rx_count >= trigger(s) ? IIR_RECEIVED : IIR_TIMEOUT;
    if ((s->ier & IER_TRANSMITTER) && s->thre_pending)
        return IIR_TRANSMITTER;
    if ((s->ier & IER_MODEM) && s->msr_delta)
        return IIR_MODEM;
    return IIR_NONE;
}

static uint8_t line_status(const struct uart_state *s) {
    return (uint8_t)(LSR_TRANSMITTER_EMPTY | s->lsr_errors | (s->rx_count ? LSR_READY : 0));
}

// The two that a driver reads for each character, and before and after each line, that it prints by polling.
static void publish(struct uart *uart) {
    const struct uart_state *s = uart->state;
    uint8_t now[] = {line_status(s), !s->lsr_errors, s->ier, !(s->lcr & LCR_DIVISOR)};
    if (memcmp(now, uart->published, sizeof(now)) == 0)
        return;
    memcpy(uart->published, now, sizeof(now));
    uart->publish(uart->context, LSR, now[1], now[0]);
    uart->publish(uart->context, IER, now[3], now[2]);
}

static void update(struct uart *uart) {
    struct uart_state *s = uart->state;
    publish(uart);
    bool level = cause(s) != IIR_NONE;
    if (level == s->line)
        return;
    s->line = level;
    uart->line(uart->context, level);
}

// The modem's answers: always ready, or in loopback what the MCR says.
static uint8_t modem(const struct uart_state *s) {
    if (!(s->mcr & MCR_LOOPBACK))
        return MSR_CTS | MSR_DSR | MSR_DCD;
    return (uint8_t)((s->mcr & MCR_RTS ? MSR_CTS : 0) | (s->mcr & MCR_DTR ? MSR_DSR : 0) |
                     (s->mcr & MCR_OUT1 ? MSR_RI : 0) | (s->mcr & MCR_OUT2 ? MSR_DCD : 0));
}

static bool receive(struct uart_state *s, uint8_t byte) {
    unsigned depth = s->fcr & FCR_ENABLE ? UART_FIFO : 1;
    if (s->rx_count >= depth)
        return false;
    s->rx[(s->rx_first + s->rx_count) % UART_FIFO] = byte;
    s->rx_count++;
    return true;
}

static uint8_t take(struct uart_state *s) {
    if (s->rx_count == 0)
        return 0;
    uint8_t byte = s->rx[s->rx_first % UART_FIFO];
    s->rx_first = (uint8_t)((s->rx_first + 1) % UART_FIFO);
    s->rx_count--;
    return byte;
}

void uart_reset(struct uart *uart) {
    memset(uart->state, 0, sizeof(*uart->state));
    uart->state->dll = 12; // 9600 baud
    publish(uart);
}

static uint8_t read_received(struct uart *uart) {
    struct uart_state *s = uart->state;
    uint8_t byte = take(s);
    if (s->rx_count == 0 && !(s->mcr & MCR_LOOPBACK))
        uart->room(uart->context);
    return byte;
}

static uint8_t read_identification(struct uart_state *s) {
    uint8_t why = cause(s);
    if (why == IIR_TRANSMITTER)
        s->thre_pending = 0;
    return why | (s->fcr & FCR_ENABLE ? IIR_FIFOS : 0);
}

static uint8_t read_line_status(struct uart_state *s) {
    uint8_t value = line_status(s);
    s->lsr_errors = 0;
    return value;
}

static uint8_t read_modem_status(struct uart_state *s) {
    uint8_t value = modem(s) | s->msr_delta;
    s->msr_delta = 0;
    return value;
}

static uint8_t read_register(struct uart *uart, unsigned reg) {
    struct uart_state *s = uart->state;
    bool divisor = s->lcr & LCR_DIVISOR;
    switch (reg & 7) {
    case RBR_THR: return divisor ? s->dll : read_received(uart);
    case IER: return divisor ? s->dlm : s->ier;
    case IIR_FCR: return read_identification(s);
    case LCR: return s->lcr;
    case MCR: return s->mcr;
    case LSR: return read_line_status(s);
    case MSR: return read_modem_status(s);
    default: return s->scratch;
    }
}

uint8_t uart_read(struct uart *uart, unsigned reg) {
    static const unsigned with_effects = 1 << RBR_THR | 1 << IIR_FCR | 1 << LSR | 1 << MSR;
    uint8_t value = read_register(uart, reg);
    if (with_effects >> (reg & 7) & 1)
        update(uart);
    return value;
}

static void transmit(struct uart *uart, uint8_t byte) {
    struct uart_state *s = uart->state;
    char out = (char)byte;
    if (!(s->mcr & MCR_LOOPBACK))
        uart->output(uart->context, &out, 1);
    else if (!receive(s, byte))
        s->lsr_errors |= LSR_OVERRUN;
    s->thre_pending = 1;
}

static void write_enable(struct uart *uart, uint8_t value) {
    struct uart_state *s = uart->state;
    bool listens = value & ~s->ier & IER_RECEIVED;
    if (value & ~s->ier & IER_TRANSMITTER)
        s->thre_pending = 1; // it is empty, and says so each time it is asked anew
    s->ier = value & 0x0f;
    if (listens && s->rx_count == 0)
        uart->room(uart->context);
}

static void write_fifo_control(struct uart_state *s, uint8_t value) {
    bool toggled = (value ^ s->fcr) & FCR_ENABLE;
    if (toggled || (value & FCR_CLEAR_RX))
        s->rx_count = s->rx_first = 0;
    s->fcr = value & FCR_ENABLE ? value & (FCR_ENABLE | FCR_TRIGGER) : 0;
}

static void write_modem_control(struct uart_state *s, uint8_t value) {
    uint8_t before = modem(s);
    s->mcr = value & 0x1f;
    uint8_t changed = before ^ modem(s);
    s->msr_delta |= changed >> 4 & 0x0b;
    if (before & changed & MSR_RI)
        s->msr_delta |= 0x04; // ring indicator counts at its end only
}

void uart_write(struct uart *uart, unsigned reg, uint8_t value) {
    struct uart_state *s = uart->state;
    bool divisor = s->lcr & LCR_DIVISOR;
    switch (reg & 7) {
    case RBR_THR:
        if (divisor)
            s->dll = value;
        else
            transmit(uart, value);
        break;
    case IER:
        if (divisor)
            s->dlm = value;
        else
            write_enable(uart, value);
        break;
    case IIR_FCR: write_fifo_control(s, value); break;
    case LCR: s->lcr = value; break;
    case MCR: write_modem_control(s, value); break;
    case SCR: s->scratch = value; break;
    default: break; // LSR and MSR are read-only
    }
    update(uart);
}

size_t uart_input(struct uart *uart, const char *bytes, size_t length) {
    size_t done = 0;
    if (!(uart->state->mcr & MCR_LOOPBACK))
        while (done < length && receive(uart->state, (uint8_t)bytes[done]))
            done++;
    update(uart);
    return done;
}

bool uart_open(const struct uart *uart) { return uart->state->ier & IER_RECEIVED; }
