// SPDX-License-Identifier: Apache-2.0
//
// Memory before there is a frame allocator: the boot memory map, what of it is taken, and an
// allocator that only takes. Invariant: ranges that are handed out or reserved never overlap and
// lie in usable RAM.

#pragma once

#include "arch/types.h"

struct boot_params;

/// Takes the first MiB, the image and modules out of the map, as later what early_frame() needs.
void early_init(struct boot_params *params);
/// Takes one zeroed frame of RAM below 4 GiB, in the pool window. Panics when there is none.
hpa_t early_frame(void);
/// The frames that are left of the chunk that frames come from, all mapped in the pool window. None may be taken after.
void early_rest(u64 *base, u64 *end);
