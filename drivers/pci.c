// SPDX-License-Identifier: Apache-2.0
//
// PCI configuration space, through ECAM where the MCFG table has the bus, else through ports 0xCF8 and 0xCFC, and the
// functions that are found in it. Follows the PCI Local Bus specification, "Base Addresses", and the PCI Express Base
// specification, "PCI Express Enhanced Configuration Access Mechanism".

#include "drivers/pci.h"

#include "arch/acpi.h"
#include "arch/paging.h"
#include "arch/x86.h"
#include "drivers/ioapic.h"
#include "kernel/log.h"

#define PORT_ADDRESS      0xcf8
#define PORT_DATA         0xcfc
#define ADDRESS_ENABLE    0x80000000u
#define ECAM_BUS_SIZE     MIB

#define VENDOR            0x00u
#define CLASS             0x0au // 16 bits: subclass, class
#define HEADER_TYPE       0x0eu
#define BAR0              0x10u
#define INTERRUPT_LINE    0x3cu
#define INTERRUPT_PIN     0x3du

#define DEVICES           0x2000u // 256 buses of 32
#define MULTI_FUNCTION    0x80u
#define BAR_IO            0x1u
#define BAR_TYPE          0x6u
#define BAR_TYPE_64       0x4u
#define CLASS_HOST_BRIDGE 0x0600u

static struct pci_function functions[PCI_FUNCTIONS_MAX];
static unsigned function_count;
static volatile u8 *ecam; // the place of bus 0, whether that is in the range or not; NULL: none

unsigned pci_count(void) { return function_count; }

struct pci_function *pci_at(unsigned index) {
    return &functions[index];
}

struct pci_function *pci_find(u16 bdf) {
    for (unsigned i = 0; i < function_count; i++)
        if (functions[i].bdf == bdf)
            return &functions[i];
    return NULL;
}

static bool in_ecam(u16 bdf) {
    return ecam && bdf >> 8 >= acpi.ecam_first && bdf >> 8 <= acpi.ecam_last;
}

unsigned pci_config_size(u16 bdf) { return in_ecam(bdf) ? 4096 : 256; }

static bool valid(u16 bdf, unsigned offset, unsigned bytes) {
    return (bytes == 1 || bytes == 2 || bytes == 4) && offset % bytes == 0 &&
           offset < pci_config_size(bdf);
}

// Where a register is: in memory, or, where that is NULL, at *port.
static volatile u8 *select(u16 bdf, unsigned offset, u16 *port) {
    if (in_ecam(bdf))
        return ecam + ((u64)bdf << 12) + offset;
    outl(PORT_ADDRESS, ADDRESS_ENABLE | (u32)bdf << 8 | (offset & ~3u));
    *port = (u16)(PORT_DATA + (offset & 3));
    return NULL;
}

u32 pci_read(u16 bdf, unsigned offset, unsigned bytes) {
    u16 port;
    if (!valid(bdf, offset, bytes))
        return ~0u;
    volatile u8 *p = select(bdf, offset, &port);
    switch (bytes) {
    case 1: return p ? *p : inb(port);
    case 2: return p ? mmio_read16(p) : inw(port);
    default: return p ? mmio_read32(p) : inl(port);
    }
}

void pci_write(u16 bdf, unsigned offset, unsigned bytes, u32 value) {
    u16 port;
    if (!valid(bdf, offset, bytes))
        return;
    volatile u8 *p = select(bdf, offset, &port);
    switch (bytes) {
    case 1: p ? mmio_write8(p, (u8)value) : outb(port, (u8)value); break;
    case 2: p ? mmio_write16(p, (u16)value) : outw(port, (u16)value); break;
    default: p ? mmio_write32(p, value) : outl(port, value);
    }
}

// Writes all ones and sees which bits stick. Decoding is off meanwhile.
static u32 probe_bar(u16 bdf, unsigned reg) {
    u32 old = pci_read(bdf, reg, 4);
    pci_write(bdf, reg, 4, ~0u);
    u32 sticks = pci_read(bdf, reg, 4);
    pci_write(bdf, reg, 4, old);
    return sticks;
}

// Returns how many registers the BAR takes.
static unsigned read_bar(struct pci_function *f, unsigned index, unsigned count) {
    unsigned reg = BAR0 + 4 * index;
    u32 low = pci_read(f->bdf, reg, 4), flags = low & BAR_IO ? 0x3 : 0xf;
    u64 base = low & ~flags, sticks = probe_bar(f->bdf, reg) & ~flags;
    bool wide = !(low & BAR_IO) && (low & BAR_TYPE) == BAR_TYPE_64 && index + 1 < count;
    if (wide) {
        base |= (u64)pci_read(f->bdf, reg + 4, 4) << 32;
        sticks |= (u64)probe_bar(f->bdf, reg + 4) << 32;
    }
    if (sticks)
        f->bars[index] = (struct pci_bar){base, sticks & (0 - sticks), low & BAR_IO};
    return wide ? 2 : 1;
}

static void read_bars(struct pci_function *f) {
    unsigned count = f->header_type == 0 ? 6 : f->header_type == 1 ? 2 : 0;
    u32 command = pci_read(f->bdf, PCI_COMMAND, 2);
    pci_write(f->bdf, PCI_COMMAND, 2, command & ~(u32)(PCI_COMMAND_IO | PCI_COMMAND_MEMORY));
    for (unsigned i = 0; i < count;)
        i += read_bar(f, i, count);
    pci_write(f->bdf, PCI_COMMAND, 2, command);
}

static void add(u16 bdf) {
    if (function_count == PCI_FUNCTIONS_MAX) {
        log_warn("basalt: pci: %02x:%02x.%u left out: too many", bdf >> 8, bdf >> 3 & 31, bdf & 7);
        return;
    }
    struct pci_function *f = &functions[function_count++];
    u8 line = (u8)pci_read(bdf, INTERRUPT_LINE, 1);
    bool has_line = pci_read(bdf, INTERRUPT_PIN, 1) && line && line != 0xff;
    f->bdf = bdf;
    f->header_type = (u8)pci_read(bdf, HEADER_TYPE, 1) & (u8)~MULTI_FUNCTION;
    f->gsi = has_line ? ioapic_isa(line).gsi : ~0u;
    if (pci_read(bdf, CLASS, 2) != CLASS_HOST_BRIDGE) // its decoding is never turned off
        read_bars(f);
    pci_msi_probe(f);
}

void pci_init(void) {
    u64 first = acpi.ecam_first * ECAM_BUS_SIZE, end = (acpi.ecam_last + 1u) * ECAM_BUS_SIZE;
    u8 *mapped = acpi.ecam ? device_map(HPA(acpi.ecam + first), end - first, MAP_WRITE | MAP_UC)
                           : NULL;
    ecam = mapped ? mapped - first : NULL;
    for (unsigned device = 0; device < DEVICES; device++) {
        u16 bdf = (u16)(device << 3);
        if (pci_read(bdf, VENDOR, 2) == 0xffff)
            continue;
        unsigned last = pci_read(bdf, HEADER_TYPE, 1) & MULTI_FUNCTION ? 7 : 0;
        for (unsigned fn = 0; fn <= last; fn++)
            if (pci_read((u16)(bdf | fn), VENDOR, 2) != 0xffff)
                add((u16)(bdf | fn));
    }
    log_info("basalt: pci: %u functions, configuration through %s", function_count,
             ecam ? "ECAM" : "0xCF8");
}
