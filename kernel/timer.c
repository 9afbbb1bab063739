// SPDX-License-Identifier: Apache-2.0
//
// Timers in a skew heap (Sleator and Tarjan): merging two heaps walks their right spines and swaps children on the
// way, which keeps the amortised cost logarithmic without any balance information. Written as a loop: the kernel's
// stack is small.

#include "kernel/timer.h"

static struct timer *merge(struct timer *a, struct timer *b) {
    struct timer *root = NULL, **link = &root, *parent = NULL;

    while (a && b) {
        if (b->deadline < a->deadline) {
            struct timer *swap = a;
            a = b;
            b = swap;
        }
        // `a` takes this place; its right heap goes on being merged and becomes its left one.
        struct timer *rest = a->right;
        *link = a;
        a->parent = parent;
        a->right = a->left;
        a->left = NULL;
        parent = a;
        link = &a->left;
        a = rest;
    }
    *link = a ? a : b;
    if (*link)
        (*link)->parent = parent;
    return root;
}

void timer_cancel(struct timer_queue *queue, struct timer *timer) {
    if (!timer->armed)
        return;
    struct timer *parent = timer->parent, *rest = merge(timer->left, timer->right);

    if (!parent)
        queue->first = rest;
    else if (parent->left == timer)
        parent->left = rest;
    else
        parent->right = rest;
    if (rest)
        rest->parent = parent;
    timer->left = timer->right = timer->parent = NULL;
    timer->armed = false;
}

void timer_arm(struct timer_queue *queue, struct timer *timer, u64 deadline) {
    timer_cancel(queue, timer);
    timer->left = timer->right = timer->parent = NULL;
    timer->deadline = deadline;
    timer->armed = true;
    queue->first = merge(queue->first, timer);
}

void timer_run(struct timer_queue *queue, u64 now, unsigned limit) {
    while (queue->first && queue->first->deadline <= now && limit--) {
        struct timer *timer = queue->first;
        timer_cancel(queue, timer);
        timer->expire(timer);
    }
}
