// SPDX-License-Identifier: Apache-2.0
//
// What an instruction does. Data goes from one place to another, through the arithmetic of the
// operation; a place is a port, a device's register, RAM or the vCPU's registers. Both places are
// found, with all rights checked, before the first access, so that an instruction that faults has
// done nothing. Of a repeated string instruction a bounded number of elements is done; registers say
// how far it has come. What the exit was for is held against the instruction that is found, because
// another processor of the guest may have written another one there that the vCPU may not execute.

#include "emulator/emulator.h"
#include "emulator/x86.h"

#include <basalt/trace.h>
#include <string.h>

#define IS(op, set) (BIT(op) & (set))
#define READS_RSI   (BIT(OP_MOVS) | BIT(OP_LODS) | BIT(OP_OUTS))
#define WRITES_RDI  (BIT(OP_MOVS) | BIT(OP_STOS) | BIT(OP_INS))
#define STRINGS     (READS_RSI | WRITES_RDI)
#define READS_PORT  (BIT(OP_IN) | BIT(OP_INS))
#define WRITES_PORT (BIT(OP_OUT) | BIT(OP_OUTS))
#define PORTS       (READS_PORT | WRITES_PORT)
#define NO_RESULT   (BIT(OP_CMP) | BIT(OP_TEST) | BIT(OP_CLFLUSH)) // in a destination

struct place {
    enum { REGISTERS, PORT, DEVICE, RAM } kind;
    u64 address; // the port; guest-physical of a device; guest-linear in RAM
};

static u64 gpr_read(const struct emulator *e, unsigned number, unsigned bytes, bool high) {
    return (e->completion.gprs[number] >> (high ? 8 : 0)) & insn_mask(bytes);
}

static void gpr_write(struct emulator *e, unsigned number, unsigned bytes, bool high, u64 value) {
    u64 *reg = &e->completion.gprs[number];
    u64 mask = insn_mask(bytes), shift = high ? 8 : 0;

    *reg = bytes == 4 ? value & mask : (*reg & ~(mask << shift)) | (value & mask) << shift;
}

// ---- Places ----

// Where `bytes` bytes at `offset` of a segment lie.
static bool memory_place(struct emulator *e, unsigned segment, u64 offset, unsigned bytes,
                         bool write, struct place *p) {
    unsigned access = write ? PF_WRITE : 0;
    u64 linear, gpa, end;

    if (!emulator_linear(e, segment, offset, bytes, write, &linear) ||
        !emulator_translate(e, linear, access, &gpa) ||
        !emulator_translate(e, linear + bytes - 1, access, &end))
        return false;
    if (emulator_is_ram(e, gpa)) {
        *p = (struct place){RAM, linear};
        return true;
    }
    *p = (struct place){DEVICE, gpa};
    return (gpa & ~PAGE_MASK) + bytes <= PAGE_SIZE || emulator_fail(e, EMULATOR_CANNOT);
}

static bool string_place(struct emulator *e, unsigned segment, unsigned reg, bool write,
                         struct place *p) {
    const struct insn *i = &e->insn;

    return memory_place(e, segment, gpr_read(e, reg, i->address_size, false), i->rm_size, write, p);
}

// The memory operand of what is no string instruction. One that is RAM, or a register, needs no
// emulation: the instruction or the tables have changed.
static bool operand_place(struct emulator *e, bool write, struct place *p) {
    const struct insn *i = &e->insn;
    u64 offset = insn_offset(i, e->completion.gprs, e->state.rip + i->length);

    if (!i->memory)
        return emulator_fail(e, EMULATOR_AGAIN);
    if (!memory_place(e, i->segment, offset, i->rm_size, write, p))
        return false;
    return p->kind == DEVICE || emulator_fail(e, EMULATOR_AGAIN);
}

static bool find_places(struct emulator *e, struct place *from, struct place *to) {
    const struct insn *i = &e->insn;
    struct place device = {REGISTERS, 0}, port = {PORT, e->request.address};

    *from = *to = (struct place){REGISTERS, 0};
    if (i->op <= OP_CLFLUSH) {
        bool reads = !(i->op == OP_MOV && i->to_rm) && i->op != OP_CLFLUSH;
        bool writes = i->to_rm && !IS(i->op, NO_RESULT);
        if (!operand_place(e, writes, &device))
            return false;
        if (reads)
            *from = device;
        if (writes)
            *to = device;
        return true;
    }
    if (IS(i->op, READS_PORT))
        *from = port;
    if (IS(i->op, WRITES_PORT))
        *to = port;
    if (IS(i->op, READS_RSI) && !string_place(e, i->segment, BASALT_RSI, false, from))
        return false;
    return !IS(i->op, WRITES_RDI) || string_place(e, SEG_ES, BASALT_RDI, true, to);
}

static bool read_place(struct emulator *e, struct place p, u64 *value) {
    unsigned bytes = e->insn.rm_size;

    *value = 0;
    if (p.kind == RAM)
        return emulator_copy(e, p.address, value, bytes, 0);
    if (p.kind != REGISTERS)
        *value = e->bus->read(e->context, p.kind == DEVICE, p.address, bytes) & insn_mask(bytes);
    return true;
}

static bool write_place(struct emulator *e, struct place p, u64 value) {
    unsigned bytes = e->insn.rm_size;

    value &= insn_mask(bytes);
    if (p.kind == RAM)
        return emulator_copy(e, p.address, &value, bytes, PF_WRITE);
    if (p.kind != REGISTERS)
        e->bus->write(e->context, p.kind == DEVICE, p.address, bytes, value);
    return true;
}

// ---- Results ----

static u64 source(const struct emulator *e) {
    const struct insn *i = &e->insn;

    if (i->immediate_source)
        return i->immediate & insn_mask(i->rm_size);
    return gpr_read(e, i->reg, i->rm_size, i->reg_high);
}

// What the destination gets, and the flags afterwards. `old` is what was read; registers are as
// before.
static u64 result(struct emulator *e, u64 old, u64 *flags) {
    const struct insn *i = &e->insn;
    u64 src = source(e);

    if (i->op == OP_CMPXCHG) {
        u64 accumulator = gpr_read(e, BASALT_RAX, i->rm_size, false);
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

static void to_registers(struct emulator *e, bool destination, u64 old, u64 value) {
    const struct insn *i = &e->insn;

    if (i->op == OP_XCHG || i->op == OP_XADD)
        gpr_write(e, i->reg, i->rm_size, i->reg_high, old);
    else if (i->op == OP_CMPXCHG && gpr_read(e, BASALT_RAX, i->rm_size, false) != old)
        gpr_write(e, BASALT_RAX, i->rm_size, false, old);
    else if (destination && !IS(i->op, NO_RESULT))
        gpr_write(e, i->reg, i->operand_size, i->reg_high, value);
}

// One access to each place. False: nothing was done.
static bool transfer(struct emulator *e) {
    struct place from, to;
    u64 old, flags = e->completion.rflags;

    if (!find_places(e, &from, &to) || !read_place(e, from, &old))
        return false;
    u64 value = result(e, old, &flags);
    if (!write_place(e, to, value))
        return false;
    to_registers(e, to.kind == REGISTERS, old, value);
    e->completion.rflags = flags;
    return true;
}

// ---- Strings ----

static u64 count_left(const struct emulator *e) {
    return e->insn.rep ? gpr_read(e, BASALT_RCX, e->insn.address_size, false) : 1;
}

// The pointers and the count after an element.
static void string_step(struct emulator *e) {
    const struct insn *i = &e->insn;
    u64 delta = e->state.rflags & RFLAGS_DF ? -(u64)i->rm_size : i->rm_size;
    u64 *gprs = e->completion.gprs;

    if (IS(i->op, READS_RSI))
        gpr_write(e, BASALT_RSI, i->address_size, false, gprs[BASALT_RSI] + delta);
    if (IS(i->op, WRITES_RDI))
        gpr_write(e, BASALT_RDI, i->address_size, false, gprs[BASALT_RDI] + delta);
    if (i->rep)
        gpr_write(e, BASALT_RCX, i->address_size, false, gprs[BASALT_RCX] - 1);
}

// An element that fails after others were done is left to the next try, which fails again.
static bool string(struct emulator *e) {
    unsigned done = 0;
    u64 left = count_left(e);

    while (left && done < ELEMENTS_MAX) {
        if (!transfer(e)) {
            if (!done)
                return false;
            e->completion.action = BASALT_COMPLETE_DONE;
            return true;
        }
        string_step(e);
        done++;
        left = e->insn.rep ? count_left(e) : 0;
    }
    e->completion.length = left ? 0 : e->insn.length;
    return true;
}

// ---- Machine status word ----

#define STATUS_WORD (BIT(OP_CLTS) | BIT(OP_LMSW) | BIT(OP_SMSW))

static bool machine_status_word(struct emulator *e) {
    const struct insn *i = &e->insn;
    bool store = i->op == OP_SMSW;
    u16 value = (u16)e->state.cr0;
    u64 linear, offset;

    if (i->op == OP_CLTS) {
        value = (u16)(value & ~CR0_TS);
    } else if (i->memory) {
        offset = insn_offset(i, e->completion.gprs, e->state.rip + i->length);
        if (!emulator_linear(e, i->segment, offset, sizeof(value), store, &linear) ||
            !emulator_copy(e, linear, &value, sizeof(value), store ? PF_WRITE : 0))
            return false;
    } else if (store) {
        gpr_write(e, i->rm, i->operand_size, false, e->state.cr0);
    } else {
        value = (u16)gpr_read(e, i->rm, sizeof(value), false);
    }
    if (!store) {
        e->completion.action = BASALT_COMPLETE_LMSW;
        e->completion.operand = value;
    }
    e->completion.length = i->length;
    return true;
}

// ---- All together ----

// Whether the exit can have been for this instruction. What touches no memory, nor an intercepted
// port, the guest can execute itself.
static bool expected(struct emulator *e) {
    struct insn *i = &e->insn;
    const struct basalt_request *r = &e->request;
    bool port = IS(i->op, PORTS), status_word = IS(i->op, STATUS_WORD);

    if (r->data == BASALT_EXIT_IO)
        return port && !IS(i->op, r->write ? READS_PORT : WRITES_PORT) && i->rm_size == r->bytes;
    if (r->data == BASALT_EXIT_MEMORY)
        return i->op <= OP_OUTS && !port;
    return status_word && r->write == (i->op != OP_SMSW); // the privilege was that exit's
}

static bool carry_out(struct emulator *e) {
    const struct insn *i = &e->insn;

    if (!emulator_decode(e))
        return false;
    if (!expected(e))
        return emulator_fail(e, EMULATOR_AGAIN);
    if (IS(i->op, STATUS_WORD))
        return machine_status_word(e);
    if (IS(i->op, STRINGS))
        return string(e);
    if (!transfer(e))
        return false;
    e->completion.length = i->length;
    return true;
}

enum emulator_result emulator_run(struct emulator *e) {
    e->completion = (struct basalt_completion){.rflags = e->state.rflags};
    memcpy(e->completion.gprs, e->state.gprs, sizeof(e->completion.gprs));
    return carry_out(e) ? EMULATOR_COMPLETE : e->failure;
}
