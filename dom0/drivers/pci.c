// SPDX-License-Identifier: Apache-2.0
//
// PCI functions as the kernel lets dom0 see them. The kernel keeps BARs, MSI and MSI-X to itself;
// sizes of BARs are therefore not known here, and a driver that finds a capability pointing beyond
// its BAR gets ones or a fault that the kernel answers, never someone else's memory.

#include "pci.h"

#include "lib/hypercall.h"
#include "lib/log.h"
#include "lib/memory.h"

#include <stdio.h>
#include <stdlib.h>

#define PCI_COMMAND         0x04
#define PCI_COMMAND_IO      BIT(0)
#define PCI_COMMAND_MEMORY  BIT(1)
#define PCI_COMMAND_MASTER  BIT(2)
#define PCI_COMMAND_NO_INTX BIT(10)
#define PCI_STATUS          0x06
#define PCI_STATUS_CAPS     BIT(4)
#define PCI_CLASS_REVISION  0x08
#define PCI_HEADER_TYPE     0x0e
#define PCI_MULTIFUNCTION   0x80
#define PCI_BAR0            0x10
#define PCI_BAR_IO          BIT(0)
#define PCI_BAR_64          0x4 // of bits 2:1 of a memory BAR
#define PCI_CAP_POINTER     0x34
#define PCI_INTERRUPT_LINE  0x3c
#define PCI_CAP_MSI         0x05
#define PCI_CAP_MSIX        0x11
#define PCI_CAPS_MAX        48 // capabilities that fit into 192 bytes
#define PCI_FUNCTIONS_MAX   256
#define PCI_LINES_MAX       16
#define PCI_LINE_USERS      8

static struct pci_device *functions[PCI_FUNCTIONS_MAX];
static u32 function_count;

// The kernel lets a line ring one port; the functions that share the line share that.
static struct line {
    u32 number; // as the functions' interrupt line registers have it
    int port;
    u32 users;
    struct {
        event_handler handler;
        void *context;
    } user[PCI_LINE_USERS];
} lines[PCI_LINES_MAX]; // one without users ends them

u32 pci_count(void) { return function_count; }

struct pci_device *pci_at(u32 index) {
    return index < function_count ? functions[index] : NULL;
}

// The kernel reads 32 bits at a time.
static u32 read_config(u32 bdf, u32 offset, u32 bytes) {
    u32 word = hc_pci_read(bdf, offset & ~3u) >> offset % 4 * 8;
    return word & (u32)(BIT(bytes * 8) - 1);
}

u32 pci_read(const struct pci_device *d, u32 offset, u32 bytes) {
    return read_config(d->bdf, offset, bytes);
}

u32 pci_capability(const struct pci_device *d, u8 id, u32 from) {
    if (!(pci_read(d, PCI_STATUS, 2) & PCI_STATUS_CAPS))
        return 0;
    u32 offset = pci_read(d, from ? from + 1 : PCI_CAP_POINTER, 1) & 0xfc;
    for (unsigned i = 0; i < PCI_CAPS_MAX && offset >= 0x40; i++) {
        u32 header = pci_read(d, offset, 2);
        if ((header & 0xff) == id)
            return offset;
        offset = header >> 8 & 0xfc;
    }
    return 0;
}

static void read_bars(struct pci_device *d) {
    unsigned count = (pci_read(d, PCI_HEADER_TYPE, 1) & 0x7f) == 0 ? PCI_BARS : 0;
    for (unsigned i = 0; i < count; i++) {
        u32 low = pci_read(d, PCI_BAR0 + 4 * i, 4);
        if (low & PCI_BAR_IO) {
            d->bar_io |= (u8)BIT(i);
            d->bars[i] = low & ~3u;
            continue;
        }
        d->bars[i] = low & ~0xfu;
        if ((low & 0x6) != PCI_BAR_64 || i + 1 == count)
            continue;
        d->bars[i] |= (u64)pci_read(d, PCI_BAR0 + 4 * (i + 1), 4) << 32;
        i++;
    }
}

static void add_function(u32 bdf, u32 id) {
    struct pci_device *d = calloc(1, sizeof(*d));
    if (!d || function_count == PCI_FUNCTIONS_MAX) {
        free(d);
        return;
    }
    d->bdf = bdf;
    d->vendor = (u16)id;
    d->device = (u16)(id >> 16);
    u32 class_revision = pci_read(d, PCI_CLASS_REVISION, 4);
    d->class = class_revision >> 8;
    d->revision = (u8)class_revision;
    snprintf(d->name, sizeof(d->name), "%02x:%02x.%x", bdf >> 8 & 0xff, bdf >> 3 & 31, bdf & 7);
    read_bars(d);
    d->msi = (u8)pci_capability(d, PCI_CAP_MSI, 0);
    d->msix = (u8)pci_capability(d, PCI_CAP_MSIX, 0);
    if (d->msix)
        d->msix_entries = (u16)((pci_read(d, d->msix + 2, 2) & 0x7ff) + 1);
    functions[function_count++] = d;
    log_debug("pci", "%s is %04x:%04x class %06x%s%s", d->name, d->vendor, d->device, d->class,
              d->msi ? " msi" : "", d->msix ? " msix" : "");
}

u32 pci_scan(void) {
    function_count = 0;
    for (u32 bdf = 0; bdf < 0x10000; bdf++) {
        u32 id = read_config(bdf, 0, 4);
        bool absent = (id & 0xffff) == 0xffff || (id & 0xffff) == 0;
        if (!absent)
            add_function(bdf, id);
        // A function 0 that the kernel keeps (a bridge) reads as absent, while others of its device
        // may be dom0's: on bus 0, where those are, every function is looked at.
        bool single = !absent && !(read_config(bdf, PCI_HEADER_TYPE, 1) & PCI_MULTIFUNCTION);
        if ((bdf & 7) == 0 && (single || (absent && bdf >= 0x100)))
            bdf |= 7;
    }
    return function_count;
}

volatile void *pci_map(const struct pci_device *d, u32 bar, u64 offset, u64 bytes) {
    if (bar >= PCI_BARS || d->bar_io & BIT(bar) || d->bars[bar] == 0 || offset > BIT(40) ||
        bytes > BIT(40))
        return NULL;
    return phys_map(d->bars[bar] + offset, bytes);
}

void pci_enable(const struct pci_device *d) {
    u32 command = pci_read(d, PCI_COMMAND, 2);
    (void)hc_pci_command(d->bdf, command | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

void pci_disable(const struct pci_device *d) {
    u32 command = pci_read(d, PCI_COMMAND, 2);
    (void)hc_pci_command(d->bdf, command & ~(u32)PCI_COMMAND_MASTER);
}

// Allocates a port with its handler and ties it to a message, or the line.
static int bind_port(const struct pci_device *d, u32 entry, event_handler handler, void *context) {
    int port = event_port_alloc(handler, context);
    if (port < 0)
        return port;
    i64 r = hc_irq_bind(d->bdf, entry, (u32)port);
    if (r >= 0)
        return port;
    event_port_free(port);
    return (int)r;
}

int pci_bind_msi(const struct pci_device *d, u32 entry, event_handler handler, void *context) {
    return bind_port(d, entry, handler, context);
}

// Whose interrupt it is, is for the drivers to find out.
static void line_rings(void *context) {
    const struct line *l = context;
    for (u32 i = 0; i < l->users; i++)
        l->user[i].handler(l->user[i].context);
}

int pci_bind_line(const struct pci_device *d, event_handler handler, void *context) {
    u32 number = pci_read(d, PCI_INTERRUPT_LINE, 1);
    struct line *l = lines, *end = lines + PCI_LINES_MAX;
    while (l < end && l->users && l->number != number)
        l++;
    if (l == end || l->users == PCI_LINE_USERS)
        return -BASALT_ENOSPC;
    int port = l->users ? l->port : bind_port(d, -1, line_rings, l);
    if (port < 0)
        return port;
    l->number = number;
    l->port = port;
    l->user[l->users].handler = handler;
    l->user[l->users++].context = context;
    return port;
}

void pci_line_ack(int port) {
    if (port >= 0)
        hc_irq_ack((u32)port);
}
