// SPDX-License-Identifier: Apache-2.0
//
// The event loop. The scan follows the protocol of <basalt/event.h>: exchange the summary with 0,
// then each word that it names; the bits taken are kept in `taken` until their handlers ran, so
// that a pass can stop anywhere. Fairness: every port that was pending at the start of a pass is
// served once before any is served twice.

#include "lib/event.h"

#include "lib/boot.h"
#include "lib/hypercall.h"
#include "lib/timer.h"

#include <basalt/event.h>

#define PORT_WORDS (BASALT_PORTS / 64)

static struct handler {
    event_handler function;
    void *context;
} handlers[BASALT_PORTS];

static u64 taken_summary, taken[PORT_WORDS];

static struct {
    u64 number; // 0: none
    u64 a, b, c, d;
} last_call; // put off by event_last_call()

static struct work *work_first, **work_tail = &work_first;

static struct basalt_event_page *event_page(void) {
    return (struct basalt_event_page *)(uintptr_t)boot_info->event_page;
}

void event_port_bind(u32 port, event_handler handler, void *context) {
    if (port < BASALT_PORTS)
        handlers[port] = (struct handler){handler, context};
}

int event_port_alloc(event_handler handler, void *context) {
    i64 port = hc_port_alloc();
    if (port >= BASALT_PORTS)
        return -BASALT_EINVAL;
    if (port >= 0)
        event_port_bind((u32)port, handler, context);
    return (int)port;
}

void event_port_free(int port) {
    if (port < 0 || port >= (int)BASALT_PORTS)
        return;
    hc_port_free((u32)port);
    event_port_bind((u32)port, NULL, NULL);
    __atomic_fetch_and(&event_page()->pending[port / 64], ~BIT(port % 64), __ATOMIC_SEQ_CST);
    taken[port / 64] &= ~BIT(port % 64);
}

// Makes the call that was put off, with `then` added to its number. Not inline, for there seldom is one but before the wait.
static __attribute__((noinline)) void make_call(u64 then) {
    u64 number = last_call.number;
    last_call.number = 0;
    hypercall_raw(number + then, last_call.a, last_call.b, last_call.c, last_call.d, 0, 0);
}

void event_finish_call(void) {
    if (last_call.number)
        make_call(0);
}

void event_last_call(u64 number, u64 a, u64 b, u64 c, u64 d) {
    event_finish_call();
    last_call.number = number;
    last_call.a = a;
    last_call.b = b;
    last_call.c = c;
    last_call.d = d;
}

void work_queue(struct work *work) {
    if (work->queued)
        return;
    work->queued = true;
    work->next = NULL;
    *work_tail = work;
    work_tail = &work->next;
}

void work_cancel(struct work *work) {
    if (!work->queued)
        return;
    struct work **link = &work_first;
    while (*link != work)
        link = &(*link)->next;
    *link = work->next;
    if (work_tail == &work->next)
        work_tail = link;
    work->queued = false;
}

// Takes what is pending over from the kernel.
static void take_pending(struct basalt_event_page *page) {
    u64 summary = __atomic_exchange_n(&page->summary, 0, __ATOMIC_SEQ_CST);
    taken_summary |= summary;
    for (; summary; summary &= summary - 1) {
        u64 word = (u64)__builtin_ctzll(summary);
        taken[word] |= __atomic_exchange_n(&page->pending[word], 0, __ATOMIC_SEQ_CST);
    }
}

// A handler may run the loop itself (event_wait): that inner pass then serves the ports still taken
// here.
static bool serve_ports(void) {
    take_pending(event_page());
    u64 all = taken_summary;
    for (u64 left = all; left; left &= left - 1) {
        u64 word = (u64)__builtin_ctzll(left);
        while (taken[word]) {
            struct handler *h = &handlers[word * 64 + (u64)__builtin_ctzll(taken[word])];
            taken[word] &= taken[word] - 1;
            event_finish_call();
            if (h->function)
                h->function(h->context);
        }
        taken_summary &= ~(left & -left);
    }
    return all;
}

// Runs as many pieces of work as were queued when it began; what they queue themselves waits for
// the next pass.
static bool serve_work(void) {
    size_t count = 0;
    for (struct work *w = work_first; w; w = w->next)
        count++;
    for (size_t i = 0; i < count && work_first; i++) {
        struct work *work = work_first;
        work_first = work->next;
        if (!work_first)
            work_tail = &work_first;
        work->queued = false;
        event_finish_call();
        work->handler(work->context);
    }
    return count > 0;
}

static bool serve(void) {
    bool any = serve_ports();
    any |= serve_work();
    any |= timer_run_due();
    return any;
}

// The kernel returns at once if a port is pending.
static void wait_for_port(void) {
    timer_arm();
    if (last_call.number)
        make_call(BASALT_HC_THEN_BLOCK);
    else
        hc_block();
}

bool event_pass(bool may_block) {
    bool any = serve();
    if (any || work_first || !may_block)
        event_finish_call();
    else
        wait_for_port();
    return any;
}

static void set_flag(void *context) { *(bool *)context = true; }

bool event_wait(const volatile bool *done, u64 timeout_ns) {
    bool expired = false;
    struct timer timer = {.handler = set_flag, .context = &expired};
    timer_set(&timer, time_ns() + timeout_ns);
    while (!*done && !*(volatile bool *)&expired)
        event_pass(true);
    timer_cancel(&timer);
    return *done;
}

_Noreturn void event_loop(void) {
    for (;;) {
        serve();
        if (!work_first && !taken_summary)
            wait_for_port();
    }
}

void event_init(void) { timer_init(); }
