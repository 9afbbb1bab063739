// SPDX-License-Identifier: Apache-2.0
//
// The binary trace ring of each CPU: a record costs a dozen instructions and takes no lock, since only its own CPU
// writes a ring. dom0 reads the rings (mapped read-only).

#pragma once

#include "arch/cpu.h"
#include "arch/x86.h"

#include <basalt/trace.h>

#define TRACE_PAGES 8u

/// Gives `cpu` a ring. Returns -1 when out of frames (the CPU then records nothing).
int trace_init(struct cpu *cpu);

/// Other arguments for the record that this CPU wrote last.
static inline void trace_amend(u64 a, u64 b) {
    struct basalt_trace *t = this_cpu()->trace;

    if (unlikely(!t))
        return;
    struct basalt_trace_record *r = &t->records[(t->head - 1) & (t->count - 1)];
    r->args[0] = a;
    r->args[1] = b;
}

static inline void trace(unsigned event, unsigned domain, unsigned vcpu, u64 a, u64 b) {
    struct basalt_trace *t = this_cpu()->trace;

    if (unlikely(!t))
        return;
    u64 head = t->head;
    struct basalt_trace_record *r = &t->records[head & (t->count - 1)];
    r->tsc = rdtsc();
    // Event, domain, vCPU and sequence number, as one word.
    *(u64 *)&r->event = (u16)event | (u64)(u16)domain << 16 | (u64)(u16)vcpu << 32 | head << 48;
    r->args[0] = a;
    r->args[1] = b;
    __atomic_store_n(&t->head, head + 1, __ATOMIC_RELEASE);
}
