// SPDX-License-Identifier: Apache-2.0
//
// Emulation of instructions whose memory operand is a device: local APIC, doorbells and whatever request
// servers answer for. An instruction that has to wait for an answer is kept decoded in v->io and resumed by phase;
// registers, flags and RIP change only when all device accesses are done.

#include "guest/alu.h"
#include "guest/vcpu.h"
#include "kernel/domain.h"
#include "kernel/request.h"
#include "kernel/schedule.h"

enum phase { PHASE_READ, PHASE_WRITE, PHASE_DONE };

u64 gpr_read(const struct vcpu *v, unsigned number, unsigned bytes, bool high) {
    return (v->cpu.gprs[number] >> (high ? 8 : 0)) & insn_mask(bytes);
}

void gpr_write(struct vcpu *v, unsigned number, unsigned bytes, bool high, u64 value) {
    u64 *reg = &v->cpu.gprs[number];
    u64 mask = insn_mask(bytes), shift = high ? 8 : 0;

    *reg = bytes == 4 ? value & mask : (*reg & ~(mask << shift)) | (value & mask) << shift;
    if (number == BASALT_RSP)
        v->cpu.dirty |= CPU_DIRTY_RSP;
}

// The local APIC is the kernel's: answered at once.
static void lapic_access(struct vcpu *v, gpa_t gpa, unsigned bytes, bool write, u64 *value) {
    u32 offset = (u32)(gpa.v & ~PAGE_MASK);

    if (write) {
        struct vlapic_effect effect =
            vlapic_write(&v->lapic, offset, bytes, (u32)*value, guest_tsc(v));
        vcpu_apic_effect(v, &effect);
    } else {
        *value = vlapic_read(&v->lapic, offset, bytes, guest_tsc(v));
    }
}

bool device_access(struct vcpu *v, enum basalt_space space, u64 address, unsigned bytes, bool write,
                   u64 *value) {
    if (space == BASALT_SPACE_MEMORY && vlapic_owns(&v->lapic, GPA(address))) {
        lapic_access(v, GPA(address), bytes, write, value);
        return true;
    }
    if (write && doorbell_ring(v, space, address, bytes, *value))
        return true;
    v->io.answered = false;
    if (request_send(v, space, address, bytes, write, *value))
        return false;
    if (!write)
        *value = insn_mask(bytes);
    return true;
}

static bool reads_memory(const struct insn *i) {
    return !(i->op == OP_MOV && i->to_rm) && i->op != OP_CLFLUSH;
}

static bool writes_memory(const struct insn *i) {
    return i->to_rm && i->op != OP_CMP && i->op != OP_TEST && i->op != OP_CLFLUSH;
}

// What step() can carry out on a device.
static bool supported(const struct insn *i) { return i->memory && i->op <= OP_CLFLUSH; }

static u64 source(const struct vcpu *v, const struct insn *i) {
    if (i->immediate_source)
        return i->immediate & insn_mask(i->rm_size);
    return gpr_read(v, i->reg,
                    i->op == OP_MOVZX || i->op == OP_MOVSX ? i->operand_size : i->rm_size,
                    i->reg_high);
}

static void set_flags(struct vcpu *v, u64 flags) {
    v->cpu.rflags = flags;
    v->cpu.dirty |= CPU_DIRTY_RFLAGS;
}

// The value that the memory operand gets; v->io.old is what was read.
static u64 result_for_memory(struct vcpu *v, const struct insn *i) {
    u64 src = source(v, i), old = v->io.old;

    if (i->op == OP_CMPXCHG)
        return old == gpr_read(v, BASALT_RAX, i->rm_size, false) ? src : old;
    return alu((enum insn_op)i->op, old, src, i->rm_size, v->cpu.rflags).value;
}

// Registers and flags after an instruction whose memory operand was the destination.
static void finish_write(struct vcpu *v, const struct insn *i) {
    u64 old = v->io.old, accumulator = gpr_read(v, BASALT_RAX, i->rm_size, false),
        src = source(v, i);

    switch (i->op) {
    case OP_XCHG: gpr_write(v, i->reg, i->rm_size, i->reg_high, old); break;
    case OP_XADD:
        set_flags(v, alu(OP_ADD, old, src, i->rm_size, v->cpu.rflags).flags);
        gpr_write(v, i->reg, i->rm_size, i->reg_high, old);
        break;
    case OP_CMPXCHG:
        set_flags(v, alu(OP_CMP, accumulator, old, i->rm_size, v->cpu.rflags).flags);
        if (accumulator != old)
            gpr_write(v, BASALT_RAX, i->rm_size, false, old);
        break;
    case OP_MOV: break;
    default: set_flags(v, alu((enum insn_op)i->op, old, src, i->rm_size, v->cpu.rflags).flags);
    }
}

// Registers and flags after an instruction that only read memory.
static void finish_read(struct vcpu *v, const struct insn *i) {
    u64 old = v->io.old, reg = source(v, i);

    switch (i->op) {
    case OP_MOV:
    case OP_MOVZX: gpr_write(v, i->reg, i->operand_size, i->reg_high, old); break;
    case OP_MOVSX:
        gpr_write(v, i->reg, i->operand_size, false, (u64)insn_signed(old, i->rm_size));
        break;
    case OP_CLFLUSH: break;
    default: {
        bool memory_first = i->to_rm;
        struct alu_result r = alu((enum insn_op)i->op, memory_first ? old : reg,
                                  memory_first ? reg : old, i->rm_size, v->cpu.rflags);
        set_flags(v, r.flags);
        if (!memory_first && i->op != OP_CMP && i->op != OP_TEST)
            gpr_write(v, i->reg, i->operand_size, i->reg_high, r.value);
    }
    }
}

static void finish(struct vcpu *v) {
    const struct insn *i = &v->io.insn;

    v->io.resume = NULL;
    if (writes_memory(i))
        finish_write(v, i);
    else
        finish_read(v, i);
    vcpu_skip(v, i->length);
}

static void step(struct vcpu *v) {
    const struct insn *i = &v->io.insn;
    bool answered = v->io.answered;

    v->io.answered = false;
    if (v->io.phase == PHASE_READ) {
        u64 value = v->io.data;
        if (reads_memory(i) && !answered &&
            !device_access(v, BASALT_SPACE_MEMORY, v->io.gpa.v, i->rm_size, false, &value))
            return;
        v->io.old = value & insn_mask(i->rm_size);
        v->io.phase = PHASE_WRITE;
        answered = false;
    }
    if (v->io.phase == PHASE_WRITE) {
        u64 value = result_for_memory(v, i) & insn_mask(i->rm_size);
        if (writes_memory(i) && !answered &&
            !device_access(v, BASALT_SPACE_MEMORY, v->io.gpa.v, i->rm_size, true, &value))
            return;
    }
    finish(v);
}

// Ends the instruction: one step of REP counts rCX down and stays; otherwise RIP moves on.
static void string_step(struct vcpu *v, bool src, bool destination) {
    const struct insn *i = &v->io.insn;
    u64 delta = v->cpu.rflags & BIT(10) ? -(u64)i->operand_size : i->operand_size;

    if (src)
        gpr_write(v, BASALT_RSI, i->address_size, false, v->cpu.gprs[BASALT_RSI] + delta);
    if (destination)
        gpr_write(v, BASALT_RDI, i->address_size, false, v->cpu.gprs[BASALT_RDI] + delta);
    v->io.resume = NULL;
    if (i->rep || i->repne)
        gpr_write(v, BASALT_RCX, i->address_size, false, v->cpu.gprs[BASALT_RCX] - 1);
    if (!(i->rep || i->repne) || !gpr_read(v, BASALT_RCX, i->address_size, false))
        vcpu_skip(v, i->length);
}

// True if a REP prefix has nothing left to do (RIP has moved on).
static bool string_done(struct vcpu *v) {
    const struct insn *i = &v->io.insn;

    if (!(i->rep || i->repne) || gpr_read(v, BASALT_RCX, i->address_size, false))
        return false;
    v->io.resume = NULL;
    vcpu_skip(v, i->length);
    return true;
}

// One side of a string instruction: memory or a device in its place, or the port of INS and OUTS.
struct side {
    bool port;
    u64 linear;
    gpa_t gpa;
};

static bool string_side(struct vcpu *v, unsigned segment, unsigned reg, bool write,
                        struct side *side) {
    const struct insn *i = &v->io.insn;
    bool user = backend->cpl(&v->cpu) == 3;
    struct walk_fault fault;

    if (!guest_linear(v, segment, gpr_read(v, reg, i->address_size, false), i->operand_size, write,
                      &side->linear))
        return false;
    if (!guest_translate(v, side->linear, write, user, false, &side->gpa, &fault))
        return true;
    vcpu_walk_failed(v, &fault);
    return false;
}

static bool is_memory(const struct vcpu *v, gpa_t gpa) {
    struct ept_leaf leaf = ept_walk(&v->domain->ept, gpa);

    return leaf.present || leaf.policy == EPT_POLICY_POPULATE;
}

// Reads or writes one element, wherever it lies. False: waits, or the domain ended.
static bool element(struct vcpu *v, const struct side *side, bool write, u64 *value) {
    unsigned bytes = v->io.insn.operand_size;
    bool user = backend->cpl(&v->cpu) == 3;
    struct walk_fault fault;

    if (side->port)
        return device_access(v, BASALT_SPACE_IO, v->io.exit.port, bytes, write, value);
    if (!is_memory(v, side->gpa))
        return device_access(v, BASALT_SPACE_MEMORY, side->gpa.v, bytes, write, value);
    if (!(write ? guest_write_linear(v, side->linear, value, bytes, user, &fault)
                : guest_read_linear(v, side->linear, value, bytes, user, false, &fault)))
        return true;
    v->io.resume = NULL;
    vcpu_walk_failed(v, &fault);
    return false;
}

static void string_resume(struct vcpu *v) {
    const struct insn *i = &v->io.insn;
    bool reads = i->op != OP_STOS, writes = i->op != OP_LODS, answered = v->io.answered;
    struct side from = {.port = i->op == OP_INS}, to = {.port = i->op == OP_OUTS};
    bool from_memory = reads && !from.port, to_memory = writes && !to.port;

    v->io.answered = false;
    if (string_done(v))
        return;
    if ((from_memory && !string_side(v, i->segment, BASALT_RSI, false, &from)) ||
        (to_memory && !string_side(v, BASALT_ES, BASALT_RDI, true, &to))) {
        v->io.resume = NULL; // an exception was queued
        return;
    }
    if (v->io.phase == PHASE_READ) {
        u64 value = reads ? v->io.data : gpr_read(v, BASALT_RAX, i->operand_size, false);
        if (reads && !answered && !element(v, &from, false, &value))
            return;
        v->io.old = value;
        v->io.phase = PHASE_WRITE;
        answered = false;
    }
    u64 value = v->io.old & insn_mask(i->operand_size);
    if (writes && !answered && !element(v, &to, true, &value))
        return;
    if (!writes)
        gpr_write(v, BASALT_RAX, i->operand_size, false, value);
    string_step(v, from_memory, to_memory);
}

void string_begin(struct vcpu *v) {
    v->io.phase = PHASE_READ;
    v->io.answered = false;
    v->io.resume = string_resume;
    string_resume(v);
}

void handle_device_memory(struct vcpu *v, const struct exit *e) {
    struct insn *i = &v->io.insn;

    v->io.gpa = e->gpa;
    // An instruction fetch from a device, or an event delivered through one, is nothing that can be carried out.
    if (e->fetch || e->in_walk || e->vectoring.valid) {
        domain_end(v->domain, BASALT_END_EMULATION, v->index, e->gpa.v);
        return;
    }
    if (!guest_decode(v, i))
        return;
    if (i->op == OP_MOVS || i->op == OP_STOS || i->op == OP_LODS) {
        string_begin(v);
    } else if (supported(i) && (e->gpa.v & ~PAGE_MASK) + i->rm_size <= PAGE_SIZE) {
        v->io.phase = PHASE_READ;
        v->io.answered = false;
        v->io.resume = step;
        step(v);
    } else {
        domain_end(v->domain, BASALT_END_EMULATION, v->index, e->gpa.v);
    }
}
