// SPDX-License-Identifier: Apache-2.0
//
// Reading a 64-bit ELF executable's headers: where its segments go and where it is entered. A pure function of
// untrusted bytes. Follows the "Executable and Linkable Format" specification, "Program Header".

#pragma once

#include "arch/types.h"

#define ELF_SEGMENTS_MAX 8u

struct elf_segment { // a program header
    u32 type, flags;
    u64 offset, vaddr, paddr, filesz, memsz, align;
};
SIZE_ASSERT(struct elf_segment, 56);

struct elf_plan {
    struct elf_segment segments[ELF_SEGMENTS_MAX];
    unsigned count;
    u64 entry; // physical
    u64 size;  // one beyond the highest physical address used
};

/// `header`: the first `valid` bytes of a file of `file_size` bytes. Returns NULL with *plan filled, or what is wrong.
must_check const char *elf_read(const u8 *header, u64 valid, u64 file_size, struct elf_plan *plan);
