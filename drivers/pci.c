// SPDX-License-Identifier: Apache-2.0
//
// The table of PCI functions, made once at boot: what they are, their BARs and their interrupt
// capabilities. Invariant: sorted by bus, device, function, and complete for segment 0 up to
// PCI_FUNCTIONS_MAX. Follows the PCI Local Bus specification, "Base Addresses".

#include "drivers/pci.h"

#include "arch/x86.h"
#include "drivers/ioapic.h"
#include "kernel/log.h"

#define BUSES             256u
#define MULTI_FUNCTION    0x80u
#define BAR_IO            0x1u
#define BAR_TYPE          0x6u
#define BAR_TYPE_64       0x4u
#define LINE_NONE         0xffu
#define CLASS_HOST_BRIDGE 0x0600u

static struct pci_function functions[PCI_FUNCTIONS_MAX];
static unsigned function_count;

unsigned pci_count(void) { return function_count; }

struct pci_function *pci_at(unsigned index) {
    return index < function_count ? &functions[index] : NULL;
}

struct pci_function *pci_find(u16 bdf) {
    for (unsigned i = 0; i < function_count; i++)
        if (functions[i].bdf == bdf)
            return &functions[i];
    return NULL;
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
    unsigned reg = PCI_BAR0 + 4 * index;
    struct pci_bar *bar = &f->bars[index];
    u32 low = pci_read(f->bdf, reg, 4);
    bar->io = low & BAR_IO;
    u32 flag_bits = bar->io ? 0x3 : 0xf;
    u64 sticks = probe_bar(f->bdf, reg);
    if (!(sticks & ~(u64)flag_bits))
        return 1;
    bar->base = low & ~flag_bits;
    bool wide = !bar->io && (low & BAR_TYPE) == BAR_TYPE_64 && index + 1 < count;
    if (wide) {
        bar->base |= (u64)pci_read(f->bdf, reg + 4, 4) << 32;
        sticks |= (u64)probe_bar(f->bdf, reg + 4) << 32;
    } else {
        sticks |= bar->io && !(sticks >> 16) ? 0xffffffffffff0000ull : 0xffffffff00000000ull;
    }
    sticks &= ~(u64)flag_bits;
    bar->size = sticks & (0 - sticks); // the lowest bit that sticks
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

static u32 line_gsi(u16 bdf) {
    u8 pin = (u8)pci_read(bdf, PCI_INTERRUPT_PIN, 1);
    u8 line = (u8)pci_read(bdf, PCI_INTERRUPT_LINE, 1);
    return !pin || !line || line == LINE_NONE ? ~0u : ioapic_isa(line).gsi;
}

static void add(u16 bdf) {
    if (function_count == PCI_FUNCTIONS_MAX) {
        log_warn("basalt: pci: %02x:%02x.%u left out: too many", bdf >> 8, bdf >> 3 & 31, bdf & 7);
        return;
    }
    struct pci_function *f = &functions[function_count++];
    f->bdf = bdf;
    f->vendor = (u16)pci_read(bdf, PCI_VENDOR, 2);
    f->device = (u16)pci_read(bdf, PCI_DEVICE, 2);
    f->class_code = (u16)pci_read(bdf, PCI_CLASS, 2);
    f->header_type = (u8)pci_read(bdf, PCI_HEADER_TYPE, 1) & (u8)~MULTI_FUNCTION;
    f->gsi = line_gsi(bdf);
    if (f->class_code != CLASS_HOST_BRIDGE) // its decoding is never turned off
        read_bars(f);
    pci_msi_probe(f);
}

void pci_init(void) {
    bool has_ecam = pci_config_init();
    for (unsigned slot = 0; slot < BUSES * 32; slot++) {
        u16 bdf = (u16)(slot << 3);
        if (pci_read(bdf, PCI_VENDOR, 2) == 0xffff)
            continue;
        unsigned last = pci_read(bdf, PCI_HEADER_TYPE, 1) & MULTI_FUNCTION ? 7 : 0;
        for (unsigned fn = 0; fn <= last; fn++)
            if (pci_read((u16)(bdf | fn), PCI_VENDOR, 2) != 0xffff)
                add((u16)(bdf | fn));
    }
    log_info("basalt: pci: %u functions, configuration through %s", function_count,
             has_ecam ? "ECAM" : "0xCF8");
}
