// SPDX-License-Identifier: Apache-2.0
//
// Who uses which block device, and finding one by name. Invariant: a device has one claim for
// writing and no other, or any number of claims for reading; a claim of a disk counts for all its
// partitions, and the other way round.

#include "block/block.h"

#include <stdio.h>
#include <string.h>

static struct block_device *disk_of(struct block_device *device) {
    return device->disk ? device->disk : device;
}

static bool share_sectors(const struct block_device *a, const struct block_device *b) {
    return a->first_sector < b->first_sector + b->sectors &&
           b->first_sector < a->first_sector + a->sectors;
}

// A claim that can't stand beside a new one of `device`; NULL if there is none.
static struct block_claim *conflict(struct block_device *device, bool write) {
    struct block_device *disk = disk_of(device);
    for (struct block_device *d = disk; d && disk_of(d) == disk; d = d->next) {
        if (!share_sectors(d, device))
            continue;
        for (struct block_claim *claim = d->claims; claim; claim = claim->next)
            if (write || claim->write)
                return claim;
    }
    return NULL;
}

int block_claim(struct block_claim *claim, struct block_device *device, const char *who, bool write,
                char *error, size_t error_size) {
    claim->device = NULL;
    if (device->failed) {
        snprintf(error, error_size, "%s is out of use: it failed", device->name);
        return -BASALT_ENODEV;
    }
    if (write && device->read_only) {
        snprintf(error, error_size, "%s is read-only: give it to the domain as read-only",
                 device->name);
        return -BASALT_EPERM;
    }
    struct block_claim *other = conflict(device, write);
    if (other) {
        bool same = other->device == device;
        snprintf(error, error_size, "%s is in use: \"%s\" %s%s%s", device->name, other->who,
                 other->write ? "writes to " : "reads from ", same ? "it" : other->device->name,
                 same ? "" : ", which shares sectors with it");
        return -BASALT_EBUSY;
    }
    snprintf(claim->who, sizeof(claim->who), "%s", who);
    claim->write = write;
    claim->device = device;
    claim->next = device->claims;
    device->claims = claim;
    return 0;
}

void block_unclaim(struct block_claim *claim) {
    if (!claim->device)
        return;
    struct block_claim **link = &claim->device->claims;
    while (*link && *link != claim)
        link = &(*link)->next;
    if (*link)
        *link = claim->next;
    claim->device = NULL;
}

// ---- finding ----

static bool matches(const struct block_device *d, const char *name) {
    if (strncmp(name, "guid:", 5) == 0)
        return d->disk && strcmp(d->guid, name + 5) == 0;
    if (strncmp(name, "label:", 6) == 0)
        return d->disk && strcmp(d->label, name + 6) == 0;
    return strcmp(d->name, name) == 0 || (d->disk && strcmp(d->label, name) == 0);
}

static void list_devices(const char *name, char *error, size_t error_size) {
    const char *what = "disk or partition";
    if (strncmp(name, "label:", 6) == 0 || strncmp(name, "guid:", 5) == 0) {
        what = *name == 'l' ? "partition with the name" : "partition with the GUID";
        name = strchr(name, ':') + 1;
    }
    size_t used = (size_t)snprintf(error, error_size, "there is no %s \"%s\"; there %s", what, name,
                                   block_first() ? "is:" : "is no disk at all");
    for (struct block_device *d = block_first(); d && used < error_size; d = block_next(d))
        used += (size_t)snprintf(error + used, error_size - used, " %s%s%s%s", d->name,
                                 d->disk ? " (" : "", d->disk ? d->label : "", d->disk ? ")" : "");
}

struct block_device *block_find(const char *name, char *error, size_t error_size) {
    struct block_device *found = NULL;
    for (struct block_device *d = block_first(); d; d = block_next(d)) {
        if (!matches(d, name))
            continue;
        if (found) {
            snprintf(error, error_size, "\"%s\" is ambiguous: %s and %s; use one of these names",
                     name, found->name, d->name);
            return NULL;
        }
        found = d;
    }
    if (!found)
        list_devices(name, error, error_size);
    return found;
}
