// SPDX-License-Identifier: Apache-2.0
//
// The guest's PCI bus: up to 32 single-function devices on bus 0, their configuration space
// (through ECAM and ports 0xCF8/0xCFC), base address registers, MSI-X and INTx. Invariant: the
// table of decoded ranges always says what the BARs and the command registers say. Follows
// "Configuration Space" and "MSI-X" of the PCI local bus specification, revision 3.0.

#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "host.h"
#include "state.h"

#define VPCI_SLOTS              32
#define VPCI_BARS               6

#define PCI_VENDOR_ID           0x00u
#define PCI_DEVICE_ID           0x02u
#define PCI_COMMAND             0x04u
#define PCI_STATUS              0x06u
#define PCI_REVISION            0x08u
#define PCI_CLASS               0x09u // programming interface, subclass, class
#define PCI_HEADER_TYPE         0x0eu
#define PCI_BAR0                0x10u
#define PCI_SUBSYSTEM_VENDOR    0x2cu
#define PCI_SUBSYSTEM           0x2eu
#define PCI_CAPABILITIES        0x34u
#define PCI_INTERRUPT_LINE      0x3cu
#define PCI_INTERRUPT_PIN       0x3du

#define PCI_COMMAND_IO          0x001u // decode I/O BARs
#define PCI_COMMAND_MEMORY      0x002u // decode memory BARs
#define PCI_COMMAND_MASTER      0x004u // may access memory and send MSIs
#define PCI_COMMAND_PARITY      0x040u
#define PCI_COMMAND_SERR        0x100u
#define PCI_COMMAND_NO_INTX     0x400u // INTx is off
#define PCI_STATUS_INTX         0x08u  // INTx is asserted, or would be
#define PCI_STATUS_CAPABILITIES 0x10u

struct vpci_function;

struct vpci_ops {
    // An access to a BAR: naturally aligned, 1, 2, 4 or 8 bytes, inside the BAR and outside MSI-X.
    uint64_t (*bar_read)(struct vpci_function *function, unsigned bar, uint32_t offset,
                         unsigned bytes);
    void (*bar_write)(struct vpci_function *function, unsigned bar, uint32_t offset, unsigned bytes,
                      uint64_t data);
    // BARs or the command register have changed. May be NULL.
    void (*decode_changed)(struct vpci_function *function);
    // Before a read and after a write of configuration space. May be NULL.
    void (*config_reading)(struct vpci_function *function, unsigned offset, unsigned bytes);
    void (*config_written)(struct vpci_function *function, unsigned offset, unsigned bytes);
};

struct vpci_range {
    uint32_t first, last;
    struct vpci_function *function;
    uint8_t bar;
};

struct vpci_bus {
    uint32_t domain;
    struct machine_state *machine;
    struct vpci_function *functions[VPCI_SLOTS];
    struct vpci_range io[VPCI_SLOTS * VPCI_BARS],
        memory[VPCI_SLOTS * VPCI_BARS]; // sorted by `first`
    unsigned io_count, memory_count;
    uint32_t next_memory, next_io; // where the next BAR is placed
};

struct vpci_function {
    struct vpci_bus *bus;
    struct pci_state *state;
    const struct vpci_ops *ops;
    uint8_t slot;
    uint8_t msix; // offset of the capability, 0: none
    uint8_t msix_bar;
    uint8_t vectors;               // of MSI-X
    uint8_t last_cap, next_cap;    // offset of the capability added last, and of the next; 0: none
    bool line;                     // the device wants INTx asserted
    uint32_t msix_table, msix_pba; // offsets in the BAR
    uint32_t bar_size[VPCI_BARS];  // bytes, a power of two; 0: none
    bool bar_io[VPCI_BARS];
    uint8_t writable[PCI_CONFIG_SIZE];
};

struct vpci_id {
    uint16_t vendor, device, subsystem_vendor, subsystem;
    uint32_t class; // class 23:16, subclass 15:8, programming interface 7:0
    uint8_t revision;
    bool interrupt; // has INTA
};

void vpci_bus_init(struct vpci_bus *bus, uint32_t domain, struct machine_state *machine);

/// Puts a function on the bus. `state` is its state page; `fresh`: fill it in (not after a restart
/// of dom0).
void vpci_add(struct vpci_bus *bus, struct vpci_function *function, unsigned slot,
              struct pci_state *state, const struct vpci_id *id, const struct vpci_ops *ops,
              bool fresh);

/// Adds BAR `bar` of `size` bytes (power of two, >= 16) and places it in the bus's windows.
void vpci_add_bar(struct vpci_function *function, unsigned bar, uint32_t size, bool io, bool fresh);

/// Adds a capability of `length` bytes (`body`: what follows the two bytes of its header;
/// `writable`: mask for it, may be NULL). Returns its offset.
unsigned vpci_add_capability(struct vpci_function *function, uint8_t id, unsigned length,
                             const uint8_t *body, const uint8_t *writable, bool fresh);

/// Adds MSI-X with `vectors` vectors, table and pending bits at these offsets of the BAR.
void vpci_add_msix(struct vpci_function *function, unsigned vectors, unsigned bar, uint32_t table,
                   uint32_t pba, bool fresh);

/// Everything was added: from now on the bus decodes the function.
void vpci_ready(struct vpci_function *function);

uint16_t vpci_command(const struct vpci_function *function);
uint32_t vpci_bar_address(const struct vpci_function *function, unsigned bar);
bool vpci_msix_enabled(const struct vpci_function *function);

/// Sends vector `vector`, or leaves it pending while it is masked.
void vpci_msix_send(struct vpci_function *function, unsigned vector);

/// Sets the level of the function's INTx.
void vpci_set_line(struct vpci_function *function, bool level);

/// Configuration space: any offset and 1, 2, 4 or 8 bytes, naturally aligned.
uint64_t vpci_config_read(struct vpci_bus *bus, unsigned slot, unsigned offset, unsigned bytes);
void vpci_config_write(struct vpci_bus *bus, unsigned slot, unsigned offset, unsigned bytes,
                       uint64_t data);

/// An access to a BAR in I/O or memory space, naturally aligned. Nobody there: reads are all ones,
/// writes vanish.
uint64_t vpci_bar_read(struct vpci_bus *bus, bool io, uint64_t address, unsigned bytes);
void vpci_bar_write(struct vpci_bus *bus, bool io, uint64_t address, unsigned bytes, uint64_t data);

/// An access to a BAR of this function, MSI-X included; inside the BAR.
uint64_t vpci_function_read(struct vpci_function *function, unsigned bar, uint32_t offset,
                            unsigned bytes);
void vpci_function_write(struct vpci_function *function, unsigned bar, uint32_t offset,
                         unsigned bytes, uint64_t data);

/// Configuration space was written there: sends what MSI-X held back if that set it free. For
/// vpci.c.
void vpci_msix_written(struct vpci_function *function, unsigned offset, unsigned bytes);

/// The GSI of a slot's INTA.
static inline uint32_t vpci_gsi(unsigned slot) { return 16 + (slot & 7); }
