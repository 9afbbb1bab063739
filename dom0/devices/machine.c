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
#include "cpuid.h"
#include "guest_machine.h"

#define PAGE       4096u
#define MEMORY_MIN 0x100000ull
#define MEMORY_MAX (1ull << 40)
#define ACPI_ROOM  0x4000u

_Static_assert(ACPI_ROOM <= MACHINE_TABLES_END - MACHINE_TABLES, "tables lie below 1 MiB");

static unsigned functions(const struct machine_config *config) {
    return SLOT_DISKS + config->disk_count;
}

uint64_t machine_overhead(const struct machine_config *config) {
    return (1 + functions(config)) * (uint64_t)PAGE;
}

static bool acceptable(const struct machine_config *c) {
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

uint64_t machine_low_memory(const struct guest_machine *m) {
    return m->config.memory < MACHINE_HOLE ? m->config.memory : MACHINE_HOLE;
}

static int make_memory(struct guest_machine *m) {
    uint64_t low = machine_low_memory(m), high = m->config.memory - low;
    int error = host_guest_memory_add(&m->memory, m->config.domain, 0, low / PAGE);
    if (error == 0 && high)
        error = host_guest_memory_add(&m->memory, m->config.domain, MACHINE_HIGH, high / PAGE);
    return error;
}

static int make_tables(struct guest_machine *m) {
    uint8_t *buffer = host_alloc(ACPI_ROOM);
    if (!buffer)
        return -BASALT_ENOMEM;
    size_t length = acpi_build(buffer, ACPI_ROOM, MACHINE_TABLES, m->config.vcpus);
    bool written = length && host_guest_write(m->memory, MACHINE_TABLES, buffer, length);
    host_free(buffer);
    return written ? 0 : -BASALT_ENOMEM;
}

static void header(struct state_header *h, enum state_kind kind, size_t size, unsigned slot) {
    *h = (struct state_header){STATE_MAGIC, STATE_VERSION, (uint16_t)kind, (uint32_t)size, slot};
}

// The state pages lie behind the guest's RAM.
static int make_state(struct guest_machine *m) {
    uint64_t low = machine_low_memory(m), high = m->config.memory - low;
    uint64_t gpa = low < MACHINE_HOLE ? low : MACHINE_HIGH + high;
    int error = host_state_alloc(&m->state_memory, m->config.domain, gpa, 1 + functions(&m->config),
                                 m->pages);
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

static int make_cpuid(const struct guest_machine *m) {
    struct basalt_cpuid rows[CPUID_ROWS];
    return host_cpuid_set(m->config.domain, rows, cpuid_table(rows, m->config.vcpus));
}

static void free_all(struct guest_machine *m) {
    for (unsigned i = 0; i < m->config.disk_count; i++)
        virtio_blk_free(&m->disks[i]);
    if (m->memory)
        host_guest_memory_free(m->memory);
    if (m->state_memory)
        host_state_free(m->state_memory, 1 + functions(&m->config));
    host_free(m);
}

int machine_create(struct guest_machine **machine, const struct machine_config *config) {
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
        error = make_cpuid(m);
    if (error == 0)
        error = host_server_init(&m->server, config->domain, machine_serve, m);
    if (error == 0)
        error = machine_ports_route(m);
    if (error == 0)
        error = machine_pci_init(m);
    if (error < 0) {
        if (m->server.port >= 0)
            host_server_end(&m->server);
        free_all(m);
        return error;
    }
    machine_platform_init(m);
    *machine = m;
    return 0;
}

static void disk_ended(void *context) {
    struct guest_machine *m = context;
    if (--m->ending)
        return;
    void (*done)(void *) = m->destroyed;
    void *done_context = m->destroyed_context;
    free_all(m);
    done(done_context);
}

void machine_destroy(struct guest_machine *m, void (*done)(void *context), void *context) {
    host_server_end(&m->server);
    host_work_cancel(&m->end_work);
    host_work_cancel(&m->room_work);
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

struct guest_memory *machine_memory(struct guest_machine *m) {
    return m->memory;
}

uint64_t machine_acpi_root(const struct guest_machine *m) {
    (void)m;
    return MACHINE_TABLES; // the RSDP comes first
}

unsigned machine_memory_map(const struct guest_machine *m,
                            struct machine_memory_range ranges[MACHINE_MEMORY_RANGES]) {
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
                       struct machine_disk_stats *stats) {
    if (index >= m->config.disk_count)
        return -BASALT_ENOENT;
    const struct virtio_blk *disk = &m->disks[index];
    *stats = disk->stats;
    stats->in_flight = disk->in_flight;
    stats->broken = (disk->device.state->status & VIRTIO_STATUS_NEEDS_RESET) != 0;
    return 0;
}
