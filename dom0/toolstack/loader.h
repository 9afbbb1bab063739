// SPDX-License-Identifier: Apache-2.0
//
// Boot loaders for guests. A loader is a pure function: from a kernel's bytes and the guest's
// memory map it makes a plan, which says what goes where and in which state the first vCPU begins;
// nothing is written yet. Invariants: every placement lies in RAM of the guest and overlaps no
// other; every offset and length of a file was checked before it was used; a plan that can't be
// made has a sentence in `error` that names the sizes and the remedy.

#pragma once

#include "devices/machine.h"
#include "lib/memory.h"
#include "toolstack/config.h"

#define LOADER_PLACEMENTS_MAX 40u
#define LOADER_AREA_SIZE      (12 * PAGE_SIZE)
#define LOADER_RSDP_SIZE      36u

struct loader_file {
    const char *name;
    const u8 *data; // NULL: there is none
    u64 bytes;
    const char *cmdline; // of a module, never NULL there
};

struct loader_input {
    struct loader_file kernel;
    struct loader_file initrd;
    const struct loader_file *modules;
    u32 module_count;
    const char *cmdline;
    enum config_protocol protocol; // CONFIG_AUTO: whichever the kernel offers
    u64 memory;                    // bytes of RAM, for messages
    const struct machine_memory_range *map;
    unsigned map_count;
    u64 rsdp;            // guest-physical address
    const u8 *rsdp_copy; // LOADER_RSDP_SIZE bytes of it, or NULL
};

// `bytes` bytes of guest memory from `gpa` on: first the source's, then zeros.
struct loader_placement {
    u64 gpa, bytes;
    const u8 *source;
    u64 source_bytes;
};

struct loader_plan {
    enum config_protocol protocol; // never CONFIG_AUTO
    struct basalt_vcpu_state state;
    struct loader_placement placements[LOADER_PLACEMENTS_MAX];
    u32 count;
    u64 area_gpa; // what the loader itself writes (page tables, boot information) is put together in `area`
    u64 area_used; // bytes
    char error[320];
    u8 area[LOADER_AREA_SIZE];
};

/// Makes the plan; false with plan->error otherwise. The plan points into the input's files and
/// itself: it must not be copied, and they must stay until it has been carried out.
must_check bool loader_make_plan(const struct loader_input *input, struct loader_plan *plan);

/// Writes a plan's placements to the guest's memory (which need not be zero). False with
/// plan->error if it can't.
must_check bool loader_carry_out(struct loader_plan *plan, struct guest_memory *memory);

// ---- the loaders; each is given a plan with nothing in it ----

bool loader_linux(const struct loader_input *input, struct loader_plan *plan);
bool loader_pvh(const struct loader_input *input, struct loader_plan *plan);
bool loader_multiboot(const struct loader_input *input, struct loader_plan *plan);
bool loader_multiboot2(const struct loader_input *input, struct loader_plan *plan);

/// Whether the kernel's bytes are for this loader (not: whether they are in order).
bool loader_is_linux(const struct loader_file *kernel);
bool loader_is_pvh(const struct loader_file *kernel);
bool loader_is_multiboot(const struct loader_file *kernel);
bool loader_is_multiboot2(const struct loader_file *kernel);

// ---- what they have in common ----

/// Sets plan->error and returns false.
__attribute__((format(printf, 2, 3))) bool loader_fail(struct loader_plan *plan, const char *format,
                                                       ...);

/// Whether [offset, offset + bytes) lies in the file.
static inline bool loader_in_file(const struct loader_file *file, u64 offset, u64 bytes) {
    return offset <= file->bytes && bytes <= file->bytes - offset;
}

/// Little-endian fields of a file; the caller has checked the range.
static inline u16 loader_u16(const u8 *p) { return (u16)(p[0] | p[1] << 8); }
static inline u32 loader_u32(const u8 *p) {
    return (u32)loader_u16(p) | (u32)loader_u16(p + 2) << 16;
}
static inline u64 loader_u64(const u8 *p) {
    return (u64)loader_u32(p) | (u64)loader_u32(p + 4) << 32;
}

/// Places `bytes` bytes at `gpa`. `what` is named if that is not free RAM.
must_check bool loader_place(const struct loader_input *input, struct loader_plan *plan,
                             const char *what, u64 gpa, u64 bytes, const u8 *source,
                             u64 source_bytes);

#define LOADER_NOWHERE (~0ull)

/// The lowest address >= `least` (or, with `from_top`, the highest) at which `bytes` bytes that end
/// at or below `limit` are free RAM. `align` is a power of two. LOADER_NOWHERE if there is none.
u64 loader_find(const struct loader_input *input, const struct loader_plan *plan, u64 bytes,
                u64 align, u64 least, u64 limit, bool from_top);

/// Finds a place for the area below 4 GiB and places it; after everything that has a fixed place.
must_check bool loader_place_area(const struct loader_input *input, struct loader_plan *plan);

/// Takes `bytes` zeroed bytes of the area, whose guest-physical address goes to *gpa; NULL (and
/// plan->error) when it is full.
void *loader_area(struct loader_plan *plan, u64 bytes, u64 align, u64 *gpa);

/// Copies a text, with its NUL, to the area; 0 when it is full.
u64 loader_area_text(struct loader_plan *plan, const char *text);

/// Finds a place above the kernel and below `limit` for a file that the guest is given, and places
/// it; its address goes to *gpa. The error names the sizes.
must_check bool loader_place_file(const struct loader_input *input, struct loader_plan *plan,
                                  const struct loader_file *file, u64 limit, bool from_top,
                                  u64 *gpa);

/// The state in which PVH and Multiboot begin: 32-bit protected mode, flat segments, no paging,
/// interrupts off.
void loader_state_32(struct basalt_vcpu_state *state, u64 entry);

/// 64-bit mode with the first 4 GiB mapped one to one (tables and GDT in the area), segments as
/// Linux wants them.
must_check bool loader_state_64(struct loader_plan *plan, u64 entry);
