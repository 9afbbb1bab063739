// SPDX-License-Identifier: Apache-2.0
//
// Kernel timers of one CPU, ordered by deadline in an intrusive skew heap: adding, removing and taking the first cost
// O(log n) amortised, without memory of their own. A queue belongs to its CPU and is touched by no other: no lock.

#pragma once

#include "arch/types.h"

struct timer {
    struct timer *left, *right, *parent;
    u64 deadline; // host TSC
    bool armed;
    void (*expire)(struct timer *timer); // called with the timer off; may arm it again
};

struct timer_queue {
    struct timer *first;
};

/// Arms `timer` for `deadline` (host TSC ticks), or moves it there.
void timer_arm(struct timer_queue *queue, struct timer *timer, u64 deadline);
void timer_cancel(struct timer_queue *queue, struct timer *timer);
/// Expires what is due at `now`, at most `limit` timers.
void timer_run(struct timer_queue *queue, u64 now, unsigned limit);
/// The first deadline, or ~0 when nothing is armed.
static inline u64 timer_next(const struct timer_queue *queue) {
    return queue->first ? queue->first->deadline : ~0ull;
}
