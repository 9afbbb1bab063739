// SPDX-License-Identifier: Apache-2.0
//
// The binary trace ring of each CPU, which dom0 reads (mapped read-only). Only its own CPU writes a ring: no lock. A
// record is stored first and counted after, so that a reader that was overtaken sees it in the sequence number.

#include "kernel/trace.h"

#include "arch/cpu.h"

#define RECORDS 512u // what fits behind the head, as a power of two

// The boot CPU's ring: contiguous, since dom0 maps it as one range.
static union {
    struct basalt_trace ring;
    u8 pages[TRACE_PAGES * PAGE_SIZE];
} memory __attribute__((aligned(PAGE_SIZE)));
_Static_assert(sizeof(struct basalt_trace) + RECORDS * sizeof(struct basalt_trace_record) <=
                   sizeof(memory),
               "the ring fits");

u32 trace_events;

void trace_init(void) {
    memory.ring.count = RECORDS;
    this_cpu()->trace = &memory.ring;
}

void trace_record(unsigned event, unsigned domain, unsigned vcpu, u64 a, u64 b) {
    struct basalt_trace *t = this_cpu()->trace;

    t->records[t->head % RECORDS] = (struct basalt_trace_record){
        .tsc = rdtsc(),
        .event = (u16)event,
        .domain = (u16)domain,
        .vcpu = (u16)vcpu,
        .sequence = (u16)t->head,
        .args = {a, b},
    };
    __atomic_store_n(&t->head, t->head + 1, __ATOMIC_RELEASE);
}
