// SPDX-License-Identifier: Apache-2.0
//
// The opcode maps as the decoder sees them: one row per opcode, which names the operation and how
// its operands are encoded. A row that is not there is an instruction that the decoder refuses.
// Private to guest/decode*.c.
#pragma once

#include "guest/decode.h"

enum row_flag {
    MODRM = 1 << 0,    // a ModRM byte follows
    GROUP = 1 << 1,    // its reg field selects a row of decode_group[select], whose flags are added
    TO_RM = 1 << 2,    // r/m is the first operand
    BYTE = 1 << 3,     // operand size is 1
    WIDE64 = 1 << 4,   // operand size is 8 in 64-bit mode unless prefix 66 makes it 2
    NATURAL = 1 << 5,  // operand size is 8 in 64-bit mode and 4 elsewhere, whatever the prefixes
    AT_MOST4 = 1 << 6, // REX.W does not widen the operand: there are no 8-byte ports
    RM8 = 1 << 7,      // r/m is 1 byte
    RM16 = 1 << 8,     // r/m is 2 bytes
    RM32 = 1 << 9,     // r/m is at most 4 bytes: MOVSXD, which outside 64-bit mode is ARPL
    IMM = 1 << 10,     // immediate of the operand's size, at most 4 bytes, sign-extended
    IMM8 = 1 << 11,    // 1 byte, sign-extended
    IMM8U = 1 << 12,   // 1 byte, unsigned: a port
    MOFFS = 1 << 13,   // memory operand is an address of address size
    RSI = 1 << 14,     // memory operand is segment:rSI
    RDI = 1 << 15,     // memory operand is ES:rDI
    MEMORY = 1 << 16,  // with a register as r/m it is another instruction, or none
    PAUSE_ONLY = 1 << 17 // without F3, or with REX.B, it is NOP or XCHG
};

/// Opcode extensions by ModRM.reg, numbered as in the SDM, "Opcode Extensions for One- and Two-byte
/// Opcodes".
enum row_group { GROUP_1, GROUP_3, GROUP_4, GROUP_5, GROUP_7, GROUP_11, GROUP_15, GROUP_COUNT };

struct opcode_row {
    u32 op : 6;     // enum insn_op
    u32 select : 3; // enum row_group, with GROUP
    u32 flags : 23; // set of enum row_flag
};
_Static_assert(OP_COUNT <= 64 && GROUP_COUNT <= 8 && sizeof(struct opcode_row) == 4,
               "a row is one word");

extern const struct opcode_row decode_one_byte[256];
extern const struct opcode_row decode_two_byte[256]; // after 0F
extern const struct opcode_row decode_group[GROUP_COUNT][8];
extern const struct opcode_row decode_group7_register[64]; // 0F 01 with a register: by ModRM
