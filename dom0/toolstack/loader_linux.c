// SPDX-License-Identifier: Apache-2.0
//
// Linux bzImages through the 64-bit entry (Linux kernel documentation, "The Linux/x86 Boot
// Protocol", section "64-bit Boot Protocol"). The kernel is placed at its preferred address, or,
// when it can be relocated, where it fits; what it needs while it unpacks itself (init_size) is
// kept free. The initial RAM disk goes as high as the kernel allows.

#include "toolstack/loader.h"

#include "toolstack/text.h"

#include <string.h>

// The setup header's fields: offsets in the file, and, from 0x1f1 on, in the zero page.
#define SETUP_SECTS      0x1f1 // u8: sectors of real-mode code after the first; 0 means 4
#define SYSSIZE          0x1f4 // u32: protected-mode code, in 16-byte units
#define BOOT_FLAG        0x1fe // u16: 0xaa55
#define JUMP_OFFSET      0x201 // u8: the header ends at 0x202 + this
#define HEADER_MAGIC     0x202 // "HdrS"
#define VERSION          0x206 // u16
#define TYPE_OF_LOADER   0x210 // u8
#define LOADFLAGS        0x211 // u8
#define RAMDISK_IMAGE    0x218 // u32
#define RAMDISK_SIZE     0x21c // u32
#define CMD_LINE_PTR     0x228 // u32
#define INITRD_ADDR_MAX  0x22c // u32: the highest address a RAM disk's byte may have
#define KERNEL_ALIGNMENT 0x230 // u32
#define RELOCATABLE      0x234 // u8
#define XLOADFLAGS       0x236 // u16
#define CMDLINE_SIZE     0x238 // u32: longest command line, without its NUL
#define PREF_ADDRESS     0x258 // u64
#define INIT_SIZE        0x260 // u32
#define HEADER_END       0x264 // of the fields used here
#define HEADER_MOST      0x290 // the zero page has no room for more

// Fields of the zero page before the header.
#define ZP_ACPI_RSDP     0x070 // u64
#define ZP_E820_ENTRIES  0x1e8 // u8
#define ZP_E820_TABLE    0x2d0 // 20 bytes each

#define MAGIC_HDRS       0x53726448u
#define VERSION_LEAST    0x020c
#define LOADED_HIGH      0x01 // LOADFLAGS
#define XLF_KERNEL_64    0x01
#define LOADER_UNDEFINED 0xff
#define ENTRY_64         0x200
#define SECTOR           512u

struct e820_entry {
    u64 base, size;
    u32 type;
} __attribute__((packed));
SIZE_ASSERT(struct e820_entry, 20);

struct image {
    const u8 *header; // the file's first bytes
    u64 setup_bytes;  // boot sector and real-mode code
    u64 code_bytes;   // protected-mode code, to the file's end
    u64 init_size, alignment, preferred;
    bool relocatable;
};

bool loader_is_linux(const struct loader_file *kernel) {
    return loader_in_file(kernel, 0, VERSION + 2) &&
           loader_u32(kernel->data + HEADER_MAGIC) == MAGIC_HDRS;
}

// Everything about the file that has to be right before it is placed.
static bool check_image(const struct loader_input *input, struct loader_plan *plan,
                        struct image *image) {
    const struct loader_file *file = &input->kernel;
    const u8 *h = image->header = file->data;
    unsigned version = loader_u16(h + VERSION);
    if (loader_u16(h + BOOT_FLAG) != 0xaa55)
        return loader_fail(plan,
                           "kernel \"%s\" is damaged: its boot flag is 0x%04x instead of 0xaa55",
                           file->name, loader_u16(h + BOOT_FLAG));
    if (version < VERSION_LEAST)
        return loader_fail(
            plan,
            "kernel \"%s\" is too old: boot protocol %u.%02u; 2.12 with a 64-bit entry is needed "
            "(Linux 3.8 or newer, built for x86-64)",
            file->name, version >> 8, version & 0xff);
    if (!loader_in_file(file, 0, HEADER_END))
        return loader_fail(plan, "kernel \"%s\" is cut short: %llu bytes end within its header",
                           file->name, (unsigned long long)file->bytes);
    if (!(loader_u16(h + XLOADFLAGS) & XLF_KERNEL_64))
        return loader_fail(plan,
                           "kernel \"%s\" has no 64-bit entry: use one that was built for x86-64",
                           file->name);
    image->setup_bytes = (u64)((h[SETUP_SECTS] ? h[SETUP_SECTS] : 4) + 1) * SECTOR;
    u64 wanted = image->setup_bytes + (u64)loader_u32(h + SYSSIZE) * 16;
    if (file->bytes < wanted || loader_u32(h + SYSSIZE) == 0)
        return loader_fail(
            plan, "kernel \"%s\" is cut short: %llu of %llu bytes are there; copy it again",
            file->name, (unsigned long long)file->bytes, (unsigned long long)wanted);
    image->code_bytes = file->bytes - image->setup_bytes;
    return true;
}

static bool check_layout(const struct loader_input *input, struct loader_plan *plan,
                         struct image *image) {
    const u8 *h = image->header;
    image->relocatable = h[RELOCATABLE] != 0;
    image->alignment = loader_u32(h + KERNEL_ALIGNMENT);
    image->preferred = loader_u64(h + PREF_ADDRESS);
    image->init_size = MAX((u64)loader_u32(h + INIT_SIZE), image->code_bytes);
    if (image->alignment < PAGE_SIZE || image->alignment & (image->alignment - 1) ||
        image->alignment > GIB)
        return loader_fail(plan, "kernel \"%s\" is damaged: it wants to be aligned to 0x%llx",
                           input->kernel.name, (unsigned long long)image->alignment);
    size_t length = strlen(input->cmdline);
    if (length > loader_u32(h + CMDLINE_SIZE))
        return loader_fail(
            plan,
            "the command line of %zu bytes is longer than kernel \"%s\" takes (%u): shorten `cmdline`",
            length, input->kernel.name, loader_u32(h + CMDLINE_SIZE));
    return true;
}

static bool place_kernel(const struct loader_input *input, struct loader_plan *plan,
                         const struct image *image, u64 *load) {
    char size[TEXT_SIZE_MAX], memory[TEXT_SIZE_MAX];
    u64 at = loader_find(input, plan, image->init_size, 1, image->preferred, 4 * GIB, false);
    if (at != image->preferred)
        at = image->relocatable
                 ? loader_find(input, plan, image->init_size, image->alignment, MIB, 4 * GIB, false)
                 : LOADER_NOWHERE;
    if (at == LOADER_NOWHERE)
        return loader_fail(
            plan,
            "kernel \"%s\" needs %s of contiguous memory%s to start, and the guest has %s in all: "
            "raise `memory`",
            input->kernel.name, text_of_size(size, image->init_size),
            image->relocatable ? "" : " at its fixed address", text_of_size(memory, input->memory));
    *load = at;
    return loader_place(input, plan, "the code", at, image->init_size,
                        input->kernel.data + image->setup_bytes, image->code_bytes);
}

static void put_u32(u8 *at, u64 value) {
    u32 v = (u32)value;
    memcpy(at, &v, sizeof(v));
}

static void put_memory_map(const struct loader_input *input, u8 *zero_page) {
    for (unsigned i = 0; i < input->map_count; i++) {
        const struct machine_memory_range *r = &input->map[i];
        struct e820_entry entry = {r->base, r->size, r->type};
        memcpy(zero_page + ZP_E820_TABLE + i * sizeof(entry), &entry, sizeof(entry));
    }
    zero_page[ZP_E820_ENTRIES] = (u8)input->map_count;
}

// The zero page and the command line; the vCPU's RSI.
static bool put_parameters(const struct loader_input *input, struct loader_plan *plan,
                           const struct image *image, u64 initrd) {
    u64 gpa;
    u8 *zero_page = loader_area(plan, PAGE_SIZE, PAGE_SIZE, &gpa);
    u64 cmdline = loader_area_text(plan, input->cmdline);
    if (!zero_page || !cmdline)
        return false;
    u64 end = MIN(0x202u + image->header[JUMP_OFFSET], HEADER_MOST);
    memcpy(zero_page + SETUP_SECTS, image->header + SETUP_SECTS,
           MAX(end, HEADER_END) - SETUP_SECTS);
    zero_page[TYPE_OF_LOADER] = LOADER_UNDEFINED;
    zero_page[LOADFLAGS] |= LOADED_HIGH;
    put_u32(zero_page + CMD_LINE_PTR, cmdline);
    put_u32(zero_page + RAMDISK_IMAGE, initrd);
    put_u32(zero_page + RAMDISK_SIZE, input->initrd.data ? input->initrd.bytes : 0);
    memcpy(zero_page + ZP_ACPI_RSDP, &input->rsdp, sizeof(input->rsdp));
    put_memory_map(input, zero_page);
    plan->state.gprs[BASALT_RSI] = gpa;
    return true;
}

bool loader_linux(const struct loader_input *input, struct loader_plan *plan) {
    struct image image = {0};
    u64 load = 0, initrd = 0;
    if (!check_image(input, plan, &image) || !check_layout(input, plan, &image) ||
        !place_kernel(input, plan, &image, &load) || !loader_place_area(input, plan))
        return false;
    u64 limit = MIN((u64)loader_u32(image.header + INITRD_ADDR_MAX) + 1, 4 * GIB);
    if (input->initrd.data && !loader_place_file(input, plan, &input->initrd, limit, true, &initrd))
        return false;
    return loader_state_64(plan, load + ENTRY_64) && put_parameters(input, plan, &image, initrd);
}
