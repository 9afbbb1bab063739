// SPDX-License-Identifier: Apache-2.0
//
// Partitions of a disk as block devices, and the words for what is wrong with a disk's table: which
// disk, what, and what can be done. A disk without partitions can still be used as a whole.

#include "block/block.h"
#include "block/gpt.h"

#include "lib/log.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool read_disk(void *context, u64 sector, u32 count, void *buffer) {
    struct block_device *disk = context;
    enum block_status status = block_read(disk, sector, buffer, (u64)count * disk->sector_size);
    if (status != BLOCK_OK)
        log_error(disk->name, "sector %llu can't be read: %s", (unsigned long long)sector,
                  block_status_text(status));
    return status == BLOCK_OK;
}

static void report(void *context, const char *sentence) {
    struct block_device *disk = context;
    log_warning(disk->name, "%s", sentence);
}

static void add_partition(struct block_device *disk, const struct gpt_partition *p) {
    struct block_device *d = calloc(1, sizeof(*d));
    if (!d) {
        log_error(disk->name, "no memory for partition %u", p->number);
        return;
    }
    // A disk whose name ends in a digit takes a "p" before the number: "ram0p1".
    bool digit = isdigit((unsigned char)disk->name[strlen(disk->name) - 1]);
    snprintf(d->name, sizeof(d->name), "%.12s%s%u", disk->name, digit ? "p" : "", p->number);
    snprintf(d->label, sizeof(d->label), "%s", p->name);
    snprintf(d->guid, sizeof(d->guid), "%s", p->guid);
    snprintf(d->type, sizeof(d->type), "%s", p->type);
    d->partition = p->number;
    d->first_sector = p->first;
    d->sectors = p->last - p->first + 1;
    d->sector_size = disk->sector_size;
    d->read_only = disk->read_only || p->attributes & GPT_ATTRIBUTE_READ_ONLY;
    d->flush = disk->flush;
    block_register_partition(disk, d);
    log_info(d->name, "\"%s\", %llu MiB%s", d->label,
             (unsigned long long)d->sectors * d->sector_size / MIB,
             d->read_only ? ", read-only" : "");
}

static void explain(struct block_device *disk, enum gpt_result result) {
    static const char *const texts[] = {
        [GPT_NONE] =
            "has no GUID partition table: use it as a whole, or partition it with \"sgdisk\"",
        [GPT_BROKEN] =
            "has a partition table that is damaged at both ends: restore it with \"gdisk\"",
        [GPT_EIO] = "could not be read: its partitions are not available; check the disk",
        [GPT_NOMEM] = "has a partition table for which there is no memory",
    };
    log_warning(disk->name, "%s", texts[result]);
}

void partition_scan(struct block_device *disk) {
    struct gpt_table *table = malloc(sizeof(*table));
    struct gpt_source source = {disk->sectors, disk->sector_size, read_disk, disk};
    enum gpt_result result = table ? gpt_read(&source, table, report, disk) : GPT_NOMEM;
    if (result != GPT_OK)
        explain(disk, result);
    if (result == GPT_OK) {
        snprintf(disk->guid, sizeof(disk->guid), "%s", table->guid);
        for (u32 i = 0; i < table->count; i++)
            add_partition(disk, &table->partitions[i]);
    }
    free(table);
}
