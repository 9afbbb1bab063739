// SPDX-License-Identifier: Apache-2.0
//
// The vCPU run loop and the exit table: a row documents and dispatches one kind of VM exit, the same
// for both vendors. Handlers change the vCPU's state or queue an event; the loop enters again until the vCPU blocks
// or the scheduler wants the CPU.

#include "arch/spec.h"
#include "guest/vcpu.h"
#include "kernel/domain.h"
#include "kernel/hypercall.h"
#include "kernel/log.h"
#include "kernel/schedule.h"
#include "kernel/trace.h"

// What #DB changes: its handler may touch the debug registers.
static void debug_exception(struct vcpu *v, u64 dr6) {
    backend->write(&v->cpu, REG_DR6, backend->read(&v->cpu, REG_DR6) | dr6);
    backend->write(&v->cpu, REG_DR7, backend->read(&v->cpu, REG_DR7) & ~DR7_GD);
    vcpu_exception(v, EXC_DB, false, 0);
}

// TF: a trap after the instruction.
void vcpu_single_step(struct vcpu *v) { debug_exception(v, DR6_BS); }

// The host's handler has looked at the banks and found that the machine can go on; this guest can't.
static void handle_machine_check(struct vcpu *v, struct exit e unused) {
    domain_end(v->domain, BASALT_END_MACHINE_CHECK, v->index, 0);
}

static void handle_exception(struct vcpu *v, struct exit e) {
    if (e.vector == EXC_DB) {
        v->cpu.rip += e.insn_length; // not 0 for INT1, which traps behind itself
        debug_exception(v, e.detail);
    } else {
        vcpu_exception(v, e.vector, exception_has_error(e.vector), (u32)e.detail);
    }
}

// The preemption timer's exit has no vector; what the processor kept to itself comes in here, too.
static void handle_interrupt(struct vcpu *v unused, struct exit e) {
    if (e.vector)
        irq_record(e.vector); // acknowledged by the exit; else it is still pending
    schedule_poll();
}

static void handle_nothing(struct vcpu *v unused, struct exit e unused) {}

static void handle_irq_window(struct vcpu *v, struct exit e unused) {
    backend->window(&v->cpu, false, false);
    v->irq_window = false;
}

static void handle_nmi_window(struct vcpu *v, struct exit e unused) {
    backend->window(&v->cpu, true, false);
}

static void handle_hlt(struct vcpu *v, struct exit e) {
    vcpu_skip(v, e.insn_length);
    v->halted = v->lapic.changed = true;
}

static void handle_skip(struct vcpu *v, struct exit e) { vcpu_skip(v, e.insn_length); }

static void handle_pause(struct vcpu *v, struct exit e) {
    handle_skip(v, e);
    schedule_yield();
}

static void handle_ud(struct vcpu *v, struct exit e unused) { vcpu_ud(v); }
static void handle_gp(struct vcpu *v, struct exit e unused) { vcpu_gp(v); }

static void handle_memory(struct vcpu *v, struct exit e) {
    if (vlapic_owns(&v->lapic, e.gpa)) { // whatever may lie below it
        handle_device_memory(v, e);
        return;
    }
    struct ept_leaf leaf = ept_walk(&v->domain->ept, e.gpa);
    bool code = e.fetch && leaf.flags & EPT_READ && !(leaf.flags & (EPT_EXEC | EPT_FOREIGN));

    if (code || (!leaf.present && leaf.policy == EPT_POLICY_POPULATE)) {
        if (!(code ? memory_allow_code : memory_fault)(v->domain, e.gpa))
            domain_end(v->domain, BASALT_END_MEMORY, v->index, e.gpa.v);
        return; // the access is tried again, with the event that it interrupted
    }
    if (leaf.flags & EPT_READ && (!e.write || leaf.flags & EPT_WRITE) &&
        (!e.fetch || leaf.flags & EPT_EXEC))
        return; // mapped meanwhile
    handle_device_memory(v, e);
}

static void handle_triple_fault(struct vcpu *v, struct exit e unused) {
    domain_end(v->domain, BASALT_END_TRIPLE_FAULT, v->index, 0);
}

static void handle_bad_state(struct vcpu *v, struct exit e) {
    struct cpu_state *c = &v->cpu;

    // Whoever watches the domain can ask for the whole control block.
    log_warn("guest: domain %u vCPU %u: the processor refuses its state (%s 0x%lx): rip 0x%lx "
             "rflags 0x%lx cr0 0x%lx cr4 0x%lx efer 0x%lx cs 0x%x ss 0x%x",
             v->domain->info.id, v->index, backend->name, e.detail, c->rip, c->rflags,
             backend->read(c, REG_CR0), backend->read(c, REG_CR4), backend->read(c, REG_EFER),
             backend->read_segment(c, BASALT_CS).attributes,
             backend->read_segment(c, BASALT_SS).attributes);
    domain_end(v->domain, BASALT_END_BAD_STATE, v->index, e.detail);
}

static void handle_unsupported(struct vcpu *v, struct exit e) {
    log_warn("guest: domain %u vCPU %u: unsupported exit: kind %u, 0x%lx", v->domain->info.id,
             v->index, e.kind, e.detail);
    domain_end(v->domain, BASALT_END_EMULATION, v->index, e.detail);
}

struct exit_row {
    void (*handler)(struct vcpu *v, struct exit e);
    u8 opcode_bytes; // of an instruction whose length the handler needs, else 0
};

#define EXIT_ROW(kind, handler)        [BASALT_EXIT_##kind] = {handler, 0}
#define INSN_ROW(kind, handler, bytes) [BASALT_EXIT_##kind] = {handler, bytes}

// Every kind has its row.
static const struct exit_row exit_rows[BASALT_EXIT_COUNT] = {
    EXIT_ROW(EXCEPTION, handle_exception),
    EXIT_ROW(INTERRUPT, handle_interrupt),
    EXIT_ROW(NMI, handle_nothing), // the host's: counted by its handler
    EXIT_ROW(SMI, handle_nothing),
    EXIT_ROW(INIT, handle_nothing),
    EXIT_ROW(IRQ_WINDOW, handle_irq_window),
    EXIT_ROW(NMI_WINDOW, handle_nmi_window),
    INSN_ROW(CPUID, handle_cpuid, 2),
    INSN_ROW(HLT, handle_hlt, 1),
    INSN_ROW(INVD, handle_skip, 2),   // memory is write-back and coherent: nothing to do
    INSN_ROW(WBINVD, handle_skip, 2), // the same
    EXIT_ROW(RDPMC, handle_gp),       // no performance monitoring
    EXIT_ROW(HYPERCALL, hypercall),
    EXIT_ROW(VIRT_INSN, handle_ud), // no nested virtualization
    EXIT_ROW(CR_ACCESS, handle_cr),
    EXIT_ROW(DR_ACCESS, handle_dr),
    EXIT_ROW(IO, handle_port),
    INSN_ROW(RDMSR, handle_rdmsr, 2),
    INSN_ROW(WRMSR, handle_wrmsr, 2),
    EXIT_ROW(BAD_STATE, handle_bad_state),
    EXIT_ROW(MWAIT, handle_ud), // not in CPUID
    EXIT_ROW(MONITOR, handle_ud),
    INSN_ROW(PAUSE, handle_pause, 1),
    EXIT_ROW(MACHINE_CHECK, handle_machine_check),
    EXIT_ROW(APIC_EOI, handle_apic_eoi),
    EXIT_ROW(APIC_WRITE, handle_nothing), // a self IPI with a vector that is none
    EXIT_ROW(MEMORY, handle_memory),
    EXIT_ROW(PREEMPTION, handle_interrupt),
    INSN_ROW(XSETBV, handle_xsetbv, 3),
    EXIT_ROW(TRIPLE_FAULT, handle_triple_fault),
    // Nothing that a guest may do:
    EXIT_ROW(TASK_SWITCH, handle_unsupported),
    EXIT_ROW(UNKNOWN, handle_unsupported),
};

static __attribute__((cold, noinline)) void trace_exit(const struct vcpu *v, struct exit e) {
    trace(BASALT_TRACE_EXIT + e.kind, v->domain->info.id, v->index, v->cpu.rip,
          e.kind == BASALT_EXIT_HYPERCALL ? v->cpu.gprs[BASALT_RAX] : e.detail);
}

// An exit by an instruction whose length the processor did not tell.
static inline void handle_unmeasured(struct vcpu *v, struct exit e, const struct exit_row *row) {
    e.insn_length = guest_insn_length(v, row->opcode_bytes);
    if (e.insn_length) // else the guest changed it: what is there now comes next
        row->handler(v, e);
}

void vcpu_run(struct vcpu *v) {
    const struct runqueue *q = this_queue();
    const struct ept *second_level = &v->domain->ept;
    world_switch *enter = spec.flags & SPEC_AROUND ? backend->enter_guarded : backend->enter;

    while (!schedule_due(q)) {
        if (unlikely(v->lapic.attention) && !vcpu_prepare(v))
            continue;
        if (unlikely(v->cpu.flush_generation != second_level->generation)) {
            backend->flush_second_level(&v->cpu);
            v->cpu.flush_generation = second_level->generation;
        }
        if (unlikely(v->cpu.dirty | v->cpu.queued.valid))
            backend->prepare(&v->cpu);
        struct cpu_state *cpu = &v->cpu;
        struct exit e = backend_enter(enter, &cpu);
        v = container_of(cpu, struct vcpu, cpu);
        const struct exit_row *row = &exit_rows[e.kind];
        v->stats.exits[e.kind]++;
        if (unlikely(trace_events & BIT(BASALT_TRACE_EXITS)))
            trace_exit(v, e);
        if (unlikely(!e.insn_length) && row->opcode_bytes)
            handle_unmeasured(v, e, row);
        else
            row->handler(v, e);
    }
}
