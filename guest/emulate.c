// SPDX-License-Identifier: Apache-2.0
//
// Accesses to devices: a plain move to or from memory where there is none, IN and OUT. A device is the local APIC, a
// doorbell or whatever a request server answers for; where that takes time, what the answer is for is kept in v->io.
// Every other instruction is a request itself, to the domain's instruction server, which carries it out in the vCPU's place
// (vcpu_complete()). Registers and RIP change only when the access is done.

#include "guest/vcpu.h"
#include "kernel/domain.h"
#include "kernel/log.h"
#include "kernel/request.h"

#define MSR_LINES_MAX 64u

void gpr_write(struct vcpu *v, unsigned number, unsigned bytes, u64 value) {
    u64 *reg = &v->cpu.gprs[number], mask = insn_mask(bytes);

    *reg = (bytes == 4 ? 0 : *reg & ~mask) | (value & mask);
    if (number == BASALT_RSP)
        v->cpu.dirty |= CPU_DIRTY_RSP;
}

// The local APIC is the kernel's: answered at once. False: the access is not to it. A level-triggered interrupt that it ends
// is told to the IOAPIC, or, where there is room for it, put into *ended.
static inline __attribute__((always_inline)) bool apic(struct vcpu *v, u64 gpa, unsigned bytes,
                                                       bool write, u64 *value, u8 *ended) {
    u32 offset = (u32)(gpa & ~PAGE_MASK);

    if (!vlapic_owns(&v->lapic, GPA(gpa)))
        return false;
    if (!write) {
        *value = vlapic_read(&v->lapic, offset, bytes, guest_tsc(v));
        return true;
    }
    struct vlapic_effect effect = vlapic_write(&v->lapic, offset, bytes, (u32)*value, guest_tsc(v));
    if (ended && effect.eoi) {
        *ended = effect.eoi_vector;
        effect.eoi = false;
    }
    vcpu_apic_effect(v, &effect);
    return true;
}

i64 vcpu_apic_access(struct vcpu *v, u64 gpa, u64 bytes, bool write, u64 *value) {
    u8 ended = 0;

    return bytes <= 8 && apic(v, gpa, (unsigned)bytes, write, value, &ended) ? ended
                                                                             : -BASALT_EINVAL;
}

static void finish(struct vcpu *v, u64 value) {
    const struct insn *i = &v->io.insn;

    if (!i->write)
        gpr_write(v, i->reg, i->bytes, value);
    vcpu_skip(v, i->length);
}

// The run loop looks at v->io before it enters again.
static void wait_for_answer(struct vcpu *v, enum io_stage stage) {
    v->io.stage = (u8)stage;
    v->lapic.answered = true;
}

// Carries out the move in v->io.insn, or begins to.
static void access_memory(struct vcpu *v, u64 gpa) {
    const struct insn *i = &v->io.insn;
    u64 value = 0;

    if (i->write)
        value = (i->immediate ? i->value : v->cpu.gprs[i->reg]) & insn_mask(i->bytes);
    if (!apic(v, gpa, i->bytes, i->write, &value, NULL) &&
        request_access(v, BASALT_SPACE_MEMORY, gpa, i->bytes, i->write, &value))
        wait_for_answer(v, IO_ACCESS);
    else
        finish(v, value);
}

// There is no instruction server. An MSR that the kernel does not have is then one that nobody has.
static void nobody_carries_out(struct vcpu *v, struct exit e) {
    static u64 lines; // of all domains together

    if (e.kind != BASALT_EXIT_RDMSR && e.kind != BASALT_EXIT_WRMSR) {
        domain_end(v->domain, BASALT_END_EMULATION, v->index, v->io.address);
        return;
    }
    if (lines++ < MSR_LINES_MAX)
        log_info("guest: domain %u vCPU %u: unknown MSR 0x%lx, or a value that it does not take: "
                 "#GP",
                 v->domain->info.id, v->index, v->io.address);
    vcpu_gp(v);
}

void vcpu_send_instruction(struct vcpu *v, struct exit e) {
    bool cr = e.kind == BASALT_EXIT_CR_ACCESS, io = e.kind == BASALT_EXIT_IO;
    bool write = io ? !(e.access & EXIT_IO_IN) : e.write;
    unsigned bytes = io ? exit_io_bytes(e) : cr ? 0 : e.insn_length;
    u64 kind = e.kind;

    v->io.address = io ? e.port : cr ? 0 : e.gpa.v;
    if (request_send(v, BASALT_SPACE_INSTRUCTION, v->io.address, bytes, write, &kind))
        wait_for_answer(v, IO_INSTRUCTION);
    else
        nobody_carries_out(v, e);
}

// What is not the answer to an access.
static __attribute__((noinline)) void answered_otherwise(struct vcpu *v, unsigned stage) {
    if (stage == IO_INSTRUCTION && v->io.data != BASALT_INSTRUCTION_AGAIN)
        domain_end(v->domain, BASALT_END_EMULATION, v->index, v->io.address);
    else if (stage & IO_AGAIN && request_again(v))
        wait_for_answer(v, (enum io_stage)(stage & ~IO_AGAIN));
}

void vcpu_answered(struct vcpu *v) {
    unsigned stage = v->io.stage;

    v->io.stage = IO_IDLE;
    if (likely(stage == IO_ACCESS))
        finish(v, v->io.data);
    else
        answered_otherwise(v, stage);
}

void handle_device_memory(struct vcpu *v, struct exit e) {
    struct insn *i = &v->io.insn;

    // An instruction fetch from a device, or an event delivered through one, is nothing that can be carried out.
    if (e.fetch || e.in_walk || v->cpu.queued.valid)
        domain_end(v->domain, BASALT_END_EMULATION, v->index, e.gpa.v);
    else if (!guest_decode(v, i) || i->op != OP_MOV || i->write != e.write ||
             (e.gpa.v & ~PAGE_MASK) + i->bytes > PAGE_SIZE)
        vcpu_send_instruction(v, e);
    else
        access_memory(v, e.gpa.v);
}

// Somebody may have claimed the port. What a write does not cover of RAX request_access() drops.
static __attribute__((noinline)) void access_port(struct vcpu *v, struct exit e) {
    u8 bytes = (u8)exit_io_bytes(e);
    u64 value = v->cpu.gprs[BASALT_RAX];

    v->io.insn =
        (struct insn){.length = e.insn_length, .bytes = bytes, .write = !(e.access & EXIT_IO_IN)};
    if (request_access(v, BASALT_SPACE_IO, e.port, bytes, v->io.insn.write, &value))
        wait_for_answer(v, IO_ACCESS);
    else
        finish(v, value);
}

void handle_port(struct vcpu *v, struct exit e) {
    bool write = !(e.access & EXIT_IO_IN);

    if (unlikely(e.access & EXIT_IO_STRING || !e.insn_length)) {
        vcpu_send_instruction(v, e);
    } else if (!request_unclaimed(v, BASALT_SPACE_IO, e.port, write)) {
        access_port(v, e);
    } else {
        if (!write)
            gpr_write(v, BASALT_RAX, exit_io_bytes(e), ~0ull);
        vcpu_skip(v, e.insn_length);
    }
}
