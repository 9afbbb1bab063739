// SPDX-License-Identifier: Apache-2.0
//
// The instruction decoder. One pass from left to right: prefixes, opcode, ModRM, SIB, displacement,
// immediate; what follows the opcode is the business of its row in the tables. Running out of bytes
// is remembered in the cursor and looked at in the end, because what is decoded from missing bytes
// does no harm. Invariant: a pure function; only fetch() reads the bytes, and none at or beyond
// `valid`. Follows the SDM, "Instruction Format".

#include "guest/decode_table.h"

enum { REX_B = 1, REX_X = 2, REX_R = 4, REX_W = 8 };

enum { RBX = 3, RSP = 4, RBP = 5, RSI_NUMBER = 6, RDI_NUMBER = 7 };

struct cursor {
    const u8 *bytes;
    unsigned position, valid; // position <= valid <= 15
    enum decode_status status;
    enum cpu_mode mode;
    u8 rex;     // 0 if there is none
    u8 repeat;  // the last of F2 and F3, or 0
    u8 segment; // override, or INSN_NONE
    bool operand_prefix, address_prefix;
};

// The next `size` bytes as a little-endian number; 0 when they are not there.
static u64 fetch(struct cursor *c, unsigned size) {
    if (c->position + size > c->valid) {
        if (c->status == DECODE_OK)
            c->status = c->position + size > INSN_MAX_LENGTH ? DECODE_TOO_LONG : DECODE_TRUNCATED;
        return 0;
    }
    u64 value = 0;
    for (unsigned i = 0; i < size; i++)
        value |= (u64)c->bytes[c->position + i] << (8 * i);
    c->position += size;
    return value;
}

// The number of a register, of which REX has the fourth bit.
static u8 extended(const struct cursor *c, u8 rex_bit, u8 number) {
    return c->rex & rex_bit ? number + 8 : number;
}

static void legacy_prefix(struct cursor *c, struct insn *out, u8 byte) {
    c->rex = 0; // REX counts only just before the opcode
    switch (byte) {
    case 0x66: c->operand_prefix = true; break;
    case 0x67: c->address_prefix = true; break;
    case 0xf0: out->lock = true; break;
    case 0xf2:
    case 0xf3: c->repeat = byte; break;
    case 0x64:
    case 0x65: c->segment = byte - 0x64 + SEG_FS; break;
    default: // 26, 2E, 36, 3E: without meaning in 64-bit mode
        if (c->mode != MODE_64)
            c->segment = byte >> 3 & 3;
    }
}

static const struct opcode_row *prefixes_and_opcode(struct cursor *c, struct insn *out) {
    for (;;) {
        u8 byte = (u8)fetch(c, 1);
        const struct opcode_row *row = &decode_one_byte[byte];
        if (row->op == OP_ESCAPE) {
            out->opcode = (u8)fetch(c, 1);
            return &decode_two_byte[out->opcode];
        }
        if (row->op == OP_PREFIX) {
            legacy_prefix(c, out, byte);
        } else if (row->op == OP_REX && c->mode == MODE_64) {
            c->rex = byte;
        } else {
            out->opcode = byte;
            return row;
        }
    }
}

static void sizes(const struct cursor *c, u32 flags, struct insn *out) {
    bool wide = c->mode == MODE_64;
    bool word = (c->mode == MODE_16) != c->operand_prefix;

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
        out->operand_size = word ? 2 : flags & WIDE64 && wide ? 8 : 4;

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
    unsigned displacement_size = absolute ? 2 : mod;

    out->base = absolute ? INSN_NONE : base[rm];
    out->index = index[rm];
    if (displacement_size)
        out->displacement = insn_signed(fetch(c, displacement_size), displacement_size);
}

// The same for 32-bit and 64-bit addressing, where a SIB byte may follow ModRM.
static void memory_operand32(struct cursor *c, u8 mod, u8 rm, struct insn *out) {
    unsigned displacement_size = mod == 2 ? 4 : mod;
    bool sib_present = rm == 4;

    if (sib_present) {
        u8 sib = (u8)fetch(c, 1);
        u8 index = extended(c, REX_X, sib >> 3 & 7);
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
    if (displacement_size)
        out->displacement = insn_signed(fetch(c, displacement_size), displacement_size);
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
        out->reg = extended(c, REX_R, modrm >> 3 & 7);
        out->reg_high = high_byte(c, out->operand_size, &out->reg);
    }
    // MOV to and from control registers takes any mod for a register.
    if (mod == 3 || (flags & (NATURAL | MEMORY)) == NATURAL) {
        out->rm = extended(c, REX_B, rm);
        out->rm_high = high_byte(c, out->rm_size, &out->rm);
        return;
    }
    out->memory = true;
    if (out->address_size == 2)
        memory_operand16(c, mod, rm, out);
    else
        memory_operand32(c, mod, rm, out);
    out->segment = out->base == RSP || out->base == RBP ? SEG_SS : SEG_DS;
    if (c->segment != INSN_NONE)
        out->segment = c->segment;
}

// Memory operands that the opcode implies: of A0 to A3 and of string instructions.
static void implied_operands(struct cursor *c, u32 flags, struct insn *out) {
    out->memory = true;
    out->segment = c->segment != INSN_NONE ? c->segment : SEG_DS;
    if (flags & MOFFS) {
        out->displacement = (i64)fetch(c, out->address_size);
    } else if (flags & RSI) {
        out->base = RSI_NUMBER;
    } else {
        out->base = RDI_NUMBER;
        out->segment = SEG_ES; // which no prefix overrides
    }
}

static u64 immediate(struct cursor *c, u32 flags, u8 operand_size) {
    if (flags & IMM8U)
        return fetch(c, 1);
    unsigned size = flags & IMM8 ? 1 : operand_size > 4 ? 4 : operand_size;
    return (u64)insn_signed(fetch(c, size), size) & insn_mask(operand_size);
}

// Control register 8 has another encoding on AMD's processors, for modes without REX: LOCK with
// control register 0.
static enum decode_status control_register(struct insn *out) {
    if (out->lock && out->reg == 0) {
        out->lock = false;
        out->reg = 8;
    }
    bool exists = out->reg == 8 || (out->reg <= 4 && out->reg != 1);
    return exists && !out->lock ? DECODE_OK : DECODE_INVALID;
}

// What differs from row to row in ways that no flag tells.
static enum decode_status specifics(const struct cursor *c, struct insn *out) {
    if (out->op == OP_MOV_CR)
        return control_register(out);
    if (out->op == OP_MOVSX && out->opcode == 0x63 && c->mode != MODE_64)
        return DECODE_UNSUPPORTED; // ARPL
    bool may_lock = out->op <= OP_CMPXCHG && out->memory && out->to_rm;
    return out->lock && !may_lock ? DECODE_INVALID : DECODE_OK;
}

enum decode_status insn_decode(const u8 *bytes, unsigned valid, enum cpu_mode mode,
                               struct insn *out) {
    struct cursor c = {
        .bytes = bytes,
        .valid = valid < INSN_MAX_LENGTH ? valid : INSN_MAX_LENGTH,
        .mode = mode,
        .segment = INSN_NONE,
    };
    *out = (struct insn){.base = INSN_NONE, .index = INSN_NONE, .scale = 1, .segment = SEG_DS};

    const struct opcode_row *row = prefixes_and_opcode(&c, out);
    u32 flags = row->flags;
    u8 modrm = 0;
    if (flags & MODRM) {
        modrm = (u8)fetch(&c, 1);
        if (flags & GROUP) {
            bool system_register_form = row->select == GROUP_7 && modrm >= 0xc0;
            row = system_register_form ? &decode_group7_register[modrm & 0x3f]
                                       : &decode_group[row->select][modrm >> 3 & 7];
            flags |= row->flags;
        }
    }
    if (c.status != DECODE_OK)
        return c.status;
    if (row->op == OP_INVALID)
        return DECODE_INVALID;
    if (row->op < OP_INVALID || (flags & PAUSE_ONLY && (c.repeat != 0xf3 || c.rex & REX_B)))
        return DECODE_UNSUPPORTED;

    out->op = (u8)row->op;
    out->to_rm = flags & TO_RM;
    out->rep = c.repeat == 0xf3;
    out->repne = c.repeat == 0xf2;
    sizes(&c, flags, out);
    if (flags & MODRM)
        modrm_operands(&c, flags, modrm, out);
    else if (flags & (MOFFS | RSI | RDI))
        implied_operands(&c, flags, out);
    if (flags & (IMM | IMM8 | IMM8U)) {
        out->immediate_source = true;
        out->immediate = immediate(&c, flags, out->operand_size);
    }
    if (c.status != DECODE_OK)
        return c.status;
    if (flags & MEMORY && !out->memory)
        return DECODE_UNSUPPORTED;
    out->length = (u8)c.position;
    return specifics(&c, out);
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
