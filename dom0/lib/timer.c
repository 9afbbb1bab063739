// SPDX-License-Identifier: Apache-2.0
//
// Time and timers. A pairing heap: setting and merging are O(1), taking the earliest away O(log n)
// amortized, and no memory is needed. Conversions multiply in 128 bits, so they neither drift nor
// overflow.

#include "lib/timer.h"

#include "lib/boot.h"
#include "lib/hypercall.h"

static struct timer *root;
static int port = -1;
static u64 armed;        // deadline that the kernel knows, ns; 0: none
static u64 wall_base_ns; // wall clock minus time_ns()

u64 time_tsc(void) {
#ifdef HOST_TEST
    extern u64 host_tsc(void);
    return host_tsc();
#else
    u32 low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (u64)high << 32 | low;
#endif
}

static u64 scale(u64 value, u64 multiplier, u64 divisor) {
    unsigned __int128 product = (unsigned __int128)value * multiplier;
    return (u64)(product / divisor);
}

u64 time_ns_of_ticks(u64 ticks) { return scale(ticks, NS_PER_MS, boot_info->tsc_khz); }

u64 time_ticks_of_ns(u64 ns) { return scale(ns, boot_info->tsc_khz, NS_PER_MS); }

u64 time_ns(void) { return time_ns_of_ticks(time_tsc()) + 1; }

u64 time_wall_ns(void) { return wall_base_ns + time_ns(); }

void time_set_wall(u64 ns) { wall_base_ns = ns - time_ns(); }

void delay_us(u64 microseconds) {
    u64 end = time_ns() + microseconds * NS_PER_US;
    while (time_ns() < end)
        __builtin_ia32_pause();
}

// Merges two heaps; either may be empty. The roots have no siblings.
static struct timer *merge(struct timer *a, struct timer *b) {
    if (!a || !b)
        return a ? a : b;
    if (b->deadline < a->deadline) {
        struct timer *t = a;
        a = b;
        b = t;
    }
    b->next = a->child;
    if (b->next)
        b->next->previous = b;
    b->previous = a;
    a->child = b;
    return a;
}

// Merges a list of siblings into one heap: in pairs from the left, then all from the right.
static struct timer *merge_siblings(struct timer *list) {
    struct timer *pairs = NULL, *heap = NULL;
    while (list) {
        struct timer *a = list, *b = a->next;
        list = b ? b->next : NULL;
        a->next = a->previous = NULL;
        if (b)
            b->next = b->previous = NULL;
        a = merge(a, b);
        a->next = pairs;
        pairs = a;
    }
    while (pairs) {
        struct timer *next = pairs->next;
        pairs->next = NULL;
        heap = merge(heap, pairs);
        pairs = next;
    }
    return heap;
}

void timer_cancel(struct timer *timer) {
    if (!timer->set)
        return;
    timer->set = false;
    struct timer *children = merge_siblings(timer->child);
    if (timer == root) {
        root = children;
    } else {
        if (timer->previous->child == timer)
            timer->previous->child = timer->next;
        else
            timer->previous->next = timer->next;
        if (timer->next)
            timer->next->previous = timer->previous;
        root = merge(root, children);
    }
    timer->child = timer->next = timer->previous = NULL;
}

void timer_set(struct timer *timer, u64 deadline_ns) {
    timer_cancel(timer);
    timer->deadline = deadline_ns;
    timer->child = timer->next = timer->previous = NULL;
    timer->set = true;
    root = merge(root, timer);
}

static __attribute__((noinline)) bool run_due(void) {
    u64 now = time_ns();
    unsigned count = 0;
    for (; root && root->deadline <= now && count < EVENT_BUDGET; count++) {
        struct timer *timer = root;
        timer_cancel(timer);
        event_finish_call();
        timer->handler(timer->context);
    }
    return count > 0;
}

bool timer_run_due(void) {
    if (!root || (armed && root->deadline == armed)) // the kernel rings when it is due
        return false;
    return run_due();
}

static __attribute__((noinline)) void arm(u64 deadline) {
    armed = deadline;
    u64 ticks = deadline ? time_ticks_of_ns(deadline) + 1 : 0;
    hc_timer_set(ticks, (u32)port);
}

void timer_arm(void) {
    u64 wanted = root ? root->deadline : 0;
    if (wanted != armed && port >= 0)
        arm(wanted);
}

// The kernel's timer is off after it rang: the next timer_arm() must set it again.
static void expired(void *context) {
    (void)context;
    armed = 0;
}

void timer_init(void) { port = event_port_alloc(expired, NULL); }
