// SPDX-License-Identifier: Apache-2.0
//
// Multiboot kernels (Multiboot Specification version 0.6.96): a header in the first 8 KiB; an ELF
// file, or addresses in the header itself (the "a.out kludge").

#include "toolstack/loader_elf.h"

#include <string.h>

#define HEADER_MAGIC     0x1badb002u
#define HEADER_SEARCH    8192u
#define HEADER_BYTES     12u
#define HEADER_ADDRESSES 32u // with the five addresses
#define BOOT_MAGIC       0x2badb002u

// Flags of the header; of the lower 16 bits, those not known here can't be met.
#define WANT_PAGE_ALIGN 0x00001u
#define WANT_MEMORY     0x00002u
#define WANT_VIDEO      0x00004u // a wish: text mode is all there is
#define HAS_ADDRESSES   0x10000u
#define MUST_KNOW       0x0ffffu

// Flags of the information.
#define INFO_MEMORY  0x001u
#define INFO_CMDLINE 0x004u
#define INFO_MODULES 0x008u
#define INFO_MAP     0x040u
#define INFO_LOADER  0x200u

struct info {
    u32 flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr, symbols[4];
    u32 mmap_length, mmap_addr, drives_length, drives_addr, config_table, boot_loader_name,
        apm_table;
    u32 video[7];
};
SIZE_ASSERT(struct info, 100);

struct info_module {
    u32 start, end, cmdline, reserved;
};

struct info_range {
    u32 size; // of the rest
    u64 base, bytes;
    u32 type;
} __attribute__((packed));
SIZE_ASSERT(struct info_range, 24);

// Offset of the header; LOADER_NOWHERE if there is none.
static u64 find_header(const struct loader_file *kernel) {
    for (u64 at = 0; at + HEADER_BYTES <= MIN(kernel->bytes, HEADER_SEARCH); at += 4) {
        const u8 *p = kernel->data + at;
        if (loader_u32(p) == HEADER_MAGIC &&
            loader_u32(p) + loader_u32(p + 4) + loader_u32(p + 8) == 0)
            return at;
    }
    return LOADER_NOWHERE;
}

bool loader_is_multiboot(const struct loader_file *kernel) {
    return find_header(kernel) != LOADER_NOWHERE;
}

// Places what the header's addresses describe.
static bool place_addresses(const struct loader_input *input, struct loader_plan *plan, u64 at,
                            u64 *entry) {
    const struct loader_file *file = &input->kernel;
    if (!loader_in_file(file, at, HEADER_ADDRESSES))
        return loader_fail(plan, "kernel \"%s\" is cut short: it ends within its Multiboot header",
                           file->name);
    const u8 *p = file->data + at;
    u64 header = loader_u32(p + 12), load = loader_u32(p + 16), load_end = loader_u32(p + 20);
    u64 bss_end = loader_u32(p + 24);
    *entry = loader_u32(p + 28);
    if (load > header || header - load > at)
        return loader_fail(
            plan, "kernel \"%s\" is damaged: its Multiboot header's load address makes no sense",
            file->name);
    u64 offset = at - (header - load), bytes = load_end ? load_end - load : file->bytes - offset;
    if ((load_end && load_end < load) || !loader_in_file(file, offset, bytes))
        return loader_fail(
            plan,
            "kernel \"%s\" is cut short: its Multiboot header wants more bytes than there are",
            file->name);
    u64 whole = bss_end > load + bytes ? bss_end - load : bytes;
    return loader_place(input, plan, "the code", load, whole, file->data + offset, bytes);
}

static bool place_elf(const struct loader_input *input, struct loader_plan *plan, u64 *entry) {
    struct elf_image image;
    const char *wrong = elf_read(&input->kernel, &image);
    if (wrong)
        return loader_fail(plan, "kernel \"%s\" %s", input->kernel.name, wrong);
    *entry = elf_physical_entry(&image);
    return elf_place(input, plan, &image, 0);
}

// The initial RAM disk, if there is one, is the first module.
static bool put_modules(const struct loader_input *input, struct loader_plan *plan,
                        struct info *info) {
    u32 count = input->module_count + (input->initrd.data != NULL);
    u64 list_gpa = 0, start;
    struct info_module *list = count ? loader_area(plan, count * sizeof(*list), 4, &list_gpa)
                                     : NULL;
    if (count && !list)
        return false;
    for (u32 i = 0; i < count; i++) {
        u32 index = i - (input->initrd.data != NULL);
        const struct loader_file *file = input->initrd.data && i == 0 ? &input->initrd
                                                                      : &input->modules[index];
        u64 text = loader_area_text(plan, file->cmdline[0] ? file->cmdline : file->name);
        if (!text || !loader_place_file(input, plan, file, 4 * GIB, false, &start))
            return false;
        list[i] = (struct info_module){(u32)start, (u32)(start + file->bytes), (u32)text, 0};
    }
    info->flags |= INFO_MODULES;
    info->mods_count = count;
    info->mods_addr = (u32)list_gpa;
    return true;
}

static bool put_memory(const struct loader_input *input, struct loader_plan *plan,
                       struct info *info) {
    u64 gpa;
    struct info_range *map = loader_area(plan, input->map_count * sizeof(*map), 4, &gpa);
    if (!map)
        return false;
    for (unsigned i = 0; i < input->map_count; i++) {
        const struct machine_memory_range *r = &input->map[i];
        map[i] = (struct info_range){sizeof(*map) - 4, r->base, r->size, r->type};
        if (r->type == MACHINE_RAM && r->base == 0)
            info->mem_lower = (u32)(MIN(r->size, 640 * KIB) / KIB);
        if (r->type == MACHINE_RAM && r->base == MIB)
            info->mem_upper = (u32)(r->size / KIB);
    }
    info->flags |= INFO_MEMORY | INFO_MAP;
    info->mmap_addr = (u32)gpa;
    info->mmap_length = (u32)(input->map_count * sizeof(*map));
    return true;
}

static bool put_info(const struct loader_input *input, struct loader_plan *plan) {
    u64 gpa;
    struct info *info = loader_area(plan, sizeof(*info), 8, &gpa);
    u64 cmdline = loader_area_text(plan, input->cmdline), name = loader_area_text(plan, "Basalt");
    if (!info || !cmdline || !name)
        return false;
    info->flags = INFO_CMDLINE | INFO_LOADER;
    info->cmdline = (u32)cmdline;
    info->boot_loader_name = (u32)name;
    plan->state.gprs[BASALT_RAX] = BOOT_MAGIC;
    plan->state.gprs[BASALT_RBX] = gpa;
    return put_memory(input, plan, info) && put_modules(input, plan, info);
}

bool loader_multiboot(const struct loader_input *input, struct loader_plan *plan) {
    u64 at = find_header(&input->kernel), entry = 0;
    if (at == LOADER_NOWHERE)
        return loader_fail(plan, "kernel \"%s\" has no Multiboot header", input->kernel.name);
    u32 flags = loader_u32(input->kernel.data + at + 4);
    u32 unknown = flags & MUST_KNOW & ~(WANT_PAGE_ALIGN | WANT_MEMORY | WANT_VIDEO);
    if (unknown)
        return loader_fail(
            plan, "kernel \"%s\" asks for Multiboot features that are not offered (flags 0x%x)",
            input->kernel.name, unknown);
    bool placed = flags & HAS_ADDRESSES ? place_addresses(input, plan, at, &entry)
                                        : place_elf(input, plan, &entry);
    if (!placed || !loader_place_area(input, plan))
        return false;
    loader_state_32(&plan->state, entry);
    return put_info(input, plan);
}
