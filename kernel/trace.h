// SPDX-License-Identifier: Apache-2.0
//
// The trace of what the kernel does. Nothing is recorded until someone asks for it, by event: what is off costs a test
// and a branch.

#pragma once

#include "arch/x86.h"

#include <basalt/trace.h>

#define TRACE_PAGES 8u // of each CPU's ring

/// What is recorded: a bit per event, BASALT_TRACE_EXITS for all exits.
extern u32 trace_events;

/// Gives this CPU its ring.
void trace_init(void);
__attribute__((cold)) void trace_record(unsigned event, unsigned domain, unsigned vcpu, u64 a,
                                        u64 b);

/// Records `event` if it is one of those that are recorded.
static inline void trace(unsigned event, unsigned domain, unsigned vcpu, u64 a, u64 b) {
    if (unlikely(trace_events & BIT(event < BASALT_TRACE_EXIT ? event : BASALT_TRACE_EXITS)))
        trace_record(event, domain, vcpu, a, b);
}
