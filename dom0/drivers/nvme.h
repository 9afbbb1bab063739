// SPDX-License-Identifier: Apache-2.0
//
// NVM Express (NVM Express Base Specification 1.4): registers, queue entries, and what the two
// halves of the driver share: nvme.c brings controllers and namespaces up, nvme_io.c runs their
// commands.

#pragma once

#include "lib/types.h"

#include "block/block.h"
#include "drivers.h"
#include "lib/timer.h"

#define NVME_ADMIN_ENTRIES 16u
#define NVME_ENTRIES       64u // of the I/O queues
#define NVME_SLOTS         32u // commands in flight: fewer, so that the queues never fill up
#define NVME_NAMESPACES    8u  // of one controller
#define NVME_BYTES_MAX     MIB // of one command: 257 page entries, all in one list page

// Registers
#define NVME_CAP             0x00 // 64 bits
#define NVME_INTMS           0x0c
#define NVME_INTMC           0x10
#define NVME_CC              0x14
#define NVME_CSTS            0x1c
#define NVME_AQA             0x24
#define NVME_ASQ             0x28 // 64 bits
#define NVME_ACQ             0x30 // 64 bits
#define NVME_DOORBELLS       0x1000

#define NVME_CAP_MQES(cap)   ((u32)((cap)&0xffff) + 1)    // entries of a queue, at most
#define NVME_CAP_TO_MS(cap)  (((cap) >> 24 & 0xff) * 500) // to become ready
#define NVME_CAP_DSTRD(cap)  ((u32)((cap) >> 32 & 0xf))
#define NVME_CAP_MPSMIN(cap) ((u32)((cap) >> 48 & 0xf))
#define NVME_CC_EN           BIT(0)
#define NVME_CC_IOSQES       (6u << 16) // 64-byte commands
#define NVME_CC_IOCQES       (4u << 20) // 16-byte completions
#define NVME_CSTS_RDY        BIT(0)
#define NVME_CSTS_CFS        BIT(1) // fatal

enum nvme_admin { NVME_CREATE_SQ = 0x01, NVME_CREATE_CQ = 0x05, NVME_IDENTIFY = 0x06 };
enum nvme_command { NVME_FLUSH = 0x00, NVME_WRITE = 0x01, NVME_READ = 0x02 };
enum nvme_identify { NVME_CNS_NAMESPACE = 0, NVME_CNS_CONTROLLER = 1, NVME_CNS_LIST = 2 };

struct nvme_sqe {
    u8 opcode, flags;
    u16 id;
    u32 nsid;
    u64 reserved, metadata, prp1, prp2;
    u32 cdw10, cdw11, cdw12, cdw13, cdw14, cdw15;
};
SIZE_ASSERT(struct nvme_sqe, 64);

struct nvme_cqe {
    u32 result, reserved;
    u16 sq_head, sq_id, id;
    u16 status; // phase in bit 0
};
SIZE_ASSERT(struct nvme_cqe, 16);

struct nvme_queue {
    u16 number, entries, tail, head;
    u16 phase;                    // of the next completion
    struct nvme_sqe *sq;          // DMA memory
    volatile struct nvme_cqe *cq; // DMA memory
    volatile u32 *sq_doorbell, *cq_doorbell;
};

struct nvme_namespace {
    struct block_device disk;
    struct nvme *controller;
    u32 nsid;
    u32 busy; // commands in flight: at most its share of the controller's
};

struct nvme {
    struct nvme *next;
    const struct pci_device *pci;
    volatile u8 *registers;
    u64 cap;
    u32 index; // of the controller: "nvme0"
    int port;  // of the interrupt; < 0: polled
    bool line; // it is the INTx line
    bool failed;
    bool cache; // volatile write cache
    u64 max_bytes;
    u32 resets; // since the last answer
    char model[41];
    struct nvme_queue admin, io;
    void *page;             // DMA memory for IDENTIFY
    u64 *lists[NVME_SLOTS]; // DMA memory: a page of PRP entries each
    struct block_request *requests[NVME_SLOTS];
    struct nvme_namespace *namespaces[NVME_NAMESPACES];
    u32 namespace_count;
    struct timer watch;
    struct work ring; // rings the doorbell once for all commands of a pass
};

/// (Re)starts the controller: reset, admin queue, I/O queues. A sentence about what is wrong, or
/// NULL.
must_check const char *nvme_start(struct nvme *c);

/// Switches the controller off: afterwards it touches no memory. False if it does not obey.
must_check bool nvme_stop(struct nvme *c);

/// Puts a command into a queue; nvme_ring() makes it visible.
void nvme_put(struct nvme_queue *q, const struct nvme_sqe *command);
void nvme_ring(struct nvme_queue *q);

/// Takes the next completion: true and its command's id and status (0: success).
must_check bool nvme_take(struct nvme_queue *q, u16 *id, u16 *status);

void nvme_io_init(struct nvme *c);
void nvme_interrupt(void *controller);
extern const struct block_driver_ops nvme_ops;
