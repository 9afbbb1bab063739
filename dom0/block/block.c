// SPDX-License-Identifier: Apache-2.0
//
// The block layer: checks requests, cuts them into chunks that the driver takes, and hands these to
// the driver in turn among the partitions of the disk, so that a guest with a full queue does not
// keep the others waiting. Invariant: a request is on exactly one of: its device's waiting list,
// the driver, the disk's finished list.

#include "block/block.h"

#include "lib/log.h"
#include "lib/timer.h"

#include <stdio.h>
#include <string.h>

static struct block_device *devices;

static struct block_device *disk_of(struct block_device *device) {
    return device->disk ? device->disk : device;
}

const char *block_status_text(enum block_status status) {
    static const char *const texts[] = {
        [BLOCK_OK] = "no error",
        [BLOCK_EIO] = "the disk reported an error",
        [BLOCK_ETIMEOUT] = "the disk did not answer",
        [BLOCK_EFAILED] = "the disk is out of use",
        [BLOCK_EREADONLY] = "the disk is read-only",
        [BLOCK_ERANGE] = "beyond the end",
        [BLOCK_EINVAL] = "a request that the disk can't do",
    };
    return (unsigned)status < ARRAY_SIZE(texts) ? texts[status] : "unknown error";
}

struct block_device *block_first(void) {
    return devices;
}

struct block_device *block_next(struct block_device *device) {
    return device->next;
}

// ---- a request's way ----

void block_walk_begin(struct block_walk *walk, const struct block_request *request) {
    walk->request = request;
    walk->segment = request->chunk_segment;
    walk->offset = request->chunk_offset;
    walk->left = request->chunk_bytes;
    walk->limit = disk_of(request->device)->max_segment_bytes;
}

bool block_walk_next(struct block_walk *walk, void **data, u64 *bytes) {
    const struct block_request *request = walk->request;
    while (walk->left > 0 && walk->segment < request->segment_count) {
        const struct block_segment *segment = &request->segments[walk->segment];
        u64 piece = MIN(MIN(segment->bytes - walk->offset, walk->left), walk->limit);
        if (piece == 0) {
            walk->segment++;
            walk->offset = 0;
            continue;
        }
        *data = (u8 *)segment->data + walk->offset;
        *bytes = piece;
        walk->offset += piece;
        walk->left -= piece;
        return true;
    }
    return false;
}

// Sets the request's next chunk: as much as the driver takes, in whole sectors. False if not even
// one sector fits.
static bool cut_chunk(struct block_request *request) {
    struct block_device *disk = disk_of(request->device);
    struct block_walk walk;
    void *data;
    u64 bytes, sum = 0;
    request->chunk_sector = request->device->first_sector + request->sector +
                            request->bytes_done / disk->sector_size;
    request->chunk_bytes = MIN(request->bytes_total - request->bytes_done, disk->max_bytes);
    block_walk_begin(&walk, request);
    u64 end = 0; // of the piece before
    for (u32 pieces = 0; pieces < disk->max_segments && block_walk_next(&walk, &data, &bytes);
         pieces++) {
        if (disk->page_runs && pieces > 0 && (end | (uintptr_t)data) % PAGE_SIZE)
            break;
        end = (uintptr_t)data + bytes;
        sum += bytes;
    }
    request->chunk_bytes = sum / disk->sector_size * disk->sector_size;
    return request->chunk_bytes > 0 || request->op == BLOCK_FLUSH;
}

// Moves the request's position behind its chunk.
static void pass_chunk(struct block_request *request) {
    struct block_walk walk;
    void *data;
    u64 bytes;
    block_walk_begin(&walk, request);
    while (block_walk_next(&walk, &data, &bytes))
        continue;
    request->bytes_done += request->chunk_bytes;
    request->chunk_segment = walk.segment;
    request->chunk_offset = walk.offset;
}

// One line per disk and second at most: a dying disk answers nothing but errors.
static void report_error(struct block_request *request, enum block_status status) {
    static const char *const verbs[] = {
        [BLOCK_READ] = "read", [BLOCK_WRITE] = "write", [BLOCK_FLUSH] = "flush"};
    struct block_device *device = request->device, *disk = disk_of(device);
    if (status != BLOCK_EIO && status != BLOCK_ETIMEOUT)
        return;
    u64 now = time_ns();
    disk->errors_unreported++;
    if (disk->report_after > now)
        return;
    log_error(device->name, "%s at sector %llu failed: %s (%llu error(s) since the last such line)",
              verbs[request->op], (unsigned long long)request->sector, block_status_text(status),
              (unsigned long long)disk->errors_unreported);
    disk->errors_unreported = 0;
    disk->report_after = now + NS_PER_S;
}

static void finish(struct block_request *request, enum block_status status) {
    struct block_device *disk = disk_of(request->device);
    request->status = status;
    request->next = NULL;
    *disk->finished_tail = request;
    disk->finished_tail = &request->next;
    if (status != BLOCK_OK) {
        request->device->errors++;
        report_error(request, status);
    }
    work_queue(&disk->work);
}

// ---- waiting requests, in turn among the devices of a disk ----

static void enter_ring(struct block_device *disk, struct block_device *device) {
    if (device->turn_next)
        return;
    if (disk->turns) {
        device->turn_next = disk->turns->turn_next;
        disk->turns->turn_next = device;
    } else {
        device->turn_next = device;
    }
    disk->turns = device;
}

static void leave_ring(struct block_device *disk, struct block_device *before,
                       struct block_device *device) {
    if (device == before) {
        disk->turns = NULL;
    } else {
        before->turn_next = device->turn_next;
        if (disk->turns == device)
            disk->turns = before;
    }
    device->turn_next = NULL;
}

static void wait_first(struct block_device *device, struct block_request *request) {
    request->next = device->waiting;
    if (!device->waiting)
        device->waiting_tail = &request->next;
    device->waiting = request;
    enter_ring(disk_of(device), device);
}

static void wait_last(struct block_device *device, struct block_request *request) {
    request->next = NULL;
    *device->waiting_tail = request;
    device->waiting_tail = &request->next;
    enter_ring(disk_of(device), device);
}

static struct block_request *take_waiting(struct block_device *device) {
    struct block_request *request = device->waiting;
    device->waiting = request->next;
    if (!device->waiting)
        device->waiting_tail = &device->waiting;
    return request;
}

// Starts the first waiting request of the device whose turn it is. False if the driver has no room.
static bool start_one(struct block_device *disk) {
    struct block_device *before = disk->turns, *device = before->turn_next;
    struct block_request *request = take_waiting(device);
    if (!cut_chunk(request)) {
        finish(request, BLOCK_EINVAL);
    } else {
        device->in_flight++;
        if (!disk->ops->start(disk, request)) {
            device->in_flight--;
            wait_first(device, request);
            return false;
        }
    }
    if (device->waiting)
        disk->turns = device;
    else
        leave_ring(disk, before, device);
    return true;
}

static void start_waiting(struct block_device *disk) {
    for (unsigned i = 0; disk->turns && !disk->failed; i++) {
        if (i == EVENT_BUDGET) {
            work_queue(&disk->work);
            return;
        }
        if (!start_one(disk))
            return;
    }
}

static void fail_waiting(struct block_device *disk) {
    while (disk->turns) {
        struct block_device *before = disk->turns, *device = before->turn_next;
        while (device->waiting)
            finish(take_waiting(device), BLOCK_EFAILED);
        leave_ring(disk, before, device);
    }
}

static void serve_disk(void *context) {
    struct block_device *disk = context;
    for (unsigned i = 0; disk->finished; i++) {
        if (i == EVENT_BUDGET) {
            work_queue(&disk->work);
            break;
        }
        struct block_request *request = disk->finished;
        disk->finished = request->next;
        if (!disk->finished)
            disk->finished_tail = &disk->finished;
        request->done(request);
    }
    start_waiting(disk);
}

// ---- users ----

static enum block_status check_data(struct block_request *request) {
    struct block_device *device = request->device;
    u64 total = 0;
    for (u32 i = 0; i < request->segment_count; i++) {
        const struct block_segment *segment = &request->segments[i];
        if (((uintptr_t)segment->data | segment->bytes) % 4 || segment->bytes > BIT(40))
            return BLOCK_EINVAL;
        total += segment->bytes;
    }
    if (total == 0 || total % device->sector_size)
        return BLOCK_EINVAL;
    u64 sectors = total / device->sector_size;
    if (request->sector > device->sectors || sectors > device->sectors - request->sector)
        return BLOCK_ERANGE;
    request->bytes_total = total;
    return BLOCK_OK;
}

static enum block_status check(struct block_request *request) {
    struct block_device *device = request->device;
    if (device->failed)
        return BLOCK_EFAILED;
    if (request->op == BLOCK_FLUSH)
        return BLOCK_OK;
    if (request->op != BLOCK_READ && request->op != BLOCK_WRITE)
        return BLOCK_EINVAL;
    if (request->op == BLOCK_WRITE && device->read_only)
        return BLOCK_EREADONLY;
    return check_data(request);
}

static void count(struct block_request *request) {
    struct block_device *device = request->device;
    if (request->op == BLOCK_READ) {
        device->reads++;
        device->bytes_read += request->bytes_total;
    } else if (request->op == BLOCK_WRITE) {
        device->writes++;
        device->bytes_written += request->bytes_total;
    }
}

void block_submit(struct block_request *request) {
    struct block_device *disk = disk_of(request->device);
    request->bytes_total = request->bytes_done = 0;
    request->chunk_segment = 0;
    request->chunk_offset = request->chunk_bytes = 0;
    if (request->op == BLOCK_FLUSH)
        request->segment_count = 0;
    enum block_status status = check(request);
    bool nothing_to_do = request->op == BLOCK_FLUSH && !disk->flush;
    if (status != BLOCK_OK || nothing_to_do) {
        finish(request, status);
        return;
    }
    count(request);
    wait_last(request->device, request);
    work_queue(&disk->work);
}

static void set_flag(struct block_request *request) { *(volatile bool *)request->context = true; }

// Every request ends by its driver's time limits, so there is none here.
static enum block_status wait_for(struct block_device *device, enum block_op op, u64 sector,
                                  const struct block_segment *segment) {
    volatile bool done = false;
    struct block_request request = {
        .device = device,
        .op = op,
        .sector = sector,
        .segments = segment,
        .segment_count = 1,
        .done = set_flag,
        .context = (void *)&done,
    };
    block_submit(&request);
    while (!done)
        event_pass(true);
    return request.status;
}

enum block_status block_read(struct block_device *device, u64 sector, void *data, u64 bytes) {
    struct block_segment segment = {data, bytes};
    return wait_for(device, BLOCK_READ, sector, &segment);
}

enum block_status block_write(struct block_device *device, u64 sector, const void *data,
                              u64 bytes) {
    struct block_segment segment = {(void *)(uintptr_t)data, bytes};
    return wait_for(device, BLOCK_WRITE, sector, &segment);
}

// ---- drivers ----

static void init_device(struct block_device *device) {
    device->waiting = NULL;
    device->waiting_tail = &device->waiting;
    device->turn_next = NULL;
}

void block_name(struct block_device *disk, const char *prefix, u32 index) {
    char letters[8];
    size_t at = sizeof(letters) - 1;
    letters[at] = 0;
    do {
        letters[--at] = (char)('a' + index % 26);
        index /= 26;
    } while (index-- > 0 && at > 0);
    snprintf(disk->name, sizeof(disk->name), "%s%s", prefix, letters + at);
}

void block_register(struct block_device *disk) {
    init_device(disk);
    disk->disk = NULL;
    disk->turns = NULL;
    disk->finished = NULL;
    disk->finished_tail = &disk->finished;
    disk->work = (struct work){.handler = serve_disk, .context = disk};
    struct block_device **link = &devices;
    while (*link)
        link = &(*link)->next;
    disk->next = NULL;
    *link = disk;
    log_info(disk->name, "%s, %llu MiB in sectors of %u bytes%s", disk->label,
             (unsigned long long)disk->sectors * disk->sector_size / MIB, disk->sector_size,
             disk->read_only ? ", read-only" : "");
}

void block_register_partition(struct block_device *disk, struct block_device *partition) {
    init_device(partition);
    partition->disk = disk;
    partition->failed = disk->failed;
    struct block_device *last = disk;
    while (last->next && last->next->disk == disk)
        last = last->next;
    partition->next = last->next;
    last->next = partition;
}

void block_complete(struct block_request *request, enum block_status status) {
    struct block_device *device = request->device, *disk = disk_of(device);
    device->in_flight--;
    if (status == BLOCK_OK)
        pass_chunk(request);
    if (status != BLOCK_OK || request->bytes_done >= request->bytes_total) {
        finish(request, status);
    } else if (disk->failed) {
        finish(request, BLOCK_EFAILED);
    } else {
        wait_first(device, request);
    }
    work_queue(&disk->work);
}

void block_fail(struct block_device *disk) {
    disk->failed = true;
    for (struct block_device *d = disk->next; d && d->disk == disk; d = d->next)
        d->failed = true;
    fail_waiting(disk);
}
