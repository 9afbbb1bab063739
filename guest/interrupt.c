// SPDX-License-Identifier: Apache-2.0
//
// Interrupts on their way to a vCPU: from messages through the local APICs to the event that the next entry
// delivers. Invariant: an interrupt taken out of IRR is in cpu.queued, or in delivery, or back in IRR: never lost.

#include "guest/vcpu.h"
#include "kernel/domain.h"
#include "kernel/request.h"
#include "kernel/schedule.h"
#include "kernel/trace.h"

// Where the guest's IOAPIC takes the end of a level-triggered interrupt.
#define IOAPIC_EOI_REGISTER 0xfec00040ull

static inline void deliver_to(struct vcpu *v, u8 mode, u8 vector, bool level) {
    switch (mode) {
    case APIC_FIXED:
    case APIC_LOWEST:
        v->stats.injections++;
        trace(BASALT_TRACE_INJECT, v->domain->info.id, v->index, vector, level);
        if (vlapic_accept(&v->lapic, vector, level))
            vcpu_unblock(v, BLOCK_HALT);
        break;
    case APIC_NMI:
        vcpu_nmi(v);
        vcpu_unblock(v, BLOCK_HALT);
        break;
    case APIC_INIT: vcpu_init_ipi(v); break;
    case APIC_SIPI: vcpu_startup_ipi(v, vector); break;
    default: // SMI and ExtINT: there is neither SMM nor a PIC
        break;
    }
}

// Whether `v` is meant by a message that `source` (NULL: a device) sent.
static bool is_meant(const struct vcpu *v, const struct vcpu *source,
                     const struct apic_message *m) {
    if (m->shorthand == APIC_TO_ALL || m->shorthand == APIC_TO_OTHERS)
        return m->shorthand == APIC_TO_ALL || v != source;
    return vlapic_match(&v->lapic, m->dest, m->logical);
}

static __attribute__((noinline)) void deliver_to_all(struct domain *d, const struct vcpu *source,
                                                     const struct apic_message *m) {
    struct vcpu *v;

    for_each_vcpu (v, d) {
        if (!is_meant(v, source, m))
            continue;
        deliver_to(v, m->mode, m->vector, m->level);
        if (m->mode == APIC_LOWEST)
            return;
    }
}

// Most messages are to one by its APIC ID, which is its index.
static inline void deliver(struct domain *d, const struct vcpu *source,
                           const struct apic_message *m) {
    struct vcpu *v;

    if (m->logical || m->shorthand || m->dest >= BASALT_VCPUS_MAX)
        deliver_to_all(d, source, m);
    else if ((v = d->vcpus[m->dest]) && vlapic_on(&v->lapic))
        deliver_to(v, m->mode, m->vector, m->level);
}

// Follows the SDM, "Message Signalled Interrupts": an address in the interrupt window, and a delivery mode that MSIs have.
int guest_msi(struct domain *d, u64 address, u64 data) {
    u32 mode = data >> 8 & 7, dest = (u32)(address >> 12) & 0xff;

    if (data >> 32 || address >> 20 != 0xfee || mode == APIC_RESERVED || mode == APIC_SIPI)
        return -BASALT_EINVAL;
    struct apic_message m = {
        .dest = dest == 0xff ? VLAPIC_BROADCAST : dest,
        .vector = (u8)data,
        .mode = (u8)mode,
        .logical = address & 4,
        .level = data & 0x8000,
    };
    deliver(d, NULL, &m);
    return 0;
}

// A level-triggered interrupt ended: as if the vCPU wrote the vector to the IOAPIC itself, it goes on when whoever models
// that has answered.
static void level_eoi(struct vcpu *v, u64 vector) {
    (void)!request_send(v, BASALT_SPACE_MEMORY, IOAPIC_EOI_REGISTER, 4, true, &vector);
}

void handle_apic_eoi(struct vcpu *v, struct exit e) { level_eoi(v, e.vector); }

void vcpu_apic_effect(struct vcpu *v, const struct vlapic_effect *effect) {
    if (effect->timer) {
        u64 deadline = vlapic_timer_deadline(&v->lapic);
        schedule_timer(&v->lapic_timer, deadline ? deadline - v->cpu.tsc_offset : 0);
    }
    if (effect->send)
        deliver(v->domain, v, &effect->message);
    if (effect->eoi)
        level_eoi(v, effect->eoi_vector);
}

static void prepare_nmi(struct vcpu *v) {
    if (backend->can_take(&v->cpu, true)) {
        v->cpu.queued = (struct event){.valid = true, .type = EVENT_NMI, .vector = EXC_NMI};
        v->nmi_pending = false;
    } else {
        backend->window(&v->cpu, true, true);
    }
}

// The processor delivers by itself; it has to know what software did to the registers, and HLT ends where it has something to
// deliver now.
static void update_processor(struct vcpu *v) {
    struct vlapic *apic = &v->lapic;

    if (apic->reconfigured)
        backend->apic_mode(&v->cpu, vlapic_x2apic(apic), vlapic_reg(apic, LAPIC_TMR));
    if (apic->moved)
        vlapic_look(apic);
    u16 status = backend->apic_status(&v->cpu, (u16)(apic->irr | apic->isr << 8), apic->moved);
    apic->irr = (u8)status;
    apic->isr = (u8)(status >> 8);
    if (v->halted && vlapic_pending(apic) >= 0 && backend->can_take(&v->cpu, false))
        v->halted = false;
    apic->changed = apic->reconfigured = apic->moved = false;
    apic->irr = 0;
}

// Delivers the highest interrupt. Where that has to wait for the guest, `changed` stays.
static void prepare_interrupt(struct vcpu *v) {
    int vector = vlapic_pending(&v->lapic);
    bool wait = vector >= 0 && (v->cpu.queued.valid || !backend->can_take(&v->cpu, false));

    v->lapic.changed = wait;
    if (v->irq_window != wait)
        backend->window(&v->cpu, false, wait);
    v->irq_window = wait;
    if (vector < 0 || wait)
        return;
    vlapic_ack(&v->lapic, (u8)vector);
    v->cpu.queued = (struct event){.valid = true, .type = EVENT_INTERRUPT, .vector = (u8)vector};
}

static void prepare_event(struct vcpu *v) {
    if (unlikely(v->nmi_pending) && !v->cpu.queued.valid)
        prepare_nmi(v);
    if (v->cpu.virtual_apic.v)
        update_processor(v);
    else
        prepare_interrupt(v);
    if (v->nmi_pending || v->cpu.queued.valid)
        v->halted = false;
    if (v->halted)
        vcpu_block(v, BLOCK_HALT);
    if (v->halted || v->nmi_pending)
        v->lapic.changed = true;
}

bool vcpu_prepare(struct vcpu *v) {
    if (v->lapic.answered) {
        v->lapic.answered = false;
        vcpu_answered(v);
    }
    if (v->lapic.changed)
        prepare_event(v);
    return !this_queue()->resched;
}
