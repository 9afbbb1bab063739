// SPDX-License-Identifier: Apache-2.0
//
// The instruction decoder. One pass from left to right: prefixes, opcode, ModRM, SIB, displacement,
// immediate; what follows the opcode is the business of its row in the tables. Running out of bytes
// is remembered in the cursor and looked at in the end, because what is decoded from missing bytes
// does no harm. Invariant: a pure function; only fetch() reads the bytes, each once, and none at or
// beyond `valid`. Follows the SDM, "Instruction Format".

#include "emulator/decode_table.h"

enum { REX_B = 1, REX_X = 2, REX_R = 4, REX_W = 8 };

enum { RBX = 3, RSP = 4, RBP = 5, RSI_NUMBER = 6, RDI_NUMBER = 7 };

typedef u64 unaligned_u64 __attribute__((aligned(1)));

struct cursor {
    const u8 *bytes;
    unsigned position, valid; // position <= valid <= 15
    enum decode_status status;
    enum cpu_mode mode;
    u8 rex;     // 0 if there is none
    u8 segment; // override, or INSN_NONE
    bool operand_prefix, address_prefix;
};

// The next `size` bytes as a little-endian number; 0 when they are not there.
static u64 fetch(struct cursor *c, unsigned size) {
    if (unlikely(c->position + size > c->valid)) {
        if (c->status == DECODE_OK)
            c->status = c->position + size > INSN_MAX_LENGTH ? DECODE_TOO_LONG : DECODE_TRUNCATED;
        return 0;
    }
    const u8 *bytes = c->bytes + c->position;
    u64 value = 0;
    if (c->position + 8 <= c->valid)
        value = *(const unaligned_u64 *)bytes & insn_mask(size);
    else
        for (unsigned i = size; i--;)
            value = value << 8 | bytes[i];
    c->position += size;
    return value;
}

static inline u8 fetch_byte(struct cursor *c) {
    if (likely(c->position < c->valid))
        return c->bytes[c->position++];
    return (u8)fetch(c, 1);
}

static i64 fetch_signed(struct cursor *c, unsigned size) {
    return size ? insn_signed(fetch(c, size), size) : 0;
}

// The number of a register, of which REX has the fourth bit.
static u8 extended(const struct cursor *c, u8 rex_bit, unsigned number) {
    return (u8)((number & 7) | (c->rex & rex_bit ? 8 : 0));
}

static void legacy_prefix(struct cursor *c, struct insn *out, u8 byte) {
    c->rex = 0; // REX counts only just before the opcode
    switch (byte) {
    case 0x66: c->operand_prefix = true; break;
    case 0x67: c->address_prefix = true; break;
    case 0xf0: out->lock = true; break;
    case 0xf2:
    case 0xf3: out->rep = true; break;
    case 0x64:
    case 0x65: c->segment = byte - 0x64 + SEG_FS; break;
    default: // 26, 2E, 36, 3E: without meaning in 64-bit mode
        if (c->mode != MODE_64)
            c->segment = byte >> 3 & 3;
    }
}

static const struct opcode_row *prefixes_and_opcode(struct cursor *c, struct insn *out) {
    for (;;) {
        u8 byte = fetch_byte(c);
        const struct opcode_row *row = &decode_one_byte[byte];
        if (row->flags)
            return row;
        if (row->op == OP_ESCAPE)
            return &decode_two_byte[fetch_byte(c)];
        if (row->op == OP_PREFIX)
            legacy_prefix(c, out, byte);
        else if (row->op == OP_REX && c->mode == MODE_64)
            c->rex = byte;
        else
            return row;
    }
}

static void sizes(const struct cursor *c, u32 flags, struct insn *out) {
    bool wide = c->mode == MODE_64;
    u8 narrow = (c->mode == MODE_16) != c->operand_prefix ? 2 : 4;

    if (wide)
        out->address_size = c->address_prefix ? 4 : 8;
    else
        out->address_size = (c->mode == MODE_16) != c->address_prefix ? 2 : 4;

    if (flags & BYTE)
        out->operand_size = 1;
    else if (flags & NATURAL)
        out->operand_size = wide ? 8 : 4;
    else if (c->rex & REX_W)
        out->operand_size = flags & AT_MOST4 ? 4 : 8;
    else
        out->operand_size = narrow;

    out->rm_size = out->operand_size;
    if (flags & RM8)
        out->rm_size = 1;
    else if (flags & RM16)
        out->rm_size = 2;
    else if (flags & RM32 && out->rm_size > 4)
        out->rm_size = 4;
}

// Base, index and displacement of 16-bit addressing.
static void memory_operand16(struct cursor *c, u8 mod, u8 rm, struct insn *out) {
    static const u8 base[8] = {RBX, RBX, RBP, RBP, RSI_NUMBER, RDI_NUMBER, RBP, RBX};
    static const u8 index[8] = {RSI_NUMBER, RDI_NUMBER, RSI_NUMBER, RDI_NUMBER,
                                INSN_NONE,  INSN_NONE,  INSN_NONE,  INSN_NONE};
    bool absolute = mod == 0 && rm == 6;

    out->base = absolute ? INSN_NONE : base[rm];
    out->index = index[rm];
    out->displacement = fetch_signed(c, absolute ? 2 : mod);
}

// The same for 32-bit and 64-bit addressing, where a SIB byte may follow ModRM.
static void memory_operand32(struct cursor *c, u8 mod, u8 rm, struct insn *out) {
    unsigned displacement_size = mod == 2 ? 4 : mod;
    bool sib_present = rm == 4;

    if (sib_present) {
        u8 sib = fetch_byte(c), index = extended(c, REX_X, sib >> 3);
        if (index != RSP) {
            out->index = index;
            out->scale = (u8)(1 << (sib >> 6));
        }
        rm = sib & 7;
    }
    if (mod == 0 && rm == 5) {
        displacement_size = 4;
        out->rip_relative = !sib_present && c->mode == MODE_64;
    } else {
        out->base = extended(c, REX_B, rm);
    }
    out->displacement = fetch_signed(c, displacement_size);
}

// Without REX, byte registers 4 to 7 are the second bytes of registers 0 to 3.
static bool high_byte(const struct cursor *c, u8 size, u8 *number) {
    if (size != 1 || c->rex || *number < 4)
        return false;
    *number -= 4;
    return true;
}

static void modrm_operands(struct cursor *c, u32 flags, u8 modrm, struct insn *out) {
    u8 mod = modrm >> 6, rm = modrm & 7;

    if (!(flags & GROUP)) {
        out->reg = extended(c, REX_R, modrm >> 3);
        out->reg_high = high_byte(c, out->operand_size, &out->reg);
    }
    // MOV to and from control registers takes any mod for a register.
    if (mod == 3 || flags & NATURAL) {
        out->rm = extended(c, REX_B, rm);
        out->rm_high = high_byte(c, out->rm_size, &out->rm);
        return;
    }
    out->memory = true;
    if (out->address_size == 2)
        memory_operand16(c, mod, rm, out);
    else
        memory_operand32(c, mod, rm, out);
    if (out->base == RSP || out->base == RBP)
        out->segment = SEG_SS;
}

// Memory operands that the opcode implies: of A0 to A3 and of string instructions.
static void implied_operands(struct cursor *c, u32 flags, struct insn *out) {
    out->memory = true;
    if (flags & MOFFS)
        out->displacement = (i64)fetch(c, out->address_size);
    else
        out->base = flags & RSI ? RSI_NUMBER : RDI_NUMBER;
}

// Operands, and what differs from row to row in ways that no flag tells.
static enum decode_status operands(struct cursor *c, u32 flags, u8 modrm, struct insn *out) {
    sizes(c, flags, out);
    if (flags & MODRM)
        modrm_operands(c, flags, modrm, out);
    else if (flags & (MOFFS | RSI | RDI))
        implied_operands(c, flags, out);
    if (flags & RDI)
        out->segment = SEG_ES; // which no prefix overrides
    else if (c->segment != INSN_NONE)
        out->segment = c->segment;
    if (flags & (IMM | IMM8)) {
        unsigned size = flags & IMM8 ? 1 : MIN(out->operand_size, 4);
        out->immediate_source = true;
        out->immediate = (u64)fetch_signed(c, size) & insn_mask(out->operand_size);
    }
    if (flags & NATURAL) {
        // Control register 8 has another encoding on AMD's processors, for modes without REX.
        if (out->lock && out->reg == 0)
            out->reg = 8;
        else if (out->lock || !(BIT(out->reg) & 0x11d)) // 0, 2, 3, 4, 8
            return DECODE_INVALID;
        out->lock = false;
    }
    if ((flags & MEMORY && !out->memory) || (flags & RM32 && c->mode != MODE_64))
        return DECODE_UNSUPPORTED;
    return DECODE_OK;
}

enum decode_status insn_decode(const u8 *bytes, unsigned valid, enum cpu_mode mode,
                               struct insn *out) {
    struct cursor c = {
        .bytes = bytes,
        .valid = MIN(valid, (unsigned)INSN_MAX_LENGTH),
        .mode = mode,
        .segment = INSN_NONE,
    };
    *out = (struct insn){.base = INSN_NONE, .index = INSN_NONE, .scale = 1, .segment = SEG_DS};

    const struct opcode_row *row = prefixes_and_opcode(&c, out);
    u32 flags = row->flags, op = row->op;
    u8 modrm = flags & MODRM ? fetch_byte(&c) : 0;
    if (flags & GROUP) {
        op = decode_group[op][modrm >> 3 & 7];
        if (op == OP_TEST)
            flags |= IMM;
        if (op == OP_OTHER && (modrm & 0xc7) != 0xc1) // of group 7 these only
            op = OP_UNSUPPORTED;
    }
    if (c.status == DECODE_OK && op <= OP_INVALID)
        return op == OP_INVALID ? DECODE_INVALID : DECODE_UNSUPPORTED;
    out->op = (u8)op;
    out->to_rm = flags & TO_RM;
    enum decode_status status = flags ? operands(&c, flags, modrm, out) : DECODE_OK;
    bool may_lock = op <= OP_CMPXCHG && op != OP_CMP && out->memory && out->to_rm;
    if (out->lock && !may_lock)
        status = DECODE_INVALID;
    out->length = (u8)c.position;
    return c.status != DECODE_OK ? c.status : status;
}

u64 insn_offset(const struct insn *insn, const u64 gprs[16], u64 next_rip) {
    u64 offset = (u64)insn->displacement;

    if (insn->rip_relative)
        offset += next_rip;
    if (insn->base != INSN_NONE)
        offset += gprs[insn->base];
    if (insn->index != INSN_NONE)
        offset += gprs[insn->index] * insn->scale;

    return offset & insn_mask(insn->address_size);
}
