// SPDX-License-Identifier: Apache-2.0
//
// ELF executables, 32 and 64 bits wide, as loaders see them: segments to be placed, an entry,
// notes. Pure; each offset is checked against the file before it is used, and no more than
// ELF_SEGMENTS_MAX headers are looked at.

#pragma once

#include "toolstack/loader.h"

#define ELF_SEGMENTS_MAX 32u

struct elf_segment {
    u32 type; // PT_*
    u64 offset, vaddr, paddr, file_bytes, memory_bytes;
};

struct elf_image {
    const struct loader_file *file;
    bool wide; // 64 bits
    u64 entry; // as the header has it: virtual
    u32 count;
    struct elf_segment segments[ELF_SEGMENTS_MAX];
};

#define ELF_PT_LOAD 1u
#define ELF_PT_NOTE 4u

/// Whether the file begins like an x86 ELF executable.
bool elf_is(const struct loader_file *file);

/// Reads the headers; NULL, or what is wrong ("is cut short").
const char *elf_read(const struct loader_file *file, struct elf_image *image);

/// Places all loadable segments at their physical addresses, moved up by `offset`.
must_check bool elf_place(const struct loader_input *input, struct loader_plan *plan,
                          const struct elf_image *image, u64 offset);

/// The lowest and the end of the highest physical address; false without loadable segments.
bool elf_range(const struct elf_image *image, u64 *low, u64 *high);

/// The entry as a physical address.
u64 elf_physical_entry(const struct elf_image *image);

/// Looks for a note; its description's first bytes are read as a number of the description's size
/// (4 or 8).
bool elf_note(const struct elf_image *image, const char *name, u32 type, u64 *value);
