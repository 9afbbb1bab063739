// SPDX-License-Identifier: Apache-2.0
//
// The scheduler's mechanism. The kernel is not preempted: a vCPU leaves the CPU between an exit and the next entry, so
// there is nothing of the kernel's own to switch. The state of the vCPU that ran last stays loaded until another one
// is: going idle and coming back costs nothing.

#include "kernel/schedule.h"

#include "arch/spec.h"
#include "arch/paging.h"
#include "kernel/console.h"
#include "kernel/interrupt.h"
#include "kernel/trace.h"

#define TIMERS_AT_ONCE 32u

int schedule_init(void) {
    struct runqueue *q = frame_kernel_alloc();

    if (!q)
        return -1;
    sched_init(&q->queue, tsc_khz);
    q->armed = q->slice_end = ~0ull;
    this_cpu()->scheduler = q;
    return 0;
}

// The current vCPU leaves the CPU instead of its next entry.
static void leave(struct runqueue *q) {
    q->resched = true;
    q->due = 0;
}

void vcpu_block(struct vcpu *v, u32 reason) {
    struct runqueue *q = this_queue();

    v->blocked |= reason;
    if (q->current == v)
        leave(q);
    else
        sched_remove(&q->queue, &v->sched);
}

// Someone else waits now: the current vCPU leaves at once, or at the end of its slice.
static void limit_current(struct runqueue *q) {
    if (sched_preempts(&q->queue, &q->current->sched)) {
        leave(q);
    } else if (q->slice_end == ~0ull) {
        q->slice_end = rdtsc() + sched_slice(&q->queue, &q->current->sched);
        q->due = 0;
    }
}

void vcpu_unblock(struct vcpu *v, u32 reason) {
    struct runqueue *q = this_queue();

    if (!(v->blocked & reason))
        return;
    v->blocked &= ~reason;
    trace(BASALT_TRACE_WAKE, v->domain->info.id, v->index, reason, v->blocked);
    if (v->blocked)
        return;
    if (q->current == v) {
        q->resched = false; // it stays after all
    } else {
        v->stats.wakeups++;
        sched_wake(&q->queue, &v->sched);
    }
    if (q->current && !q->resched)
        limit_current(q);
}

static void cap_expired(struct timer *timer) {
    vcpu_unblock(container_of(timer, struct vcpu, cap_timer), BLOCK_CAP);
}

// The vCPU ran for `ran` ticks: charges it, and blocks it if its cap says so.
static void charge(struct runqueue *q, struct vcpu *v, u64 ran, u64 now) {
    u64 until = sched_charge(&q->queue, &v->sched, ran, now);

    v->stats.run_tsc += ran;
    if (!until)
        return;
    v->blocked |= BLOCK_CAP;
    v->cap_timer.expire = cap_expired;
    timer_arm(&q->timers, &v->cap_timer, until);
}

static void unload(struct runqueue *q) {
    struct vcpu *v = q->loaded;

    if (!v)
        return;
    v->xcr0 = xstate_save(v->xstate);
    backend->unload(&v->cpu);
    q->loaded = NULL;
}

static void load(struct runqueue *q, struct vcpu *v) {
    if (q->loaded == v)
        return;
    if (!q->loaded || q->loaded->domain != v->domain) {
        slots_clear();
        spec_other_domain();
    }
    unload(q);
    backend->load(&v->cpu);
    xstate_restore(v->xstate, v->xcr0);
    q->loaded = v;
    trace(BASALT_TRACE_SWITCH, v->domain->info.id, v->index, v->sched.vtime, 0);
}

void schedule_forget(struct vcpu *v) {
    struct runqueue *q = this_queue();

    sched_remove(&q->queue, &v->sched);
    timer_cancel(&q->timers, &v->lapic_timer);
    timer_cancel(&q->timers, &v->cap_timer);
    timer_cancel(&q->timers, &v->event_timer);
    if (q->loaded == v) {
        slots_clear();
        unload(q);
    }
}

void schedule_yield(void) { leave(this_queue()); }

void irq_notice(void) { this_queue()->due = 0; }

void schedule_poll(void) {
    struct runqueue *q = this_queue();
    int vector;

    irq_window(); // Bochs does not exit for what is pending while a guest runs with IF=0
    while (unlikely(this_cpu()->news) && (vector = cpu_take_vector()) >= 0) {
        trace(BASALT_TRACE_IRQ, 0, 0, (u64)vector, 0);
        if (vector == VECTOR_TIMER) {
            q->armed = ~0ull;
            q->due = 0;
        } else if (vector == VECTOR_CONSOLE) {
            console_ring();
        } else {
            interrupt_deliver((unsigned)vector);
        }
    }
}

void schedule_timer(struct timer *timer, u64 deadline) {
    struct runqueue *q = this_queue();

    if (deadline)
        timer_arm(&q->timers, timer, deadline);
    else
        timer_cancel(&q->timers, timer);
    if (deadline < q->armed)
        q->due = 0;
}

// The next TSC at which something has to be done on this CPU.
static u64 next_deadline(const struct runqueue *q) {
    return MIN(timer_next(&q->timers), q->slice_end);
}

bool schedule_catch_up(u64 now) {
    struct runqueue *q = this_queue();

    if (unlikely(this_cpu()->news)) // came while the kernel worked for the vCPU
        schedule_poll();
    u64 deadline = next_deadline(q);
    if (deadline <= now || q->armed <= now) {
        timer_run(&q->timers, now, TIMERS_AT_ONCE);
        q->resched |= q->slice_end <= now;
        q->armed = ~0ull; // it has rung, or is about to
        deadline = next_deadline(q);
    }
    // Where the timer is set to an earlier time it stays: one needless interrupt costs less than setting it at each switch.
    if (deadline < q->armed && !q->resched) {
        q->armed = deadline;
        apic_timer_set(deadline);
    }
    q->due = q->resched ? 0 : q->armed;
    return q->resched;
}

// Takes the vCPU that ran off the CPU, and chooses the next.
static struct vcpu *pick(struct runqueue *q, u64 now) {
    struct vcpu *old = q->current;
    struct sched_entity *e = sched_next(&q->queue, old && !old->blocked ? &old->sched : NULL);

    q->current = e ? container_of(e, struct vcpu, sched) : NULL;
    bool limited = e && (sched_waiting(&q->queue) || e->cap); // a cap holds for who runs alone, too
    q->slice_end = limited ? now + sched_slice(&q->queue, e) : ~0ull;
    q->resched = false;
    q->due = next_deadline(q) < q->armed ? 0 : q->armed;
    return q->current;
}

static void idle(struct runqueue *q) {
    u64 deadline = timer_next(&q->timers);

    if (deadline > rdtsc()) {
        if (deadline != q->armed) {
            q->armed = deadline;
            apic_timer_set(deadline);
        }
        cpu_idle();
    }
    timer_run(&q->timers, rdtsc(), TIMERS_AT_ONCE);
}

noreturn void schedule_loop(void) {
    struct runqueue *q = this_queue();
    u64 now = rdtsc();

    for (;;) {
        schedule_poll();
        struct vcpu *v = pick(q, now);
        if (!v) {
            idle(q);
            now = rdtsc();
            continue;
        }
        u64 before = now;
        load(q, v);
        vcpu_run(v);
        now = rdtsc();
        charge(q, v, now - before, now);
    }
}
