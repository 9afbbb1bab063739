// SPDX-License-Identifier: Apache-2.0
//
// The scheduling policy's functions: see policy.h for the idea. The window of slots begins at the queue's virtual
// time; an entity further ahead than the window waits in its last slot, which costs it nothing but precision. Two that
// take turns, a guest and its server, are the common case: whoever waits alone is not put into its slot's list.

#include "kernel/policy.h"

#define FULL_SLICE_WEIGHT 64u // from this weight on a slice is whole
#define WAKE_BONUS_SLOTS  3u  // how far behind the queue a sleeper may be placed

void sched_init(struct sched_queue *queue, u64 tsc_khz) {
    *queue = (struct sched_queue){.slice = tsc_khz * 4, .cap_period = tsc_khz * 100};
    for (unsigned i = 0; i < SCHED_SLOTS; i++)
        list_init(&queue->slots[i]);
    // A slot is about a millisecond of an entity with the default weight.
    while (BIT(queue->slot_shift) < tsc_khz)
        queue->slot_shift++;
    queue->vtime = (u64)WAKE_BONUS_SLOTS << queue->slot_shift;
}

static u64 window_start(const struct sched_queue *queue) {
    return (queue->vtime >> queue->slot_shift) - WAKE_BONUS_SLOTS;
}

// Equals take turns.
static bool is_before(const struct sched_queue *queue, const struct sched_entity *a,
                      const struct sched_entity *b) {
    return a->vtime >> queue->slot_shift < b->vtime >> queue->slot_shift;
}

static void link(struct sched_queue *queue, struct sched_entity *entity) {
    u64 first = window_start(queue), slot = entity->vtime >> queue->slot_shift;

    slot = MIN(MAX(slot, first), first + SCHED_SLOTS - 1);
    entity->slot = slot % SCHED_SLOTS;
    list_add(&queue->slots[entity->slot], &entity->link);
    queue->bitmap |= BIT(entity->slot);
}

static void insert(struct sched_queue *queue, struct sched_entity *entity) {
    entity->queued = true;
    if (!sched_waiting(queue)) {
        queue->lone = entity;
        return;
    }
    if (queue->lone)
        link(queue, queue->lone);
    queue->lone = NULL;
    link(queue, entity);
}

void sched_wake(struct sched_queue *queue, struct sched_entity *entity) {
    u64 earliest = window_start(queue) << queue->slot_shift;

    if (entity->queued)
        return;
    entity->vtime = MAX(entity->vtime, earliest);
    insert(queue, entity);
}

void sched_remove(struct sched_queue *queue, struct sched_entity *entity) {
    if (!entity->queued)
        return;
    entity->queued = false;
    if (queue->lone == entity) {
        queue->lone = NULL;
        return;
    }
    list_remove(&entity->link);
    if (list_empty(&queue->slots[entity->slot]))
        queue->bitmap &= ~BIT(entity->slot);
}

// The first waiting entity in order of slots, or NULL.
static struct sched_entity *first_waiting(const struct sched_queue *queue) {
    if (!queue->bitmap)
        return queue->lone;
    unsigned start = window_start(queue) % SCHED_SLOTS;
    u64 turned = start ? queue->bitmap >> start | queue->bitmap << (SCHED_SLOTS - start)
                       : queue->bitmap;
    unsigned slot = (start + (unsigned)__builtin_ctzll(turned)) % SCHED_SLOTS;
    return list_entry(queue->slots[slot].next, struct sched_entity, link);
}

static struct sched_entity *next_of_many(struct sched_queue *queue, struct sched_entity *current) {
    if (current)
        insert(queue, current);
    struct sched_entity *entity = first_waiting(queue);
    // The window may move up to the picked entity's slot, never past it: others may wait there.
    u64 start = window_start(queue);
    u64 slot = start + (entity->slot - start) % SCHED_SLOTS;
    u64 limit = (slot + WAKE_BONUS_SLOTS) << queue->slot_shift;
    sched_remove(queue, entity);
    queue->vtime = MAX(queue->vtime, MIN(entity->vtime, limit));
    return entity;
}

struct sched_entity *sched_next(struct sched_queue *queue, struct sched_entity *current) {
    struct sched_entity *lone = queue->lone;

    if (queue->bitmap)
        return next_of_many(queue, current);
    if (lone && !(current && is_before(queue, current, lone))) {
        lone->queued = false;
        queue->lone = current;
        if (current)
            current->queued = true;
        current = lone;
    }
    if (current)
        queue->vtime = MAX(queue->vtime, current->vtime);
    return current;
}

u64 sched_slice(const struct sched_queue *queue, const struct sched_entity *entity) {
    return queue->slice * MIN(entity->weight, FULL_SLICE_WEIGHT) / FULL_SLICE_WEIGHT;
}

bool sched_preempts(const struct sched_queue *queue, const struct sched_entity *current) {
    const struct sched_entity *entity = first_waiting(queue);

    return entity && is_before(queue, entity, current);
}

u64 sched_charge(const struct sched_queue *queue, struct sched_entity *entity, u64 ticks, u64 now) {
    entity->vtime += ticks * SCHED_WEIGHT_DEFAULT / entity->weight;
    if (!entity->cap)
        return 0;
    if (now - entity->period_start >= queue->cap_period) {
        entity->period_start = now;
        entity->period_used = 0;
    }
    entity->period_used += ticks;
    return entity->period_used < queue->cap_period / 100 * entity->cap
               ? 0
               : entity->period_start + queue->cap_period;
}
