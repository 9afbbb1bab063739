// SPDX-License-Identifier: Apache-2.0
//
// Allocation of the trace rings: contiguous kernel pages, since dom0 maps a ring as one range.

#include "kernel/trace.h"

#include <basalt/trace.h>

static u8 boot_ring[TRACE_PAGES * PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
_Static_assert(sizeof(struct basalt_trace) + TRACE_RECORDS * sizeof(struct basalt_trace_record) <=
                   sizeof(boot_ring),
               "the records fit");

int trace_init(struct cpu *cpu) {
    struct basalt_trace *t =
        (struct basalt_trace *)boot_ring; // one CPU for now: its ring is in the image

    if (cpu->id)
        return -1;
    t->count = TRACE_RECORDS;
    cpu->trace = t;
    return 0;
}
