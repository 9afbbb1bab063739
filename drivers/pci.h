// SPDX-License-Identifier: Apache-2.0
//
// PCI functions: configuration space, BARs, capabilities, MSI and MSI-X. Only the kernel writes
// what it keeps here; filtering a domain's accesses is the caller's. Follows the PCI Local Bus and
// PCI Express Base specifications, "Configuration Space".

#pragma once

#include "arch/types.h"

#define PCI_FUNCTIONS_MAX       256u

#define PCI_VENDOR              0x00u
#define PCI_DEVICE              0x02u
#define PCI_COMMAND             0x04u
#define PCI_STATUS              0x06u
#define PCI_CLASS               0x0au // 16 bits: subclass, class
#define PCI_HEADER_TYPE         0x0eu
#define PCI_BAR0                0x10u
#define PCI_CAPABILITIES        0x34u
#define PCI_INTERRUPT_LINE      0x3cu
#define PCI_INTERRUPT_PIN       0x3du

#define PCI_COMMAND_IO          BIT(0)
#define PCI_COMMAND_MEMORY      BIT(1)
#define PCI_COMMAND_MASTER      BIT(2)
#define PCI_COMMAND_INTX_OFF    BIT(10)
#define PCI_STATUS_INTX         BIT(3)
#define PCI_STATUS_CAPABILITIES BIT(4)

#define PCI_CAP_MSI             0x05u
#define PCI_CAP_MSIX            0x11u

struct pci_bar {
    u64 base, size; // bytes; size 0: none
    bool io;
};

struct pci_function {
    u16 bdf;                        // bus 15:8, device 7:3, function 2:0
    u16 vendor, device, class_code; // class_code: class 15:8, subclass 7:0
    u8 header_type;                 // without the multi-function bit
    u8 msi_cap, msix_cap;           // offsets, 0: none
    u16 msi_count, msix_count;      // messages that it can have
    bool msi_64bit, msi_maskable;
    bool msix_bad;    // table outside its BAR
    void *msix_table; // mapped at the first use
    struct pci_bar bars[6];
    u32 gsi;     // of its INTx line; ~0: none
    void *owner; // the kernel's business
};

/// Finds the configuration mechanism and all functions. After acpi_init().
void pci_init(void);
unsigned pci_count(void);
struct pci_function *pci_at(unsigned index);
/// NULL: no such function.
struct pci_function *pci_find(u16 bdf);

/// `bytes` 1, 2 or 4, naturally aligned, offset below pci_config_size(); else all ones and no
/// effect.
u32 pci_read(u16 bdf, unsigned offset, unsigned bytes);
void pci_write(u16 bdf, unsigned offset, unsigned bytes, u32 value);
/// 4096 with ECAM, else 256.
unsigned pci_config_size(u16 bdf);
/// Offset of a capability, 0 if there is none.
u8 pci_capability(u16 bdf, u8 id);

/// Programs MSI-X entry or MSI message `entry` and unmasks it; MSI-X where present. Returns -1 if
/// there is no such entry.
must_check int pci_msi_set(struct pci_function *fn, unsigned entry, u64 address, u32 data);
void pci_msi_mask(struct pci_function *fn, unsigned entry, bool masked);
/// Turns MSI and MSI-X off.
void pci_msi_disable(struct pci_function *fn);
/// For drivers/pci.c alone: finds the configuration mechanism (true: ECAM); fills in the MSI and MSI-X
/// fields of a function whose BARs are known, and turns both off.
bool pci_config_init(void);
void pci_msi_probe(struct pci_function *f);
/// The message that sends `vector` to the CPU with that APIC ID (below 256).
static inline u64 msi_address(u32 apic_id) { return 0xfee00000u | (u64)(apic_id & 0xff) << 12; }
