// SPDX-License-Identifier: Apache-2.0
//
// How exceptions merge with the event that was being delivered. Follows the SDM, "Interrupt 8 - Double Fault Exception
// (#DF)". What must not be lost when an exception takes an interrupt's or NMI's place goes back where it came from.

#include "guest/vcpu.h"
#include "kernel/domain.h"

#define CONTRIBUTORY \
    (BIT(EXC_DE) | BIT(EXC_TS) | BIT(EXC_NP) | BIT(EXC_SS) | BIT(EXC_GP) | BIT(EXC_CP))
#define PAGE_FAULTS (BIT(EXC_PF) | BIT(EXC_VE))

static bool in_class(u64 vectors, u8 vector) { return vector < 32 && (vectors & BIT(vector)); }

/// Second fault while the first was being delivered: do they make a #DF?
static bool is_double_fault(u8 first, u8 second) {
    if (in_class(CONTRIBUTORY, first))
        return in_class(CONTRIBUTORY, second);
    return in_class(PAGE_FAULTS, first) && in_class(CONTRIBUTORY | PAGE_FAULTS, second);
}

void vcpu_exception(struct vcpu *v, u8 vector, bool has_error, u32 error) {
    bool protected_mode = backend->read(&v->cpu, REG_CR0) &
                          CR0_PE; // real mode pushes no error codes
    struct event first = v->cpu.queued;
    bool exception = first.valid && first.type == EVENT_EXCEPTION;

    if (exception && first.vector == EXC_DF && in_class(CONTRIBUTORY | PAGE_FAULTS, vector)) {
        v->cpu.queued.valid = false;
        domain_end(v->domain, BASALT_END_TRIPLE_FAULT, v->index, vector);
        return;
    }
    if (exception && is_double_fault(first.vector, vector)) {
        vector = EXC_DF;
        has_error = true;
        error = 0;
    }
    has_error &= protected_mode;
    v->cpu.queued = (struct event){
        .valid = true,
        .type = EVENT_EXCEPTION,
        .vector = vector,
        .has_error = has_error,
        .error = has_error ? error : 0,
    };
    // Soft interrupts and exceptions come again when their instruction is run again, benign faults likewise.
    if (first.valid && first.type == EVENT_NMI)
        vcpu_nmi(v);
    else if (first.valid && first.type == EVENT_INTERRUPT)
        vlapic_unack(&v->lapic, first.vector);
}
