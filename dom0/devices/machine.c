// SPDX-License-Identifier: Apache-2.0
//
// A machine's making and its end. Everything that can fail comes before the first device is put on
// the bus, so that a failure has nothing to stop; the end is asynchronous, since disks may hold the
// guest's pages. The layout of the guest's memory is at the top of machine.h.

#include <stddef.h>
#include <string.h>

#include <basalt/domain.h>
#include <basalt/error.h>

#include "acpi.h"
#include "guest_machine.h"

#define PAGE          4096u
#define MEMORY_MIN    0x100000ull
#define MEMORY_MAX    (1ull << 40)
#define ACPI_ROOM     0x4000u

#define BRIDGE_VENDOR 0x1b36u // Red Hat's, whose ids for virtual hardware everyone knows
#define BRIDGE_DEVICE 0x0008u // generic PCIe host bridge
#define BRIDGE_CLASS  0x060000u

_Static_assert(ACPI_ROOM <= MACHINE_TABLES_END - MACHINE_TABLES, "tables lie below 1 MiB");

static uint64_t bridge_read(struct vpci_function *f, unsigned bar, uint32_t offset, unsigned bytes)
{
    (void)f, (void)bar, (void)offset, (void)bytes;
    return ~0ull;
}

static void bridge_write(struct vpci_function *f, unsigned bar, uint32_t offset, unsigned bytes,
                         uint64_t data)
{
    (void)f, (void)bar, (void)offset, (void)bytes, (void)data;
}

static const struct vpci_ops bridge_ops = {.bar_read = bridge_read, .bar_write = bridge_write};
static const struct vpci_id bridge_id = {
    .vendor = BRIDGE_VENDOR,
    .device = BRIDGE_DEVICE,
    .class = BRIDGE_CLASS,
};

static void line_set(struct guest_machine *m, uint32_t gsi, bool level)
{
    uint32_t bit = 1u << gsi;
    m->state->lines = level ? m->state->lines | bit : m->state->lines & ~bit;
    host_inject_line(m->config.domain, gsi, level);
}

static void uart_line(void *m, bool level) { line_set(m, UART_GSI, level); }

static void rtc_line(void *m, bool level) { line_set(m, RTC_GSI, level); }

static void sci_line(void *m, bool level) { line_set(m, PM_SCI, level); }

static void power_off(void *m) { machine_ends(m, MACHINE_POWER_OFF); }

void machine_ends(struct guest_machine *m, enum machine_end how)
{
    if (m->state->end != MACHINE_GOES_ON)
        return;
    m->state->end = how;
    host_work_queue(&m->end_work);
}

// From the event loop: the callback may destroy the machine.
static void end_now(void *context)
{
    struct guest_machine *m = context;
    if (m->state->end == MACHINE_POWER_OFF && m->config.on_power_off)
        m->config.on_power_off(m->config.context);
    else if (m->state->end == MACHINE_RESET && m->config.on_reset)
        m->config.on_reset(m->config.context);
}

static unsigned functions(const struct machine_config *config)
{
    return SLOT_DISKS + config->disk_count;
}

uint64_t machine_overhead(const struct machine_config *config)
{
    return (1 + functions(config)) * (uint64_t)PAGE;
}

static bool acceptable(const struct machine_config *c)
{
    if (c->memory < MEMORY_MIN || c->memory > MEMORY_MAX || c->memory % PAGE)
        return false;
    if (c->vcpus < 1 || c->vcpus > BASALT_VCPUS_MAX || c->disk_count > MACHINE_DISKS_MAX ||
        !c->console_output)
        return false;
    for (unsigned i = 0; i < c->disk_count; i++)
        if (!c->disks[i].device)
            return false;
    return true;
}

uint64_t machine_low_memory(const struct guest_machine *m)
{
    return m->config.memory < MACHINE_HOLE ? m->config.memory : MACHINE_HOLE;
}

static int make_memory(struct guest_machine *m)
{
    uint64_t low = machine_low_memory(m), high = m->config.memory - low;
    int error = host_guest_memory_add(&m->memory, m->config.domain, 0, low / PAGE);
    if (error == 0 && high)
        error = host_guest_memory_add(&m->memory, m->config.domain, MACHINE_HIGH, high / PAGE);
    return error;
}

static int make_tables(struct guest_machine *m)
{
    uint8_t *buffer = host_alloc(ACPI_ROOM);
    if (!buffer)
        return -BASALT_ENOMEM;
    size_t length = acpi_build(buffer, ACPI_ROOM, MACHINE_TABLES, m->config.vcpus);
    bool written = length && host_guest_write(m->memory, MACHINE_TABLES, buffer, length);
    host_free(buffer);
    return written ? 0 : -BASALT_ENOMEM;
}

static void header(struct state_header *h, enum state_kind kind, size_t size, unsigned slot)
{
    *h = (struct state_header){STATE_MAGIC, STATE_VERSION, (uint16_t)kind, (uint32_t)size, slot};
}

static int make_state(struct guest_machine *m)
{
    int error = host_state_alloc(m->config.domain, 1 + functions(&m->config), m->pages);
    if (error < 0)
        return error;
    m->state = m->pages[0];
    header(&m->state->header, STATE_MACHINE, sizeof(*m->state), 0);
    m->state->memory = m->config.memory;
    m->state->vcpus = m->config.vcpus;
    m->state->functions = functions(&m->config);
    for (unsigned slot = 0; slot < functions(&m->config); slot++) {
        struct virtio_function_state *page = m->pages[1 + slot];
        enum state_kind kind = slot == SLOT_HOST_BRIDGE ? STATE_HOST_BRIDGE
                               : slot == SLOT_CONSOLE   ? STATE_VIRTIO_CONSOLE
                               : slot == SLOT_RNG       ? STATE_VIRTIO_RNG
                                                        : STATE_VIRTIO_BLK;
        header(&page->pci.header, kind, sizeof(*page), slot);
    }
    return 0;
}

static void make_platform(struct guest_machine *m)
{
    m->uart = (struct uart){
        .state = &m->state->uart,
        .output = machine_console_uart_output,
        .room = machine_console_room,
        .line = uart_line,
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
}

static int make_pci(struct guest_machine *m)
{
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

static void free_all(struct guest_machine *m)
{
    for (unsigned i = 0; i < m->config.disk_count; i++)
        virtio_blk_free(&m->disks[i]);
    if (m->memory)
        host_guest_memory_free(m->memory);
    host_free(m);
}

int machine_create(struct guest_machine **machine, const struct machine_config *config)
{
    if (!acceptable(config))
        return -BASALT_EINVAL;
    struct guest_machine *m = host_alloc(sizeof(*m));
    if (!m)
        return -BASALT_ENOMEM;
    m->config = *config;
    if (config->name)
        strncpy(m->name, config->name, sizeof(m->name) - 1);
    m->config.name = m->name;
    m->server.port = -1;
    int error = make_memory(m);
    if (error == 0)
        error = make_tables(m);
    if (error == 0)
        error = make_state(m);
    if (error == 0)
        error = host_server_init(&m->server, config->domain, machine_serve, m);
    if (error == 0)
        error = machine_ports_route(m);
    if (error == 0)
        error = make_pci(m);
    if (error < 0) {
        if (m->server.port >= 0)
            host_server_end(&m->server);
        free_all(m);
        return error;
    }
    make_platform(m);
    *machine = m;
    return 0;
}

static void disk_ended(void *context)
{
    struct guest_machine *m = context;
    if (--m->ending)
        return;
    void (*done)(void *) = m->destroyed;
    void *done_context = m->destroyed_context;
    free_all(m);
    done(done_context);
}

void machine_destroy(struct guest_machine *m, void (*done)(void *context), void *context)
{
    host_server_end(&m->server);
    host_work_cancel(&m->end_work);
    rtc_end(&m->rtc);
    pm_end(&m->pm);
    m->destroyed = done;
    m->destroyed_context = context;
    m->ending = 1; // this function itself
    virtio_device_end(&m->console.device, NULL, NULL);
    virtio_device_end(&m->rng.device, NULL, NULL);
    for (unsigned i = 0; i < m->config.disk_count; i++)
        m->ending += !virtio_device_end(&m->disks[i].device, disk_ended, m);
    disk_ended(m);
}

struct guest_memory *machine_memory(struct guest_machine *m) { return m->memory; }

uint64_t machine_acpi_root(const struct guest_machine *m)
{
    (void)m;
    return MACHINE_TABLES; // the RSDP comes first
}

unsigned machine_memory_map(const struct guest_machine *m,
                            struct machine_memory_range ranges[MACHINE_MEMORY_RANGES])
{
    uint64_t low = machine_low_memory(m), high = m->config.memory - low;
    const struct machine_memory_range map[] = {
        {0, MACHINE_EBDA, MACHINE_RAM, 0},
        {MACHINE_EBDA, MACHINE_LOW_END - MACHINE_EBDA, MACHINE_RESERVED, 0},
        {MACHINE_TABLES, MACHINE_TABLES_END - MACHINE_TABLES, MACHINE_RESERVED, 0},
        {MACHINE_TABLES_END, low - MACHINE_TABLES_END, MACHINE_RAM, 0},
        {MACHINE_ECAM, MACHINE_ECAM_SIZE, MACHINE_RESERVED, 0},
        {MACHINE_HIGH, high, MACHINE_RAM, 0},
    };
    unsigned count = 0;
    for (unsigned i = 0; i < sizeof(map) / sizeof(map[0]); i++)
        if (map[i].size)
            ranges[count++] = map[i];
    return count;
}

bool machine_power_button(struct guest_machine *m) { return pm_power_button(&m->pm); }

int machine_disk_stats(const struct guest_machine *m, unsigned index,
                       struct machine_disk_stats *stats)
{
    if (index >= m->config.disk_count)
        return -BASALT_ENOENT;
    const struct virtio_blk *disk = &m->disks[index];
    *stats = disk->stats;
    stats->in_flight = disk->in_flight;
    stats->broken = (disk->device.state->status & VIRTIO_STATUS_NEEDS_RESET) != 0;
    return 0;
}
