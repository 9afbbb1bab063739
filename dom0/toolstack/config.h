// SPDX-License-Identifier: Apache-2.0
//
// The text file that describes one domain: lines of `key = value`, `#` starts a comment
// (docs/domain-file.md is the manual). A pure parser: text in, structure and sentences out.
// Invariants: all mistakes of a file are found in one pass, each is reported as "file:line: key:
// what was expected, what was found", and the work is bounded by the file's size; nothing in the
// text, NULs included, is trusted.

#pragma once

#include "lib/types.h"

#include <basalt/domain.h>

#define CONFIG_FILE_MAX     65536u // bytes of a file
#define CONFIG_LINE_MAX     4095u  // bytes of a line
#define CONFIG_CMDLINE_SIZE 2048u  // with the NUL
#define CONFIG_NAME_SIZE    32u    // with the NUL
#define CONFIG_TEXT_SIZE    112u   // names of modules and partitions, with the NUL
#define CONFIG_DISKS_MAX    16u
#define CONFIG_MODULES_MAX  8u
#define CONFIG_MISTAKES_MAX 50u // reported of one file; the rest is only counted

enum config_action { CONFIG_DESTROY, CONFIG_RESTART, CONFIG_PRESERVE };

enum config_protocol {
    CONFIG_AUTO,
    CONFIG_LINUX,
    CONFIG_PVH,
    CONFIG_MULTIBOOT,
    CONFIG_MULTIBOOT2,
};

enum config_disk_source {
    CONFIG_DISK_DEVICE, // name of a disk or partition of the machine: "vda2"
    CONFIG_DISK_LABEL,  // name in a GPT
    CONFIG_DISK_GUID,   // unique GUID of a GPT partition
    CONFIG_DISK_MODULE, // a boot module as a RAM disk
};

struct config_disk {
    enum config_disk_source source;
    bool read_only;
    char name[CONFIG_TEXT_SIZE];
};

struct config_module {
    char text[256]; // its name, then what the guest is told as its command line
};

struct domain_config {
    char name[CONFIG_NAME_SIZE];
    u64 memory; // bytes, a multiple of 4 KiB
    u32 vcpus;
    u32 weight, cap; // of BASALT_HC_DOMAIN_SCHEDULE
    bool console, autostart;
    enum config_action on_crash, on_reboot;
    enum config_protocol protocol;
    char kernel[CONFIG_TEXT_SIZE];
    char initrd[CONFIG_TEXT_SIZE]; // empty: none
    char cmdline[CONFIG_CMDLINE_SIZE];
    struct config_disk disks[CONFIG_DISKS_MAX];
    u32 disk_count;
    struct config_module modules[CONFIG_MODULES_MAX];
    u32 module_count;
};

typedef void (*config_report)(void *context, const char *sentence);

/// Reads the text of `file` (a name for messages) into *config, starting from the defaults. Calls
/// `report` for each mistake. Returns the count of mistakes; *config is to be used only if it is 0.
unsigned config_parse(const char *file, const char *text, size_t bytes,
                      struct domain_config *config, config_report report, void *context);

/// Names of the enumerations, for people and JSON.
const char *config_action_name(enum config_action action);
const char *config_protocol_name(enum config_protocol protocol);

/// The name in `names` (count of them) that `word` was probably meant to be; NULL if none is near.
/// Letters that were left out, added, changed or swapped count; at most a third of the word.
const char *config_nearest(const char *word, const char *const *names, size_t count);
