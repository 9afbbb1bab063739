// SPDX-License-Identifier: Apache-2.0
//
// Domain files among the boot modules and in the partition "basalt-config". The partition is read
// once, at the start: the texts stay in memory, so that a command that needs one does not wait for
// a disk.

#include "toolstack/source.h"

#include "lib/boot.h"
#include "lib/log.h"
#include "toolstack/domain.h"
#include "toolstack/fat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PARTITION "basalt-config"
#define SUFFIX    ".conf"
#define FILES_MAX 256u

// A file of the partition.
struct text {
    struct text *next;
    char name[FAT_NAME_SIZE];
    u32 bytes;
    char data[];
};
static struct text *texts, **texts_end = &texts;
static unsigned text_count;

static bool is_domain_file(const char *name) {
    size_t length = strlen(name), suffix = strlen(SUFFIX);
    return length > suffix && strcmp(name + length - suffix, SUFFIX) == 0;
}

static struct domain *define(const char *file, const char *text, size_t bytes,
                             void (*report)(void *context, const char *sentence), char *error) {
    struct domain_config *config = malloc(sizeof(*config));
    struct domain *d = NULL;
    if (!config) {
        snprintf(error, DOMAIN_ERROR_SIZE, "dom0 has no memory left for %s", file);
        return NULL;
    }
    unsigned mistakes = config_parse(file, text, bytes, config, report, NULL);
    if (mistakes)
        snprintf(error, DOMAIN_ERROR_SIZE, "%s: %u mistake(s): the domain is left out", file,
                 mistakes);
    else
        d = domain_define(config, file, error);
    free(config);
    return d;
}

struct domain *source_load(const char *file, void (*report)(void *context, const char *sentence),
                           char *error) {
    const struct basalt_boot_module *module = boot_module_find(file);
    if (module)
        return define(file, boot_module_data(module), module->size, report, error);
    for (struct text *t = texts; t; t = t->next)
        if (strcmp(t->name, file) == 0)
            return define(file, t->data, t->bytes, report, error);
    snprintf(error, DOMAIN_ERROR_SIZE,
             "there is no domain and no domain file \"%s\"; \"list\" shows the domains", file);
    return NULL;
}

static void report_to_log(void *context, const char *sentence) {
    (void)context;
    log_error("config", "%s", sentence);
}

static void load(const char *file) {
    char error[DOMAIN_ERROR_SIZE];
    if (!source_load(file, report_to_log, error))
        log_error("config", "%s", error);
}

// ---- the partition ----

static bool read_partition(void *context, u64 offset, u32 bytes, void *buffer) {
    struct block_device *device = context;
    u64 end = offset + bytes, first = ALIGN_DOWN(offset, device->sector_size);
    u64 whole = ALIGN_UP(end, device->sector_size) - first;
    u8 *sectors = malloc(whole);
    bool ok = sectors &&
              block_read(device, first / device->sector_size, sectors, whole) == BLOCK_OK;
    if (ok)
        memcpy(buffer, sectors + (offset - first), bytes);
    free(sectors);
    return ok;
}

static void keep_file(void *context, const char *name, const char *data, u32 bytes) {
    (void)context;
    struct text *t = data && text_count < FILES_MAX ? malloc(sizeof(*t) + bytes) : NULL;
    if (!t) {
        log_error("config",
                  "%s: can't be read from partition %s (%u bytes; at most %u in each of %u files)",
                  name, PARTITION, bytes, CONFIG_FILE_MAX, FILES_MAX);
        return;
    }
    snprintf(t->name, sizeof(t->name), "%s", name);
    memcpy(t->data, data, bytes);
    t->bytes = bytes;
    t->next = NULL;
    *texts_end = t;
    texts_end = &t->next;
    text_count++;
}

static void read_files(void) {
    char error[DOMAIN_ERROR_SIZE];
    struct block_claim claim = {0};
    struct block_device *device = block_find("label:" PARTITION, error, sizeof(error));
    if (!device)
        return;
    if (block_claim(&claim, device, "dom0", false, error, sizeof(error)) < 0) {
        log_error("config", "%s", error);
        return;
    }
    struct fat_source source = {device->sectors * device->sector_size, read_partition, device};
    const char *wrong = fat_read_root(&source, SUFFIX, CONFIG_FILE_MAX, keep_file, NULL);
    if (wrong)
        log_error("config", "partition %s: %s", PARTITION, wrong);
    block_unclaim(&claim);
}

// The modules describe what is to run this time; the partition, what runs when they say nothing.
void source_load_all(void) {
    bool any = false;
    for (u32 i = 0; boot_module(i); i++) {
        char name[sizeof(boot_module(i)->name)];
        boot_module_name(boot_module(i), name, sizeof(name));
        if (is_domain_file(name))
            load(name);
        any |= is_domain_file(name);
    }
    if (!any)
        read_files();
    for (struct text *t = texts; t; t = t->next)
        load(t->name);
}
