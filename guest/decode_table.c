// SPDX-License-Identifier: Apache-2.0
//
// The opcode maps: the SDM's "Opcode Map" and the APM's "Opcode and Operand Encodings", less what
// can neither reach device memory nor be intercepted. Invariant: a row here is decoded in full,
// length included.

#include "guest/decode_table.h"

// Rows come in pairs, the even opcode for bytes and the odd one for words and longer.
#define PAIR(opcode, op, flags) [opcode] = {op, 0, (flags) | BYTE}, [(opcode) + 1] = {op, 0, flags}

#define ARITHMETIC(opcode, op)  PAIR(opcode, op, MODRM | TO_RM), PAIR((opcode) + 2, op, MODRM)

#define GROUP_PAIR(opcode, group, flags)                           \
    [opcode] = {0, group, MODRM | GROUP | TO_RM | BYTE | (flags)}, \
    [(opcode) + 1] = {0, group, MODRM | GROUP | TO_RM | (flags)}

const struct opcode_row decode_one_byte[256] = {
    ARITHMETIC(0x00, OP_ADD),
    ARITHMETIC(0x08, OP_OR),
    ARITHMETIC(0x10, OP_ADC),
    ARITHMETIC(0x18, OP_SBB),
    ARITHMETIC(0x20, OP_AND),
    ARITHMETIC(0x28, OP_SUB),
    ARITHMETIC(0x30, OP_XOR),
    ARITHMETIC(0x38, OP_CMP),
    [0x0f] = {OP_ESCAPE, 0, 0},
    [0x26] = {OP_PREFIX, 0, 0},
    [0x2e] = {OP_PREFIX, 0, 0},
    [0x36] = {OP_PREFIX, 0, 0},
    [0x3e] = {OP_PREFIX, 0, 0},
    [0x40 ... 0x4f] = {OP_REX, 0, 0},
    [0x63] = {OP_MOVSX, 0, MODRM | RM32},
    [0x64 ... 0x67] = {OP_PREFIX, 0, 0},
    PAIR(0x6c, OP_INS, RDI | TO_RM | AT_MOST4),
    PAIR(0x6e, OP_OUTS, RSI | AT_MOST4),
    GROUP_PAIR(0x80, GROUP_1, IMM),
    [0x83] = {0, GROUP_1, MODRM | GROUP | TO_RM | IMM8},
    PAIR(0x84, OP_TEST, MODRM | TO_RM),
    PAIR(0x86, OP_XCHG, MODRM | TO_RM),
    PAIR(0x88, OP_MOV, MODRM | TO_RM),
    PAIR(0x8a, OP_MOV, MODRM),
    [0x90] = {OP_PAUSE, 0, PAUSE_ONLY},
    PAIR(0xa0, OP_MOV, MOFFS),
    PAIR(0xa2, OP_MOV, MOFFS | TO_RM),
    PAIR(0xa4, OP_MOVS, RSI),
    PAIR(0xaa, OP_STOS, RDI | TO_RM),
    PAIR(0xac, OP_LODS, RSI),
    GROUP_PAIR(0xc6, GROUP_11, IMM),
    PAIR(0xe4, OP_IN, IMM8U | AT_MOST4),
    PAIR(0xe6, OP_OUT, IMM8U | AT_MOST4),
    PAIR(0xec, OP_IN, AT_MOST4),
    PAIR(0xee, OP_OUT, AT_MOST4),
    [0xf0] = {OP_PREFIX, 0, 0},
    [0xf2 ... 0xf3] = {OP_PREFIX, 0, 0},
    [0xf4] = {OP_HLT, 0, 0},
    GROUP_PAIR(0xf6, GROUP_3, 0),
    [0xfe] = {0, GROUP_4, MODRM | GROUP | TO_RM | BYTE},
    [0xff] = {0, GROUP_5, MODRM | GROUP | TO_RM},
};

const struct opcode_row decode_two_byte[256] = {
    [0x01] = {0, GROUP_7, MODRM | GROUP},
    [0x06] = {OP_CLTS, 0, 0},
    [0x08] = {OP_INVD, 0, 0},
    [0x09] = {OP_WBINVD, 0, 0}, // with F3: WBNOINVD, which may do as much
    [0x0b] = {OP_INVALID, 0, 0},
    [0x20] = {OP_MOV_CR, 0, MODRM | NATURAL | TO_RM},
    [0x22] = {OP_MOV_CR, 0, MODRM | NATURAL},
    [0x30] = {OP_WRMSR, 0, 0},
    [0x32] = {OP_RDMSR, 0, 0},
    [0xa2] = {OP_CPUID, 0, 0},
    [0xae] = {0, GROUP_15, MODRM | GROUP},
    PAIR(0xb0, OP_CMPXCHG, MODRM | TO_RM),
    [0xb6] = {OP_MOVZX, 0, MODRM | RM8},
    [0xb7] = {OP_MOVZX, 0, MODRM | RM16},
    [0xbe] = {OP_MOVSX, 0, MODRM | RM8},
    [0xbf] = {OP_MOVSX, 0, MODRM | RM16},
    PAIR(0xc0, OP_XADD, MODRM | TO_RM),
};

const struct opcode_row decode_group[GROUP_COUNT][8] = {
    [GROUP_1] = {{OP_ADD, 0, 0},
                 {OP_OR, 0, 0},
                 {OP_ADC, 0, 0},
                 {OP_SBB, 0, 0},
                 {OP_AND, 0, 0},
                 {OP_SUB, 0, 0},
                 {OP_XOR, 0, 0},
                 {OP_CMP, 0, 0}},
    [GROUP_3] = {{OP_TEST, 0, IMM}, {OP_TEST, 0, IMM}, {OP_NOT, 0, 0}, {OP_NEG, 0, 0}},
    [GROUP_4] = {{OP_INC, 0, 0}, {OP_DEC, 0, 0}},
    [GROUP_5] = {{OP_INC, 0, 0}, {OP_DEC, 0, 0}},
    [GROUP_7] = {[4] = {OP_SMSW, 0, RM16 | TO_RM}, [6] = {OP_LMSW, 0, RM16}},
    [GROUP_11] = {{OP_MOV, 0, 0}},
    [GROUP_15] = {[7] = {OP_CLFLUSH, 0, MEMORY | RM8}}, // with 66: CLFLUSHOPT
};

const struct opcode_row decode_group7_register[64] = {
    [0x01] = {OP_VMCALL, 0, 0},           [0x11] = {OP_XSETBV, 0, 0},
    [0x19] = {OP_VMMCALL, 0, 0},          [0x20 ... 0x27] = {OP_SMSW, 0, TO_RM},
    [0x30 ... 0x37] = {OP_LMSW, 0, RM16},
};
