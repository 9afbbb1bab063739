// SPDX-License-Identifier: Apache-2.0
//
// Configuration space of the guest's PCI functions, and which of their BARs decode which addresses.
// A write goes through a mask of the bits that hardware would keep; afterwards the table of decoded
// ranges is built anew if the command register or a BAR was touched (at most 6 BARs of 32
// functions: bounded work). Follows "Configuration Space" of the PCI local bus specification.

#include <string.h>

#include "access.h"
#include "machine.h"
#include "vpci.h"

#define PCI_COMMAND_WRITABLE                                                         \
    (PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY | \
     PCI_COMMAND_SERR | PCI_COMMAND_NO_INTX)
#define PCI_CAPABILITY_FIRST 0x40u

static void config_put(struct vpci_function *f, unsigned offset, unsigned bytes, uint64_t value) {
    access_store(f->state->config + offset, bytes, value);
}

void vpci_bus_init(struct vpci_bus *bus, uint32_t domain, struct machine_state *machine) {
    memset(bus, 0, sizeof(*bus));
    bus->domain = domain;
    bus->machine = machine;
    bus->next_memory = (uint32_t)MACHINE_PCI_MEMORY;
    bus->next_io = MACHINE_PCI_IO;
}

void vpci_add(struct vpci_bus *bus, struct vpci_function *f, unsigned slot, struct pci_state *state,
              const struct vpci_id *id, const struct vpci_ops *ops, bool fresh) {
    f->bus = bus;
    f->state = state;
    f->ops = ops;
    f->slot = (uint8_t)slot;
    access_store(f->writable + PCI_COMMAND, 2, PCI_COMMAND_WRITABLE);
    f->writable[PCI_INTERRUPT_LINE] = 0xff;
    if (!fresh)
        return;
    memset(state->config, 0, sizeof(state->config));
    memset(state->msix, 0, sizeof(state->msix));
    state->msix_pending = 0;
    config_put(f, PCI_VENDOR_ID, 2, id->vendor);
    config_put(f, PCI_DEVICE_ID, 2, id->device);
    config_put(f, PCI_REVISION, 1, id->revision);
    config_put(f, PCI_CLASS, 3, id->class);
    config_put(f, PCI_SUBSYSTEM_VENDOR, 2, id->subsystem_vendor);
    config_put(f, PCI_SUBSYSTEM, 2, id->subsystem);
    config_put(f, PCI_INTERRUPT_PIN, 1, id->interrupt);
    config_put(f, PCI_INTERRUPT_LINE, 1, id->interrupt ? vpci_gsi(slot) : 0);
}

void vpci_add_bar(struct vpci_function *f, unsigned bar, uint32_t size, bool io, bool fresh) {
    uint32_t *next = io ? &f->bus->next_io : &f->bus->next_memory;
    unsigned offset = PCI_BAR0 + 4 * bar;
    uint32_t address = (*next + size - 1) & ~(size - 1);
    *next = address + size;
    f->bar_size[bar] = size;
    f->bar_io[bar] = io;
    access_store(f->writable + offset, 4, ~(uint64_t)(size - 1));
    if (fresh)
        config_put(f, offset, 4, address | io);
}

unsigned vpci_add_capability(struct vpci_function *f, uint8_t id, unsigned length,
                             const uint8_t *body, const uint8_t *writable, bool fresh) {
    unsigned offset = f->next_cap ? f->next_cap : PCI_CAPABILITY_FIRST;
    unsigned link = f->last_cap ? f->last_cap + 1u : PCI_CAPABILITIES;
    if (fresh) {
        config_put(f, link, 1, offset);
        config_put(f, offset, 1, id);
        memcpy(f->state->config + offset + 2, body, length - 2);
        f->state->config[PCI_STATUS] |= PCI_STATUS_CAPABILITIES;
    }
    if (writable)
        memcpy(f->writable + offset + 2, writable, length - 2);
    f->last_cap = (uint8_t)offset;
    f->next_cap = (uint8_t)((offset + length + 3) & ~3u);
    return offset;
}

uint16_t vpci_command(const struct vpci_function *f) {
    return (uint16_t)access_load(f->state->config + PCI_COMMAND, 2);
}

uint32_t vpci_bar_address(const struct vpci_function *f, unsigned bar) {
    return (uint32_t)access_load(f->state->config + PCI_BAR0 + 4 * bar, 4) &
           ~(f->bar_size[bar] - 1);
}

static void insert(struct vpci_range *ranges, unsigned *count, const struct vpci_range *range) {
    unsigned i = (*count)++;
    for (; i > 0 && ranges[i - 1].first > range->first; i--)
        ranges[i] = ranges[i - 1];
    ranges[i] = *range;
}

static void decode_function(struct vpci_bus *bus, struct vpci_function *f) {
    uint16_t command = vpci_command(f);
    for (unsigned bar = 0; bar < VPCI_BARS; bar++) {
        if (!f->bar_size[bar] ||
            !(command & (f->bar_io[bar] ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY)))
            continue;
        uint32_t first = vpci_bar_address(f, bar);
        struct vpci_range range = {first, first + f->bar_size[bar] - 1, f, (uint8_t)bar};
        if (f->bar_io[bar])
            insert(bus->io, &bus->io_count, &range);
        else
            insert(bus->memory, &bus->memory_count, &range);
    }
}

static void decode(struct vpci_bus *bus) {
    bus->io_count = bus->memory_count = 0;
    for (unsigned slot = 0; slot < VPCI_SLOTS; slot++)
        if (bus->functions[slot])
            decode_function(bus, bus->functions[slot]);
}

void vpci_ready(struct vpci_function *f) {
    f->bus->functions[f->slot] = f;
    decode(f->bus);
    if (f->ops->decode_changed)
        f->ops->decode_changed(f);
}

uint64_t vpci_config_read(struct vpci_bus *bus, unsigned slot, unsigned offset, unsigned bytes) {
    struct vpci_function *f = slot < VPCI_SLOTS ? bus->functions[slot] : NULL;
    if (!f)
        return access_mask(bytes);
    if (offset + bytes > PCI_CONFIG_SIZE)
        return 0; // no extended capabilities
    if (f->ops->config_reading)
        f->ops->config_reading(f, offset, bytes);
    return access_load(f->state->config + offset, bytes);
}

void vpci_config_write(struct vpci_bus *bus, unsigned slot, unsigned offset, unsigned bytes,
                       uint64_t data) {
    struct vpci_function *f = slot < VPCI_SLOTS ? bus->functions[slot] : NULL;
    if (!f || offset + bytes > PCI_CONFIG_SIZE)
        return;
    uint64_t mask = access_load(f->writable + offset, bytes);
    uint64_t old = access_load(f->state->config + offset, bytes);
    config_put(f, offset, bytes, (old & ~mask) | (data & mask));
    if (access_touches(offset, bytes, PCI_COMMAND, 2) ||
        access_touches(offset, bytes, PCI_BAR0, 4 * VPCI_BARS)) {
        decode(bus);
        vpci_set_line(f, f->line); // the command register can switch it off
        if (f->ops->decode_changed)
            f->ops->decode_changed(f);
    }
    if (f->ops->config_written)
        f->ops->config_written(f, offset, bytes);
    vpci_msix_written(f, offset, bytes);
}

static const struct vpci_range *find(const struct vpci_range *ranges, unsigned count,
                                     uint64_t address) {
    unsigned low = 0;
    for (unsigned high = count; low < high;) {
        unsigned middle = (low + high) / 2;
        if (ranges[middle].first <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low && address <= ranges[low - 1].last ? &ranges[low - 1] : NULL;
}

static const struct vpci_range *bus_find(const struct vpci_bus *bus, bool io, uint64_t address) {
    return io ? find(bus->io, bus->io_count, address)
              : find(bus->memory, bus->memory_count, address);
}

uint64_t vpci_bar_read(struct vpci_bus *bus, bool io, uint64_t address, unsigned bytes) {
    const struct vpci_range *range = bus_find(bus, io, address);
    if (!range)
        return access_mask(bytes);
    return vpci_function_read(range->function, range->bar, (uint32_t)address - range->first, bytes);
}

void vpci_bar_write(struct vpci_bus *bus, bool io, uint64_t address, unsigned bytes,
                    uint64_t data) {
    const struct vpci_range *range = bus_find(bus, io, address);
    if (range)
        vpci_function_write(range->function, range->bar, (uint32_t)address - range->first, bytes,
                            data);
}
