// SPDX-License-Identifier: Apache-2.0
//
// Message-signalled interrupts. An MSI-X entry is changed while it is masked; MSI has one address
// for all its messages, whose data differ in the low bits only, so the kernel uses one message per
// function there. Follows the PCI Local Bus specification, "Message Signaled Interrupts".

#include "arch/paging.h"
#include "arch/x86.h"
#include "drivers/pci.h"

#define STATUS          0x06u
#define CAPABILITIES    0x34u
#define STATUS_LIST     BIT(4)
#define CAP_MSI         0x05u
#define CAP_MSIX        0x11u

#define CONTROL         2u // offset in both capabilities
#define MSI_ADDRESS     4u
#define MSI_ENABLE      BIT(0)
#define MSI_WANTED      0x70u // log2 of the messages in use
#define MSI_64BIT       BIT(7)
#define MSI_MASKABLE    BIT(8)

#define MSIX_TABLE      4u     // offset in the MSI-X capability
#define MSIX_COUNT      0x7ffu // minus one
#define MSIX_MASK_ALL   BIT(14)
#define MSIX_ENABLE     BIT(15)
#define MSIX_ENTRY      16u
#define MSIX_DATA       8u  // offsets in an entry
#define MSIX_VECTOR     12u // control; bit 0: masked

#define MESSAGE_ADDRESS 0xfee00000u

static u8 find_capability(u16 bdf, u8 id) {
    u8 at = pci_read(bdf, STATUS, 2) & STATUS_LIST ? (u8)pci_read(bdf, CAPABILITIES, 1) & 0xfc : 0;
    for (unsigned i = 0; i < 48 && at >= 0x40; i++) { // no more fit, whatever a looping list says
        u32 header = pci_read(bdf, at, 2);
        if ((header & 0xff) == id)
            return at;
        at = header >> 8 & 0xfc;
    }
    return 0;
}

static void change(const struct pci_function *f, u8 cap, u32 set, u32 clear) {
    u32 control = pci_read(f->bdf, cap + CONTROL, 2);
    pci_write(f->bdf, cap + CONTROL, 2, (control & ~clear) | set);
}

// One that is not inside a memory BAR is no table.
static void find_msix_table(struct pci_function *f) {
    u32 where = pci_read(f->bdf, f->msix_cap + MSIX_TABLE, 4);
    u32 index = where & 7, offset = where & ~7u;
    u32 count = (pci_read(f->bdf, f->msix_cap + CONTROL, 2) & MSIX_COUNT) + 1;
    if (index >= 6 || f->bars[index].io || !f->bars[index].base ||
        (u64)offset + count * MSIX_ENTRY > f->bars[index].size)
        return;
    f->msix_count = (u16)count;
    f->msix_address = f->bars[index].base + offset;
}

void pci_msi_disable(struct pci_function *f) {
    if (f->msix_cap)
        change(f, f->msix_cap, 0, MSIX_ENABLE);
    if (f->msi_cap)
        change(f, f->msi_cap, 0, MSI_ENABLE);
}

void pci_msi_probe(struct pci_function *f) {
    f->msi_cap = find_capability(f->bdf, CAP_MSI);
    f->msix_cap = find_capability(f->bdf, CAP_MSIX);
    if (f->msix_cap)
        find_msix_table(f);
    pci_msi_disable(f);
}

// Maps the table and turns MSI-X on with all entries masked, once.
static bool msix_on(struct pci_function *f) {
    u64 bytes = f->msix_count * MSIX_ENTRY;
    if (!f->msix_table)
        f->msix_table = device_map(HPA(f->msix_address), bytes, MAP_WRITE | MAP_UC);
    if (!f->msix_table)
        return false;
    if (pci_read(f->bdf, f->msix_cap + CONTROL, 2) & MSIX_ENABLE)
        return true;
    change(f, f->msix_cap, MSIX_ENABLE | MSIX_MASK_ALL, 0);
    for (u64 at = 0; at < bytes; at += MSIX_ENTRY)
        mmio_write32(f->msix_table + at + MSIX_VECTOR, 1);
    change(f, f->msix_cap, 0, MSIX_MASK_ALL);
    return true;
}

static void msi_set(const struct pci_function *f, u32 address, unsigned vector) {
    bool wide = pci_read(f->bdf, f->msi_cap + CONTROL, 2) & MSI_64BIT;
    change(f, f->msi_cap, 0, MSI_ENABLE | MSI_WANTED);
    pci_write(f->bdf, f->msi_cap + MSI_ADDRESS, 4, address);
    if (wide)
        pci_write(f->bdf, f->msi_cap + MSI_ADDRESS + 4, 4, 0);
    pci_write(f->bdf, f->msi_cap + MSI_ADDRESS + (wide ? 8 : 4), 2, vector);
    change(f, f->msi_cap, MSI_ENABLE, 0);
}

int pci_msi_set(struct pci_function *f, unsigned entry, u32 apic_id, unsigned vector) {
    u32 address = MESSAGE_ADDRESS | (apic_id & 0xff) << 12;
    if (f->msix_count ? entry >= f->msix_count || !msix_on(f) : entry || !f->msi_cap)
        return -1;
    pci_msi_mask(f, entry, true);
    if (f->msix_count) {
        volatile u8 *e = f->msix_table + entry * MSIX_ENTRY;
        mmio_write32(e, address);
        mmio_write32(e + 4, 0);
        mmio_write32(e + MSIX_DATA, vector);
    } else {
        msi_set(f, address, vector);
    }
    pci_msi_mask(f, entry, false);
    return 0;
}

void pci_msi_mask(struct pci_function *f, unsigned entry, bool masked) {
    u32 control = f->msi_cap ? pci_read(f->bdf, f->msi_cap + CONTROL, 2) : 0;
    if (f->msix_table && entry < f->msix_count)
        mmio_write32(f->msix_table + entry * MSIX_ENTRY + MSIX_VECTOR, masked);
    else if (!f->msix_count && !entry && control & MSI_MASKABLE)
        pci_write(f->bdf, f->msi_cap + (control & MSI_64BIT ? 16u : 12u), 4, masked);
}
