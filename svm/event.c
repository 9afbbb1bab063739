// SPDX-License-Identifier: Apache-2.0
//
// Events on their way into the guest: injection, interrupt and NMI windows. Invariant: an NMI is
// not delivered before the IRET of the last one was executed. That is followed by intercepting
// IRET: its exit comes before it is executed, so that NMIs stay blocked until, when one is to be
// delivered after a later exit, RIP is elsewhere; an NMI may wait that long. Follows the APM, "Event Injection", "Interrupt and
// Local APIC Support" and "Virtual Interrupts".

#include "arch/x86.h"
#include "svm/svm.h"

#define V_DUMMY (V_IRQ | V_PRIORITY | V_IGNORE_TPR)

static void set_nmi(struct cpu_state *cpu, enum nmi_state state) {
    cpu->svm.nmi = (u8)state;
    vmcb_intercept(cpu, EXIT_IRET, state == NMI_BLOCKED);
}

void svm_inject(struct cpu_state *cpu) {
    struct vmcb *vmcb = vmcb_of(cpu);
    struct event event = cpu->queued;

    vmcb->event_inject = event_field(&event);
    if (event.has_error && (vmcb->cr0 & CR0_PE)) // real mode pushes none
        vmcb->event_inject |= EVENT_HAS_ERROR | (u64)event.error << EVENT_ERROR_SHIFT;
    if (event.type == EVENT_NMI)
        set_nmi(cpu, NMI_BLOCKED);
    cpu->queued.valid = false;
}

// INT n, INT3 and INTO are not put back: RIP is still at the instruction, which is executed again.
static bool comes_again(const struct event *event) {
    bool trap = event->vector == EXC_BP || event->vector == EXC_OF; // there is no type of their own

    return event->type == EVENT_SOFT_INTERRUPT || (event->type == EVENT_EXCEPTION && trap);
}

void svm_events_after_exit(struct cpu_state *cpu) {
    struct vmcb *vmcb = vmcb_of(cpu);
    u64 info = vmcb->exit_int_info;

    if (info & EVENT_VALID) {
        cpu->queued = event_from_field((u32)info, (u32)(info >> EVENT_ERROR_SHIFT));
        cpu->queued.valid = !comes_again(&cpu->queued);
    }
    if (cpu->queued.valid && cpu->queued.type == EVENT_NMI) {
        set_nmi(cpu, NMI_OPEN); // it was not delivered
    } else if (vmcb->exit_code == EXIT_IRET) {
        set_nmi(cpu, NMI_IRET);
        cpu->svm.iret_rip = vmcb->rip;
    }
}

bool svm_can_take(struct cpu_state *cpu, bool nmi) {
    struct vmcb *vmcb = vmcb_of(cpu);

    if (cpu->svm.nmi == NMI_IRET && vmcb->rip != cpu->svm.iret_rip)
        set_nmi(cpu, NMI_OPEN);
    if (vmcb->int_state & INT_STATE_SHADOW)
        return false;
    return nmi ? cpu->svm.nmi == NMI_OPEN : cpu->rflags & RFLAGS_IF;
}

// A virtual interrupt of the highest priority, which is never delivered: its intercept comes first. The IRET intercept is
// on whenever NMIs are blocked; nothing reports the end of a shadow, one instruction later.
void svm_window(struct cpu_state *cpu, bool nmi, bool on) {
    struct vmcb *vmcb = vmcb_of(cpu);

    if (nmi || on == vmcb_intercepts(vmcb, EXIT_VINTR))
        return;
    vmcb_intercept(cpu, EXIT_VINTR, on);
    vmcb->int_control &= ~V_DUMMY;
    if (on)
        vmcb->int_control |= V_DUMMY;
    cpu->dirty |= VMCB_CLEAN_TPR;
}

void svm_clear_shadow(struct cpu_state *cpu) { vmcb_of(cpu)->int_state &= ~INT_STATE_SHADOW; }
