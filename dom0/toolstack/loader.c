// SPDX-License-Identifier: Apache-2.0
//
// Choosing a loader, and what all loaders do: finding free RAM of the guest, the area, initial
// states.

#include "toolstack/loader.h"

#include "toolstack/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
    enum config_protocol protocol;
    bool (*is)(const struct loader_file *kernel);
    bool (*load)(const struct loader_input *input, struct loader_plan *plan);
    const char *needs; // what a file of this kind has
} loaders[] = {
    // in the order in which they are tried
    {CONFIG_LINUX, loader_is_linux, loader_linux, "a Linux bzImage"},
    {CONFIG_PVH, loader_is_pvh, loader_pvh, "an ELF file with a PVH entry note"},
    {CONFIG_MULTIBOOT2, loader_is_multiboot2, loader_multiboot2, "a file with a Multiboot2 header"},
    {CONFIG_MULTIBOOT, loader_is_multiboot, loader_multiboot, "a file with a Multiboot header"},
};

bool loader_fail(struct loader_plan *plan, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(plan->error, sizeof(plan->error), format, args);
    va_end(args);
    return false;
}

bool loader_make_plan(const struct loader_input *input, struct loader_plan *plan) {
    memset(plan, 0, sizeof(*plan));
    for (unsigned i = 0; i < ARRAY_SIZE(loaders); i++) {
        bool is = loaders[i].is(&input->kernel);
        if (input->protocol == loaders[i].protocol && !is)
            return loader_fail(plan, "kernel \"%s\": protocol = %s needs %s, and this is none",
                               input->kernel.name, config_protocol_name(input->protocol),
                               loaders[i].needs);
        if (!is || (input->protocol != CONFIG_AUTO && input->protocol != loaders[i].protocol))
            continue;
        plan->protocol = loaders[i].protocol;
        return loaders[i].load(input, plan);
    }
    return loader_fail(
        plan,
        "kernel \"%s\" (%llu bytes) is no kernel that can be booted: expected a Linux bzImage, or "
        "an ELF file with a PVH note or a Multiboot header",
        input->kernel.name, (unsigned long long)input->kernel.bytes);
}

bool loader_carry_out(struct loader_plan *plan, struct guest_memory *memory) {
    for (u32 i = 0; i < plan->count; i++) {
        const struct loader_placement *p = &plan->placements[i];
        if (!guest_write(memory, p->gpa, p->source, p->source_bytes) ||
            !guest_fill(memory, p->gpa + p->source_bytes, 0, p->bytes - p->source_bytes))
            return loader_fail(plan, "guest memory at 0x%llx can't be written",
                               (unsigned long long)p->gpa);
    }
    return true;
}

// ---- placement ----

static bool overlap(u64 a, u64 a_bytes, u64 b, u64 b_bytes) {
    return a < b + b_bytes && b < a + a_bytes;
}

// A placement that [gpa, gpa + bytes) overlaps; NULL if there is none.
static const struct loader_placement *taken(const struct loader_plan *plan, u64 gpa, u64 bytes) {
    for (u32 i = 0; i < plan->count; i++)
        if (overlap(gpa, bytes, plan->placements[i].gpa, plan->placements[i].bytes))
            return &plan->placements[i];
    return NULL;
}

static bool in_ram(const struct loader_input *input, u64 gpa, u64 bytes) {
    for (unsigned i = 0; i < input->map_count; i++) {
        const struct machine_memory_range *r = &input->map[i];
        if (r->type == MACHINE_RAM && gpa >= r->base && gpa - r->base < r->size &&
            bytes <= r->size - (gpa - r->base))
            return true;
    }
    return false;
}

bool loader_place(const struct loader_input *input, struct loader_plan *plan, const char *what,
                  u64 gpa, u64 bytes, const u8 *source, u64 source_bytes) {
    char size[TEXT_SIZE_MAX], memory[TEXT_SIZE_MAX];
    if (bytes == 0)
        return true;
    if (!in_ram(input, gpa, bytes))
        return loader_fail(
            plan,
            "%s of \"%s\" (%s at 0x%llx) doesn't fit into the guest's memory of %s: raise `memory`",
            what, input->kernel.name, text_of_size(size, bytes), (unsigned long long)gpa,
            text_of_size(memory, input->memory));
    if (taken(plan, gpa, bytes))
        return loader_fail(
            plan, "%s of \"%s\" (%s at 0x%llx) overlaps another part: the file is damaged", what,
            input->kernel.name, text_of_size(size, bytes), (unsigned long long)gpa);
    if (plan->count == LOADER_PLACEMENTS_MAX)
        return loader_fail(plan, "\"%s\" has more than %u parts", input->kernel.name,
                           LOADER_PLACEMENTS_MAX);
    plan->placements[plan->count++] =
        (struct loader_placement){gpa, bytes, source, MIN(source_bytes, bytes)};
    return true;
}

// The lowest free place in [low, high).
static u64 find_up(const struct loader_plan *plan, u64 bytes, u64 align, u64 low, u64 high) {
    for (u64 at = ALIGN_UP(low, align); at < high && bytes <= high - at;) {
        const struct loader_placement *p = taken(plan, at, bytes);
        if (!p)
            return at;
        at = ALIGN_UP(p->gpa + p->bytes, align);
    }
    return LOADER_NOWHERE;
}

static u64 find_down(const struct loader_plan *plan, u64 bytes, u64 align, u64 low, u64 high) {
    while (high >= low && bytes <= high - low) {
        u64 at = ALIGN_DOWN(high - bytes, align);
        const struct loader_placement *p = at < low ? NULL : taken(plan, at, bytes);
        if (!p)
            return at < low ? LOADER_NOWHERE : at;
        high = p->gpa;
    }
    return LOADER_NOWHERE;
}

u64 loader_find(const struct loader_input *input, const struct loader_plan *plan, u64 bytes,
                u64 align, u64 least, u64 limit, bool from_top) {
    u64 best = LOADER_NOWHERE;
    for (unsigned i = 0; i < input->map_count; i++) {
        const struct machine_memory_range *r = &input->map[i];
        u64 low = MAX(r->base, least), high = MIN(r->base + r->size, limit);
        if (r->type != MACHINE_RAM || low >= high)
            continue;
        u64 at = from_top ? find_down(plan, bytes, align, low, high)
                          : find_up(plan, bytes, align, low, high);
        if (at != LOADER_NOWHERE && (best == LOADER_NOWHERE || from_top))
            best = at;
    }
    return best;
}

bool loader_place_file(const struct loader_input *input, struct loader_plan *plan,
                       const struct loader_file *file, u64 limit, bool from_top, u64 *gpa) {
    char size[TEXT_SIZE_MAX], memory[TEXT_SIZE_MAX], kernel[TEXT_SIZE_MAX];
    u64 bytes = MAX(file->bytes, 1), used = 0;
    *gpa = loader_find(input, plan, bytes, PAGE_SIZE, MIB, limit, from_top);
    if (*gpa != LOADER_NOWHERE)
        return loader_place(input, plan, file->name, *gpa, bytes, file->data, file->bytes);
    for (u32 i = 0; i < plan->count; i++)
        used += plan->placements[i].bytes;
    return loader_fail(
        plan,
        "\"%s\" (%s) doesn't fit beside \"%s\", which takes up %s of the guest's %s: raise `memory` "
        "or use a smaller one",
        file->name, text_of_size(size, file->bytes), input->kernel.name, text_of_size(kernel, used),
        text_of_size(memory, input->memory));
}

// ---- the area ----

bool loader_place_area(const struct loader_input *input, struct loader_plan *plan) {
    plan->area_gpa =
        loader_find(input, plan, LOADER_AREA_SIZE, PAGE_SIZE, PAGE_SIZE, 4 * GIB, false);
    if (plan->area_gpa == LOADER_NOWHERE)
        return loader_fail(
            plan, "no %llu KiB of the guest's memory are left for boot information: raise `memory`",
            (unsigned long long)(LOADER_AREA_SIZE / KIB));
    return loader_place(input, plan, "boot information", plan->area_gpa, LOADER_AREA_SIZE,
                        plan->area, LOADER_AREA_SIZE);
}

void *loader_area(struct loader_plan *plan, u64 bytes, u64 align, u64 *gpa) {
    u64 at = ALIGN_UP(plan->area_used, align);
    if (bytes > LOADER_AREA_SIZE || at > LOADER_AREA_SIZE - bytes) {
        loader_fail(plan,
                    "command lines and modules take up more than %llu KiB of boot information",
                    (unsigned long long)(LOADER_AREA_SIZE / KIB));
        return NULL;
    }
    plan->area_used = at + bytes;
    *gpa = plan->area_gpa + at;
    return plan->area + at;
}

u64 loader_area_text(struct loader_plan *plan, const char *text) {
    u64 gpa = 0;
    char *to = loader_area(plan, strlen(text) + 1, 1, &gpa);
    if (!to)
        return 0;
    memcpy(to, text, strlen(text) + 1);
    return gpa;
}

// ---- states ----

// Segment attributes as VMX has them.
#define ATTRIBUTES_CODE_32 0xc09bu  // G, D, present, code, readable, accessed
#define ATTRIBUTES_CODE_64 0xa09bu  // G, L, present, code, readable, accessed
#define ATTRIBUTES_DATA    0xc093u  // G, B, present, data, writable, accessed
#define ATTRIBUTES_TSS     0x008bu  // present, busy TSS
#define ATTRIBUTES_UNUSED  0x10000u // unusable

#define CR0_PE             0x00000001ull
#define CR0_ET             0x00000010ull
#define CR0_PG             0x80000000ull
#define CR4_PAE            0x20ull
#define EFER_LME           0x100ull
#define EFER_LMA           0x400ull

#define SELECTOR_CODE      0x10u // Linux's __BOOT_CS
#define SELECTOR_DATA      0x18u // Linux's __BOOT_DS

static void set_segments(struct basalt_vcpu_state *s, u32 code_attributes) {
    for (unsigned i = BASALT_ES; i <= BASALT_GS; i++)
        s->segments[i] = (struct basalt_segment){
            .limit = 0xffffffff, .selector = SELECTOR_DATA, .attributes = ATTRIBUTES_DATA};
    s->segments[BASALT_CS].selector = SELECTOR_CODE;
    s->segments[BASALT_CS].attributes = code_attributes;
    s->segments[BASALT_LDTR] = (struct basalt_segment){.attributes = ATTRIBUTES_UNUSED};
    s->segments[BASALT_TR] = (struct basalt_segment){.limit = 0x67, .attributes = ATTRIBUTES_TSS};
}

void loader_state_32(struct basalt_vcpu_state *state, u64 entry) {
    *state = (struct basalt_vcpu_state){
        .rip = entry, .rflags = 2, .cr0 = CR0_PE | CR0_ET, .dr6 = 0xffff0ff0, .dr7 = 0x400};
    set_segments(state, ATTRIBUTES_CODE_32);
}

#define PTE_PRESENT 1ull
#define PTE_WRITE   2ull
#define PTE_LARGE   0x80ull

// Four GiB one to one in 2 MiB pages: PML4, PDPT, four page directories. Returns CR3, 0 without
// room.
static u64 identity_tables(struct loader_plan *plan) {
    u64 gpa;
    u64 *table = loader_area(plan, 6 * PAGE_SIZE, PAGE_SIZE, &gpa);
    if (!table)
        return 0;
    u64 *pdpt = table + 512, *directories = table + 1024;
    table[0] = (gpa + PAGE_SIZE) | PTE_PRESENT | PTE_WRITE;
    for (u64 i = 0; i < 4; i++)
        pdpt[i] = (gpa + (2 + i) * PAGE_SIZE) | PTE_PRESENT | PTE_WRITE;
    for (u64 i = 0; i < 2048; i++)
        directories[i] = i * SUPERPAGE_SIZE | PTE_PRESENT | PTE_WRITE | PTE_LARGE;
    return gpa;
}

bool loader_state_64(struct loader_plan *plan, u64 entry) {
    static const u64 descriptors[] = {0, 0, 0x00af9b000000ffffull,
                                      0x00cf93000000ffffull}; // null, -, code, data
    struct basalt_vcpu_state *s = &plan->state;
    u64 cr3 = identity_tables(plan), gdt_gpa;
    void *gdt = loader_area(plan, sizeof(descriptors), 8, &gdt_gpa);
    if (!cr3 || !gdt)
        return false;
    memcpy(gdt, descriptors, sizeof(descriptors));
    loader_state_32(s, entry);
    set_segments(s, ATTRIBUTES_CODE_64);
    s->cr0 |= CR0_PG;
    s->cr3 = cr3;
    s->cr4 = CR4_PAE;
    s->efer = EFER_LME | EFER_LMA;
    s->segments[BASALT_GDTR].base = gdt_gpa;
    s->segments[BASALT_GDTR].limit = sizeof(descriptors) - 1;
    return true;
}
