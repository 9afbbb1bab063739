// SPDX-License-Identifier: Apache-2.0
//
// Emulation of instructions that touch devices: memory operands where there is no memory, ports. Data goes from one
// place to another, through the arithmetic of the operation; a place is a port, a device's register, RAM or the
// vCPU's registers. A device is the local APIC, a doorbell or whatever a request server answers for. An
// instruction that has to wait for an answer is kept decoded in v->io and goes on at its stage; registers, flags and
// RIP change only when all accesses are done. Of a repeated string instruction one element is done at a time.

#include "guest/vcpu.h"
#include "kernel/domain.h"
#include "kernel/request.h"
#include "kernel/schedule.h"

#define IS(op, set)   (BIT(op) & (set))
#define READS_RSI     (BIT(OP_MOVS) | BIT(OP_LODS) | BIT(OP_OUTS))
#define WRITES_RDI    (BIT(OP_MOVS) | BIT(OP_STOS) | BIT(OP_INS))
#define STRING_MEMORY (BIT(OP_MOVS) | BIT(OP_STOS) | BIT(OP_LODS))
#define NO_RESULT     (BIT(OP_CMP) | BIT(OP_TEST) | BIT(OP_CLFLUSH)) // in a destination

struct place {
    enum { REGISTERS, PORT, DEVICE, RAM } kind;
    u64 address; // the port; guest-physical of a device; guest-linear in RAM
};

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

// Reads from or writes to a place that is not in registers. False: it waits for an answer and will be asked for again,
// or it has failed and nothing is emulated any more.
static bool access(struct vcpu *v, struct place p, bool write, u64 *value) {
    unsigned bytes = v->io.insn.rm_size;
    enum basalt_space space = p.kind == PORT ? BASALT_SPACE_IO : BASALT_SPACE_MEMORY;

    if (v->io.answered) {
        v->io.answered = false;
        *value = v->io.data;
        return true;
    }
    if (p.kind == RAM) {
        bool done = guest_copy(v, p.address, value, bytes, write ? PF_WRITE : 0);
        v->io.stage = done ? v->io.stage : IO_IDLE;
        return done;
    }
    if (p.kind == DEVICE && vlapic_owns(&v->lapic, GPA(p.address))) {
        lapic_access(v, GPA(p.address), bytes, write, value);
        return true;
    }
    if (write && doorbell_ring(v, space, p.address, bytes, *value))
        return true;
    return !request_send(v, space, p.address, bytes, write, value);
}

// Where the memory operand of a string instruction lies. False: an exception was queued.
static __attribute__((noinline)) bool string_place(struct vcpu *v, unsigned segment, unsigned reg,
                                                   bool write, struct place *p) {
    const struct insn *i = &v->io.insn;
    u64 linear, offset = gpr_read(v, reg, i->address_size, false);
    gpa_t gpa;

    if (!guest_linear(v, segment, offset, i->rm_size, write, &linear) ||
        !guest_translate(v, linear, write ? PF_WRITE : 0, &gpa))
        return false;
    struct ept_leaf leaf = ept_walk(&v->domain->ept, gpa);
    bool ram = leaf.present || leaf.policy == EPT_POLICY_POPULATE;
    *p = ram ? (struct place){RAM, linear} : (struct place){DEVICE, gpa.v};
    return true;
}

static bool find_places(struct vcpu *v, struct place *from, struct place *to) {
    const struct insn *i = &v->io.insn;
    struct place device = {DEVICE, v->io.gpa.v}, port = {PORT, v->io.port}, memory;

    *from = *to = (struct place){REGISTERS, 0};
    if (i->op <= OP_CLFLUSH) {
        if (!(i->op == OP_MOV && i->to_rm) && i->op != OP_CLFLUSH)
            *from = device;
        if (i->to_rm && !IS(i->op, NO_RESULT))
            *to = device;
        return true;
    }
    if (IS(i->op, BIT(OP_IN) | BIT(OP_INS)))
        *from = port;
    if (IS(i->op, BIT(OP_OUT) | BIT(OP_OUTS)))
        *to = port;
    if (IS(i->op, READS_RSI)) {
        if (!string_place(v, i->segment, BASALT_RSI, false, &memory))
            return false;
        *from = memory;
    }
    if (IS(i->op, WRITES_RDI)) {
        if (!string_place(v, BASALT_ES, BASALT_RDI, true, &memory))
            return false;
        *to = memory;
    }
    return true;
}

static u64 source(const struct vcpu *v, const struct insn *i) {
    if (i->immediate_source)
        return i->immediate & insn_mask(i->rm_size);
    return gpr_read(v, i->reg, i->rm_size, i->reg_high);
}

// What the destination gets, and the flags afterwards. `old` is what was read; registers are as before.
static u64 result(struct vcpu *v, u64 old, u64 *flags) {
    const struct insn *i = &v->io.insn;
    u64 src = source(v, i);

    if (i->op == OP_CMPXCHG) {
        u64 accumulator = gpr_read(v, BASALT_RAX, i->rm_size, false);
        alu(OP_CMP, accumulator, old, i->rm_size, flags);
        return accumulator == old ? src : old;
    }
    if (i->op == OP_MOVSX)
        return (u64)insn_signed(old, i->rm_size);
    // Strings and ports move what was read, but for STOS and OUT, which have read nothing.
    bool to_rm = i->to_rm && i->op != OP_INS;
    if (i->op >= OP_MOV)
        return to_rm ? src : old;
    return alu((enum insn_op)i->op, to_rm ? old : src, to_rm ? src : old, i->rm_size, flags);
}

// The pointers and the count of a string instruction. True: it has more to do.
static bool string_step(struct vcpu *v) {
    const struct insn *i = &v->io.insn;
    u64 delta = v->cpu.rflags & RFLAGS_DF ? -(u64)i->rm_size : i->rm_size;

    if (IS(i->op, READS_RSI))
        gpr_write(v, BASALT_RSI, i->address_size, false, v->cpu.gprs[BASALT_RSI] + delta);
    if (IS(i->op, WRITES_RDI))
        gpr_write(v, BASALT_RDI, i->address_size, false, v->cpu.gprs[BASALT_RDI] + delta);
    if (!i->rep)
        return false;
    gpr_write(v, BASALT_RCX, i->address_size, false, v->cpu.gprs[BASALT_RCX] - 1);
    return gpr_read(v, BASALT_RCX, i->address_size, false);
}

// Registers, flags and RIP after an instruction whose accesses are done.
static void finish(struct vcpu *v, bool to_registers, u64 value, u64 flags) {
    const struct insn *i = &v->io.insn;
    u64 old = v->io.old;

    v->io.stage = IO_IDLE;
    if (i->op == OP_XCHG || i->op == OP_XADD)
        gpr_write(v, i->reg, i->rm_size, i->reg_high, old);
    else if (i->op == OP_CMPXCHG && gpr_read(v, BASALT_RAX, i->rm_size, false) != old)
        gpr_write(v, BASALT_RAX, i->rm_size, false, old);
    else if (to_registers && !IS(i->op, NO_RESULT))
        gpr_write(v, i->reg, i->operand_size, i->reg_high, value);
    if (flags != v->cpu.rflags) {
        v->cpu.rflags = flags;
        v->cpu.dirty |= CPU_DIRTY_RFLAGS;
    }
    if (!IS(i->op, READS_RSI | WRITES_RDI) || !string_step(v))
        vcpu_skip(v, i->length);
}

void emulate(struct vcpu *v) {
    const struct insn *i = &v->io.insn;
    struct place from, to;
    u64 flags = v->cpu.rflags;

    if (IS(i->op, READS_RSI | WRITES_RDI) && i->rep &&
        !gpr_read(v, BASALT_RCX, i->address_size, false)) {
        v->io.stage = IO_IDLE;
        vcpu_skip(v, i->length);
        return;
    }
    if (!find_places(v, &from, &to)) {
        v->io.stage = IO_IDLE;
        return;
    }
    if (v->io.stage == IO_READ) {
        u64 value = 0;
        if (from.kind != REGISTERS && !access(v, from, false, &value))
            return;
        v->io.old = value & insn_mask(i->rm_size);
        v->io.stage = IO_WRITE;
    }
    u64 value = result(v, v->io.old, &flags), written = value;
    if (to.kind != REGISTERS && !access(v, to, true, &written))
        return;
    finish(v, to.kind == REGISTERS, value, flags);
}

// Begins with the instruction in v->io.insn.
static void begin(struct vcpu *v) {
    v->io.stage = IO_READ;
    v->io.answered = false;
    emulate(v);
}

void handle_device_memory(struct vcpu *v, struct exit e) {
    struct insn *i = &v->io.insn;

    v->io.gpa = e.gpa;
    // An instruction fetch from a device, or an event delivered through one, is nothing that can be carried out.
    bool possible = !e.fetch && !e.in_walk && !v->cpu.queued.valid;
    if (possible && !guest_decode(v, i))
        return;
    bool operand = possible && i->memory && i->op <= OP_CLFLUSH &&
                   (e.gpa.v & ~PAGE_MASK) + i->rm_size <= PAGE_SIZE;
    if (operand || (possible && IS(i->op, STRING_MEMORY)))
        begin(v);
    else
        domain_end(v->domain, BASALT_END_EMULATION, v->index, e.gpa.v);
}

// IN and OUT are done at once, but where they wait for an answer: then emulate() goes on with them.
static void single_port(struct vcpu *v, struct exit e, u8 op) {
    u64 value = gpr_read(v, BASALT_RAX, e.bytes, false);

    if (!e.write || !doorbell_ring(v, BASALT_SPACE_IO, e.port, e.bytes, value)) {
        if (request_send(v, BASALT_SPACE_IO, e.port, e.bytes, e.write, &value)) {
            v->io.stage = e.write ? IO_WRITE : IO_READ;
            v->io.insn = (struct insn){.op = op,
                                       .length = e.insn_length,
                                       .operand_size = e.bytes,
                                       .rm_size = e.bytes,
                                       .to_rm = e.write};
            return;
        }
        if (!e.write)
            gpr_write(v, BASALT_RAX, e.bytes, false, value);
    }
    vcpu_skip(v, e.insn_length);
}

// The exit always tells port, size and direction; it may tell the length.
void handle_port(struct vcpu *v, struct exit e) {
    struct insn *i = &v->io.insn;
    u8 op = e.string ? (e.write ? OP_OUTS : OP_INS) : (e.write ? OP_OUT : OP_IN);

    v->io.port = e.port;
    v->io.answered = false;
    if (e.string || !e.insn_length) {
        if (!guest_decode(v, i) || i->op != op)
            return; // an exception; or the code changed under the decoder, and is tried again
        e.insn_length = i->length;
    }
    if (e.string) {
        i->operand_size = i->rm_size = e.bytes;
        begin(v);
    } else {
        single_port(v, e, op);
    }
}
