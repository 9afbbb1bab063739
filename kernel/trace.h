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

static inline bool trace_on(unsigned event) {
    return trace_events & BIT(event < BASALT_TRACE_EXIT ? event : BASALT_TRACE_EXITS);
}

/// Records `event` if it is one of those that are recorded; else its arguments, those of trace_record(), cost nothing.
#define trace(event, ...)                     \
    do {                                      \
        if (unlikely(trace_on(event)))        \
            trace_record(event, __VA_ARGS__); \
    } while (0)
