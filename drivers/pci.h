// SPDX-License-Identifier: Apache-2.0
//
// PCI functions: configuration space, BARs, MSI and MSI-X. The table of functions is made once at boot. Invariant: it is
// sorted by bus, device, function, and complete for segment 0 up to PCI_FUNCTIONS_MAX. Only the kernel writes what it keeps
// here; filtering a domain's accesses is the caller's. Follows the PCI Local Bus and PCI Express Base specifications,
// "Configuration Space".

#pragma once

#include "arch/types.h"

#define PCI_FUNCTIONS_MAX    256u

#define PCI_COMMAND          0x04u

#define PCI_COMMAND_IO       BIT(0)
#define PCI_COMMAND_MEMORY   BIT(1)
#define PCI_COMMAND_MASTER   BIT(2)
#define PCI_COMMAND_INTX_OFF BIT(10)

struct pci_bar {
    u64 base, size; // bytes; size 0: none
    bool io;
};

struct pci_function {
    u16 bdf;              // bus 15:8, device 7:3, function 2:0
    u16 msix_count;       // messages that MSI-X can have, 0: none, or its table is nowhere
    u8 header_type;       // without the multi-function bit
    u8 msi_cap, msix_cap; // offsets, 0: none
    u32 gsi;              // of its INTx line; ~0: none
    struct pci_bar bars[6];
    u64 msix_address;        // of the table
    volatile u8 *msix_table; // mapped at the first use
    void *owner;             // the kernel's business
};

/// Finds the configuration mechanism and all functions. After acpi_init().
void pci_init(void);
unsigned pci_count(void);
struct pci_function *pci_at(unsigned index);
/// NULL: no such function.
struct pci_function *pci_find(u16 bdf);

/// `bytes` 1, 2 or 4, naturally aligned, offset below pci_config_size(); else all ones and no effect.
u32 pci_read(u16 bdf, unsigned offset, unsigned bytes);
void pci_write(u16 bdf, unsigned offset, unsigned bytes, u32 value);
/// 4096 with ECAM, else 256.
unsigned pci_config_size(u16 bdf);

/// For pci_init() alone: finds the MSI and MSI-X capabilities of a function whose BARs are known, and turns both off.
void pci_msi_probe(struct pci_function *f);
/// Programs MSI-X entry or MSI message `entry` (0 alone) to send `vector` to the CPU with that APIC ID (below 256), and
/// unmasks it; MSI-X where present. Returns -1 if there is no such entry.
must_check int pci_msi_set(struct pci_function *f, unsigned entry, u32 apic_id, unsigned vector);
void pci_msi_mask(struct pci_function *f, unsigned entry, bool masked);
/// Turns MSI and MSI-X off.
void pci_msi_disable(struct pci_function *f);
