// SPDX-License-Identifier: Apache-2.0
//
// What the boot loader hands over, as facts: memory map, modules, command line, RSDP, framebuffer; and where
// boot/ hands over to the kernel. The parser is a pure function of untrusted bytes. Follows the Multiboot2
// specification, "Boot information format".

#pragma once

#include "arch/types.h"

#include <basalt/boot_info.h>

#define MULTIBOOT2_MAGIC 0x36d76289u // in EAX at the entry

#define BOOT_MEMORY_MAX  256u // half of them for what is taken out of the loader's map
#define BOOT_MODULES_MAX 32u
#define BOOT_CMDLINE_MAX 1024u
#define BOOT_NAME_MAX    256u

enum memory_kind { // the higher number wins where entries overlap
    MEMORY_RAM = 1,
    MEMORY_TAKEN = 2,        // RAM, too, but in use before there is a frame allocator
    MEMORY_ACPI_RECLAIM = 3, // tables, free once read
    MEMORY_ACPI_NVS = 4,
    MEMORY_RESERVED = 5,
    MEMORY_BAD = 6,
};

struct boot_memory {
    u64 base, end; // bytes, end exclusive
    u32 kind;      // enum memory_kind
};

struct boot_module {
    u64 base, size;
    char cmdline[BOOT_NAME_MAX];
};

struct boot_framebuffer {
    u64 address;
    u32 pitch, width,
        height;    // bytes; pixels, or characters of EGA text. Width 0: the loader told of none
    u8 bits, type; // per pixel; 1: direct colour, 2: EGA text
};

struct boot_params {
    u32 memory_count, module_count;
    u32 rsdp_size; // 0: no copy
    u64 ram_end, ram_bytes;
    struct boot_framebuffer framebuffer;
    struct boot_memory memory[BOOT_MEMORY_MAX]; // sorted, disjoint; RAM page aligned inwards
    struct boot_module modules[BOOT_MODULES_MAX];
    char cmdline[BOOT_CMDLINE_MAX];
    char loader[64];
    u8 rsdp[64];
};

/// Reads the boot information of `size` bytes (the most that may be looked at) into *params, zeroed
/// by the caller. Returns 0, or -1 if it is unusable as a whole; broken tags are reported on the log
/// and skipped.
must_check int multiboot2_parse(const u8 *info, u64 size, struct boot_params *params);

/// Sorts and cuts a memory map in place so that it is sorted and disjoint, the higher kind wins and
/// RAM is in whole pages. `count` is at most BOOT_MEMORY_MAX; what does not fit in `max` is dropped
/// from the end, and the log says so. Returns the new count.
u32 memory_map_normalize(struct boot_memory *map, u32 count, u32 max);

/// Whether any of [base, end) is RAM, in use or not.
bool memory_map_has_ram(const struct boot_params *params, u64 base, u64 end);
/// Whether all of [base, end) is RAM that nobody has taken.
bool memory_map_is_free(const struct boot_params *params, u64 base, u64 end);

/// Makes what RAM there is in the pages of [base, end) MEMORY_TAKEN. Returns -1 if the map has no room for it.
must_check int memory_map_take(struct boot_params *params, u64 base, u64 end);

// Memory before there is a frame allocator. Frames that are handed out and what is in use otherwise never overlap.
/// Takes the first MiB, the image and modules out of the map, as later what early_frame() needs. A module that does not lie
/// in free memory becomes empty.
void early_init(struct boot_params *params);
/// Takes one zeroed frame of RAM below 4 GiB, in the pool window. Panics when there is none.
hpa_t early_frame(void);
/// Whether any of [base, end) is RAM: neither registers nor firmware's tables can be there, whatever a table or a device says.
bool boot_is_ram(u64 base, u64 end);
/// The frames that are left of the chunk that frames come from, all mapped in the pool window. None may be taken after.
void early_rest(u64 *base, u64 *end);

/// boot/entry.S calls it on the boot stack, in 64-bit mode with the low 4 GiB mapped one to one.
noreturn void kernel_main(u32 magic, u64 multiboot_info);

/// The kernel proper: probes the backend, builds dom0 and enters the scheduler. Everything in
/// boot/main.c's list is up.
noreturn void basalt_start(const struct boot_params *params);
/// What is wrong with dom0's file of `file_size` bytes, which has `image` at BASALT_IMAGE_OFFSET if it is that long; or NULL.
must_check const char *image_check(const struct basalt_image *image, u64 file_size);
/// Builds dom0 and makes its vCPU runnable, or refuses to.
void dom0_build(const struct boot_params *boot);
