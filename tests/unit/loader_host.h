// SPDX-License-Identifier: Apache-2.0
//
// What the loaders' tests share: a guest's memory that plans are carried out in, an ELF kernel to begin with, and modules.

#pragma once

#include "loader_image.h"

#define MEMORY    (64 * MIB)
#define ELF_BYTES 0x3000u

extern struct loader_plan plan;
extern struct loader_input input;
extern struct machine_memory_range map[MACHINE_MEMORY_RANGES];
extern u8 *ram; // the guest's
extern u8 rsdp_copy[LOADER_RSDP_SIZE];
extern u8 kernel[IMAGE_LINUX_BYTES > ELF_BYTES ? IMAGE_LINUX_BYTES : ELF_BYTES]; // room for any
extern const u8 module_data[3][100];
extern const struct loader_file modules[2];

/// A guest with that much memory, without a kernel yet.
void begin(u64 memory);
/// Makes the plan for a kernel, checks it, and carries it out if the memory is not too large. False: it was refused.
bool load(const u8 *image, u64 bytes);
/// The kernel must be refused with `part` in the reason.
void refused(const u8 *image, u64 bytes, const char *part);
/// An ELF with two segments at 1 MiB and 2 MiB (the latter with .bss), and a PVH note.
void make_elf(u8 *k, bool wide);
/// Gives the guest an initrd and two modules.
void with_modules(void);
u64 at32(u64 gpa);
u64 at64(u64 gpa);
/// vCPU 0 must begin at `rip` in 32-bit protected mode without paging.
void check_flat_32(u64 rip);
