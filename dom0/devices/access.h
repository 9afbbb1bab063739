// SPDX-License-Identifier: Apache-2.0
//
// Accesses of any width to registers of any width. A guest may read a 16-bit register bytewise, or
// two with one access; these helpers cut and join little-endian values, so that a device model only
// knows its registers.

#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t access_mask(unsigned bytes) {
    return bytes >= 8 ? ~0ull : (1ull << (8 * bytes)) - 1;
}

/// `bytes` (1..8) bytes at `from` as a little-endian value, and back.
static inline uint64_t access_load(const void *from, unsigned bytes) {
    uint64_t value = 0;
    memcpy(&value, from, bytes);
    return value;
}

static inline void access_store(void *to, unsigned bytes, uint64_t value) {
    memcpy(to, &value, bytes);
}

/// Do [offset, offset + bytes) and the register at `start` of `size` bytes overlap?
static inline bool access_touches(uint64_t offset, unsigned bytes, uint64_t start, unsigned size) {
    return offset < start + size && start < offset + bytes;
}

/// What a read of `bytes` at `offset` gets from a register at `start` of `size` bytes (<= 8) that
/// has `value`: its part, at the right place of the result.
static inline uint64_t access_part(uint64_t offset, unsigned bytes, uint64_t start, unsigned size,
                                   uint64_t value) {
    if (!access_touches(offset, bytes, start, size))
        return 0;
    value &= access_mask(size);
    if (offset >= start)
        return value >> (8 * (offset - start)) & access_mask(bytes);
    return value << (8 * (start - offset)) & access_mask(bytes);
}

/// The register's new value when `data` of `bytes` is written at `offset` over `old`.
static inline uint64_t access_merge(uint64_t offset, unsigned bytes, uint64_t start, unsigned size,
                                    uint64_t old, uint64_t data) {
    uint64_t mask = access_part(start, size, offset, bytes, access_mask(bytes));
    return ((old & ~mask) | access_part(start, size, offset, bytes, data)) & access_mask(size);
}
