// SPDX-License-Identifier: Apache-2.0
//
// ELF (System V ABI, "Object Files").

#include "toolstack/loader_elf.h"

#include <string.h>

#define EHDR_32   52u
#define EHDR_64   64u
#define PHDR_32   32u
#define PHDR_64   56u
#define EM_386    3
#define EM_X86_64 62

bool elf_is(const struct loader_file *file) {
    if (!loader_in_file(file, 0, EHDR_32) || memcmp(file->data, "\177ELF", 4) != 0)
        return false;
    u8 width = file->data[4], order = file->data[5];
    u16 machine = loader_u16(file->data + 18);
    return (width == 1 || width == 2) && order == 1 && (machine == EM_386 || machine == EM_X86_64);
}

static struct elf_segment read_segment(const u8 *p, bool wide) {
    if (wide)
        return (struct elf_segment){loader_u32(p),      loader_u64(p + 8),  loader_u64(p + 16),
                                    loader_u64(p + 24), loader_u64(p + 32), loader_u64(p + 40)};
    return (struct elf_segment){loader_u32(p),      loader_u32(p + 4),  loader_u32(p + 8),
                                loader_u32(p + 12), loader_u32(p + 16), loader_u32(p + 20)};
}

// NULL, or what is wrong with a segment.
static const char *check_segment(const struct loader_file *file, const struct elf_segment *s) {
    if (s->type != ELF_PT_LOAD && s->type != ELF_PT_NOTE)
        return NULL;
    if (!loader_in_file(file, s->offset, s->file_bytes))
        return "is cut short: a segment ends beyond the file";
    if (s->type == ELF_PT_LOAD &&
        (s->memory_bytes < s->file_bytes || s->paddr + s->memory_bytes < s->paddr))
        return "is damaged: a segment's sizes make no sense";
    return NULL;
}

const char *elf_read(const struct loader_file *file, struct elf_image *image) {
    *image = (struct elf_image){.file = file};
    if (!elf_is(file))
        return "is no x86 ELF file";
    image->wide = file->data[4] == 2;
    if (!loader_in_file(file, 0, image->wide ? EHDR_64 : EHDR_32))
        return "is cut short: it ends within its header";
    const u8 *h = file->data;
    u64 table = image->wide ? loader_u64(h + 32) : loader_u32(h + 28);
    u32 size = loader_u16(h + (image->wide ? 54 : 42)),
        count = loader_u16(h + (image->wide ? 56 : 44));
    image->entry = image->wide ? loader_u64(h + 24) : loader_u32(h + 24);
    if (size < (image->wide ? PHDR_64 : PHDR_32) || count == 0 || count > ELF_SEGMENTS_MAX)
        return "is no executable that can be loaded: it needs 1 to 32 program headers";
    if (!loader_in_file(file, table, (u64)size * count))
        return "is cut short: its program headers lie beyond the file";
    for (u32 i = 0; i < count; i++) {
        image->segments[i] = read_segment(h + table + (u64)i * size, image->wide);
        const char *wrong = check_segment(file, &image->segments[i]);
        if (wrong)
            return wrong;
    }
    image->count = count;
    return NULL;
}

bool elf_place(const struct loader_input *input, struct loader_plan *plan,
               const struct elf_image *image, u64 offset) {
    for (u32 i = 0; i < image->count; i++) {
        const struct elf_segment *s = &image->segments[i];
        if (s->type == ELF_PT_LOAD &&
            !loader_place(input, plan, "a segment", s->paddr + offset, s->memory_bytes,
                          image->file->data + s->offset, s->file_bytes))
            return false;
    }
    return true;
}

bool elf_range(const struct elf_image *image, u64 *low, u64 *high) {
    *low = ~0ull;
    *high = 0;
    for (u32 i = 0; i < image->count; i++) {
        const struct elf_segment *s = &image->segments[i];
        if (s->type != ELF_PT_LOAD || s->memory_bytes == 0)
            continue;
        *low = MIN(*low, s->paddr);
        *high = MAX(*high, s->paddr + s->memory_bytes);
    }
    return *low < *high;
}

u64 elf_physical_entry(const struct elf_image *image) {
    for (u32 i = 0; i < image->count; i++) {
        const struct elf_segment *s = &image->segments[i];
        if (s->type == ELF_PT_LOAD && image->entry >= s->vaddr &&
            image->entry - s->vaddr < s->memory_bytes)
            return s->paddr + (image->entry - s->vaddr);
    }
    return image->entry;
}

// One note at `at` of [at, end): its whole length, 0 if it is damaged; `value` if it is the one.
static u64 read_note(const u8 *at, u64 left, const char *name, u32 type, u64 *value, bool *found) {
    if (left < 12)
        return 0;
    u64 name_bytes = loader_u32(at), value_bytes = loader_u32(at + 4);
    u64 value_at = 12 + ALIGN_UP(name_bytes, 4), whole = value_at + ALIGN_UP(value_bytes, 4);
    if (value_at + value_bytes > left)
        return 0;
    *found = loader_u32(at + 8) == type && name_bytes == strlen(name) + 1 &&
             memcmp(at + 12, name, name_bytes) == 0 && (value_bytes == 4 || value_bytes == 8);
    if (*found)
        *value = value_bytes == 8 ? loader_u64(at + value_at) : loader_u32(at + value_at);
    return MIN(whole, left);
}

bool elf_note(const struct elf_image *image, const char *name, u32 type, u64 *value) {
    for (u32 i = 0; i < image->count; i++) {
        const struct elf_segment *s = &image->segments[i];
        if (s->type != ELF_PT_NOTE)
            continue;
        bool found = false;
        for (u64 at = 0, step; at < s->file_bytes; at += step) {
            step = read_note(image->file->data + s->offset + at, s->file_bytes - at, name, type,
                             value, &found);
            if (found)
                return true;
            if (step == 0)
                break;
        }
    }
    return false;
}
