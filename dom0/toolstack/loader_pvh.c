// SPDX-License-Identifier: Apache-2.0
//
// ELF kernels with a PVH entry (Xen documentation, "x86/HVM direct boot ABI"): 32-bit protected
// mode without paging, EBX points to a structure that names modules, command line, RSDP and memory
// map.

#include "toolstack/loader_elf.h"

#include <string.h>

#define NOTE_PHYS32_ENTRY 18u
#define START_MAGIC       0x336ec578u

struct start_info {
    u32 magic, version, flags, module_count;
    u64 modules, cmdline, rsdp, memory_map;
    u32 memory_map_entries, reserved;
};
SIZE_ASSERT(struct start_info, 56);

struct start_module {
    u64 address, bytes, cmdline, reserved;
};
SIZE_ASSERT(struct start_module, 32);

SIZE_ASSERT(struct machine_memory_range, 24); // is the memory map's entry, with the same types

static bool find_entry(const struct loader_file *kernel, struct elf_image *image, u64 *entry) {
    return elf_is(kernel) && !elf_read(kernel, image) &&
           elf_note(image, "Xen", NOTE_PHYS32_ENTRY, entry);
}

bool loader_is_pvh(const struct loader_file *kernel) {
    struct elf_image image;
    u64 entry;
    return find_entry(kernel, &image, &entry);
}

// The initial RAM disk and the modules, in this order.
static bool put_modules(const struct loader_input *input, struct loader_plan *plan,
                        struct start_info *info) {
    u32 count = input->module_count + (input->initrd.data != NULL);
    if (count == 0)
        return true;
    struct start_module *list = loader_area(plan, count * sizeof(*list), 8, &info->modules);
    if (!list)
        return false;
    info->module_count = count;
    if (input->initrd.data) {
        list->bytes = input->initrd.bytes;
        if (!loader_place_file(input, plan, &input->initrd, 4 * GIB, true, &list->address))
            return false;
        list++;
    }
    for (u32 i = 0; i < input->module_count; i++, list++) {
        list->bytes = input->modules[i].bytes;
        list->cmdline = loader_area_text(plan, input->modules[i].cmdline);
        if (!list->cmdline ||
            !loader_place_file(input, plan, &input->modules[i], 4 * GIB, true, &list->address))
            return false;
    }
    return true;
}

static bool put_start_info(const struct loader_input *input, struct loader_plan *plan) {
    u64 gpa;
    struct start_info *info = loader_area(plan, sizeof(*info), 8, &gpa);
    if (!info)
        return false;
    *info = (struct start_info){.magic = START_MAGIC,
                                .version = 1,
                                .rsdp = input->rsdp,
                                .memory_map_entries = input->map_count};
    u64 map_bytes = input->map_count * sizeof(*input->map);
    void *map = loader_area(plan, map_bytes, 8, &info->memory_map);
    info->cmdline = loader_area_text(plan, input->cmdline);
    if (!map || !info->cmdline)
        return false;
    memcpy(map, input->map, map_bytes);
    plan->state.gprs[BASALT_RBX] = gpa;
    return put_modules(input, plan, info);
}

bool loader_pvh(const struct loader_input *input, struct loader_plan *plan) {
    struct elf_image image;
    u64 entry = 0;
    if (!find_entry(&input->kernel, &image, &entry))
        return loader_fail(plan, "kernel \"%s\" has no PVH entry", input->kernel.name);
    if (entry >= 4 * GIB)
        return loader_fail(plan, "kernel \"%s\" is damaged: its PVH entry 0x%llx is above 4 GiB",
                           input->kernel.name, (unsigned long long)entry);
    if (!elf_place(input, plan, &image, 0) || !loader_place_area(input, plan))
        return false;
    loader_state_32(&plan->state, entry);
    return put_start_info(input, plan);
}
