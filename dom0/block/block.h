// SPDX-License-Identifier: Apache-2.0
//
// Block devices: disks and their partitions behind one asynchronous interface. A partition is a
// device of its own that forwards to its disk; bounds are checked here, against the partition,
// before a driver sees anything. Requests of any size and any number of segments are cut into what
// the driver takes, waiting ones are served in turn among the partitions of a disk. Invariants:
// every request submitted is completed exactly once; a device has one writer or any number of
// readers (claims), a disk counting together with its partitions.

#pragma once

#include "lib/types.h"

#include "lib/event.h"

enum block_op { BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH };

enum block_status {
    BLOCK_OK,
    BLOCK_EIO,       // the device reported an error
    BLOCK_ETIMEOUT,  // the device did not answer; it was reset
    BLOCK_EFAILED,   // the device does not work any more
    BLOCK_EREADONLY, // a write to a read-only device
    BLOCK_ERANGE,    // beyond the device's end
    BLOCK_EINVAL,    // lengths or alignment
};
const char *block_status_text(enum block_status status);

struct block_segment {
    void *data; // from guest_access() or dom0's own memory; a multiple of 4
    u64 bytes;  // a multiple of 4
};

struct block_device;

struct block_request {
    // Filled in by the caller; the segments must stay until done().
    struct block_device *device;
    enum block_op op;
    u64 sector; // in sectors of the device
    const struct block_segment *segments;
    u32 segment_count;
    void (*done)(
        struct block_request *request); // called from the event loop, never from block_submit()
    void *context;
    // The result, at done().
    enum block_status status;
    // The block layer's and the driver's.
    u64 bytes_total, bytes_done;   // done: by chunks completed
    u64 chunk_sector, chunk_bytes; // of the disk; what the driver has at the moment
    u32 chunk_segment;             // first segment of the chunk,
    u64 chunk_offset;              // and bytes of it that belong to earlier chunks
    struct block_request *next;
    u64 deadline; // ns
    u32 tag;      // the driver's
};

// What a driver provides. Both are called from the event loop only.
struct block_driver_ops {
    // Starts the request's chunk. Returns false if the device's queue is full: tried again after
    // the next completion.
    bool (*start)(struct block_device *disk, struct block_request *request);
};

struct block_claim {
    struct block_device *device;
    struct block_claim *next;
    bool write;
    char who[32];
};

struct block_device {
    char name[24];   // "vda", "sda", "ram0"; partitions "vda1", "ram0p1"
    char label[112]; // partition name of the GPT, UTF-8; disks: the model
    char guid[37];   // partition's unique GUID as text, lower case; disks: of the GPT
    char type[37];   // partition's type GUID as text
    u64 sectors;     // of this device
    u32 sector_size; // bytes: 512 or 4096
    bool read_only;
    bool failed;               // the driver gave up
    bool flush;                // has a volatile cache: flushes mean something
    struct block_device *disk; // of a partition; NULL: this is a disk
    u64 first_sector;          // of a partition, in the disk
    u32 partition;             // number in the GPT from 1; 0: a disk
    // of a disk
    const struct block_driver_ops *ops;
    void *driver;
    u32 max_segments;      // pieces of one chunk
    u64 max_segment_bytes; // bytes of one piece
    u64 max_bytes;         // of one chunk, a multiple of the sector size
    bool page_runs;        // within a chunk, pieces meet only at page borders
    // the block layer's
    struct block_device *next; // of all devices
    struct block_claim *claims;
    struct block_request *waiting, **waiting_tail;
    struct block_device
        *turn_next; // ring of the devices of one disk that have waiting requests; NULL: not in it
    // of a disk
    struct block_device *turns;                      // the ring's last
    struct block_request *finished, **finished_tail; // done() is to be called
    struct work work;
    u64 errors_unreported, report_after; // ns
    // of every device
    u64 reads, writes, bytes_read, bytes_written, errors;
    u32 in_flight;
};

// ---- for users ----

/// First device / next one (disks, each followed by its partitions); NULL at the end.
struct block_device *block_first(void);
struct block_device *block_next(struct block_device *device);

/// The device called `name`: a device name ("vda2"), "label:<GPT partition name>", "guid:<unique
/// GUID>", or a plain GPT partition name. NULL if there is none, with a sentence about why (and
/// what there is) in `error`.
struct block_device *block_find(const char *name, char *error, size_t error_size);

/// Claims the device for `who` (a domain's name), for reading or for reading and writing. 0; -EBUSY
/// with a sentence that names the other claimant in `error`; -EPERM when write is wanted of a
/// read-only device; -ENODEV if it has failed.
must_check int block_claim(struct block_claim *claim, struct block_device *device, const char *who,
                           bool write, char *error, size_t error_size);
void block_unclaim(struct block_claim *claim); // nothing happens if it holds nothing

/// Starts the request; it will be completed by done(), also when it is refused (status then says
/// why).
void block_submit(struct block_request *request);

/// Reads or writes `bytes` (a multiple of the sector size) and waits for it by running the event
/// loop (see event_wait() for who may do that).
must_check enum block_status block_read(struct block_device *device, u64 sector, void *data,
                                        u64 bytes);
must_check enum block_status block_write(struct block_device *device, u64 sector, const void *data,
                                         u64 bytes);

// ---- for drivers ----

/// Writes the name of disk number `index` of a kind: prefix "vd" and 0 make "vda", 26 "vdaa".
void block_name(struct block_device *disk, const char *prefix, u32 index);

/// Registers a disk (allocated by the driver, never freed; name, sectors, sizes, ops filled in).
void block_register(struct block_device *disk);

/// The driver is done with the request's chunk.
void block_complete(struct block_request *request, enum block_status status);

/// The disk does not work any more: everything waiting fails, and so does all that comes.
void block_fail(struct block_device *disk);

// A walk over the memory of a request's chunk, in pieces of at most the disk's max_segment_bytes.
struct block_walk {
    const struct block_request *request;
    u32 segment;
    u64 offset, left, limit;
};
void block_walk_begin(struct block_walk *walk, const struct block_request *request);
bool block_walk_next(struct block_walk *walk, void **data, u64 *bytes); // false at the end

/// Registers a partition (allocated by the caller, never freed; name, label, sectors, first_sector,
/// ... filled in).
void block_register_partition(struct block_device *disk, struct block_device *partition);

/// Reads the disk's partition table and registers its partitions, saying what it found on the log.
/// Runs the event loop.
void partition_scan(struct block_device *disk);
