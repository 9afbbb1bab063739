// SPDX-License-Identifier: Apache-2.0
//
// SATA disks behind an AHCI host bus adapter (Serial ATA AHCI 1.3.1; ATA/ATAPI Command Set). One
// struct ahci_port is one disk; commands are READ/WRITE DMA EXT and FLUSH CACHE EXT, as many at a
// time as the adapter has slots. What the adapter says is not trusted: a command ends when its
// issue bit clears without an error, by an error, or by its time limit. Which of several commands
// failed can't be told (some adapters go on with the next and name the wrong one), so after an
// error all that are open run once more, one at a time: the port is `careful` until none is left.
// An adapter that goes on must not be stopped in the middle of it: the port starts anew when no
// issue bit has changed for a while. Three recoveries in a row without a success fail the disk.

#include "ahci.h"

#include "block/block.h"
#include "lib/event.h"
#include "lib/log.h"
#include "lib/memory.h"
#include "lib/timer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_NS     (30 * NS_PER_S)
#define WATCH_NS       NS_PER_S
#define POLL_NS        (2 * NS_PER_MS)
#define SETTLE_NS      (500 * NS_PER_MS) // longer than a command takes
#define RECOVERIES_MAX 3u

// ---- commands ----

static void unmap_data(struct block_request *request) {
    struct block_walk walk;
    void *data;
    u64 bytes;
    block_walk_begin(&walk, request);
    while (block_walk_next(&walk, &data, &bytes))
        dma_unmap(phys_of(data), bytes);
}

static void finish(struct ahci_port *p, u32 slot, enum block_status status) {
    struct block_request *request = p->requests[slot];
    p->requests[slot] = NULL;
    p->busy &= ~(u32)BIT(slot);
    p->issued &= ~(u32)BIT(slot);
    unmap_data(request);
    block_complete(request, status);
}

static void finish_all(struct ahci_port *p, u32 slots, enum block_status status) {
    for (u32 slot = 0; slot < AHCI_SLOTS; slot++)
        if (slots & BIT(slot))
            finish(p, slot, status);
}

// Hands commands to the adapter: all that wait, or just one when careful.
static void issue(struct ahci_port *p) {
    u32 waiting = p->busy & ~p->issued;
    if (p->settling)
        return;
    if (!p->busy)
        p->careful = false;
    if (p->careful)
        waiting = p->issued ? 0 : waiting & -waiting;
    if (!waiting)
        return;
    p->issued |= waiting;
    ahci_put(p, PORT_CI, waiting);
}

static void give_up(struct ahci_port *p, const char *why) {
    log_error(p->disk.name, "%s: the disk is out of use until dom0 restarts", why);
    if (!ahci_port_stop(p)) {
        log_error(p->disk.name, "its port does not stop; the adapter was cut off from memory");
        pci_disable(p->adapter->pci);
    }
    timer_cancel(&p->watch);
    finish_all(p, p->busy, BLOCK_EFAILED);
    block_fail(&p->disk);
}

// After an error or a silence: the port starts anew. What is in `failed` ends, the rest is issued
// again.
static void recover(struct ahci_port *p, const char *why, bool reset_link, u32 failed,
                    enum block_status status) {
    if (reset_link || !p->careful) // of the rest the block layer tells
        log_line(reset_link ? LOG_WARNING : LOG_DEBUG, p->disk.name,
                 "%s (task file %x, SATA error %x)", why, ahci_get(p, PORT_TFD),
                 ahci_get(p, PORT_SERR));
    p->settling = false;
    if (++p->recoveries > RECOVERIES_MAX) {
        give_up(p, why);
        return;
    }
    if (!ahci_port_restart(p, reset_link)) {
        give_up(p, "the port does not come back");
        return;
    }
    p->careful = true;
    p->issued = 0;
    finish_all(p, failed, status);
    issue(p);
}

// One of several commands failed: what the adapter does with the others can take its time.
static void settle(struct ahci_port *p, u32 open) {
    p->settling = true;
    p->open = open;
    timer_set(&p->watch, time_ns() + SETTLE_NS);
}

// Ends the commands whose issue bit is clear. The issue bits are read before the status: an error
// that clears its bit sets the status first. Returns the issue bits.
static u32 take_answers(struct ahci_port *p) {
    u32 open = ahci_get(p, PORT_CI), done = p->issued & ~open;
    u32 status = ahci_get(p, PORT_IS);
    ahci_put(p, PORT_IS, status);
    bool fatal_error = status & PORT_IS_FATAL, alone = (p->issued & (p->issued - 1)) == 0;
    if (p->settling || (status & PORT_IS_ERRORS && !alone && !fatal_error)) {
        if (!open)
            recover(p, "the disk reports an error", false, 0, BLOCK_EIO);
        else if (!p->settling)
            settle(p, open);
        return open;
    }
    if (status & PORT_IS_ERRORS) {
        if (alone && !fatal_error && p->issued)
            p->recoveries = 0; // a sector that can't be read is an answer
        recover(p, fatal_error ? "the adapter reports an error" : "the disk reports an error",
                fatal_error, alone ? p->issued : 0, BLOCK_EIO);
        return open;
    }
    if (done)
        p->recoveries = 0;
    finish_all(p, done, BLOCK_OK);
    issue(p);
    return open;
}

void ahci_port_interrupt(struct ahci_port *p) {
    if (!p->disk.failed)
        (void)take_answers(p);
}

static u32 late_slots(const struct ahci_port *p, u64 now) {
    u32 late = 0;
    for (u32 slot = 0; slot < AHCI_SLOTS; slot++)
        if (p->requests[slot] && p->requests[slot]->deadline <= now)
            late |= (u32)BIT(slot);
    return late;
}

static u64 watch_interval(const struct ahci_port *p) {
    return p->adapter->port < 0 ? POLL_NS : WATCH_NS;
}

static void watch(void *context) {
    struct ahci_port *p = context;
    u64 now = time_ns();
    bool settling = p->settling; // else an error that is seen only now begins to settle
    u32 open = take_answers(p);
    if (settling && p->settling && open != p->open)
        settle(p, open);
    else if (settling && p->settling)
        recover(p, "the disk reports an error", false, 0, BLOCK_EIO);
    u32 late = p->disk.failed ? 0 : late_slots(p, now);
    if (late)
        recover(p, "no answer for 30 s", true, late, BLOCK_ETIMEOUT);
    if (!p->disk.failed && p->busy && !p->settling)
        timer_set(&p->watch, now + watch_interval(p));
}

// Fills a command in; the number of pieces.
static u16 fill_table(struct ahci_table *table, struct block_request *request) {
    struct block_walk walk;
    void *data;
    u64 bytes;
    u16 count = 0;
    block_walk_begin(&walk, request);
    while (block_walk_next(&walk, &data, &bytes))
        table->pieces[count++] = (struct ahci_piece){dma_map(data, bytes), 0, (u32)bytes - 1};
    return count;
}

static u8 command_of(const struct ahci_port *p, enum block_op op) {
    if (op == BLOCK_FLUSH)
        return p->lba48 ? ATA_FLUSH_EXT : ATA_FLUSH;
    if (op == BLOCK_READ)
        return p->lba48 ? ATA_READ_DMA_EXT : ATA_READ_DMA;
    return p->lba48 ? ATA_WRITE_DMA_EXT : ATA_WRITE_DMA;
}

static bool start(struct block_device *disk, struct block_request *request) {
    struct ahci_port *p = disk->driver;
    u32 room = p->slots_used & ~p->busy;
    if (!room)
        return false;
    u32 slot = (u32)__builtin_ctz(room);
    u16 count = fill_table(&p->tables[slot], request);
    u64 lba = request->op == BLOCK_FLUSH ? 0 : request->chunk_sector;
    ahci_fill_command(p, slot, command_of(p, request->op), lba,
                      (u32)(request->chunk_bytes / disk->sector_size), count,
                      request->op == BLOCK_WRITE);
    request->deadline = time_ns() + TIMEOUT_NS;
    p->requests[slot] = request;
    p->busy |= (u32)BIT(slot);
    if (!p->watch.set)
        timer_set(&p->watch, time_ns() + watch_interval(p));
    issue(p);
    return true;
}

static const struct block_driver_ops ops = {.start = start};

// ---- IDENTIFY DEVICE ----

static u16 word(const u16 *identify, unsigned index) { return identify[index]; }

// ATA strings hold the first character of each pair in the upper byte.
static void take_model(const u16 *identify, char *model, size_t size) {
    size_t used = 0;
    for (unsigned i = 27; i <= 46 && used + 2 < size; i++) {
        model[used++] = (char)(identify[i] >> 8);
        model[used++] = (char)identify[i];
    }
    while (used > 0 && (model[used - 1] == ' ' || model[used - 1] == 0))
        used--;
    model[used] = 0;
    for (size_t i = 0; i < used; i++)
        if (model[i] < 0x20 || model[i] > 0x7e)
            model[i] = '?';
}

// Takes size, sector size and features over; false if it makes no sense.
static bool take_identity(struct ahci_port *p, const u16 *identify) {
    struct block_device *disk = &p->disk;
    p->lba48 = (word(identify, 83) & 0xc400) == 0x4400; // words 83 valid, 48-bit addresses
    disk->sectors = (u64)word(identify, 60) | (u64)word(identify, 61) << 16;
    if (p->lba48)
        disk->sectors = (u64)word(identify, 100) | (u64)word(identify, 101) << 16 |
                        (u64)word(identify, 102) << 32 | (u64)word(identify, 103) << 48;
    disk->sector_size = 512;
    if ((word(identify, 106) & 0xd000) == 0x5000) // valid, longer logical sectors
        disk->sector_size = (u32)(word(identify, 117) | (u32)word(identify, 118) << 16) * 2;
    if (disk->sector_size != 512 && disk->sector_size != 4096)
        return false;
    disk->flush = true;
    take_model(identify, disk->label, 41);
    disk->max_segments = AHCI_PIECES;
    disk->max_segment_bytes = AHCI_PIECE_BYTES;
    disk->max_bytes = (u64)(p->lba48 ? 2048 : 256) * 512;
    return disk->sectors > 0 && disk->sectors <= BIT(48);
}

bool ahci_disk_start(struct ahci_port *p) {
    static u32 count;
    u16 *identify = page_alloc(1);
    bool ok = identify && ahci_identify(p, identify) && take_identity(p, identify);
    if (!ok)
        return false; // the page stays: the adapter might still write there
    page_free(identify, 1);
    block_name(&p->disk, "sd", count++);
    p->watch = (struct timer){.handler = watch, .context = p};
    p->disk.ops = &ops;
    p->disk.driver = p;
    block_register(&p->disk);
    return true;
}
