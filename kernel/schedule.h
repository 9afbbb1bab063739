// SPDX-License-Identifier: Apache-2.0
//
// The scheduler's mechanism: a runqueue per CPU around the policy of policy.h, timers, and the loop in which a CPU
// spends its life. A vCPU belongs to one runqueue. Invariant: only its own CPU touches a runqueue, and the `blocked` of
// its vCPUs, with interrupts off: no lock. There is one CPU for now; others will have to send it a message to block or unblock.

#pragma once

#include "arch/cpu.h"
#include "guest/vcpu.h"

struct runqueue {
    struct sched_queue queue;
    struct timer_queue timers;
    struct vcpu *current; // running or about to; NULL in idle
    struct vcpu *loaded;  // whose state is on the CPU
    u64 slice_end;        // host TSC; ~0 when nobody else waits
    u64 armed;            // deadline that the hardware timer is set to
    u64 due;      // when the current vCPU is to be looked after, host TSC; 0: before its next entry
    bool resched; // it shall stop
};

static inline struct runqueue *this_queue(void) { return this_cpu()->scheduler; }

/// Gives this CPU a runqueue. -1 when out of memory.
must_check int schedule_init(void);
/// Runs vCPUs for ever.
noreturn void schedule_loop(void);
/// Takes in what interrupts left behind: device interrupts, the console.
void schedule_poll(void);
/// Does what is due at `now` (TSC) and sets the hardware timer for what comes next. Whether the current vCPU shall leave
/// the CPU.
bool schedule_catch_up(u64 now);
/// Lets `timer` expire at `deadline` (host TSC), or never (0).
void schedule_timer(struct timer *timer, u64 deadline);

/// Whether the current vCPU of this CPU's queue shall leave the CPU. Called before each entry: inline, and short when
/// nothing is due.
static inline bool schedule_due(const struct runqueue *q) {
    u64 now = rdtsc();

    return unlikely(now >= q->due) && (q->resched || schedule_catch_up(now));
}
/// Removes a vCPU that is going away from queue and CPU.
void schedule_forget(struct vcpu *v);
/// The current vCPU gives up the rest of its slice.
void schedule_yield(void);
