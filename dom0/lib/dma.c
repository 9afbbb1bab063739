// SPDX-License-Identifier: Apache-2.0
//
// Bus addresses of dom0's memory. Today they are the physical ones, with or without an IOMMU: its
// tables hold the same identity map as dom0's second level. The count shows leaks, and lets a later
// revocation wait.

#include "lib/memory.h"

static u64 mapped;

u64 dma_map(const void *p, u64 bytes) {
    (void)bytes;
    mapped++;
    return phys_of(p);
}

void dma_unmap(u64 bus_address, u64 bytes) {
    (void)bus_address;
    (void)bytes;
    mapped--;
}

u64 dma_mapped(void) { return mapped; }
