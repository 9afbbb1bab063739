// SPDX-License-Identifier: Apache-2.0
//
// From a guest's access to the device that answers it. Invariant: an access is carried out in
// naturally aligned pieces of 1, 2, 4 or 8 bytes, none of which crosses a device's border or is
// wider than the device's registers, in ascending order; bytes that belong to no device read as
// ones.

#pragma once

#include <stdbool.h>
#include <stdint.h>

struct dispatch_range {
    uint64_t first, last;
    uint8_t memory; // 0: I/O ports
    uint8_t width;  // widest piece, bytes
    uint64_t (*read)(void *context, uint64_t offset, unsigned bytes);
    void (*write)(void *context, uint64_t offset, unsigned bytes, uint64_t data);
};

/// `ranges`: sorted (I/O before memory, then by address), not overlapping. `offset` counts from the
/// range's first.
uint64_t dispatch_read(const struct dispatch_range *ranges, unsigned count, void *context,
                       bool memory, uint64_t address, unsigned bytes);
void dispatch_write(const struct dispatch_range *ranges, unsigned count, void *context, bool memory,
                    uint64_t address, unsigned bytes, uint64_t data);
