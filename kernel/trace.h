// SPDX-License-Identifier: Apache-2.0
//
// The binary trace ring of each CPU: a record costs a dozen instructions and takes no lock, since only its own CPU
// writes a ring. dom0 reads the rings (mapped read-only).

#pragma once

#include "arch/cpu.h"

#include <basalt/trace.h>

#define TRACE_PAGES   8u
#define TRACE_RECORDS 512u // what fits behind the head, as a power of two

/// Where a record comes from, as the record has it.
static inline u64 trace_source(unsigned domain, unsigned vcpu) {
    return (u64)(u16)domain << 16 | (u64)(u16)vcpu << 32;
}

/// Returns the TSC that the record has.
static inline u64 trace_from(u64 source, u64 event, u64 a, u64 b) {
    struct basalt_trace *t = this_cpu()->trace;
    u64 now = rdtsc();

    if (unlikely(!t))
        return now;
    u64 head = t->head;
    u64 *word = (u64 *)t->records + 4 * head % (4 * TRACE_RECORDS); // the second has four fields
    word[0] = now;
    word[1] = source | event | head << 48;
    word[2] = a;
    word[3] = b;
    __atomic_store_n(&t->head, head + 1, __ATOMIC_RELEASE);
    return now;
}

static inline void trace(unsigned event, unsigned domain, unsigned vcpu, u64 a, u64 b) {
    trace_from(trace_source(domain, vcpu), event, a, b);
}
