// SPDX-License-Identifier: Apache-2.0
//
// The opcode maps: the SDM's "Opcode Map" and the APM's "Opcode and Operand Encodings", less what
// can neither reach device memory nor be intercepted. One row per opcode names the operation and
// how its operands are encoded. Invariant: a row here is decoded in full, length included; what is
// not here is refused. Part of decode.c.
#pragma once

#include "emulator/decode.h"

enum row_flag {
    MODRM = 1 << 0,    // a ModRM byte follows
    GROUP = 1 << 1,    // its reg field selects the operation from decode_group[op]
    TO_RM = 1 << 2,    // r/m is the first operand
    BYTE = 1 << 3,     // operand size is 1
    NATURAL = 1 << 4,  // operand size is 8 in 64-bit mode and 4 elsewhere, whatever the prefixes
    AT_MOST4 = 1 << 5, // REX.W does not widen the operand: there are no 8-byte ports
    RM8 = 1 << 6,      // r/m is 1 byte
    RM16 = 1 << 7,     // r/m is 2 bytes
    RM32 = 1 << 8,     // r/m is at most 4 bytes: MOVSXD, which outside 64-bit mode is ARPL
    IMM = 1 << 9,      // immediate of the operand's size, at most 4 bytes, sign-extended
    IMM8 = 1 << 10,    // 1 byte, sign-extended
    MOFFS = 1 << 11,   // memory operand is an address of address size
    RSI = 1 << 12,     // memory operand is segment:rSI
    RDI = 1 << 13,     // memory operand is ES:rDI
    MEMORY = 1 << 14   // with a register as r/m it is another instruction, or none
};

struct opcode_row {
    u16 op; // enum insn_op; with GROUP enum row_group
    u16 flags;
};

/// Opcode extensions by ModRM.reg, numbered as in the SDM, "Opcode Extensions for One- and Two-byte
/// Opcodes".
enum row_group { GROUP_1, GROUP_3, GROUP_4, GROUP_7, GROUP_11, GROUP_15, GROUPS };

static const u8 decode_group[GROUPS][8] = {
    [GROUP_1] = {OP_ADD, OP_OR, OP_ADC, OP_SBB, OP_AND, OP_SUB, OP_XOR, OP_CMP},
    [GROUP_3] = {OP_TEST, OP_TEST, OP_NOT, OP_NEG}, // TEST alone has an immediate
    [GROUP_4] = {OP_INC, OP_DEC},
    [GROUP_7] = {OP_OTHER, 0, OP_OTHER, OP_OTHER, OP_SMSW, 0, OP_LMSW}, // VMCALL, XSETBV, VMMCALL
    [GROUP_11] = {OP_MOV},
    [GROUP_15] = {[7] = OP_CLFLUSH}, // with 66: CLFLUSHOPT
};

// Rows come in pairs, the even opcode for bytes and the odd one for words and longer.
#define PAIR(opcode, op, flags)    [opcode] = {op, (flags) | BYTE}, [(opcode) + 1] = {op, flags}
#define ARITHMETIC(opcode, op)     PAIR(opcode, op, MODRM | TO_RM), PAIR((opcode) + 2, op, MODRM)
#define GROUP_PAIR(opcode, group, flags) PAIR(opcode, group, MODRM | GROUP | TO_RM | (flags))

static const struct opcode_row decode_one_byte[256] = {
    ARITHMETIC(0x00, OP_ADD),
    ARITHMETIC(0x08, OP_OR),
    ARITHMETIC(0x10, OP_ADC),
    ARITHMETIC(0x18, OP_SBB),
    ARITHMETIC(0x20, OP_AND),
    ARITHMETIC(0x28, OP_SUB),
    ARITHMETIC(0x30, OP_XOR),
    ARITHMETIC(0x38, OP_CMP),
    [0x0f] = {OP_ESCAPE, 0},
    [0x26] = {OP_PREFIX, 0},
    [0x2e] = {OP_PREFIX, 0},
    [0x36] = {OP_PREFIX, 0},
    [0x3e] = {OP_PREFIX, 0},
    [0x40 ... 0x4f] = {OP_REX, 0},
    [0x63] = {OP_MOVSX, MODRM | RM32},
    [0x64 ... 0x67] = {OP_PREFIX, 0},
    PAIR(0x6c, OP_INS, RDI | TO_RM | AT_MOST4),
    PAIR(0x6e, OP_OUTS, RSI | AT_MOST4),
    GROUP_PAIR(0x80, GROUP_1, IMM),
    [0x83] = {GROUP_1, MODRM | GROUP | TO_RM | IMM8},
    PAIR(0x84, OP_TEST, MODRM | TO_RM),
    PAIR(0x86, OP_XCHG, MODRM | TO_RM),
    PAIR(0x88, OP_MOV, MODRM | TO_RM),
    PAIR(0x8a, OP_MOV, MODRM),
    [0x90] = {OP_OTHER, 0}, // with F3: PAUSE
    PAIR(0xa0, OP_MOV, MOFFS),
    PAIR(0xa2, OP_MOV, MOFFS | TO_RM),
    PAIR(0xa4, OP_MOVS, RSI),
    PAIR(0xaa, OP_STOS, RDI | TO_RM),
    PAIR(0xac, OP_LODS, RSI),
    GROUP_PAIR(0xc6, GROUP_11, IMM),
    PAIR(0xe4, OP_IN, IMM8 | AT_MOST4),
    PAIR(0xe6, OP_OUT, IMM8 | AT_MOST4 | TO_RM),
    PAIR(0xec, OP_IN, AT_MOST4),
    PAIR(0xee, OP_OUT, AT_MOST4 | TO_RM),
    [0xf0] = {OP_PREFIX, 0},
    [0xf2 ... 0xf3] = {OP_PREFIX, 0},
    [0xf4] = {OP_OTHER, 0}, // HLT
    GROUP_PAIR(0xf6, GROUP_3, 0),
    GROUP_PAIR(0xfe, GROUP_4, 0),
};

static const struct opcode_row decode_two_byte[256] = { // after 0F
    [0x01] = {GROUP_7, MODRM | GROUP | RM16},
    [0x06] = {OP_CLTS, 0},
    [0x08 ... 0x09] = {OP_OTHER, 0}, // INVD, WBINVD; with F3: WBNOINVD
    [0x0b] = {OP_INVALID, 0},        // UD2
    [0x20] = {OP_MOV_CR, MODRM | NATURAL | TO_RM},
    [0x22] = {OP_MOV_CR, MODRM | NATURAL},
    [0x30] = {OP_OTHER, 0}, // WRMSR
    [0x32] = {OP_OTHER, 0}, // RDMSR
    [0xa2] = {OP_OTHER, 0}, // CPUID
    [0xae] = {GROUP_15, MODRM | GROUP | MEMORY | RM8},
    PAIR(0xb0, OP_CMPXCHG, MODRM | TO_RM),
    [0xb6] = {OP_MOVZX, MODRM | RM8},
    [0xb7] = {OP_MOVZX, MODRM | RM16},
    [0xbe] = {OP_MOVSX, MODRM | RM8},
    [0xbf] = {OP_MOVSX, MODRM | RM16},
    PAIR(0xc0, OP_XADD, MODRM | TO_RM),
};
