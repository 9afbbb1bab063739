// SPDX-License-Identifier: Apache-2.0
//
// Time and timers. Time is the TSC, in nanoseconds since it was 0; timers lie in a pairing heap
// whose nodes are embedded in their owners, so that setting one never fails and costs O(log n); the
// kernel's one timer of dom0 is set to the earliest.

#pragma once

#include "lib/types.h"

#include "lib/event.h"

#define NS_PER_US 1000ull
#define NS_PER_MS 1000000ull
#define NS_PER_S  1000000000ull

struct timer {
    event_handler handler;
    void *context;
    u64 deadline; // ns; valid while set
    struct timer *child, *next,
        *previous; // of the heap; previous: left sibling, or parent of a first child
    bool set;
};

/// Nanoseconds of the TSC's time line: monotonic, never 0.
u64 time_ns(void);

/// Nanoseconds since 1970, and what they are now.
u64 time_wall_ns(void);
void time_set_wall(u64 ns);

/// Conversions between the TSC's ticks and nanoseconds.
u64 time_ticks_of_ns(u64 ns);
u64 time_ns_of_ticks(u64 ticks);
u64 time_tsc(void);

/// (Re)arms the timer for `deadline_ns`; its handler is called once, from the event loop. In the
/// past: next pass.
void timer_set(struct timer *timer, u64 deadline_ns);

/// Disarms; nothing happens if it is not set. Must be called before its memory is freed.
void timer_cancel(struct timer *timer);

/// Busy-waits (for a device's reset, a few microseconds).
void delay_us(u64 microseconds);

// For the event loop.
void timer_init(void);
bool timer_run_due(void); // runs what is due (bounded), tells whether anything was
void timer_arm(void);     // sets the kernel's timer to the earliest deadline
