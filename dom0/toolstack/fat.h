// SPDX-License-Identifier: Apache-2.0
//
// Reads the files of the root folder of a FAT file system (Microsoft's "FAT General Overview of
// On-Disk Format"): FAT12, 16 and 32, long names. Read-only and pure: sectors come from a callback.
// Nothing on the disk is trusted; every chain is followed for no longer than the file it belongs to
// can be.

#pragma once

#include "lib/types.h"

#define FAT_NAME_SIZE   112u // longer names are cut
#define FAT_ENTRIES_MAX 4096u

struct fat_source {
    u64 bytes; // of the file system's partition
    // Reads `bytes` bytes at `offset`, both multiples of 512; false on an error of the disk.
    bool (*read)(void *context, u64 offset, u32 bytes, void *buffer);
    void *context;
};

/// Calls `file` for each file of the root folder whose name ends in `suffix` and that has at most
/// `most` bytes; `data` is valid during the call, NULL if the file is longer or can't be read.
/// Returns NULL, or what is wrong with the file system.
const char *fat_read_root(const struct fat_source *source, const char *suffix, u32 most,
                          void (*file)(void *context, const char *name, const char *data,
                                       u32 bytes),
                          void *context);
