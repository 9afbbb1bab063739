// SPDX-License-Identifier: Apache-2.0
//
// PCI configuration space, through ECAM where the MCFG table has the bus, else through ports 0xCF8 and 0xCFC, and the
// functions that are found in it. Follows the PCI Local Bus specification, "Base Addresses", and the PCI Express Base
// specification, "PCI Express Enhanced Configuration Access Mechanism".

#include "drivers/pci.h"

#include "arch/paging.h"
#include "arch/x86.h"
#include "drivers/ioapic.h"
#include "kernel/log.h"

#define PORT_ADDRESS      0xcf8
#define PORT_DATA         0xcfc
#define ADDRESS_ENABLE    0x80000000u

#define VENDOR            0x00u
#define CLASS             0x08u // in the upper half: subclass, class
#define HEADER_TYPE       0x0cu // in bits 23:16
#define BAR0              0x10u
#define INTERRUPT         0x3cu // line, pin

#define MULTI_FUNCTION    0x800000u
#define TYPE              0x7f0000u // 0: no bridge
#define BAR_IO            0x1u
#define BAR_TYPE          0x6u
#define BAR_TYPE_64       0x4u
#define CLASS_HOST_BRIDGE 0x0600u

struct pci_function pci_functions[PCI_FUNCTIONS_MAX];
unsigned pci_function_count;
static volatile u8 *ecam; // bus 0; NULL: none

struct pci_function *pci_find(u16 bdf) {
    for (unsigned i = 0; i < pci_function_count; i++)
        if (pci_functions[i].bdf == bdf)
            return &pci_functions[i];
    return NULL;
}

// A function's registers in memory; NULL: they are reached through the ports.
static volatile u8 *registers_of(u16 bdf) {
    return ecam && bdf >> 8 < acpi.ecam_buses ? ecam + ((u64)bdf << 12) : NULL;
}

unsigned pci_config_size(u16 bdf) { return registers_of(bdf) ? 4096 : 256; }

u32 pci_read(u16 bdf, unsigned offset) {
    volatile u8 *registers = registers_of(bdf);
    if (registers)
        return mmio_read32(registers + offset);
    outl(PORT_ADDRESS, ADDRESS_ENABLE | (u32)bdf << 8 | offset);
    return inl(PORT_DATA);
}

void pci_write(u16 bdf, unsigned offset, u32 value) {
    volatile u8 *registers = registers_of(bdf);
    if (registers) {
        mmio_write32(registers + offset, value);
        return;
    }
    outl(PORT_ADDRESS, ADDRESS_ENABLE | (u32)bdf << 8 | offset);
    outl(PORT_DATA, value);
}

void pci_change(u16 bdf, unsigned offset, u32 clear, u32 set) {
    pci_write(bdf, offset, (pci_read(bdf, offset) & ~clear) | set);
}

// Writes all ones and sees which bits stick. Decoding is off meanwhile.
static u32 probe_bar(u16 bdf, unsigned offset) {
    u32 old = pci_read(bdf, offset);
    pci_write(bdf, offset, ~0u);
    u32 sticks = pci_read(bdf, offset);
    pci_write(bdf, offset, old);
    return sticks;
}

// Returns how many registers the BAR takes.
static unsigned read_bar(struct pci_function *f, unsigned index) {
    unsigned offset = BAR0 + 4 * index;
    u32 low = pci_read(f->bdf, offset), flags = low & BAR_IO ? 0x3 : 0xf;
    u64 base = low & ~flags, sticks = probe_bar(f->bdf, offset) & ~flags;
    bool wide = !(low & BAR_IO) && (low & BAR_TYPE) == BAR_TYPE_64 && index + 1 < PCI_BARS;
    if (wide) {
        base |= (u64)pci_read(f->bdf, offset + 4) << 32;
        sticks |= (u64)probe_bar(f->bdf, offset + 4) << 32;
    }
    if (sticks)
        f->bars[index] = (struct pci_bar){base, sticks & (0 - sticks), low & BAR_IO};
    return wide ? 2 : 1;
}

static void read_bars(struct pci_function *f) {
    u32 decoding = pci_read(f->bdf, PCI_COMMAND) & (PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
    pci_change(f->bdf, PCI_COMMAND, PCI_STATUS | decoding, 0);
    for (unsigned i = 0; i < PCI_BARS;)
        i += read_bar(f, i);
    pci_change(f->bdf, PCI_COMMAND, PCI_STATUS, decoding);
}

static void add(u16 bdf) {
    if (pci_function_count == PCI_FUNCTIONS_MAX) {
        log_warn("basalt: pci: %02x:%02x.%u left out: too many", bdf >> 8, bdf >> 3 & 31, bdf & 7);
        return;
    }
    struct pci_function *f = &pci_functions[pci_function_count++];
    u32 interrupt = pci_read(bdf, INTERRUPT), line = interrupt & 0xff, pin = interrupt >> 8 & 0xff;
    f->bdf = bdf;
    f->gsi = pin && line && line != 0xff ? ioapic_isa((u8)line).gsi : ~0u;
    if (pci_read(bdf, CLASS) >> 16 != CLASS_HOST_BRIDGE) // its decoding is never turned off
        read_bars(f);
    pci_msi_probe(f);
}

void pci_init(void) {
    ecam = device_map(HPA(acpi.ecam), acpi.ecam_buses * MIB, MAP_WRITE | MAP_UC);
    for (u32 bdf = 0; bdf <= 0xffff; bdf++) {
        bool there = (u16)pci_read((u16)bdf, VENDOR) != 0xffff;
        u32 header_type = there ? pci_read((u16)bdf, HEADER_TYPE) : 0;
        if (there && !(header_type & TYPE))
            add((u16)bdf);
        if (bdf % 8 == 0 && !(header_type & MULTI_FUNCTION))
            bdf += 7;
    }
    log_info("basalt: pci: %u functions, configuration through %s", pci_function_count,
             ecam ? "ECAM" : "0xCF8");
}
