// SPDX-License-Identifier: Apache-2.0
//
// Finds the device of an address, where the one before was or by binary search, and cuts an access
// that the device can't take as it is into pieces. At most eight pieces: bounded work. The pieces are those that
// a bus would make of a misaligned access.

#include "access.h"
#include "dispatch.h"

static bool holds(const struct dispatch_range *range, bool memory, uint64_t address) {
    return range->memory == memory && range->first <= address && address <= range->last;
}

static const struct dispatch_range *find(const struct dispatch_range *ranges, unsigned count,
                                         bool memory, uint64_t address) {
    static unsigned latest; // mostly the next access goes there, too
    if (latest < count && holds(&ranges[latest], memory, address))
        return &ranges[latest];
    const struct dispatch_range *below = NULL; // the last that begins at or before `address`
    for (unsigned low = 0, high = count; low < high;) {
        unsigned middle = (low + high) / 2;
        const struct dispatch_range *r = &ranges[middle];
        if (r->memory == memory ? r->first > address : r->memory) {
            high = middle;
        } else {
            below = r;
            low = middle + 1;
        }
    }
    if (!below || !holds(below, memory, address))
        return NULL;
    latest = (unsigned)(below - ranges);
    return below;
}

static unsigned piece_bytes(const struct dispatch_range *range, uint64_t address, unsigned left) {
    unsigned piece = range ? range->width : 1;
    while (piece > 1 && (piece > left || address % piece || range->last - address < piece - 1))
        piece /= 2;
    return piece;
}

// Whether the device takes the access as it is.
static bool whole(const struct dispatch_range *range, uint64_t address, unsigned bytes) {
    return bytes <= range->width && !(address & (bytes - 1)) && range->last - address >= bytes - 1;
}

static __attribute__((noinline)) uint64_t read_pieces(const struct dispatch_range *ranges,
                                                      unsigned count, void *context, bool memory,
                                                      uint64_t address, unsigned bytes) {
    uint64_t data = 0;
    for (unsigned done = 0, piece; done < bytes; done += piece) {
        uint64_t at = address + done, value = ~0ull;
        const struct dispatch_range *range = find(ranges, count, memory, at);
        piece = piece_bytes(range, at, bytes - done);
        if (range && range->read)
            value = range->read(context, at - range->first, piece);
        data |= (value & access_mask(piece)) << (8 * done);
    }
    return data;
}

uint64_t dispatch_read(const struct dispatch_range *ranges, unsigned count, void *context,
                       bool memory, uint64_t address, unsigned bytes) {
    const struct dispatch_range *all = find(ranges, count, memory, address);
    if (all && all->read && whole(all, address, bytes))
        return all->read(context, address - all->first, bytes) & access_mask(bytes);
    return read_pieces(ranges, count, context, memory, address, bytes);
}

static __attribute__((noinline)) void write_pieces(const struct dispatch_range *ranges,
                                                   unsigned count, void *context, bool memory,
                                                   uint64_t address, unsigned bytes,
                                                   uint64_t data) {
    for (unsigned done = 0, piece; done < bytes; done += piece) {
        uint64_t at = address + done;
        const struct dispatch_range *range = find(ranges, count, memory, at);
        piece = piece_bytes(range, at, bytes - done);
        if (range && range->write)
            range->write(context, at - range->first, piece,
                         data >> (8 * done) & access_mask(piece));
    }
}

void dispatch_write(const struct dispatch_range *ranges, unsigned count, void *context, bool memory,
                    uint64_t address, unsigned bytes, uint64_t data) {
    const struct dispatch_range *all = find(ranges, count, memory, address);
    if (all && all->write && whole(all, address, bytes))
        all->write(context, address - all->first, bytes, data & access_mask(bytes));
    else
        write_pieces(ranges, count, context, memory, address, bytes, data);
}
