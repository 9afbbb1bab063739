// SPDX-License-Identifier: Apache-2.0
//
// The kernel's instruction decoder: the plain moves by which drivers reach device registers, and the moves to and from
// control registers. One access at most, and where it goes the exit has told: of an address only the length counts.
// Everything else is for the domain's instruction server (dom0/emulator). Invariant: a pure function of its arguments, and
// no byte at or beyond `valid` is read. Follows the SDM, "Instruction Format".
#pragma once

#include "arch/types.h"

#define INSN_MAX_LENGTH 15

enum cpu_mode {
    MODE_16, ///< real mode, virtual-8086 mode, 16-bit code segment
    MODE_32, ///< 32-bit code segment
    MODE_64, ///< 64-bit mode
};

enum insn_op {
    OP_MOV,    ///< between memory and `reg` (but AH, CH, DH, BH), or an immediate to memory
    OP_MOV_CR, ///< between control register `reg` and general register `rm`
};

/// A decoded instruction. General registers are numbered as hardware does.
struct insn {
    u8 op;     ///< enum insn_op
    u8 length; ///< bytes, 1 to 15
    u8 bytes;  ///< of the access to memory: 1, 2, 4, 8
    u8 reg, rm;
    bool write;     ///< to memory, or to the control register
    bool immediate; ///< `value` is the source, not `reg`
    u64 value;
};

/// Decodes the instruction that begins at `bytes`, of which `valid` bytes (15 at most) may be read, in a code segment of
/// kind `mode`. False: it is none of these, or not all of it is there. Whether it is permitted at the guest's privilege is
/// not asked.
must_check bool insn_decode(const u8 *bytes, unsigned valid, enum cpu_mode mode, struct insn *out);

/// How many prefixes are before the opcode; `valid` if there is no opcode.
unsigned insn_prefixes(const u8 *bytes, unsigned valid, enum cpu_mode mode);

/// All bits of an operand of `size` bytes; of its low eight if it is larger.
static inline u64 insn_mask(unsigned size) { return size >= 8 ? ~0ull : (1ull << (8 * size)) - 1; }
