// SPDX-License-Identifier: Apache-2.0
//
// Which devices a machine has, how their lines are wired to the IOAPIC, and what it means for the
// machine when one of them switches it off.

#include "guest_machine.h"

#define BRIDGE_VENDOR 0x1b36u // Red Hat's, whose ids for virtual hardware everyone knows
#define BRIDGE_DEVICE 0x0008u // generic PCIe host bridge
#define BRIDGE_CLASS  0x060000u

static uint64_t bridge_read(struct vpci_function *f, unsigned bar, uint32_t offset,
                            unsigned bytes) {
    (void)f, (void)bar, (void)offset, (void)bytes;
    return ~0ull;
}

static void bridge_write(struct vpci_function *f, unsigned bar, uint32_t offset, unsigned bytes,
                         uint64_t data) {
    (void)f, (void)bar, (void)offset, (void)bytes, (void)data;
}

static const struct vpci_ops bridge_ops = {.bar_read = bridge_read, .bar_write = bridge_write};
static const struct vpci_id bridge_id = {
    .vendor = BRIDGE_VENDOR,
    .device = BRIDGE_DEVICE,
    .class = BRIDGE_CLASS,
};

static void line_set(struct guest_machine *m, uint32_t gsi, bool level) {
    ioapic_set_line(m->state, m->config.domain, gsi, level);
}

static void uart_line(void *m, bool level) { line_set(m, UART_GSI, level); }

static void uart_publish(void *context, unsigned reg, bool valid, uint8_t value) {
    struct guest_machine *m = context;
    host_server_publish(&m->server, (uint16_t)(UART_PORT + reg), valid, value);
}

static void rtc_line(void *m, bool level) { line_set(m, RTC_GSI, level); }

static void sci_line(void *m, bool level) { line_set(m, PM_SCI, level); }

static void power_off(void *m) { machine_ends(m, MACHINE_POWER_OFF); }

void machine_ends(struct guest_machine *m, enum machine_end how) {
    if (m->state->end != MACHINE_GOES_ON)
        return;
    m->state->end = how;
    host_work_queue(&m->end_work);
}

// From the event loop: the callback may destroy the machine.
static void end_now(void *context) {
    struct guest_machine *m = context;
    if (m->state->end == MACHINE_POWER_OFF && m->config.on_power_off)
        m->config.on_power_off(m->config.context);
    else if (m->state->end == MACHINE_RESET && m->config.on_reset)
        m->config.on_reset(m->config.context);
}

void machine_platform_init(struct guest_machine *m) {
    ioapic_reset(m->state);
    m->uart = (struct uart){
        .state = &m->state->uart,
        .output = machine_console_uart_output,
        .room = machine_console_room,
        .line = uart_line,
        .publish = uart_publish,
        .context = m,
    };
    uart_reset(&m->uart);
    m->rtc.state = &m->state->rtc;
    m->rtc.line = rtc_line;
    m->rtc.context = m;
    rtc_init(&m->rtc, true);
    m->pm.state = &m->state->pm;
    m->pm.line = sci_line;
    m->pm.power_off = power_off;
    m->pm.context = m;
    pm_init(&m->pm, true);
    m->end_work = (struct host_work){.handler = end_now, .context = m};
    m->room_work = (struct host_work){.handler = machine_console_has_room, .context = m};
}

int machine_pci_init(struct guest_machine *m) {
    struct virtio_function_state *page = m->pages[1 + SLOT_HOST_BRIDGE];
    vpci_bus_init(&m->pci, m->config.domain, m->state);
    vpci_add(&m->pci, &m->host_bridge, SLOT_HOST_BRIDGE, &page->pci, &bridge_id, &bridge_ops, true);
    vpci_ready(&m->host_bridge);
    for (unsigned i = 0; i < m->config.disk_count; i++) {
        int error = virtio_blk_init(&m->disks[i], &m->config.disks[i], &m->pci, SLOT_DISKS + i,
                                    m->memory, m->pages[1 + SLOT_DISKS + i], true);
        if (error < 0)
            return error;
    }
    m->console.output = machine_console_virtio_output;
    m->console.room = machine_console_room;
    m->console.context = m;
    virtio_console_init(&m->console, &m->pci, SLOT_CONSOLE, m->memory, m->pages[1 + SLOT_CONSOLE],
                        true);
    virtio_rng_init(&m->rng, &m->pci, SLOT_RNG, m->memory, m->pages[1 + SLOT_RNG], true);
    return 0;
}
