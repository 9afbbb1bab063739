// SPDX-License-Identifier: Apache-2.0
//
// The 16550 UART. Output is never lost while the kernel waits for the transmitter; with interrupts
// it is queued. The transmitter is filled at once when it is empty, so that its interrupt only
// continues what is in flight. Invariant: the transmit interrupt is enabled exactly while the ring
// holds something and interrupts are in use.

#include "drivers/uart16550.h"

#include "arch/acpi.h"
#include "arch/cpu.h"
#include "arch/string.h"
#include "arch/x86.h"
#include "drivers/ioapic.h"
#include "kernel/cmdline.h"
#include "kernel/log.h"

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
#define LSR_ABSENT   0xffu // no device answers
#define LSR_READY    0x01u // a byte was received
#define LSR_THRE     0x20u // the transmitter takes bytes
#define LSR_TEMT     0x40u // the last bit is out

#define CLOCK        115200u
#define FIFO_BYTES   16u
#define TX_BYTES     16384u
#define RX_BYTES     1024u
#define SPIN_MAX     200000u // status reads until a transmitter counts as stuck

static const u16 com_ports[] = {0x3f8, 0x2f8, 0x3e8, 0x2e8};

static struct {
    u16 port;        // 0: none
    bool routed;     // interrupts can come
    bool interrupts; // and one was handled: from then on output need not wait
    char tx[TX_BYTES];
    u8 rx[RX_BYTES];
    u32 tx_head, tx_tail, rx_head, rx_tail; // free running
} uart;

static u8 in(unsigned reg) { return inb((u16)(uart.port + reg)); }

static void out(unsigned reg, unsigned value) { outb((u16)(uart.port + reg), (u8)value); }

// `baud` 0: left as it is.
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

// com1, 0x3f8, either with ",115200". Returns false if malformed.
static bool parse_console(const char *text, u16 *port, u32 *baud) {
    char name[sizeof(options.console)] = "";
    u64 number, speed = CLOCK;
    const char *comma = strchr(text, ',');
    strlcpy(name, text, comma ? (size_t)(comma - text) + 1 : sizeof(name));
    if (comma && (!parse_size(comma + 1, &speed) || !speed || speed > CLOCK || CLOCK % speed))
        return false;
    if (memcmp(name, "com", 3) == 0 && name[3] >= '1' && name[3] <= '4' && !name[4])
        number = com_ports[name[3] - '1'];
    else if (!parse_size(name, &number) || number < 0x100 || number > 0xfff8)
        return false;
    *baud = (u32)speed;
    *port = (u16)number;
    return true;
}

static bool use(u16 port, u32 baud, const char *source) {
    u16 before = uart.port;
    uart.port = port;
    if (before == port)
        return true;
    if (in(LSR) == LSR_ABSENT) {
        uart.port = before;
        log_warn("basalt: console: no UART at port 0x%x (%s)", port, source);
        return false;
    }
    program(baud);
    log_replay(uart_write_all);
    log_info("basalt: console: 16550 at port 0x%x (%s)", port, source);
    return true;
}

void uart_init(void) {
    u16 port;
    u32 baud;
    if (strcmp(options.console, "none") == 0)
        return;
    if (options.console[0] && parse_console(options.console, &port, &baud)) {
        (void)use(port, baud, "command line");
        return;
    }
    if (options.console[0])
        log_warn("basalt: console: console=%s ignored: expected com1..com4 or a port, and a speed",
                 options.console);
    options.console[0] = 0;
    if ((!acpi.spcr_port || !use(acpi.spcr_port, acpi.spcr_baud, "SPCR")) && !uart.port)
        (void)use(com_ports[0], CLOCK, "COM1");
}

static u32 queued(void) { return uart.tx_head - uart.tx_tail; }

static bool wait_for(unsigned lsr_bit) {
    for (unsigned i = 0; i < SPIN_MAX; i++)
        if (in(LSR)&lsr_bit)
            return true;
    return false;
}

// Moves what the transmitter takes at once.
static void fill(void) {
    if (queued() && in(LSR)&LSR_THRE)
        for (unsigned i = 0; i < FIFO_BYTES && queued(); i++)
            out(DATA, (u8)uart.tx[uart.tx_tail++ % TX_BYTES]);
}

static void enable(void) {
    if (uart.interrupts)
        out(IER, IER_RECEIVE | (queued() ? IER_TRANSMIT : 0));
}

// Waits until at most `left` bytes are queued. A transmitter that is stuck loses them.
static void drain(u32 left) {
    while (queued() > left) {
        if (!wait_for(LSR_THRE))
            uart.tx_tail = uart.tx_head;
        fill();
    }
}

size_t uart_tx_space(void) { return TX_BYTES - queued(); }

// Puts a byte into the ring; waits while that is full.
static void put(char c) {
    if (!uart_tx_space())
        drain(TX_BYTES / 2);
    uart.tx[uart.tx_head++ % TX_BYTES] = c;
}

// Sets what is queued going.
static void start(void) {
    if (!uart.interrupts)
        drain(0);
    fill();
    enable();
}

void uart_write(const char *text, size_t length) {
    if (!uart.port)
        return;
    for (size_t i = 0; i < length; i++)
        put(text[i]);
    start();
}

void uart_write_all(const char *text, size_t length) {
    if (!uart.port)
        return;
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '\n')
            put('\r');
        put(text[i]);
    }
    start();
}

bool uart_interrupt(void) {
    bool news = queued();
    if (!uart.port)
        return false;
    uart.interrupts = uart.routed;
    (void)in(IIR); // clears a transmit interrupt
    for (unsigned i = 0; i < RX_BYTES && in(LSR)&LSR_READY; i++) {
        u8 byte = in(DATA);
        if (uart.rx_head - uart.rx_tail < RX_BYTES)
            uart.rx[uart.rx_head++ % RX_BYTES] = byte;
        news = true;
    }
    fill();
    out(IER, 0); // an edge-triggered line must fall to rise again, for what has come meanwhile
    enable();
    return news;
}

bool uart_rx(u8 *byte) {
    if (uart.rx_head == uart.rx_tail)
        return false;
    *byte = uart.rx[uart.rx_tail++ % RX_BYTES];
    return true;
}

void uart_start_interrupts(void) {
    if (!uart.port)
        return;
    u8 irq = uart.port & 0x100 ? 4 : 3; // COM1, COM3: 4; COM2, COM4: 3
    struct acpi_override line = ioapic_isa(irq);
    drain(0);
    if (ioapic_route(line.gsi, VECTOR_CONSOLE, this_cpu()->apic_id, line.level, line.active_low)) {
        log_warn("basalt: console: no interrupt line, output waits for the UART");
        return;
    }
    uart.routed = true;
    ioapic_unmask(line.gsi);
    out(IER, IER_RECEIVE | IER_TRANSMIT); // comes at once: the transmitter is empty
}

void uart_flush(void) {
    uart.routed = false;
    uart.interrupts = false;
    if (uart.port) {
        out(IER, 0);
        drain(0);
        (void)wait_for(LSR_TEMT);
    }
}
