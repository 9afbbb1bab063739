// SPDX-License-Identifier: Apache-2.0
//
// Exceptions, NMIs and interrupts. An exception in the kernel is a panic unless the exception table
// knows the instruction. Interrupts are recorded per CPU and taken later. Follows the SDM,
// "Interrupt and Exception Handling".

#include "arch/cpu.h"
#include "kernel/log.h"
#include "kernel/panic.h"

#define PORT_STATUS  0x61 // what raised an NMI
#define STATUS_IOCHK BIT(6)
#define STATUS_SERR  BIT(7)

struct fixup {
    u64 insn, target;
};
extern const struct fixup __extable_start[], __extable_end[];

static const char names[][4] = {"#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM",
                                "#DF", "?",   "#TS", "#NP", "#SS", "#GP", "#PF", "?",
                                "#MF", "#AC", "#MC", "#XM", "#VE", "#CP"};

static bool fix_up(struct trap_frame *frame) {
    for (const struct fixup *f = __extable_start; f < __extable_end; f++) {
        if (f->insn == frame->rip) {
            frame->rip = f->target;
            return true;
        }
    }
    return false;
}

void trap_handle(struct trap_frame *frame) {
    switch (frame->vector) {
    case 32 ... 255: irq_record((unsigned)frame->vector); return;
    case EXC_NMI: this_cpu()->nmi_pending = this_cpu()->news = true; return;
    case EXC_MC: mcheck_handle(frame); return;
    }
    if (fix_up(frame))
        return;
    panic_trap(frame, "exception %s, error code 0x%lx",
               frame->vector < ARRAY_SIZE(names) ? names[frame->vector] : "?", frame->error);
}

void irq_record(unsigned vector) {
    if (vector == VECTOR_SPURIOUS)
        return;
    irq_pend(vector);
    irq_quench(vector);
    irq_notice();
    apic_eoi();
}

// Outside the NMI handler, where nothing that was interrupted can be in the way.
static void report_nmi(struct cpu *cpu) {
    u8 status = inb(PORT_STATUS);
    cpu->nmi_pending = false;
    log_warn("basalt: cpu: NMI on CPU %u%s%s", cpu->id, status & STATUS_SERR ? ", bus error" : "",
             status & STATUS_IOCHK ? ", device error" : "");
}

int cpu_take_vector(void) {
    struct cpu *cpu = this_cpu();

    cpu->news = false;
    asm volatile("" : : : "memory"); // an NMI that comes from here on sets it again
    if (cpu->nmi_pending)
        report_nmi(cpu);
    for (int word = 3; word >= 0; word--) {
        if (cpu->pending[word]) {
            int bit = 63 - __builtin_clzll(cpu->pending[word]);
            cpu->pending[word] &= ~BIT(bit);
            cpu->news = true; // there may be more
            return 64 * word + bit;
        }
    }
    return -1;
}
