// SPDX-License-Identifier: Apache-2.0
//
// Device interrupts. Each bound message takes one host vector of this CPU; functions that share a level-triggered line
// share its vector, and an interrupt rings all their ports: whose it was is for their drivers to find out.

#include "kernel/interrupt.h"

#include "arch/cpu.h"
#include "drivers/ioapic.h"
#include "drivers/pci.h"
#include "kernel/event.h"

#include <basalt/error.h>

#define VECTORS    256u
#define LINE_USERS 4u
#define GSI_NONE   0xffffu

// What a host vector stands for: users[0] alone for a message.
struct vector {
    u16 gsi; // GSI_NONE: a message
    bool used;
    struct watcher users[LINE_USERS];
};

static struct vector vectors[VECTORS];

static void quench(unsigned vector) { ioapic_mask(vectors[vector].gsi); }

void interrupts_init(void) { irq_quench = quench; }

static int vector_alloc(u16 gsi) {
    for (unsigned v = VECTOR_DEVICE_FIRST; v <= VECTOR_DEVICE_LAST; v++)
        if (!vectors[v].used) {
            vectors[v] = (struct vector){.gsi = gsi, .used = true};
            return (int)v;
        }
    return -BASALT_ENOSPC;
}

static int vector_of_line(u16 gsi) {
    for (unsigned v = VECTOR_DEVICE_FIRST; v <= VECTOR_DEVICE_LAST; v++)
        if (vectors[v].used && vectors[v].gsi == gsi)
            return (int)v;
    return -BASALT_ENOENT;
}

void interrupt_deliver(unsigned vector) {
    for (unsigned i = 0; i < LINE_USERS; i++)
        if (vectors[vector].users[i].domain)
            event_ring(vectors[vector].users[i].domain, vectors[vector].users[i].port);
}

static struct pci_function *owned(const struct domain *d, u64 bdf) {
    struct pci_function *fn = bdf <= 0xffff ? pci_find((u16)bdf) : NULL;

    return fn && fn->owner == d ? fn : NULL;
}

// Whether the page of BAR number `bar` at `page` holds a part of the function's MSI-X table, which only the kernel writes.
static bool holds_msix_table(const struct pci_function *fn, unsigned bar, u64 page) {
    if (!fn->msix_cap)
        return false;
    u32 where = pci_read(fn->bdf, fn->msix_cap + 4u, 4); // BAR number in bits 2:0, offset above
    u64 first = fn->bars[bar].base + (where & ~7u), last = first + fn->msix_count * 16u - 1;
    return (where & 7) == bar && page <= last && page + PAGE_SIZE > first;
}

int device_assign(struct domain *d, unsigned function) {
    struct pci_function *fn = pci_at(function);

    if (fn->owner || !d->identity)
        return -BASALT_EBUSY;
    for (unsigned i = 0; i < ARRAY_SIZE(fn->bars); i++) {
        const struct pci_bar *bar = &fn->bars[i];
        u64 base = ALIGN_DOWN(bar->base, PAGE_SIZE),
            end = ALIGN_UP(bar->base + bar->size, PAGE_SIZE);
        if (!bar->size || bar->io || !bar->base)
            continue;
        for (; base < end;
             base += PAGE_SIZE) { // small BARs may share a page with another function's
            u32 write = holds_msix_table(fn, i, base) ? 0 : EPT_WRITE;
            int error =
                memory_map_identity(d, HPA(base), PAGE_SIZE, EPT_READ | write | EPT_UNCACHED);
            if (error && error != -BASALT_EEXIST)
                return error;
        }
    }
    fn->owner = d;
    d->has_devices = true;
    return 0;
}

int interrupt_bind_message(struct domain *d, u64 bdf, u64 entry, u64 port) {
    struct pci_function *fn = owned(d, bdf);
    struct port *p = port_find(d, port);

    if (!fn)
        return -BASALT_ENODEV;
    if (!p || entry > 2047)
        return -BASALT_EINVAL;
    if (p->kind != PORT_ALLOCATED)
        return -BASALT_EBUSY;
    int vector = vector_alloc(GSI_NONE);
    if (vector < 0)
        return vector;
    vectors[vector].users[0] = (struct watcher){d, (u32)port};
    if (pci_msi_set(fn, (unsigned)entry, this_cpu()->apic_id, (unsigned)vector)) {
        vectors[vector] = (struct vector){0};
        return -BASALT_EINVAL;
    }
    *p = (struct port){
        .kind = PORT_IRQ_MSI, .vector = (u8)vector, .function = (u32)bdf, .entry = (u32)entry};
    return 0;
}

// The line of a function that is the domain's, or an ISA interrupt; GSI_NONE if there is none.
static struct acpi_override line_of(const struct domain *d, u64 source) {
    const struct pci_function *fn = owned(d, source);

    if (source >= BASALT_IRQ_ISA && source < BASALT_IRQ_ISA + 16)
        return ioapic_isa((u8)source);
    return (struct acpi_override){
        .gsi = fn ? MIN(fn->gsi, GSI_NONE) : GSI_NONE, .level = true, .active_low = true};
}

int interrupt_bind_line(struct domain *d, u64 source, u64 port) {
    struct acpi_override line = line_of(d, source);
    struct port *p = port_find(d, port);

    if (line.gsi >= GSI_NONE)
        return -BASALT_ENODEV;
    if (!p)
        return -BASALT_EINVAL;
    if (p->kind != PORT_ALLOCATED)
        return -BASALT_EBUSY;
    u16 gsi = (u16)line.gsi;
    int vector = vector_of_line(gsi);
    bool fresh = vector < 0;
    if (fresh && (vector = vector_alloc(gsi)) < 0)
        return vector;
    struct watcher *user = NULL;
    for (unsigned i = 0; i < LINE_USERS && !user; i++)
        if (!vectors[vector].users[i].domain)
            user = &vectors[vector].users[i];
    if (!user)
        return -BASALT_ENOSPC;
    if (fresh &&
        ioapic_route(gsi, (unsigned)vector, this_cpu()->apic_id, line.level, line.active_low)) {
        vectors[vector].used = false;
        return -BASALT_ENODEV;
    }
    *user = (struct watcher){d, (u32)port};
    d->has_devices = true;
    if (line.level)
        irq_level_vectors[vector / 64] |= BIT(vector % 64);
    *p = (struct port){.kind = PORT_IRQ_LINE, .vector = (u8)vector, .gsi = gsi};
    ioapic_unmask(gsi);
    return 0;
}

// Takes the port out of its vector; a vector without users is free again.
static void leave_vector(struct domain *d, u32 port, const struct port *p) {
    struct vector *vector = &vectors[p->vector];
    bool used = false;

    for (unsigned i = 0; i < LINE_USERS; i++) {
        struct watcher *user = &vector->users[i];
        if (user->domain == d && user->port == port)
            *user = (struct watcher){0};
        used |= user->domain != NULL;
    }
    if (used)
        return;
    if (p->kind == PORT_IRQ_LINE) {
        ioapic_mask(vector->gsi);
        irq_level_vectors[p->vector / 64] &= ~BIT(p->vector % 64);
    }
    vector->used = false;
}

void interrupt_unbind(struct domain *d, u32 port) {
    struct port *p = port_find(d, port);
    struct pci_function *fn = p ? pci_find((u16)p->function) : NULL;

    if (!p || (p->kind != PORT_IRQ_MSI && p->kind != PORT_IRQ_LINE))
        return;
    if (fn && p->kind == PORT_IRQ_MSI)
        pci_msi_mask(fn, p->entry, true);
    leave_vector(d, port, p);
    p->kind = PORT_ALLOCATED;
}

int interrupt_ack(struct domain *d, u64 port) {
    struct port *p = port_find(d, port);

    if (!p || p->kind != PORT_IRQ_LINE)
        return -BASALT_EINVAL;
    ioapic_unmask(p->gsi);
    return 0;
}

void interrupts_release(struct domain *d) {
    if (!d->has_devices)
        return;
    for (unsigned i = 0; i < pci_count(); i++) {
        struct pci_function *fn = pci_at(i);
        if (fn->owner != d)
            continue;
        u32 command = pci_read(fn->bdf, PCI_COMMAND, 2);
        pci_write(fn->bdf, PCI_COMMAND, 2,
                  (command & ~(u32)PCI_COMMAND_MASTER) | PCI_COMMAND_INTX_OFF);
        pci_msi_disable(fn);
        fn->owner = NULL;
    }
    for (u32 port = 0; port < BASALT_PORTS; port++)
        interrupt_unbind(d, port);
    d->has_devices = false;
}

static bool config_access_ok(const struct pci_function *fn, u64 offset, u64 bytes) {
    return (bytes == 1 || bytes == 2 || bytes == 4) && !(offset & (bytes - 1)) &&
           offset < pci_config_size(fn->bdf);
}

i64 device_config_read(struct domain *d, u64 bdf, u64 offset, u64 bytes) {
    struct pci_function *fn = owned(d, bdf);

    if (!fn)
        return bytes >= 4 ? 0xffffffff : (i64)(BIT(bytes * 8) - 1);
    if (!config_access_ok(fn, offset, bytes))
        return -BASALT_EINVAL;
    return pci_read(fn->bdf, (unsigned)offset, (unsigned)bytes);
}

static bool inside(u64 offset, u64 bytes, u64 first, u64 length) {
    return length && offset < first + length && first < offset + bytes;
}

int device_config_write(struct domain *d, u64 bdf, u64 offset, u64 bytes, u64 value) {
    struct pci_function *fn = owned(d, bdf);
    const u32 command_bits = PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER |
                             PCI_COMMAND_INTX_OFF;

    if (!fn)
        return -BASALT_ENODEV;
    if (!config_access_ok(fn, offset, bytes) || value & ~(BIT(bytes * 8) - 1))
        return -BASALT_EINVAL;
    if (offset == PCI_COMMAND && bytes == 2) {
        u32 old = pci_read(fn->bdf, PCI_COMMAND, 2);
        pci_write(fn->bdf, PCI_COMMAND, 2, (old & ~command_bits) | ((u32)value & command_bits));
        return 0;
    }
    // The header (BARs, line, bridge windows), MSI and MSI-X are the kernel's.
    if (offset < 0x40 || inside(offset, bytes, fn->msi_cap, fn->msi_cap ? 24 : 0) ||
        inside(offset, bytes, fn->msix_cap, fn->msix_cap ? 12 : 0))
        return -BASALT_EPERM;
    pci_write(fn->bdf, (unsigned)offset, (unsigned)bytes, (u32)value);
    return 0;
}
