// SPDX-License-Identifier: Apache-2.0
//
// Event ports: one bit each in a page that the domain scans, and a wake-up of its vCPU 0. Ringing takes constant time
// and may be done with any lock held.

#pragma once

#include "kernel/domain.h"

/// Gives an identity-mapped domain its event page. -BASALT_ENOSPC, -BASALT_ENOMEM.
must_check int events_init(struct domain *d);
void events_teardown(struct domain *d);
/// Sets the port's bit and wakes the domain if it waits. A port that is not allocated is ignored.
void event_ring(struct domain *d, u32 port);
/// A free port becomes allocated; returns it, or a negative error. Constant time.
i64 port_alloc(struct domain *d);
/// The port if it is allocated, whatever it is bound to; else NULL.
struct port *port_find(struct domain *d, u64 port);
/// Unbinds and frees.
void port_free(struct domain *d, u32 port);
/// Whether anything is pending.
static inline bool events_pending(const struct domain *d) {
    return d->events && __atomic_load_n(&d->events->summary, __ATOMIC_SEQ_CST);
}
/// Rings `port` at `deadline` (host TSC; 0: never).
void event_timer(struct domain *d, u64 deadline, u32 port);
