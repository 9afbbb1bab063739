// SPDX-License-Identifier: Apache-2.0
//
// PCI functions: configuration space, BARs, MSI and MSI-X. The table of functions is made once at boot. Invariant: it is
// sorted by bus, device, function, and complete for segment 0 up to PCI_FUNCTIONS_MAX, but for bridges. Only the kernel
// writes what it keeps here; filtering a domain's accesses is the caller's. Follows the PCI Local Bus and PCI Express Base
// specifications, "Configuration Space".

#pragma once

#include "arch/types.h"

#define PCI_FUNCTIONS_MAX    256u

#define PCI_BARS             6u

#define PCI_COMMAND          0x04u       // and status:
#define PCI_STATUS           0xffff0000u // to be written as zeros, which leaves it as it is

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
    u8 msi_cap, msix_cap; // offsets, 0: none
    u32 gsi;              // of its INTx line; ~0: none
    struct pci_bar bars[PCI_BARS];
    u64 msix_address;        // of the table
    volatile u8 *msix_table; // the same, mapped
    void *owner;             // the kernel's business
};
extern struct pci_function pci_functions[PCI_FUNCTIONS_MAX];
extern unsigned pci_function_count;

/// Finds the configuration mechanism and all functions. After acpi_init().
void pci_init(void);
/// NULL: no such function.
struct pci_function *pci_find(u16 bdf);

/// Reads 32 bits at `offset`, a multiple of 4 below pci_config_size().
u32 pci_read(u16 bdf, unsigned offset);
void pci_write(u16 bdf, unsigned offset, u32 value);
/// Clears bits, then sets others.
void pci_change(u16 bdf, unsigned offset, u32 clear, u32 set);
/// 4096 with ECAM, else 256.
unsigned pci_config_size(u16 bdf);

/// For pci_init() alone: finds the MSI and MSI-X capabilities of a function whose BARs are known, and turns both off.
void pci_msi_probe(struct pci_function *f);
/// Programs MSI-X entry or MSI message `entry` (0 alone) to send `vector` to the CPU with that APIC ID (below 256), and
/// lets it; MSI-X where present. Returns -1 if there is no such entry.
must_check int pci_msi_set(const struct pci_function *f, unsigned entry, u32 apic_id,
                           unsigned vector);
/// Nothing comes any more of what pci_msi_set() programmed.
void pci_msi_mask(const struct pci_function *f, unsigned entry);
/// Turns MSI and MSI-X off.
void pci_msi_disable(const struct pci_function *f);
