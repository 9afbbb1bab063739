// SPDX-License-Identifier: Apache-2.0
//
// Multiboot2 kernels (Multiboot2 Specification version 2.0): a header of tags in the first 32 KiB;
// an ELF file, or an address tag. A kernel that can be relocated is moved only when it does not fit
// where it was linked.

#include "toolstack/loader_elf.h"

#include <string.h>

#define HEADER_MAGIC  0xe85250d6u
#define HEADER_SEARCH 32768u
#define HEADER_BYTES  16u
#define TAGS_MAX      64u
#define BOOT_MAGIC    0x36d76289u

enum header_tag { // what a kernel may ask for
    TAG_END = 0,
    TAG_INFORMATION = 1,
    TAG_ADDRESS = 2,
    TAG_ENTRY = 3,
    TAG_CONSOLE = 4,
    TAG_FRAMEBUFFER = 5, // a wish: text mode is all there is
    TAG_MODULE_ALIGN = 6,
    TAG_EFI_BOOT_SERVICES = 7,
    TAG_ENTRY_EFI32 = 8,
    TAG_ENTRY_EFI64 = 9,
    TAG_RELOCATABLE = 10,
};
#define TAG_OPTIONAL 1u // flag of a tag

enum info_tag { // what it is told
    INFO_END = 0,
    INFO_CMDLINE = 1,
    INFO_LOADER = 2,
    INFO_MODULE = 3,
    INFO_MEMORY = 4,
    INFO_MAP = 6,
    INFO_RSDP_OLD = 14,
    INFO_RSDP_NEW = 15,
    INFO_LOAD_BASE = 21,
};

struct header {
    u64 at; // offset in the file
    u32 bytes;
    const u8 *address, *entry, *relocatable; // tags; NULL: not there
};

struct tag_header {
    u32 type, size;
};

// Offset of the header; LOADER_NOWHERE if there is none.
static u64 find_header(const struct loader_file *kernel) {
    for (u64 at = 0; at + HEADER_BYTES <= MIN(kernel->bytes, HEADER_SEARCH); at += 8) {
        const u8 *p = kernel->data + at;
        u32 sum = loader_u32(p) + loader_u32(p + 4) + loader_u32(p + 8) + loader_u32(p + 12);
        if (loader_u32(p) == HEADER_MAGIC && sum == 0)
            return at;
    }
    return LOADER_NOWHERE;
}

bool loader_is_multiboot2(const struct loader_file *kernel) {
    return find_header(kernel) != LOADER_NOWHERE;
}

// ---- the header ----

static bool information_known(const u8 *tag, u32 size) {
    for (u32 at = 8; at + 4 <= size; at += 4) {
        u32 type = loader_u32(tag + at);
        bool known = (type >= INFO_CMDLINE && type <= INFO_MEMORY) || type == INFO_MAP ||
                     type == INFO_RSDP_OLD || type == INFO_RSDP_NEW || type == INFO_LOAD_BASE;
        if (!known)
            return false;
    }
    return true;
}

// Takes note of one tag; false if it is one that must be met and can't.
static bool take_tag(struct header *h, const u8 *tag, u32 size) {
    bool optional = loader_u16(tag + 2) & TAG_OPTIONAL;
    switch (loader_u16(tag)) {
    case TAG_INFORMATION: return optional || information_known(tag, size);
    case TAG_ADDRESS: h->address = size >= 24 ? tag : NULL; return size >= 24;
    case TAG_ENTRY: h->entry = size >= 12 ? tag : NULL; return size >= 12;
    case TAG_RELOCATABLE: h->relocatable = size >= 24 ? tag : NULL; return size >= 24;
    case TAG_CONSOLE:
    case TAG_FRAMEBUFFER:
    case TAG_MODULE_ALIGN:
    case TAG_EFI_BOOT_SERVICES:
    case TAG_ENTRY_EFI32:
    case TAG_ENTRY_EFI64: return true;
    default: return optional;
    }
}

static bool read_header(const struct loader_input *input, struct loader_plan *plan,
                        struct header *h) {
    const struct loader_file *file = &input->kernel;
    *h = (struct header){.at = find_header(file)};
    if (h->at == LOADER_NOWHERE)
        return loader_fail(plan, "kernel \"%s\" has no Multiboot2 header", file->name);
    const u8 *p = file->data + h->at;
    h->bytes = loader_u32(p + 8);
    if (loader_u32(p + 4) != 0)
        return loader_fail(plan, "kernel \"%s\" is for another architecture", file->name);
    if (!loader_in_file(file, h->at, h->bytes))
        return loader_fail(plan, "kernel \"%s\" is cut short: it ends within its Multiboot2 header",
                           file->name);
    u32 at = HEADER_BYTES;
    for (u32 i = 0; i < TAGS_MAX && at + 8 <= h->bytes; i++) {
        u32 type = loader_u16(p + at), size = loader_u32(p + at + 4);
        if (type == TAG_END)
            return true;
        if (size < 8 || size > h->bytes - at)
            break;
        if (!take_tag(h, p + at, size))
            return loader_fail(
                plan, "kernel \"%s\" asks for a Multiboot2 feature that is not offered (tag %u)",
                file->name, type);
        at += (u32)ALIGN_UP(size, 8);
    }
    return loader_fail(plan, "kernel \"%s\" is damaged: its Multiboot2 header has no end",
                       file->name);
}

// ---- placing ----

static bool place_addresses(const struct loader_input *input, struct loader_plan *plan,
                            const struct header *h) {
    const struct loader_file *file = &input->kernel;
    u64 header = loader_u32(h->address + 8), load = loader_u32(h->address + 12);
    u64 load_end = loader_u32(h->address + 16), bss_end = loader_u32(h->address + 20);
    bool whole_file = load == 0xffffffff; // from the file's first byte on
    if (whole_file)
        load = header - h->at;
    if (header < load || header - load > h->at || (whole_file && header < h->at))
        return loader_fail(plan,
                           "kernel \"%s\" is damaged: its Multiboot2 load address makes no sense",
                           file->name);
    u64 offset = h->at - (header - load), bytes = load_end ? load_end - load : file->bytes - offset;
    if ((load_end && load_end < load) || !loader_in_file(file, offset, bytes))
        return loader_fail(
            plan,
            "kernel \"%s\" is cut short: its Multiboot2 header wants more bytes than there are",
            file->name);
    u64 whole = bss_end > load + bytes ? bss_end - load : bytes;
    return loader_place(input, plan, "the code", load, whole, file->data + offset, bytes);
}

// How far up an ELF kernel is moved: 0 if it fits where it is, LOADER_NOWHERE if it can't be placed
// at all.
static u64 choose_offset(const struct loader_input *input, struct loader_plan *plan,
                         const struct elf_image *image, const u8 *relocatable) {
    u64 low, high;
    if (!elf_range(image, &low, &high) || !relocatable)
        return 0;
    u64 least = loader_u32(relocatable + 8), most = loader_u32(relocatable + 12),
        align = loader_u32(relocatable + 16);
    align = MAX(align, PAGE_SIZE);
    if (align & (align - 1) || loader_find(input, plan, high - low, 1, low, high, false) == low)
        return 0;
    u64 at =
        loader_find(input, plan, high - low, align, MAX(least, low), MIN(most + 1, 4 * GIB), false);
    return at == LOADER_NOWHERE ? 0 : at - low;
}

// *base: where a kernel that can be relocated lies, else 0.
static bool place(const struct loader_input *input, struct loader_plan *plan,
                  const struct header *h, u64 *entry, u64 *base) {
    struct elf_image image;
    *base = 0;
    if (h->address) {
        *entry = h->entry ? loader_u32(h->entry + 8) : 0;
        return h->entry ? place_addresses(input, plan, h)
                        : loader_fail(plan, "kernel \"%s\" has no Multiboot2 entry address",
                                      input->kernel.name);
    }
    const char *wrong = elf_read(&input->kernel, &image);
    if (wrong)
        return loader_fail(plan, "kernel \"%s\" %s", input->kernel.name, wrong);
    u64 offset = choose_offset(input, plan, &image, h->relocatable), low = 0, high;
    *entry = (h->entry ? loader_u32(h->entry + 8) : elf_physical_entry(&image)) + offset;
    if (h->relocatable && elf_range(&image, &low, &high))
        *base = low + offset;
    return elf_place(input, plan, &image, offset);
}

// ---- the information ----

// A tag with room for `bytes` after its head; NULL without room.
static void *put_tag(struct loader_plan *plan, enum info_tag type, u64 bytes) {
    u64 gpa;
    struct tag_header *tag = loader_area(plan, sizeof(*tag) + bytes, 8, &gpa);
    if (!tag)
        return NULL;
    *tag = (struct tag_header){type, (u32)(sizeof(*tag) + bytes)};
    return tag + 1;
}

static bool put_bytes(struct loader_plan *plan, enum info_tag type, const void *data, u64 bytes) {
    void *tag = put_tag(plan, type, bytes);
    if (tag)
        memcpy(tag, data, bytes);
    return tag != NULL;
}

static bool put_module(const struct loader_input *input, struct loader_plan *plan,
                       const struct loader_file *file) {
    const char *text = file->cmdline[0] ? file->cmdline : file->name;
    u64 start = 0;
    u32 *tag = put_tag(plan, INFO_MODULE, 8 + strlen(text) + 1);
    if (!tag || !loader_place_file(input, plan, file, 4 * GIB, false, &start))
        return false;
    tag[0] = (u32)start;
    tag[1] = (u32)(start + file->bytes);
    memcpy(tag + 2, text, strlen(text) + 1);
    return true;
}

static bool put_memory(const struct loader_input *input, struct loader_plan *plan) {
    u64 bytes = input->map_count * sizeof(*input->map);
    u32 *memory = put_tag(plan, INFO_MEMORY, 8), *map = put_tag(plan, INFO_MAP, 8 + bytes);
    if (!memory || !map)
        return false;
    map[0] = sizeof(*input->map); // of an entry
    map[1] = 0;                   // its version
    memcpy(map + 2, input->map, bytes);
    for (unsigned i = 0; i < input->map_count; i++) {
        const struct machine_memory_range *r = &input->map[i];
        if (r->type == MACHINE_RAM && r->base == 0)
            memory[0] = (u32)(MIN(r->size, 640 * KIB) / KIB);
        if (r->type == MACHINE_RAM && r->base == MIB)
            memory[1] = (u32)(r->size / KIB);
    }
    return true;
}

static bool put_rsdp(const struct loader_input *input, struct loader_plan *plan) {
    if (!input->rsdp_copy)
        return true;
    bool new = input->rsdp_copy[15] >= 2;
    return put_bytes(plan, new ? INFO_RSDP_NEW : INFO_RSDP_OLD, input->rsdp_copy,
                     new ? LOADER_RSDP_SIZE : 20);
}

static bool put_modules(const struct loader_input *input, struct loader_plan *plan) {
    if (input->initrd.data && !put_module(input, plan, &input->initrd))
        return false;
    for (u32 i = 0; i < input->module_count; i++)
        if (!put_module(input, plan, &input->modules[i]))
            return false;
    return true;
}

static bool put_info(const struct loader_input *input, struct loader_plan *plan, u64 base) {
    u64 gpa;
    u32 load_base = (u32)base, *head = loader_area(plan, 8, 8, &gpa); // total size, reserved
    if (!head || !put_bytes(plan, INFO_CMDLINE, input->cmdline, strlen(input->cmdline) + 1) ||
        !put_bytes(plan, INFO_LOADER, "Basalt", 7) || !put_memory(input, plan) ||
        !put_rsdp(input, plan) || (base && !put_bytes(plan, INFO_LOAD_BASE, &load_base, 4)) ||
        !put_modules(input, plan) || !put_tag(plan, INFO_END, 0))
        return false;
    head[0] = (u32)(plan->area_gpa + plan->area_used - gpa);
    plan->state.gprs[BASALT_RAX] = BOOT_MAGIC;
    plan->state.gprs[BASALT_RBX] = gpa;
    return true;
}

bool loader_multiboot2(const struct loader_input *input, struct loader_plan *plan) {
    struct header h;
    u64 entry = 0, base = 0;
    if (!read_header(input, plan, &h) || !place(input, plan, &h, &entry, &base) ||
        !loader_place_area(input, plan))
        return false;
    loader_state_32(&plan->state, entry);
    return put_info(input, plan, base);
}
