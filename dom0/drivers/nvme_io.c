// SPDX-License-Identifier: Apache-2.0
//
// Reads, writes and flushes of NVMe namespaces. The controller is not trusted: an unknown command
// id fails all its disks for good, a missing answer resets it and fails what was in flight, three
// resets in a row without an answer give it up. Memory is described by PRP entries: the block layer
// cuts requests so that only a first piece begins and only a last one ends inside of a page
// (block_device.page_runs).

#include "nvme.h"

#include "lib/event.h"
#include "lib/log.h"
#include "lib/memory.h"

#define TIMEOUT_NS (30 * NS_PER_S)
#define WATCH_NS   NS_PER_S
#define POLL_NS    (2 * NS_PER_MS)
#define RESETS_MAX 3u

static void unmap_data(struct block_request *request) {
    struct block_walk walk;
    void *data;
    u64 bytes;
    block_walk_begin(&walk, request);
    while (block_walk_next(&walk, &data, &bytes))
        dma_unmap(phys_of(data), bytes);
}

static struct nvme_namespace *namespace_of(const struct block_request *request) {
    const struct block_device *device = request->device;
    return device->disk ? device->disk->driver : device->driver;
}

static void finish(struct nvme *c, u32 slot, enum block_status status) {
    struct block_request *request = c->requests[slot];
    c->requests[slot] = NULL;
    namespace_of(request)->busy--;
    unmap_data(request);
    block_complete(request, status);
}

static void finish_all(struct nvme *c, enum block_status status) {
    for (u32 slot = 0; slot < NVME_SLOTS; slot++)
        if (c->requests[slot])
            finish(c, slot, status);
}

static void give_up(struct nvme *c, const char *why) {
    log_error("disk", "NVMe controller at %s: %s: its disks are out of use until dom0 restarts",
              c->pci->name, why);
    c->failed = true;
    if (!nvme_stop(c)) {
        log_error("disk", "NVMe controller at %s does not stop; it was cut off from memory",
                  c->pci->name);
        pci_disable(c->pci);
    }
    timer_cancel(&c->watch);
    finish_all(c, BLOCK_EFAILED);
    for (u32 i = 0; i < c->namespace_count; i++)
        block_fail(&c->namespaces[i]->disk);
}

static void restart(struct nvme *c, const char *why) {
    if (++c->resets > RESETS_MAX) {
        give_up(c, why);
        return;
    }
    log_warning("disk", "NVMe controller at %s: %s: resetting it", c->pci->name, why);
    const char *wrong = nvme_start(c); // stops it first: then nothing in flight is its any more
    if (wrong) {
        give_up(c, wrong);
        return;
    }
    finish_all(c, BLOCK_ETIMEOUT);
}

static void take_answers(struct nvme *c) {
    u16 id, status;
    for (unsigned i = 0; i < NVME_ENTRIES && nvme_take(&c->io, &id, &status); i++) {
        if (id >= NVME_SLOTS || !c->requests[id]) {
            give_up(c, "its answers make no sense");
            return;
        }
        c->resets = 0;
        finish(c, id, (status & 0x7ff) == 0 ? BLOCK_OK : BLOCK_EIO); // status code and its type
    }
}

void nvme_interrupt(void *controller) {
    struct nvme *c = controller;
    if (!c->failed)
        take_answers(c);
    if (c->line)
        pci_line_ack(c->port);
}

static u64 watch_interval(const struct nvme *c) { return c->port < 0 ? POLL_NS : WATCH_NS; }

static void watch(void *controller) {
    struct nvme *c = controller;
    u64 now = time_ns();
    bool late = false, busy = false;
    take_answers(c);
    for (u32 slot = 0; slot < NVME_SLOTS; slot++) {
        busy |= c->requests[slot] != NULL;
        late |= c->requests[slot] && c->requests[slot]->deadline <= now;
    }
    if (!c->failed && late)
        restart(c, "no answer for 30 s");
    if (!c->failed && busy)
        timer_set(&c->watch, now + watch_interval(c));
}

static void ring(void *controller) {
    struct nvme *c = controller;
    if (!c->failed)
        nvme_ring(&c->io);
}

void nvme_io_init(struct nvme *c) {
    c->watch = (struct timer){.handler = watch, .context = c};
    c->ring = (struct work){.handler = ring, .context = c};
}

// Describes the chunk's memory: the first page in prp1, the second in prp2, or a list of all but
// the first.
static void fill_prps(struct nvme_sqe *command, u64 *list, struct block_request *request) {
    struct block_walk walk;
    void *data;
    u64 bytes;
    u32 count = 0; // pages after the first
    block_walk_begin(&walk, request);
    while (block_walk_next(&walk, &data, &bytes)) {
        u64 address = dma_map(data, bytes), end = address + bytes;
        if (command->prp1 == 0) {
            command->prp1 = address;
            address = ALIGN_DOWN(address, PAGE_SIZE) + PAGE_SIZE;
        }
        for (; address < end; address += PAGE_SIZE)
            list[count++] = address;
    }
    if (count == 1)
        command->prp2 = list[0];
    else if (count > 1)
        command->prp2 = phys_of(list);
}

static bool start(struct block_device *disk, struct block_request *request) {
    static const u8 opcodes[] = {
        [BLOCK_READ] = NVME_READ, [BLOCK_WRITE] = NVME_WRITE, [BLOCK_FLUSH] = NVME_FLUSH};
    struct nvme_namespace *n = disk->driver;
    struct nvme *c = n->controller;
    // The block layer tries a disk again when one of its own requests ends: no namespace may take
    // the last command from another.
    if (n->busy >= NVME_SLOTS / c->namespace_count)
        return false;
    u32 slot = 0;
    while (slot < NVME_SLOTS && c->requests[slot])
        slot++;
    if (slot == NVME_SLOTS)
        return false;
    struct nvme_sqe command = {.opcode = opcodes[request->op], .id = (u16)slot, .nsid = n->nsid};
    if (request->op != BLOCK_FLUSH) {
        fill_prps(&command, c->lists[slot], request);
        command.cdw10 = (u32)request->chunk_sector;
        command.cdw11 = (u32)(request->chunk_sector >> 32);
        command.cdw12 = (u32)(request->chunk_bytes / disk->sector_size) - 1;
    }
    c->requests[slot] = request;
    n->busy++;
    request->deadline = time_ns() + TIMEOUT_NS;
    nvme_put(&c->io, &command);
    if (!c->watch.set)
        timer_set(&c->watch, time_ns() + watch_interval(c));
    work_queue(&c->ring);
    return true;
}

const struct block_driver_ops nvme_ops = {.start = start};
