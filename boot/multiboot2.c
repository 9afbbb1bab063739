// SPDX-License-Identifier: Apache-2.0
//
// The Multiboot2 boot information: a list of tags, each with type and size. Invariant: no byte
// outside [info, info + size) is read, and a tag that contradicts itself changes nothing. Follows
// the Multiboot2 specification, "Boot information format".

#include "boot/boot.h"
#include "kernel/log.h"

#define TAG_END         0u
#define TAG_CMDLINE     1u
#define TAG_LOADER      2u
#define TAG_MODULE      3u
#define TAG_MEMORY_MAP  6u
#define TAG_FRAMEBUFFER 8u
#define TAG_RSDP_OLD    14u
#define TAG_RSDP_NEW    15u

#define ADDRESS_END     BIT(44) // that of the kernel's windows on memory

struct tag {
    u32 type, size;
};
struct module_tag {
    struct tag tag;
    u32 base, end;
};
struct memory_map_tag {
    struct tag tag;
    u32 entry_size, version;
    u8 entries[];
};
struct memory_entry {
    u64 base, length;
    u32 type, reserved;
};

// Copies the string that begins at `offset` of the tag and need not end; control characters become
// '?'.
static const char *copy_text(char *to, size_t size, const struct tag *tag, size_t offset) {
    const char *from = (const char *)tag + offset;
    size_t i = 0, bytes = tag->size - offset;
    for (; i < bytes && from[i] && i + 1 < size; i++)
        to[i] = from[i] >= ' ' && from[i] <= '~' ? from[i] : '?';
    to[i] = 0;
    return i < bytes && !from[i] ? NULL : "text cut short";
}

static const char *parse_module(const struct tag *tag, struct boot_params *p) {
    const struct module_tag *m = (const void *)tag;
    if (tag->size < sizeof(*m))
        return "too short";
    if (p->module_count == BOOT_MODULES_MAX)
        return "one too many";
    if (m->end < m->base || m->base % PAGE_SIZE)
        return "bad range";
    struct boot_module *module = &p->modules[p->module_count++];
    module->base = m->base;
    module->size = m->end - m->base;
    return copy_text(module->cmdline, sizeof(module->cmdline), tag, sizeof(*m));
}

static void sum_up(struct boot_params *p) {
    p->ram_bytes = 0;
    for (const struct boot_memory *m = p->memory; m < p->memory + p->memory_count; m++)
        if (m->kind == MEMORY_RAM) {
            p->ram_bytes += m->end - m->base;
            p->ram_end = m->end;
        }
}

static const char *parse_memory_map(const struct tag *tag, struct boot_params *p) {
    static const u8 kinds[] = {MEMORY_RESERVED,     MEMORY_RAM,      MEMORY_RESERVED,
                               MEMORY_ACPI_RECLAIM, MEMORY_ACPI_NVS, MEMORY_BAD};
    const struct memory_map_tag *m = (const void *)tag;
    if (tag->size < sizeof(*m) || m->entry_size < sizeof(struct memory_entry) || m->entry_size % 8)
        return "bad entry size";
    u32 count = (tag->size - (u32)sizeof(*m)) / m->entry_size;
    p->memory_count = 0;
    for (u32 i = 0; i < count && p->memory_count < BOOT_MEMORY_MAX / 2; i++) {
        const struct memory_entry *e = (const void *)(m->entries + (size_t)i * m->entry_size);
        if (!e->length || e->base >= ADDRESS_END)
            continue;
        u64 end = e->base + MIN(e->length, ADDRESS_END - e->base);
        u32 kind = e->type < ARRAY_SIZE(kinds) ? kinds[e->type] : MEMORY_RESERVED;
        p->memory[p->memory_count++] = (struct boot_memory){e->base, end, kind};
    }
    p->memory_count = memory_map_normalize(p->memory, p->memory_count, BOOT_MEMORY_MAX / 2);
    sum_up(p);
    return count > BOOT_MEMORY_MAX / 2 ? "too many entries" : NULL;
}

static const char *parse_framebuffer(const struct tag *tag, struct boot_params *p) {
    size_t bytes = offsetof(struct boot_framebuffer, type) + 1; // laid out as in the tag
    if (tag->size < sizeof(*tag) + bytes)
        return "too short";
    memcpy(&p->framebuffer, tag + 1, bytes);
    return NULL;
}

static const char *parse_rsdp(const struct tag *tag, struct boot_params *p) {
    u32 size = tag->size - (u32)sizeof(*tag);
    if (size < 20 || size > sizeof(p->rsdp))
        return "bad size";
    if (tag->type == TAG_RSDP_OLD && p->rsdp_size > size)
        return NULL; // the newer copy is there already
    memcpy(p->rsdp, tag + 1, size);
    p->rsdp_size = size;
    return NULL;
}

// Returns what is wrong with the tag, or NULL.
static const char *parse_tag(const struct tag *tag, struct boot_params *p) {
    switch (tag->type) {
    case TAG_CMDLINE: return copy_text(p->cmdline, sizeof(p->cmdline), tag, sizeof(*tag));
    case TAG_LOADER: return copy_text(p->loader, sizeof(p->loader), tag, sizeof(*tag));
    case TAG_MODULE: return parse_module(tag, p);
    case TAG_MEMORY_MAP: return parse_memory_map(tag, p);
    case TAG_FRAMEBUFFER: return parse_framebuffer(tag, p);
    case TAG_RSDP_OLD:
    case TAG_RSDP_NEW: return parse_rsdp(tag, p);
    default: return NULL;
    }
}

int multiboot2_parse(const u8 *info, u64 size, struct boot_params *params) {
    u64 total = size >= 8 ? *(const u32 *)info : 0;
    if (total < 16 || total > size)
        return -1;
    for (u64 at = 8; at + sizeof(struct tag) <= total;) {
        const struct tag *tag = (const void *)(info + at);
        if (tag->type == TAG_END)
            break;
        bool fits = tag->size >= sizeof(*tag) && tag->size <= total - at;
        const char *wrong = fits ? parse_tag(tag, params) : "bad size";
        if (wrong)
            log_warn("basalt: boot information: tag %u at %lu: %s", tag->type, at, wrong);
        at = fits ? at + ALIGN_UP(tag->size, 8) : total;
    }
    return params->memory_count ? 0 : -1;
}
