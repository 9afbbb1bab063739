// SPDX-License-Identifier: Apache-2.0
//
// Event ports. The kernel writes the event page only with locked OR, so a domain may clear bits at the same time.
// What a domain writes into its own event page can wake or not wake only itself.

#include "kernel/event.h"

#include "kernel/console.h"
#include "kernel/interrupt.h"
#include "kernel/schedule.h"
#include "kernel/trace.h"

int events_init(struct domain *d) {
    d->events = memory_share_page(d, d);
    return d->events ? 0 : -BASALT_ENOSPC;
}

void events_teardown(struct domain *d) {
    for (unsigned i = 0; i < PORT_PAGES; i++)
        domain_page_free(d, d->port_pages[i]);
    domain_page_free(d, d->events);
}

static struct port *port_at(struct domain *d, u32 port) {
    return &d->port_pages[port / PORTS_PER_PAGE][port % PORTS_PER_PAGE];
}

struct port *port_find(struct domain *d, u64 port) {
    struct port *p = port < d->ports_used ? port_at(d, (u32)port) : NULL;

    return p && p->kind != PORT_FREE ? p : NULL;
}

void event_ring(struct domain *d, u32 port) {
    if (!d->events || !port_find(d, port))
        return;
    __atomic_fetch_or(&d->events->pending[port / 64], BIT(port % 64), __ATOMIC_SEQ_CST);
    __atomic_fetch_or(&d->events->summary, BIT(port / 64), __ATOMIC_SEQ_CST);
    if (d->vcpus[0])
        vcpu_unblock(d->vcpus[0], BLOCK_EVENT);
}

// Constant time: a port that was freed, else the first that was never used.
i64 port_alloc(struct domain *d) {
    u32 port = d->free_port;

    if (!d->events)
        return -BASALT_EINVAL;
    if (port) {
        d->free_port = port_at(d, port)->next;
    } else {
        port = MAX(d->ports_used, 1u); // 0 means "no port" to those that keep numbers
        if (port == BASALT_PORTS)
            return -BASALT_ENOSPC;
        struct port **page = &d->port_pages[port / PORTS_PER_PAGE];
        if (!*page && !(*page = domain_page_alloc(d)))
            return -BASALT_ENOSPC;
        d->ports_used = port + 1;
    }
    *port_at(d, port) = (struct port){.kind = PORT_ALLOCATED};
    return port;
}

void port_free(struct domain *d, u32 port) {
    struct port *p = port_find(d, port);

    interrupt_unbind(d, port);
    console_release(d, port);
    if (d->timer_port == port)
        event_timer(d, 0, 0);
    __atomic_fetch_and(&d->events->pending[port / 64], ~BIT(port % 64), __ATOMIC_SEQ_CST);
    *p = (struct port){.next = d->free_port};
    d->free_port = port;
}

static void timer_expired(struct timer *timer) {
    struct vcpu *v = container_of(timer, struct vcpu, event_timer);

    trace(BASALT_TRACE_TIMER, v->domain->info.id, 0, timer->deadline, 0);
    event_ring(v->domain, v->domain->timer_port);
}

void event_timer(struct domain *d, u64 deadline, u32 port) {
    struct vcpu *v = d->vcpus[0];

    d->timer_port = port;
    v->event_timer.expire = timer_expired;
    schedule_timer(&v->event_timer, deadline);
}
