// SPDX-License-Identifier: Apache-2.0
//
// Message-signalled interrupts. An MSI-X entry is changed while it is masked; MSI has one address
// for all its messages, whose data differ in the low bits only, so the kernel uses one message per
// function there. Follows the PCI Local Bus specification, "Message Signaled Interrupts".

#include "arch/paging.h"
#include "arch/x86.h"
#include "drivers/pci.h"

#define CAPABILITIES 0x34u
#define STATUS_LIST  BIT(20) // in PCI_COMMAND's register: there are capabilities
#define CAP_MSI      0x05u
#define CAP_MSIX     0x11u

// Of the MSI capability.
#define MSI_ENABLE   BIT(16)
#define MSI_WANTED   0x700000u // log2 of the messages in use
#define MSI_64BIT    BIT(23)
#define MSI_MASKABLE BIT(24)
#define MSI_ADDRESS  4u // then its upper half, if MSI_64BIT; data; mask bits, if MSI_MASKABLE

// Of the MSI-X capability.
#define MSIX_COUNT      0x7ffu // minus one; in the upper half
#define MSIX_MASK_ALL   BIT(30)
#define MSIX_ENABLE     BIT(31)
#define MSIX_TABLE      4u
#define MSIX_ENTRY      16u
#define MSIX_DATA       8u  // offsets in an entry
#define MSIX_VECTOR     12u // control; bit 0: masked

#define MESSAGE_ADDRESS 0xfee00000u

static u8 find_capability(u16 bdf, u8 id) {
    u32 at = pci_read(bdf, PCI_COMMAND) & STATUS_LIST ? pci_read(bdf, CAPABILITIES) & 0xfc : 0;
    for (unsigned i = 0; i < 48 && at >= 0x40; i++) { // no more fit, whatever a looping list says
        u32 header = pci_read(bdf, at);
        if ((header & 0xff) == id)
            return (u8)at;
        at = header >> 8 & 0xfc;
    }
    return 0;
}

// One that is not inside a memory BAR is no table.
static void find_msix_table(struct pci_function *f) {
    u32 where = pci_read(f->bdf, f->msix_cap + MSIX_TABLE);
    u32 index = where & 7, offset = where & ~7u;
    u32 count = (pci_read(f->bdf, f->msix_cap) >> 16 & MSIX_COUNT) + 1;
    if (index >= PCI_BARS || f->bars[index].io || !f->bars[index].base ||
        (u64)offset + count * MSIX_ENTRY > f->bars[index].size)
        return;
    f->msix_address = f->bars[index].base + offset;
    f->msix_table = device_map(HPA(f->msix_address), count * MSIX_ENTRY, MAP_WRITE | MAP_UC);
    f->msix_count = f->msix_table ? (u16)count : 0;
}

void pci_msi_disable(const struct pci_function *f) {
    if (f->msix_cap)
        pci_change(f->bdf, f->msix_cap, MSIX_ENABLE, 0);
    if (f->msi_cap)
        pci_change(f->bdf, f->msi_cap, MSI_ENABLE, 0);
}

void pci_msi_probe(struct pci_function *f) {
    f->msi_cap = find_capability(f->bdf, CAP_MSI);
    f->msix_cap = find_capability(f->bdf, CAP_MSIX);
    if (f->msix_cap)
        find_msix_table(f);
    pci_msi_disable(f);
}

// Turns MSI-X on with all entries masked, once.
static void msix_on(const struct pci_function *f) {
    if (pci_read(f->bdf, f->msix_cap) & MSIX_ENABLE)
        return;
    pci_change(f->bdf, f->msix_cap, 0, MSIX_ENABLE | MSIX_MASK_ALL);
    for (unsigned entry = 0; entry < f->msix_count; entry++)
        pci_msi_mask(f, entry);
    pci_change(f->bdf, f->msix_cap, MSIX_MASK_ALL, 0);
}

static void msi_set(const struct pci_function *f, u32 address, unsigned vector) {
    u32 control = pci_read(f->bdf, f->msi_cap);
    unsigned data = f->msi_cap + MSI_ADDRESS + (control & MSI_64BIT ? 8 : 4);
    if (control & MSI_64BIT)
        pci_write(f->bdf, f->msi_cap + MSI_ADDRESS + 4, 0);
    pci_write(f->bdf, f->msi_cap + MSI_ADDRESS, address);
    pci_write(f->bdf, data, vector);
    if (control & MSI_MASKABLE)
        pci_write(f->bdf, data + 4, 0);
    pci_change(f->bdf, f->msi_cap, MSI_WANTED, MSI_ENABLE);
}

int pci_msi_set(const struct pci_function *f, unsigned entry, u32 apic_id, unsigned vector) {
    u32 address = MESSAGE_ADDRESS | (apic_id & 0xff) << 12;
    if (f->msix_count ? entry >= f->msix_count : entry || !f->msi_cap)
        return -1;
    if (f->msix_count)
        msix_on(f);
    pci_msi_mask(f, entry);
    if (f->msix_count) {
        volatile u8 *e = f->msix_table + entry * MSIX_ENTRY;
        mmio_write32(e, address);
        mmio_write32(e + 4, 0);
        mmio_write32(e + MSIX_DATA, vector);
        mmio_write32(e + MSIX_VECTOR, 0);
    } else {
        msi_set(f, address, vector);
    }
    return 0;
}

void pci_msi_mask(const struct pci_function *f, unsigned entry) {
    if (f->msix_count)
        mmio_write32(f->msix_table + entry * MSIX_ENTRY + MSIX_VECTOR, 1);
    else
        pci_msi_disable(f);
}
