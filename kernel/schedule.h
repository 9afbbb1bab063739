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
    bool resched;         // the current vCPU shall stop
    u64 idle_tsc;
};

static inline struct runqueue *this_queue(void) { return this_cpu()->scheduler; }

/// Gives this CPU a runqueue. -1 when out of memory.
must_check int schedule_init(void);
/// Runs vCPUs for ever.
noreturn void schedule_loop(void);
/// Takes in what interrupts left behind: device interrupts, the console.
void schedule_poll(void);
/// Does what is due at `now` (TSC) and sets the hardware timer for what comes next.
void schedule_catch_up(u64 now);

/// The next TSC at which something has to be done on this CPU.
static inline u64 schedule_deadline(const struct runqueue *q) {
    return MIN(timer_next(&q->timers), q->slice_end);
}

/// Whether the current vCPU shall leave the CPU. Called before each entry: inline, and short when nothing is due. `now` is
/// the TSC a little while ago: what becomes due meanwhile has its interrupt, which ends the entry at once.
static inline bool schedule_due(u64 now) {
    struct runqueue *q = this_queue();

    if (unlikely(schedule_deadline(q) < q->armed || q->armed <= now))
        schedule_catch_up(now);
    return q->resched;
}
/// Removes a vCPU that is going away from queue and CPU.
void schedule_forget(struct vcpu *v);
/// The current vCPU gives up the rest of its slice.
void schedule_yield(void);
