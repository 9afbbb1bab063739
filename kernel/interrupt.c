// SPDX-License-Identifier: Apache-2.0
//
// Device interrupts. Each bound message or line takes one host vector of this CPU and rings one port; what functions
// share a line is for its holder to know.

#include "kernel/interrupt.h"

#include "arch/cpu.h"
#include "boot/boot.h"
#include "drivers/ioapic.h"
#include "drivers/pci.h"
#include "kernel/event.h"

#define VECTORS 256u

// What a host vector stands for, and whose port it rings.
static struct vector {
    struct watcher user;           // without a domain the vector is free
    const struct pci_function *fn; // whose message it is; NULL: a line
    u32 number;                    // of the message; the line's GSI
    bool level;                    // a line that comes again until its device has been served
} vectors[VECTORS];

void irq_quench(unsigned vector) {
    if (vectors[vector].level)
        ioapic_mask(vectors[vector].number, true);
}

void interrupt_deliver(unsigned vector) {
    const struct watcher *user = &vectors[vector].user;

    if (user->domain)
        event_ring(user->domain, user->port);
}

static struct pci_function *owned(const struct domain *d, u64 bdf) {
    struct pci_function *fn = bdf <= 0xffff ? pci_find((u16)bdf) : NULL;

    return fn && fn->owner == d ? fn : NULL;
}

// Whether the page holds a part of any function's MSI-X table, which only the kernel writes: functions may share a page.
static bool holds_msix_table(u64 page) {
    for (const struct pci_function *fn = pci_functions; fn < pci_functions + pci_function_count;
         fn++)
        if (page < fn->msix_address + fn->msix_count * 16u && page + PAGE_SIZE > fn->msix_address)
            return true;
    return false;
}

int device_assign(struct domain *d, struct pci_function *fn) {
    if (fn->owner || !d->identity)
        return -BASALT_EBUSY;
    for (const struct pci_bar *bar = fn->bars; bar < fn->bars + PCI_BARS; bar++)
        if (bar->size && !bar->io && bar->base && boot_is_ram(bar->base, bar->base + bar->size))
            return -BASALT_EINVAL;
    for (const struct pci_bar *bar = fn->bars; bar < fn->bars + PCI_BARS; bar++) {
        u64 base = ALIGN_DOWN(bar->base, PAGE_SIZE),
            end = ALIGN_UP(bar->base + bar->size, PAGE_SIZE);
        if (!bar->size || bar->io || !bar->base)
            continue;
        for (; base < end; base += PAGE_SIZE) { // BARs may share a page with another function's
            u32 write = holds_msix_table(base) ? 0 : EPT_WRITE;
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

// A vector for a message, or a line (no function), that the port is to be bound to; or what is in the way.
static int vector_for(struct domain *d, u64 port, const struct pci_function *fn, u32 number) {
    const struct port *p = port_find(d, port);
    int vacant = -BASALT_ENOSPC;

    if (!p)
        return -BASALT_EINVAL;
    for (int v = VECTOR_DEVICE_LAST; v >= (int)VECTOR_DEVICE_FIRST; v--)
        if (!vectors[v].user.domain)
            vacant = v;
        else if (vectors[v].fn == fn && vectors[v].number == number)
            return -BASALT_EBUSY;
    return p->kind == PORT_ALLOCATED ? vacant : -BASALT_EBUSY;
}

// The line of a function, or an ISA interrupt; ~0 if there is none.
static struct acpi_override line_of(const struct pci_function *fn, u64 source) {
    if (source - BASALT_IRQ_ISA < 16)
        return ioapic_isa((u8)source);
    return (struct acpi_override){.gsi = fn ? fn->gsi : ~0u, .level = true, .active_low = true};
}

int interrupt_bind(struct domain *d, u64 source, u64 entry, u64 port) {
    const struct pci_function *fn = owned(d, source);
    bool message = entry != BASALT_IRQ_LINE;
    struct acpi_override line = line_of(fn, source);
    struct vector what = {{d, (u32)port},
                          message ? fn : NULL,
                          message ? (u32)entry : line.gsi,
                          !message && line.level};

    if (message ? !fn : line.gsi == ~0u)
        return -BASALT_ENODEV;
    if (message && entry > 2047)
        return -BASALT_EINVAL;
    int vector = vector_for(d, port, what.fn, what.number);
    if (vector < 0)
        return vector;
    if (message && pci_msi_set(fn, what.number, this_cpu()->apic_id, (unsigned)vector))
        return -BASALT_EINVAL;
    if (!message &&
        ioapic_route(line.gsi, (unsigned)vector, this_cpu()->apic_id, line.level, line.active_low))
        return -BASALT_ENODEV;
    vectors[vector] = what;
    d->has_devices = true;
    *port_find(d, port) = (struct port){.kind = PORT_IRQ, .vector = (u8)vector};
    if (!message)
        ioapic_mask(line.gsi, false);
    return 0;
}

void interrupt_unbind(struct domain *d, u32 port) {
    struct port *p = port_find(d, port);

    if (!p || p->kind != PORT_IRQ)
        return;
    struct vector *v = &vectors[p->vector];
    if (v->fn)
        pci_msi_mask(v->fn, v->number);
    else
        ioapic_mask(v->number, true);
    *v = (struct vector){0};
    p->kind = PORT_ALLOCATED;
}

int interrupt_ack(struct domain *d, u64 port) {
    const struct port *p = port_find(d, port);

    if (!p || p->kind != PORT_IRQ || vectors[p->vector].fn)
        return -BASALT_EINVAL;
    ioapic_mask(vectors[p->vector].number, false);
    return 0;
}

void interrupts_release(struct domain *d) {
    if (!d->has_devices)
        return;
    for (struct pci_function *fn = pci_functions; fn < pci_functions + pci_function_count; fn++) {
        if (fn->owner != d)
            continue;
        pci_change(fn->bdf, PCI_COMMAND, PCI_STATUS | PCI_COMMAND_MASTER, PCI_COMMAND_INTX_OFF);
        pci_msi_disable(fn);
        fn->owner = NULL;
    }
    for (unsigned vector = 0; vector < VECTORS; vector++)
        if (vectors[vector].user.domain == d)
            interrupt_unbind(d, vectors[vector].user.port);
    d->has_devices = false;
}

i64 device_config_read(struct domain *d, u64 bdf, u64 offset) {
    struct pci_function *fn = owned(d, bdf);

    if (!fn)
        return 0xffffffff;
    if (offset % 4 || offset >= pci_config_size(fn->bdf))
        return -BASALT_EINVAL;
    return pci_read(fn->bdf, (unsigned)offset);
}

// All else is the kernel's: which addresses a device takes is told not only by BARs and bridge windows but by SR-IOV,
// Enhanced Allocation and others still to come, and MSI and MSI-X are where it sends its interrupts.
int device_command(struct domain *d, u64 bdf, u64 value) {
    struct pci_function *fn = owned(d, bdf);
    const u32 bits = PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER |
                     PCI_COMMAND_INTX_OFF;

    if (!fn)
        return -BASALT_ENODEV;
    if (value > 0xffff)
        return -BASALT_EINVAL;
    pci_change(fn->bdf, PCI_COMMAND, PCI_STATUS | bits, (u32)value & bits);
    return 0;
}
