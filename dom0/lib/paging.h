// SPDX-License-Identifier: Apache-2.0
//
// dom0's page tables (phys_map() and phys_of() of lib/memory.h are implemented with them).

#pragma once

#include "lib/types.h"

#define IMAGE_BASE 0xffffffff80000000ull // link address of the image

/// Takes away what start.S gave too much: afterwards nothing is writable and executable, page 0 and
/// the page below the stack are not mapped, and the identity map reaches as far as the processor
/// makes it cheap.
void paging_init(u64 load_address);

/// Whether the `bytes` bytes at `address` lie on the main stack / in the guard page below it.
bool stack_contains(u64 address, u64 bytes);
bool address_is_stack_guard(u64 address);
