// SPDX-License-Identifier: Apache-2.0
//
// The event loop: everything in dom0 runs from here, one handler at a time, on one stack. A pass
// scans the pending ports fairly (each is served once before any is served twice), runs the
// deferred work that was queued before the pass and the timers that are due, and blocks in the
// kernel when there is nothing left. Invariant: no ring of a port is lost, and a handler is run at
// least once after each; several rings may become one run. A handler must do a bounded amount of
// work (EVENT_BUDGET items is the common measure) and leave the rest to work_queue(), so that one guest can't
// starve the others.

#pragma once

#include "lib/types.h"

#define EVENT_BUDGET 64u // requests, descriptors, packets, ... that one handler may handle per call

typedef void (*event_handler)(void *context);

/// Allocates a port of dom0's and binds `handler`. Returns the port (> 0 or 0) or a negative error.
must_check int event_port_alloc(event_handler handler, void *context);

/// Binds another handler to a port that is allocated already (handler NULL: rings are ignored).
void event_port_bind(u32 port, event_handler handler, void *context);

/// Frees the port in the kernel; a ring that is pending is forgotten. `port` < 0 is ignored.
void event_port_free(int port);

// A piece of work to be done soon, from the loop. Embedded in its owner; zeroed and with handler
// set it is ready.
struct work {
    event_handler handler;
    void *context;
    struct work *next;
    bool queued;
};

/// Queues the work for the next pass; nothing happens if it is queued already.
void work_queue(struct work *work);

/// Takes it back, if queued: O(queue). Must be called before its memory is freed.
void work_cancel(struct work *work);

/// Runs one pass. With `may_block`, waits in the kernel if there was nothing to do. Returns whether
/// something was.
bool event_pass(bool may_block);

/// Makes a hypercall whose result does not matter before any other handler runs or the loop waits, and in the latter
/// case together with the wait: one exit instead of two, where a handler's last call is all that there is to do.
void event_last_call(u64 number, u64 a, u64 b, u64 c, u64 d);

/// Makes it now, if one was put off.
void event_finish_call(void);

/// Runs passes until *done becomes true or `timeout_ns` have passed; returns *done. For
/// initialisation and for the operator's commands only, never from a handler that the loop may
/// enter again.
bool event_wait(const volatile bool *done, u64 timeout_ns);

/// Runs passes for ever.
_Noreturn void event_loop(void);

/// Once, before all others.
void event_init(void);
