// SPDX-License-Identifier: Apache-2.0
//
// The parts of the page allocator that only dom0's start and its C library use; the others are in
// lib/memory.h.

#pragma once

#include "lib/types.h"

struct page_range {
    u64 base, bytes;
};

/// Manages [base, base + bytes) without the parts that the `count` ranges in `reserved` cover; its
/// bitmap takes the first place that is free. Returns false if there is none.
bool pages_init(u64 base, u64 bytes, const struct page_range *reserved, unsigned count);

/// Moves the end of the heap by `bytes` and returns the former end; where a taken page is in the
/// way of growth, the heap goes on above it, and the start of the new part is returned. NULL when
/// there is no room.
void *pages_heap_grow(i64 bytes);
