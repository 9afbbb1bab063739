// SPDX-License-Identifier: Apache-2.0
//
// The 16550: FIFOs of 16 bytes, an interrupt for received bytes and one for an empty transmitter. The line is
// edge-triggered, so it is made to fall after each interrupt: what has come meanwhile raises it again. Follows the data
// sheet of the PC16550D.

#include "drivers/serial.h"

#include "lib/boot.h"
#include "lib/event.h"
#include "lib/hypercall.h"
#include "lib/log.h"
#include "lib/ports.h"
#include "lib/timer.h"

// Registers, from the base port.
#define DATA         0u // transmit, receive; with LCR.DLAB: divisor low
#define IER          1u // interrupt enable; with LCR.DLAB: divisor high
#define IIR          2u // read: interrupt identification; write: FIFO control
#define LCR          3u // line control
#define MCR          4u // modem control
#define LSR          5u // line status

#define IER_RECEIVE  0x01u
#define IER_TRANSMIT 0x02u
#define FCR_ENABLE   0x07u // FIFOs on and cleared, interrupt at the first byte
#define LCR_8N1      0x03u
#define LCR_DLAB     0x80u
#define MCR_DTR_RTS  0x03u
#define MCR_OUT2     0x08u // gates the interrupt line
#define LSR_READY    0x01u // a byte was received
#define LSR_THRE     0x20u // the transmitter's FIFO is empty
#define LSR_TEMT     0x40u // the last bit is out

#define CLOCK        115200u
#define FIFO_BYTES   16u
#define LOADS_MAX    64u // of the FIFO in one call: an emulated one is empty again at once
#define RX_BYTES     1024u

#define POLL_NS      (2 * NS_PER_MS)   // where no interrupt has come: the time of 23 bytes
#define WATCH_NS     (200 * NS_PER_MS) // else, while something is to be sent: one may be lost

static u16 base; // 0: none
static void (*ready_handler)(void);
static struct timer watch;
static bool interrupts; // one has come: from then on they are relied on
static bool sending;    // the transmit interrupt is asked for
static u8 rx[RX_BYTES];
static u32 rx_head, rx_tail; // free running

static u8 in(unsigned reg) { return in8((u16)(base + reg)); }
static void out(unsigned reg, unsigned value) { out8((u16)(base + reg), (u8)value); }

static void ask(bool transmit) {
    sending = transmit;
    out(IER, IER_RECEIVE | (transmit ? IER_TRANSMIT : 0));
    if (!interrupts)
        timer_set(&watch, time_ns() + POLL_NS);
    else if (transmit)
        timer_set(&watch, time_ns() + WATCH_NS);
    else
        timer_cancel(&watch);
}

static void look(void) {
    (void)in(IIR); // takes a transmit interrupt back
    for (unsigned i = 0; i < RX_BYTES && in(LSR)&LSR_READY; i++) {
        u8 byte = in(DATA);
        if (rx_head - rx_tail < RX_BYTES)
            rx[rx_head++ % RX_BYTES] = byte;
    }
    bool empty = sending && in(LSR)&LSR_THRE;
    out(IER, 0);
    ask(sending && !empty);
    if (empty || rx_head != rx_tail)
        ready_handler();
}

static void interrupt(void *context) {
    (void)context;
    interrupts = true;
    look();
}

static void late(void *context) {
    (void)context;
    look();
}

static void program(u32 baud) {
    out(IER, 0);
    if (baud) {
        out(LCR, LCR_DLAB);
        out(DATA, CLOCK / baud);
        out(IER, CLOCK / baud >> 8);
    }
    out(LCR, LCR_8N1);
    out(IIR, FCR_ENABLE);
    out(MCR, MCR_DTR_RTS | MCR_OUT2);
}

void serial_init(void (*ready)(void)) {
    base = (u16)boot_info->console_port;
    ready_handler = ready;
    watch.handler = late;
    interrupts = false;
    if (!base)
        return;
    program(boot_info->console_baud);
    int port = event_port_alloc(interrupt, NULL);
    u32 irq = base & 0x100 ? 4 : 3; // COM1, COM3: 4; COM2, COM4: 3
    if (port < 0 || hc_irq_bind(BASALT_IRQ_ISA + irq, BASALT_IRQ_LINE, (u32)port) < 0)
        log_warning("console", "no interrupt line: a timer looks after the UART");
    ask(true); // an interrupt comes at once, if they come
}

size_t serial_send(const char *bytes, size_t count) {
    size_t sent = 0;
    if (!base)
        return count;
    for (unsigned load = 0; load < LOADS_MAX && sent < count && in(LSR)&LSR_THRE; load++)
        for (unsigned i = 0; i < FIFO_BYTES && sent < count; i++)
            out(DATA, (u8)bytes[sent++]);
    if (sent < count && !sending)
        ask(true);
    return sent;
}

size_t serial_receive(u8 *bytes, size_t count) {
    size_t taken = 0;
    while (taken < count && rx_tail != rx_head)
        bytes[taken++] = rx[rx_tail++ % RX_BYTES];
    return taken;
}

bool serial_idle(void) { return !base || in(LSR)&LSR_TEMT; }
