// SPDX-License-Identifier: Apache-2.0
//
// Exception merging (see event.h): the two tables of the SDM's "Interrupt 8: Double Fault Exception (#DF)" as masks
// of vectors.

#include "guest/event.h"

#include "arch/x86.h"

#define CONTRIBUTORY \
    (BIT(EXC_DE) | BIT(EXC_TS) | BIT(EXC_NP) | BIT(EXC_SS) | BIT(EXC_GP) | BIT(EXC_CP))
#define PAGE_FAULTS (BIT(EXC_PF) | BIT(EXC_VE))

static bool in_class(u64 vectors, u8 vector) { return vector < 32 && (vectors & BIT(vector)); }

bool event_pushes_error(u8 vector) { return in_class(EXC_WITH_ERROR, vector); }

/// Second fault while the first was being delivered: do they make a #DF?
static bool is_double_fault(u8 first, u8 second) {
    if (in_class(CONTRIBUTORY, first))
        return in_class(CONTRIBUTORY, second);
    return in_class(PAGE_FAULTS, first) && in_class(CONTRIBUTORY | PAGE_FAULTS, second);
}

enum event_outcome event_queue_exception(struct event *slot, u8 vector, bool has_error, u32 error,
                                         struct event *deferred) {
    struct event first = *slot;
    bool exception = first.valid && first.type == EVENT_EXCEPTION;

    if (exception && first.vector == EXC_DF && in_class(CONTRIBUTORY | PAGE_FAULTS, vector)) {
        *slot = (struct event){0};
        return EVENT_TRIPLE_FAULT;
    }
    if (exception && is_double_fault(first.vector, vector)) {
        // Real mode pushes no error codes. The faults that meet a delivery there show that by lacking theirs.
        bool pushes = has_error || !event_pushes_error(vector);
        *slot = (struct event){
            .valid = true, .type = EVENT_EXCEPTION, .vector = EXC_DF, .has_error = pushes};
        return EVENT_DOUBLE_FAULT;
    }
    *slot = (struct event){
        .valid = true,
        .type = EVENT_EXCEPTION,
        .vector = vector,
        .has_error = has_error,
        .error = has_error ? error : 0,
    };
    // Soft interrupts and exceptions come again when their instruction is run again, benign faults likewise.
    if (!first.valid || (first.type != EVENT_INTERRUPT && first.type != EVENT_NMI))
        return EVENT_QUEUED;
    *deferred = first;
    return EVENT_QUEUED_DEFER;
}
