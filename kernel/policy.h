// SPDX-License-Identifier: Apache-2.0
//
// The scheduling policy: proportional share on one runqueue, as pure functions over plain structures, so that it also
// runs on the host under test. Each entity has a virtual time that advances by the time it ran divided by its
// weight; the one that is furthest behind runs. Virtual time is quantised into slots kept in a circular bitmap of 64
// lists, so that every operation takes constant time, whatever the number of entities. A waking entity is placed at
// most a short bonus behind the queue's virtual time: it runs soon after an I/O, but can't hoard time by sleeping.

#pragma once

#include "kernel/list.h"

#define SCHED_SLOTS          64u
#define SCHED_WEIGHT_DEFAULT 256u
#define SCHED_WEIGHT_MAX     10000u

struct sched_entity {
    struct list link;              // in the slot's list
    u64 vtime;                     // weighted TSC ticks
    u32 weight;                    // 1..SCHED_WEIGHT_MAX
    u32 cap;                       // percent of one CPU, 0: none
    u64 period_start, period_used; // of the cap, TSC ticks
    u8 slot;
    bool queued;
};

struct sched_queue {
    struct sched_entity *lone; // who waits alone; then no slot holds anyone
    u64 bitmap;                // slots that hold someone
    struct list slots[SCHED_SLOTS];
    u64 vtime;      // of the entity picked last: never goes back
    u8 slot_shift;  // a slot spans 1 << slot_shift weighted ticks
    u64 slice;      // TSC ticks that an entity may run while others wait
    u64 cap_period; // TSC ticks over which a cap is measured
};

static inline bool sched_waiting(const struct sched_queue *queue) {
    return queue->lone || queue->bitmap;
}

/// `tsc_khz`: TSC ticks per millisecond.
void sched_init(struct sched_queue *queue, u64 tsc_khz);
/// Puts an entity that became runnable into the queue.
void sched_wake(struct sched_queue *queue, struct sched_entity *entity);
void sched_remove(struct sched_queue *queue, struct sched_entity *entity);
/// Puts back `current`, which ran and still wants to (NULL: there is none), and takes out the one to run next; NULL if
/// nobody waits.
struct sched_entity *sched_next(struct sched_queue *queue, struct sched_entity *current);
/// How long the entity may run while others wait, in TSC ticks: light ones less, so that a turn never takes an entity
/// out of the window of slots.
u64 sched_slice(const struct sched_queue *queue, const struct sched_entity *entity);
/// Whether a waiting entity should run instead of `current`.
bool sched_preempts(const struct sched_queue *queue, const struct sched_entity *current);
/// Accounts `ticks` of running ending at `now`. Returns 0, or the TSC until which the cap forbids to run.
u64 sched_charge(const struct sched_queue *queue, struct sched_entity *entity, u64 ticks, u64 now);
