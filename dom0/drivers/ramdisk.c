// SPDX-License-Identifier: Apache-2.0
//
// RAM disks: modules as disks, written in place and lost at the end of the run. For machines
// without a disk that dom0 can drive (Bochs), and for tests.

#include "drivers.h"

#include "block/block.h"
#include "lib/boot.h"
#include "lib/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR 512u

struct ramdisk {
    struct block_device disk;
    u8 *data;
};

static bool start(struct block_device *disk, struct block_request *request) {
    struct ramdisk *ram = disk->driver;
    u8 *at = ram->data + request->chunk_sector * SECTOR;
    struct block_walk walk;
    void *data;
    u64 bytes;
    block_walk_begin(&walk, request);
    while (block_walk_next(&walk, &data, &bytes)) {
        if (request->op == BLOCK_READ)
            memcpy(data, at, bytes);
        else
            memcpy(at, data, bytes);
        at += bytes;
    }
    block_complete(request, BLOCK_OK);
    return true;
}

static const struct block_driver_ops ops = {.start = start};

static bool is_disk(const struct basalt_boot_module *module) {
    char name[sizeof(module->name)];
    boot_module_name(module, name, sizeof(name));
    size_t length = strlen(name);
    if (length > 4 && strcmp(name + length - 4, ".img") == 0)
        return strncmp(name, "initrd", 6) != 0;
    const char *word = strstr(boot_module_arguments(module), "disk");
    return word && (word[4] == 0 || word[4] == ' ');
}

static bool add(const struct basalt_boot_module *module) {
    static unsigned count;
    struct ramdisk *ram = calloc(1, sizeof(*ram));
    if (!ram)
        return false;
    struct block_device *disk = &ram->disk;
    ram->data = boot_module_data(module);
    snprintf(disk->name, sizeof(disk->name), "ram%u", count++);
    boot_module_name(module, disk->label, sizeof(disk->label));
    disk->sector_size = SECTOR;
    disk->sectors = (module->size + SECTOR - 1) / SECTOR;
    disk->max_segments = 1024;
    disk->max_segment_bytes = MIB;
    disk->max_bytes = 64 * KIB; // copied at once: EVENT_BUDGET of them in a turn
    disk->ops = &ops;
    disk->driver = ram;
    block_register(disk);
    return true;
}

void ramdisk_init(void) {
    for (u32 i = 0; boot_module(i); i++)
        if (is_disk(boot_module(i)) && boot_module(i)->size > 0 && !add(boot_module(i)))
            log_error("disk", "no memory for a RAM disk");
}
