// SPDX-License-Identifier: Apache-2.0
//
// AHCI: registers and memory structures (Serial ATA AHCI 1.3.1, "HBA Memory Registers" and "System
// Memory Structures"), and what the two halves of the driver share: ahci_hba.c runs adapter and
// ports, ahci.c runs the disk's commands.

#pragma once

#include "lib/types.h"

#include "block/block.h"
#include "drivers.h"
#include "lib/timer.h"

#define AHCI_PORTS       32u
#define AHCI_SLOTS       32u
#define AHCI_PIECES      56u // of one command: makes its table 1 KiB
#define AHCI_PIECE_BYTES (4 * MIB)

// Adapter
#define HBA_CAP             0x00
#define HBA_GHC             0x04
#define HBA_IS              0x08 // interrupt status, one bit per port, written to clear
#define HBA_PI              0x0c // ports implemented
#define HBA_CAP2            0x24
#define HBA_BOHC            0x28 // hand-off from the firmware
#define HBA_PORT0           0x100
#define HBA_PORT_BYTES      0x80

#define HBA_CAP_S64A        BIT(31) // 64-bit addresses
#define HBA_CAP_SSS         BIT(27) // staggered spin-up
#define HBA_CAP_SLOTS_SHIFT 8       // 5 bits: command slots - 1
#define HBA_GHC_AE          BIT(31) // AHCI mode
#define HBA_GHC_IE          BIT(1)  // interrupts
#define HBA_GHC_HR          BIT(0)  // reset
#define HBA_CAP2_BOH        BIT(0)
#define HBA_BOHC_BB         BIT(4)
#define HBA_BOHC_OOS        BIT(1)
#define HBA_BOHC_BOS        BIT(0)

// Port
#define PORT_CLB           0x00 // command list
#define PORT_CLBU          0x04
#define PORT_FB            0x08 // received FISes
#define PORT_FBU           0x0c
#define PORT_IS            0x10
#define PORT_IE            0x14
#define PORT_CMD           0x18
#define PORT_TFD           0x20
#define PORT_SIG           0x24
#define PORT_SSTS          0x28
#define PORT_SCTL          0x2c
#define PORT_SERR          0x30
#define PORT_CI            0x38

#define PORT_IS_DHRS       BIT(0)  // device-to-host FIS
#define PORT_IS_PSS        BIT(1)  // PIO setup
#define PORT_IS_PCS        BIT(6)  // connection changed
#define PORT_IS_OFS        BIT(24) // overflow
#define PORT_IS_IFS        BIT(27) // interface fatal
#define PORT_IS_HBDS       BIT(28) // bus data error
#define PORT_IS_HBFS       BIT(29) // bus fatal error
#define PORT_IS_TFES       BIT(30) // task file error
#define PORT_IS_FATAL      (PORT_IS_IFS | PORT_IS_HBDS | PORT_IS_HBFS)
#define PORT_IS_ERRORS     (PORT_IS_FATAL | PORT_IS_TFES | PORT_IS_OFS)
#define PORT_IE_WANTED     (PORT_IS_DHRS | PORT_IS_PSS | PORT_IS_ERRORS)

#define PORT_CMD_ST        BIT(0)
#define PORT_CMD_SUD       BIT(1)
#define PORT_CMD_POD       BIT(2)
#define PORT_CMD_CLO       BIT(3)
#define PORT_CMD_FRE       BIT(4)
#define PORT_CMD_CCS_SHIFT 8 // 5 bits: current command slot
#define PORT_CMD_FR        BIT(14)
#define PORT_CMD_CR        BIT(15)

#define PORT_TFD_ERR       BIT(0)
#define PORT_TFD_DRQ       BIT(3)
#define PORT_TFD_BSY       BIT(7)
#define PORT_SIG_ATA       0x00000101u
#define PORT_SSTS_DET      0xfu
#define PORT_SSTS_UP       0x3u // device present, link established
#define PORT_SCTL_COMRESET 0x1u
#define PORT_SCTL_NO_SLEEP 0x300u // no transitions to power-saving states

#define ATA_READ_DMA       0xc8
#define ATA_READ_DMA_EXT   0x25
#define ATA_WRITE_DMA      0xca
#define ATA_WRITE_DMA_EXT  0x35
#define ATA_FLUSH          0xe7
#define ATA_FLUSH_EXT      0xea
#define ATA_IDENTIFY       0xec

struct ahci_header { // one slot of the command list
    u16 flags;       // FIS length in words 4:0, write 6, clear busy 10
    u16 pieces;
    u32 transferred;
    u64 table;
    u32 reserved[4];
};
SIZE_ASSERT(struct ahci_header, 32);
#define AHCI_HEADER_WRITE BIT(6)

struct ahci_piece {
    u64 address;
    u32 reserved;
    u32 bytes; // - 1; an even count
};
SIZE_ASSERT(struct ahci_piece, 16);

struct ahci_table {
    u8 fis[64], atapi[16], reserved[48];
    struct ahci_piece pieces[AHCI_PIECES];
};
SIZE_ASSERT(struct ahci_table, 1024);

struct ahci_adapter {
    struct ahci_adapter *next;
    const struct pci_device *pci;
    volatile u8 *registers;
    u32 slots; // a bit per command slot that it has
    int port;  // event port of the interrupt; < 0: polled
    bool line; // it is the INTx line
    struct ahci_port *ports[AHCI_PORTS];
};

struct ahci_port {
    struct block_device disk;
    struct ahci_adapter *adapter;
    volatile u8 *registers;
    u32 index;
    u32 slots_used; // slots that may be used
    u32 busy;       // slots in use
    u32 issued;     // of these, handed to the adapter
    u32 open;       // issue bits when it last began to settle
    bool careful;   // one at a time
    bool settling;  // after an error: the adapter may be busy with the rest
    u32 recoveries; // since the last success
    bool lba48;
    struct ahci_header *list;  // DMA memory: 1 KiB, and 256 bytes of received FISes behind
    struct ahci_table *tables; // DMA memory
    struct block_request *requests[AHCI_SLOTS];
    struct timer watch;
};

static inline u32 ahci_get(const struct ahci_port *p, u32 offset) {
    return *(volatile u32 *)(p->registers + offset);
}
static inline void ahci_put(const struct ahci_port *p, u32 offset, u32 value) {
    *(volatile u32 *)(p->registers + offset) = value;
}

/// Stops the port's engines: afterwards it touches no memory. False if it does not stop.
must_check bool ahci_port_stop(struct ahci_port *p);

/// Stops and starts the port, with a reset of the link if asked or needed; all commands are
/// forgotten by the adapter.
must_check bool ahci_port_restart(struct ahci_port *p, bool reset_link);

/// Writes a command into `slot`; its `pieces` pieces are in the table already.
void ahci_fill_command(struct ahci_port *p, u32 slot, u8 command, u64 lba, u32 sectors, u16 pieces,
                       bool write);

/// IDENTIFY DEVICE into 512 bytes of DMA memory, polled. Before the disk is registered.
must_check bool ahci_identify(struct ahci_port *p, u16 *identify);

/// Identifies the disk and registers it; false if it can't be used.
must_check bool ahci_disk_start(struct ahci_port *p);

/// The port's bit in the adapter's interrupt status was set.
void ahci_port_interrupt(struct ahci_port *p);
