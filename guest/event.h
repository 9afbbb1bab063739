// SPDX-License-Identifier: Apache-2.0
//
// Exception merging: what a guest's processor does when an exception meets an event that was still being delivered.
// Invariant: a pure function of the events given; the slot holds at most one event. Follows the SDM, "Interrupt 8:
// Double Fault Exception (#DF)", and the APM, "#DF: Double-Fault Exception".
#pragma once

#include "guest/backend.h"

enum event_outcome {
    EVENT_QUEUED, ///< the new exception is in the slot
    EVENT_QUEUED_DEFER, ///< same; the event it met (external interrupt or NMI) has to be delivered after it
    EVENT_DOUBLE_FAULT, ///< the two became a #DF, which is in the slot
    EVENT_TRIPLE_FAULT, ///< shutdown; the slot is empty
};

/// Puts exception `vector` into *slot; the event it meets is what the slot holds already. `has_error` is false for every
/// vector in real mode, where no error code is pushed. After EVENT_QUEUED_DEFER the event it met is in *deferred.
must_check enum event_outcome event_queue_exception(struct event *slot, u8 vector, bool has_error,
                                                    u32 error, struct event *deferred);

/// True when exception `vector` pushes an error code in protected mode.
bool event_pushes_error(u8 vector);
