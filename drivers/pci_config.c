// SPDX-License-Identifier: Apache-2.0
//
// PCI configuration space, through ECAM where the MCFG table has the bus, else through ports 0xCF8
// and 0xCFC. Segment 0 only. Invariant: accesses are naturally aligned and inside the function's
// space. Follows the PCI Express Base specification, "PCI Express Enhanced Configuration Access
// Mechanism".

#include "drivers/pci.h"

#include "arch/acpi.h"
#include "arch/paging.h"
#include "arch/x86.h"

#define PORT_ADDRESS   0xcf8
#define PORT_DATA      0xcfc
#define ADDRESS_ENABLE 0x80000000u
#define ECAM_BUS_SIZE  MIB

static volatile u8 *ecam; // bus 0's place, whether bus 0 is in the range or not
static u8 ecam_first, ecam_last;

bool pci_config_init(void) {
    for (const struct acpi_ecam *e = acpi.ecams; e < acpi.ecams + acpi.ecam_count && !ecam; e++) {
        if (e->segment)
            continue;
        u64 offset = e->first_bus * ECAM_BUS_SIZE;
        u64 size = (e->last_bus + 1u) * ECAM_BUS_SIZE - offset;
        u8 *mapped = device_map(HPA(e->base + offset), size, MAP_WRITE | MAP_UC);
        ecam = mapped ? mapped - offset : NULL;
        ecam_first = e->first_bus;
        ecam_last = e->last_bus;
    }
    return ecam;
}

static volatile u8 *ecam_at(u16 bdf, unsigned offset) {
    unsigned bus = bdf >> 8;
    if (!ecam || bus < ecam_first || bus > ecam_last)
        return NULL;
    return ecam + ((u64)bdf << 12) + offset;
}

unsigned pci_config_size(u16 bdf) { return ecam_at(bdf, 0) ? 4096 : 256; }

static bool valid(u16 bdf, unsigned offset, unsigned bytes) {
    return (bytes == 1 || bytes == 2 || bytes == 4) && offset % bytes == 0 &&
           offset < pci_config_size(bdf);
}

// The data port of a register.
static u16 select(u16 bdf, unsigned offset) {
    outl(PORT_ADDRESS, ADDRESS_ENABLE | (u32)bdf << 8 | (offset & ~3u));
    return (u16)(PORT_DATA + (offset & 3));
}

u32 pci_read(u16 bdf, unsigned offset, unsigned bytes) {
    if (!valid(bdf, offset, bytes))
        return ~0u;
    volatile u8 *p = ecam_at(bdf, offset);
    if (p)
        return bytes == 4 ? mmio_read32(p) : bytes == 2 ? mmio_read16(p) : *p;
    u16 port = select(bdf, offset);
    return bytes == 4 ? inl(port) : bytes == 2 ? inw(port) : inb(port);
}

void pci_write(u16 bdf, unsigned offset, unsigned bytes, u32 value) {
    if (!valid(bdf, offset, bytes))
        return;
    volatile u8 *p = ecam_at(bdf, offset);
    u16 port = p ? 0 : select(bdf, offset);
    if (p && bytes == 4)
        mmio_write32(p, value);
    else if (p && bytes == 2)
        mmio_write16(p, (u16)value);
    else if (p)
        *p = (u8)value;
    else if (bytes == 4)
        outl(port, value);
    else if (bytes == 2)
        outw(port, (u16)value);
    else
        outb(port, (u8)value);
}

u8 pci_capability(u16 bdf, u8 id) {
    if (!(pci_read(bdf, PCI_STATUS, 2) & PCI_STATUS_CAPABILITIES))
        return 0;
    u8 at = (u8)pci_read(bdf, PCI_CAPABILITIES, 1) & 0xfc;
    for (unsigned i = 0; i < 48 && at >= 0x40; i++) { // no more fit, whatever a looping list says
        u32 header = pci_read(bdf, at, 2);
        if ((header & 0xff) == id)
            return at;
        at = header >> 8 & 0xfc;
    }
    return 0;
}
