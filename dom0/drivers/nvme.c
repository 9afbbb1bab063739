// SPDX-License-Identifier: Apache-2.0
//
// NVMe controllers: finding them, switching them on and off, queues, IDENTIFY. One admin queue,
// which is polled and used only while the controller starts, and one pair of I/O queues. Order that
// matters: the controller is switched off before its queues change, and a queue entry is written
// before its doorbell.

#include "nvme.h"

#include "lib/log.h"
#include "lib/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLASS_NVME 0x010802u
#define ADMIN_MS   5000u

static u32 get32(const struct nvme *c, u32 offset) {
    return *(volatile u32 *)(c->registers + offset);
}

static void put32(const struct nvme *c, u32 offset, u32 value) {
    *(volatile u32 *)(c->registers + offset) = value;
}

static u64 get64(const struct nvme *c, u32 offset) {
    return get32(c, offset) | (u64)get32(c, offset + 4) << 32;
}

static void put64(const struct nvme *c, u32 offset, u64 value) {
    put32(c, offset, (u32)value);
    put32(c, offset + 4, (u32)(value >> 32));
}

// ---- queues ----

static void init_queue(struct nvme *c, struct nvme_queue *q, u16 number, u16 entries) {
    u32 stride = 4u << NVME_CAP_DSTRD(c->cap);
    volatile u8 *doorbells = c->registers + NVME_DOORBELLS;
    q->number = number;
    q->entries = entries;
    q->tail = q->head = 0;
    q->phase = 1;
    q->sq_doorbell = (volatile u32 *)(doorbells + 2 * number * stride);
    q->cq_doorbell = (volatile u32 *)(doorbells + (2 * number + 1) * stride);
    memset(q->sq, 0, entries * sizeof(*q->sq));
    memset((void *)(uintptr_t)q->cq, 0, entries * sizeof(*q->cq));
}

void nvme_put(struct nvme_queue *q, const struct nvme_sqe *command) {
    q->sq[q->tail] = *command;
    q->tail = (u16)((q->tail + 1) % q->entries);
}

void nvme_ring(struct nvme_queue *q) {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    *q->sq_doorbell = q->tail;
}

bool nvme_take(struct nvme_queue *q, u16 *id, u16 *status) {
    volatile struct nvme_cqe *entry = &q->cq[q->head];
    u16 word = entry->status;
    if ((word & 1) != q->phase)
        return false;
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    *id = entry->id;
    *status = word >> 1;
    q->head = (u16)((q->head + 1) % q->entries);
    q->phase ^= q->head == 0;
    *q->cq_doorbell = q->head;
    return true;
}

// ---- the controller ----

static bool wait_ready(const struct nvme *c, u32 wanted) {
    u64 end = time_ns() + (NVME_CAP_TO_MS(c->cap) + 500) * NS_PER_MS;
    while ((get32(c, NVME_CSTS) & NVME_CSTS_RDY) != wanted) {
        if (time_ns() > end || (wanted && get32(c, NVME_CSTS) & NVME_CSTS_CFS))
            return false;
        delay_us(50);
    }
    return true;
}

bool nvme_stop(struct nvme *c) {
    put32(c, NVME_CC, 0);
    return wait_ready(c, 0);
}

// One admin command, waited for; false if it fails or takes too long.
static bool admin(struct nvme *c, const struct nvme_sqe *command) {
    u64 end = time_ns() + ADMIN_MS * NS_PER_MS;
    u16 id, status;
    nvme_put(&c->admin, command);
    nvme_ring(&c->admin);
    while (!nvme_take(&c->admin, &id, &status)) {
        if (time_ns() > end)
            return false;
        delay_us(10);
    }
    return status == 0 && id == command->id;
}

static bool identify(struct nvme *c, u32 what, u32 nsid) {
    memset(c->page, 0, PAGE_SIZE);
    struct nvme_sqe command = {
        .opcode = NVME_IDENTIFY, .id = 1, .nsid = nsid, .prp1 = phys_of(c->page), .cdw10 = what};
    return admin(c, &command);
}

static bool create_io_queues(struct nvme *c) {
    u32 size = (c->io.entries - 1u) << 16 | c->io.number;
    struct nvme_sqe cq = {.opcode = NVME_CREATE_CQ,
                          .id = 2,
                          .prp1 = phys_of((const void *)(uintptr_t)c->io.cq),
                          .cdw10 = size,
                          .cdw11 = c->port >= 0 ? 3 : 1}; // vector 0, interrupts, contiguous
    struct nvme_sqe sq = {.opcode = NVME_CREATE_SQ,
                          .id = 3,
                          .prp1 = phys_of(c->io.sq),
                          .cdw10 = size,
                          .cdw11 = (u32)c->io.number << 16 | 1}; // completions there, contiguous
    return admin(c, &cq) && admin(c, &sq);
}

const char *nvme_start(struct nvme *c) {
    if (!nvme_stop(c))
        return "it does not reset";
    init_queue(c, &c->admin, 0, NVME_ADMIN_ENTRIES);
    init_queue(c, &c->io, 1, (u16)MIN(NVME_ENTRIES, NVME_CAP_MQES(c->cap)));
    put32(c, NVME_AQA, (NVME_ADMIN_ENTRIES - 1) << 16 | (NVME_ADMIN_ENTRIES - 1));
    put64(c, NVME_ASQ, phys_of(c->admin.sq));
    put64(c, NVME_ACQ, phys_of((const void *)(uintptr_t)c->admin.cq));
    put32(c, NVME_CC, (u32)NVME_CC_EN | NVME_CC_IOSQES | NVME_CC_IOCQES);
    if (!wait_ready(c, 1))
        return "it does not become ready";
    return create_io_queues(c) ? NULL : "it refuses the queues";
}

// ---- IDENTIFY ----

static u16 word16(const u8 *data, u32 offset) {
    return (u16)(data[offset] | data[offset + 1] << 8);
}

static u64 word64(const u8 *data, u32 offset) {
    u64 value;
    memcpy(&value, data + offset, sizeof(value));
    return value;
}

static bool identify_controller(struct nvme *c) {
    const u8 *data = c->page;
    if (!identify(c, NVME_CNS_CONTROLLER, 0))
        return false;
    memcpy(c->model, data + 24, 40);
    for (int i = 39; i >= 0 && (c->model[i] == ' ' || c->model[i] == 0); i--)
        c->model[i] = 0;
    for (char *p = c->model; *p; p++)
        if (*p < 0x20 || *p > 0x7e)
            *p = '?';   // it goes to the operator's terminal
    u8 mdts = data[77]; // largest transfer: pages of 4 KiB as a power of two, 0: no limit
    c->max_bytes = mdts && mdts < 8 ? PAGE_SIZE << mdts : NVME_BYTES_MAX;
    c->cache = data[525] & 1;
    return true;
}

static void add_namespace(struct nvme *c, u32 nsid) {
    const u8 *data = c->page;
    if (!identify(c, NVME_CNS_NAMESPACE, nsid))
        return;
    u32 format = data[26] & 0xf, at = 128 + 4 * format, shift = data[at + 2];
    u64 sectors = word64(data, 0);
    if (sectors == 0 || (shift != 9 && shift != 12) || word16(data, at) != 0) {
        log_error("disk", "NVMe %s namespace %u is not used: %s", c->pci->name, nsid,
                  sectors ? "sectors that are not plain ones of 512 or 4096 bytes" : "it is empty");
        return;
    }
    struct nvme_namespace *n = calloc(1, sizeof(*n));
    if (!n)
        return;
    n->controller = c;
    n->nsid = nsid;
    struct block_device *disk = &n->disk;
    snprintf(disk->name, sizeof(disk->name), "nvme%un%u", c->index, nsid);
    snprintf(disk->label, sizeof(disk->label), "%s", c->model);
    disk->sectors = sectors;
    disk->sector_size = 1u << shift;
    disk->read_only = data[99] & 1; // write protected
    disk->flush = c->cache;
    disk->max_segments = 256;
    disk->max_segment_bytes = MIB;
    disk->max_bytes = c->max_bytes;
    disk->page_runs = true;
    disk->ops = &nvme_ops;
    disk->driver = n;
    c->namespaces[c->namespace_count++] = n;
    block_register(disk);
}

static void add_namespaces(struct nvme *c) {
    u32 list[NVME_NAMESPACES + 1] = {1}; // without a list: the first
    if (identify(c, NVME_CNS_LIST, 0))
        memcpy(list, c->page, sizeof(list));
    for (u32 i = 0; i < NVME_NAMESPACES && list[i]; i++)
        add_namespace(c, list[i]);
    if (list[NVME_NAMESPACES])
        log_warning("disk", "NVMe %s: only the first %u namespaces are used", c->pci->name,
                    NVME_NAMESPACES);
}

// ---- probing ----

static bool allocate(struct nvme *c) {
    c->admin.sq = page_alloc(1);
    c->admin.cq = page_alloc(1);
    c->io.sq = page_alloc(NVME_ENTRIES * sizeof(struct nvme_sqe) / PAGE_SIZE);
    c->io.cq = page_alloc(1);
    c->page = page_alloc(1);
    bool ok = c->admin.sq && c->admin.cq && c->io.sq && c->io.cq && c->page;
    for (u32 i = 0; ok && i < NVME_SLOTS; i++)
        ok = (c->lists[i] = page_alloc(1)) != NULL;
    return ok;
}

static void bind_interrupt(struct nvme *c) {
    c->port = pci_bind_msi(c->pci, 0, nvme_interrupt, c);
    if (c->port >= 0)
        return;
    c->port = pci_bind_line(c->pci, nvme_interrupt, c);
    c->line = c->port >= 0;
    if (c->port < 0)
        log_warning("disk", "NVMe %s: no interrupt (%s): it is polled", c->pci->name,
                    error_text(c->port));
}

static const char *bring_up(struct nvme *c) {
    static u32 count;
    c->registers = pci_map(c->pci, 0, 0, 2 * PAGE_SIZE);
    if (!c->registers)
        return "it has no registers";
    pci_enable(c->pci);
    c->cap = get64(c, NVME_CAP);
    if (NVME_CAP_MPSMIN(c->cap) != 0 || NVME_CAP_MQES(c->cap) <= NVME_SLOTS ||
        NVME_CAP_DSTRD(c->cap) > 8)
        return "its pages or queues are of a kind that this driver does not know";
    if (!allocate(c))
        return "out of memory";
    nvme_io_init(c);
    bind_interrupt(c);
    const char *wrong = nvme_start(c);
    if (wrong)
        return wrong;
    if (!identify_controller(c))
        return "it does not identify itself";
    c->index = count++;
    add_namespaces(c);
    return NULL;
}

// Also those that were refused: they might still ring their port.
static struct nvme *all;

bool nvme_probe(const struct pci_device *pci) {
    if (pci->class != CLASS_NVME)
        return false;
    struct nvme *c = calloc(1, sizeof(*c));
    if (c) {
        c->pci = pci;
        c->next = all;
        all = c;
    }
    const char *wrong = c ? bring_up(c) : "out of memory";
    if (wrong) {
        log_error("disk", "NVMe controller at %s is not used: %s", pci->name, wrong);
        pci_disable(pci);
    }
    return true;
}
