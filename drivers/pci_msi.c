// SPDX-License-Identifier: Apache-2.0
//
// Message-signalled interrupts. An MSI-X entry is changed while it is masked; MSI has one address
// for all its messages, whose data differ in the low bits only, so the kernel uses one message per
// function there. Follows the PCI Local Bus specification, "Message Signaled Interrupts".

#include "arch/paging.h"
#include "arch/x86.h"
#include "drivers/pci.h"

#define MSI_CONTROL     2u // offsets in both capabilities
#define MSI_ADDRESS     4u
#define MSI_ENABLE      BIT(0)
#define MSI_COUNT_SHIFT 1u    // of log2 of the messages that it can have
#define MSI_WANTED      0x70u // log2 of those in use
#define MSI_64BIT       BIT(7)
#define MSI_MASKABLE    BIT(8)

#define MSIX_TABLE      4u     // offset in the MSI-X capability
#define MSIX_COUNT      0x7ffu // minus one
#define MSIX_MASK_ALL   BIT(14)
#define MSIX_ENABLE     BIT(15)
#define MSIX_ENTRY      16u
#define MSIX_DATA       8u  // offsets in an entry
#define MSIX_VECTOR     12u // control; bit 0: masked

static void change(const struct pci_function *f, u8 cap, u32 set, u32 clear) {
    u32 control = pci_read(f->bdf, cap + MSI_CONTROL, 2);
    pci_write(f->bdf, cap + MSI_CONTROL, 2, (control & ~clear) | set);
}

// Where the table is; 0 if it lies outside its BAR.
static u64 msix_table_address(const struct pci_function *f) {
    u32 where = pci_read(f->bdf, f->msix_cap + MSIX_TABLE, 4);
    u32 index = where & 7, offset = where & ~7u;
    if (index >= 6 || f->bars[index].io || !f->bars[index].base)
        return 0;
    u64 end = (u64)offset + f->msix_count * MSIX_ENTRY;
    return end <= f->bars[index].size ? f->bars[index].base + offset : 0;
}

void pci_msi_disable(struct pci_function *f) {
    if (f->msix_cap)
        change(f, f->msix_cap, 0, MSIX_ENABLE);
    if (f->msi_cap)
        change(f, f->msi_cap, 0, MSI_ENABLE);
}

void pci_msi_probe(struct pci_function *f) {
    f->msi_cap = pci_capability(f->bdf, PCI_CAP_MSI);
    f->msix_cap = pci_capability(f->bdf, PCI_CAP_MSIX);
    if (f->msi_cap) {
        u32 control = pci_read(f->bdf, f->msi_cap + MSI_CONTROL, 2);
        f->msi_count = (u16)(1u << (control >> MSI_COUNT_SHIFT & 7));
        f->msi_64bit = control & MSI_64BIT;
        f->msi_maskable = control & MSI_MASKABLE;
    }
    if (f->msix_cap) {
        f->msix_count = (u16)((pci_read(f->bdf, f->msix_cap + MSI_CONTROL, 2) & MSIX_COUNT) + 1);
        f->msix_bad = !msix_table_address(f);
    }
    pci_msi_disable(f);
}

static volatile u8 *msix_entry(struct pci_function *f, unsigned entry) {
    if (!f->msix_cap || f->msix_bad || entry >= f->msix_count)
        return NULL;
    if (!f->msix_table)
        f->msix_table =
            device_map(HPA(msix_table_address(f)), f->msix_count * MSIX_ENTRY, MAP_WRITE | MAP_UC);
    return f->msix_table ? (volatile u8 *)f->msix_table + entry * MSIX_ENTRY : NULL;
}

static int msix_set(struct pci_function *f, unsigned entry, u64 address, u32 data) {
    volatile u8 *e = msix_entry(f, entry);
    if (!e)
        return -1;
    if (!(pci_read(f->bdf, f->msix_cap + MSI_CONTROL, 2) & MSIX_ENABLE)) {
        change(f, f->msix_cap, MSIX_ENABLE | MSIX_MASK_ALL, 0);
        for (unsigned i = 0; i < f->msix_count; i++)
            mmio_write32((volatile u8 *)f->msix_table + i * MSIX_ENTRY + MSIX_VECTOR, 1);
    }
    mmio_write32(e + MSIX_VECTOR, 1);
    mmio_write32(e, (u32)address);
    mmio_write32(e + 4, (u32)(address >> 32));
    mmio_write32(e + MSIX_DATA, data);
    mmio_write32(e + MSIX_VECTOR, 0);
    change(f, f->msix_cap, MSIX_ENABLE, MSIX_MASK_ALL);
    return 0;
}

static int msi_set(struct pci_function *f, unsigned entry, u64 address, u32 data) {
    if (!f->msi_cap || entry || (address >> 32 && !f->msi_64bit))
        return -1;
    change(f, f->msi_cap, 0, MSI_ENABLE | MSI_WANTED);
    pci_write(f->bdf, f->msi_cap + MSI_ADDRESS, 4, (u32)address);
    if (f->msi_64bit)
        pci_write(f->bdf, f->msi_cap + MSI_ADDRESS + 4, 4, (u32)(address >> 32));
    pci_write(f->bdf, f->msi_cap + MSI_ADDRESS + (f->msi_64bit ? 8 : 4), 2, data);
    pci_msi_mask(f, 0, false);
    change(f, f->msi_cap, MSI_ENABLE, 0);
    return 0;
}

int pci_msi_set(struct pci_function *f, unsigned entry, u64 address, u32 data) {
    return f->msix_cap && !f->msix_bad ? msix_set(f, entry, address, data)
                                       : msi_set(f, entry, address, data);
}

void pci_msi_mask(struct pci_function *f, unsigned entry, bool masked) {
    volatile u8 *e = msix_entry(f, entry);
    if (e)
        mmio_write32(e + MSIX_VECTOR, masked);
    else if (f->msi_cap && f->msi_maskable && !entry)
        pci_write(f->bdf, f->msi_cap + (f->msi_64bit ? 16u : 12u), 4, masked);
}
