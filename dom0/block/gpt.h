// SPDX-License-Identifier: Apache-2.0
//
// GUID partition tables (UEFI specification, "GUID Partition Table (GPT) Disk Layout"). A pure
// function over a callback that reads sectors; nothing here knows about drivers.

#pragma once

#include "lib/types.h"

#define GPT_PARTITIONS_MAX 128u
#define GPT_NAME_BYTES     112u // 36 UTF-16 units as UTF-8, with the NUL
#define GPT_GUID_TEXT      37u

struct gpt_source {
    u64 sectors;
    u32 sector_size; // 512 or 4096
    // Reads `count` sectors; returns false on an error of the disk.
    bool (*read)(void *context, u64 sector, u32 count, void *buffer);
    void *context;
};

struct gpt_partition {
    u32 number;      // of its entry, from 1
    u64 first, last; // sectors, both included
    u64 attributes;
    char type[GPT_GUID_TEXT], guid[GPT_GUID_TEXT]; // lower case
    char name[GPT_NAME_BYTES];
};

#define GPT_ATTRIBUTE_READ_ONLY BIT(60) // of basic data partitions

struct gpt_table {
    char guid[GPT_GUID_TEXT]; // of the disk
    bool from_backup;         // the first header was not usable
    u32 count;
    u32 refused; // entries left out, each with a line in `report`
    struct gpt_partition partitions[GPT_PARTITIONS_MAX];
};

enum gpt_result {
    GPT_OK,
    GPT_NONE,   // no sign of a GPT
    GPT_BROKEN, // both headers are damaged
    GPT_EIO,    // the disk can't be read
    GPT_NOMEM,
};

/// Reads the partition table. `report` (may be NULL) is called with one sentence for each thing
/// that is wrong, also when the result is GPT_OK: a damaged first header, an entry beyond the
/// disk's end, partitions that overlap. Refused entries are not in the table. Of overlapping
/// partitions, the one that comes first in the table stays.
must_check enum gpt_result gpt_read(const struct gpt_source *source, struct gpt_table *table,
                                    void (*report)(void *context, const char *sentence),
                                    void *context);

/// CRC-32 as UEFI uses it; `crc` is the value so far, 0 at the start.
u32 gpt_crc32(u32 crc, const void *data, size_t bytes);
