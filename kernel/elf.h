// SPDX-License-Identifier: Apache-2.0
//
// Reading a 64-bit ELF executable's headers: what of it goes to memory and where it is entered. A pure function of
// untrusted bytes. Follows the "Executable and Linkable Format" specification, "Program Header".

#pragma once

#include "arch/types.h"

// The loadable part of the file as one piece: its segments lie in it in the order and at the distances that they have in
// memory, and what is to be zero comes last.
struct elf_plan {
    u64 offset, bytes; // in the file, from physical address 0 on
    u64 entry;         // physical
    u64 size;          // one beyond the highest physical address used
};

/// `header`: the first `valid` bytes of a file of `file_size` bytes. Returns NULL with *plan filled, or what is wrong.
must_check const char *elf_read(const u8 *header, u64 valid, u64 file_size, struct elf_plan *plan);
