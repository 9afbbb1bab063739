// SPDX-License-Identifier: Apache-2.0
//
// The kernel's instruction decoder, one pass from left to right. Running out of bytes is looked at in the end, because what
// is decoded from zeros in their place does no harm. Invariant: only next() reads the bytes, and none at or beyond `valid`.
// Follows the SDM, "Instruction Format" and "Opcode Map".

#include "guest/decode.h"

enum { REX_B = 1, REX_X = 2, REX_R = 4, REX_W = 8 };

struct cursor {
    const u8 *bytes;
    unsigned position, valid;
    enum cpu_mode mode;
    u8 rex; // 0 if there is none
    bool operand_prefix, address_prefix, lock;
};

static u8 next(struct cursor *c) {
    unsigned at = c->position++;

    return at < c->valid ? c->bytes[at] : 0;
}

// Reads prefixes up to the opcode, which is returned.
static u8 opcode(struct cursor *c) {
    for (;;) {
        u8 byte = next(c);
        if (c->mode == MODE_64 && (byte & 0xf0) == 0x40) {
            c->rex = byte;
            continue;
        }
        switch (byte) {
        case 0x66: c->operand_prefix = true; break;
        case 0x67: c->address_prefix = true; break;
        case 0xf0: c->lock = true; break;
        case 0x26: // segments
        case 0x2e:
        case 0x36:
        case 0x3e:
        case 0x64:
        case 0x65:
        case 0xf2: // hints, of the instructions here
        case 0xf3: break;
        default: return byte;
        }
        c->rex = 0; // counts only just before the opcode
    }
}

unsigned insn_prefixes(const u8 *bytes, unsigned valid, enum cpu_mode mode) {
    struct cursor c = {.bytes = bytes, .valid = valid, .mode = mode};

    opcode(&c);
    return c.position - 1;
}

static u8 extended(const struct cursor *c, u8 rex_bit, unsigned number) {
    return (u8)((number & 7) | (c->rex & rex_bit ? 8 : 0));
}

static unsigned operand_size(const struct cursor *c) {
    if (c->rex & REX_W)
        return 8;
    return (c->mode == MODE_16) != c->operand_prefix ? 2 : 4;
}

static unsigned address_size(const struct cursor *c) {
    if (c->mode == MODE_64)
        return c->address_prefix ? 4 : 8;
    return (c->mode == MODE_16) != c->address_prefix ? 2 : 4;
}

// What follows ModRM of an operand in memory.
static void skip_address(struct cursor *c, u8 modrm) {
    unsigned mod = modrm >> 6, rm = modrm & 7, long_bytes = 4, absolute = 5;

    if (address_size(c) == 2) {
        long_bytes = 2;
        absolute = 6;
    } else if (rm == 4) {
        rm = next(c) & 7; // SIB: its base
    }
    if (mod == 1)
        c->position++;
    else if (mod == 2 || rm == absolute)
        c->position += long_bytes;
}

static void immediate_operand(struct cursor *c, struct insn *out) {
    unsigned bytes = MIN(out->bytes, 4u);

    for (unsigned i = 0; i < bytes; i++)
        out->value |= (u64)next(c) << (8 * i);
    if (out->bytes == 8)
        out->value = (u64)(i64)(i32)out->value;
    out->immediate = true;
}

// MOV with ModRM; of opcode C6 and C7 the register is an extension. Without REX, byte registers 4 to 7 are the second bytes of
// registers, which no driver uses here.
static bool move(struct cursor *c, bool immediate, struct insn *out) {
    u8 modrm = next(c);
    bool second = out->bytes == 1 && !c->rex && modrm & 0x20;

    if (modrm >> 6 == 3 || second || (immediate && modrm >> 3 & 7))
        return false;
    out->reg = extended(c, REX_R, modrm >> 3);
    skip_address(c, modrm);
    if (immediate)
        immediate_operand(c, out);
    return true;
}

// Control register 8 has another encoding on AMD's processors, for modes without REX.
static bool move_control(struct cursor *c, bool write, struct insn *out) {
    u8 modrm = next(c);

    *out = (struct insn){.op = OP_MOV_CR,
                         .reg = extended(c, REX_R, modrm >> 3),
                         .rm = extended(c, REX_B, modrm),
                         .write = write};
    if (c->lock && out->reg == 0)
        out->reg = 8;
    else if (c->lock || !(BIT(out->reg) & 0x111)) // 0, 4, 8: whose accesses exit
        return false;
    c->lock = false;
    return true;
}

static bool instruction(struct cursor *c, struct insn *out) {
    u8 byte = opcode(c);

    out->bytes = (u8)operand_size(c);
    if (byte == 0x0f) {
        byte = next(c);
        return (byte == 0x20 || byte == 0x22) && move_control(c, byte & 2, out);
    }
    if (!(byte & 1))
        out->bytes = 1;
    switch (byte & 0xfe) {
    case 0x88:
    case 0x8a: out->write = !(byte & 2); return move(c, false, out);
    case 0xa0:
    case 0xa2:
        out->write = byte & 2;
        c->position += address_size(c);
        return true;
    case 0xc6: out->write = true; return move(c, true, out);
    }
    return false;
}

bool insn_decode(const u8 *bytes, unsigned valid, enum cpu_mode mode, struct insn *out) {
    struct cursor c = {.bytes = bytes, .valid = valid, .mode = mode};

    *out = (struct insn){.op = OP_MOV};
    if (!instruction(&c, out) || c.lock || c.position > valid)
        return false;
    out->length = (u8)c.position;
    return true;
}
