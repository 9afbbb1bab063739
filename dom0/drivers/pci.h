// SPDX-License-Identifier: Apache-2.0
//
// PCI functions of dom0's: found by reading configuration space through the kernel, which alone
// writes BARs, MSI and MSI-X entries. Registers of a function are read and written at the BAR's own
// address (dom0 is identity-mapped).

#pragma once

#include "lib/types.h"

#include "lib/event.h"

#define PCI_BARS 6

struct pci_device {
    u32 bdf; // bus 15:8, device 7:3, function 2:0
    u16 vendor, device;
    u32 class; // class 23:16, subclass 15:8, programming interface 7:0
    u8 revision;
    u64 bars[PCI_BARS]; // base addresses; 0: absent (or an I/O BAR: see bar_io)
    u8 bar_io;          // bit n: BAR n is an I/O BAR
    u8 msi, msix;       // offsets of the capabilities, 0: absent
    u16 msix_entries;
    char name[16]; // "00:03.0"
};

/// Finds all functions; returns how many. The table stays valid.
u32 pci_scan(void);
u32 pci_count(void);
struct pci_device *pci_at(u32 index);

u32 pci_read(const struct pci_device *d, u32 offset, u32 bytes);

/// Offset of the first capability `id` at or after `from` (0: from the start of the list); 0 if
/// there is none.
u32 pci_capability(const struct pci_device *d, u8 id, u32 from);

/// Pointer to `bytes` bytes at `offset` of a memory BAR; NULL if there is no such BAR.
volatile void *pci_map(const struct pci_device *d, u32 bar, u64 offset, u64 bytes);

/// Switches on memory decoding and bus mastering (or bus mastering off again).
void pci_enable(const struct pci_device *d);
void pci_disable(const struct pci_device *d);

/// Binds MSI-X entry (or MSI message) `entry` to a handler. Returns the port or a negative error.
must_check int pci_bind_msi(const struct pci_device *d, u32 entry, event_handler handler,
                            void *context);

/// Binds the INTx line; the handler must call pci_line_ack(port) when the device is quiet, and is called for all that
/// share the line. Port or negative error.
must_check int pci_bind_line(const struct pci_device *d, event_handler handler, void *context);
void pci_line_ack(int port);
