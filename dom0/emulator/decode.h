// SPDX-License-Identifier: Apache-2.0
//
// The instruction decoder: turns the bytes at a guest's instruction pointer into operation,
// operands and length, for accesses to device memory and to control registers. It knows every
// instruction that stock kernels and firmware use for these; the others it refuses, it never
// guesses. Invariant: a pure function of its arguments, and no byte at
// or beyond `valid` is read. Follows the SDM, "Instruction Format" and "Opcode Map", and the APM,
// "Instruction Encoding".
#pragma once

#include "lib/types.h"

enum {
    INSN_MAX_LENGTH = 15,
    INSN_NONE = 0xff, ///< in `base` and `index`: no such register
};

enum cpu_mode {
    MODE_16, ///< real mode, virtual-8086 mode, 16-bit code segment
    MODE_32, ///< 32-bit code segment
    MODE_64, ///< 64-bit mode
};

enum decode_status {
    DECODE_OK,
    DECODE_TRUNCATED,   ///< the instruction goes on after the valid bytes
    DECODE_TOO_LONG,    ///< it cannot end within 15 bytes: #GP
    DECODE_INVALID,     ///< #UD
    DECODE_UNSUPPORTED, ///< an instruction that this decoder does not know
};

/// Segment registers as hardware numbers them.
enum segment { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS };

enum insn_op {
    // Marks in the opcode tables, never seen outside the decoder.
    OP_UNSUPPORTED,
    OP_REX,
    OP_PREFIX,
    OP_ESCAPE,
    OP_INVALID,

    // Read-modify-write: all but CMP may be preceded by LOCK. The first eight in hardware's order.
    OP_ADD,
    OP_OR,
    OP_ADC,
    OP_SBB,
    OP_AND,
    OP_SUB,
    OP_XOR,
    OP_CMP,
    OP_INC,
    OP_DEC,
    OP_NOT,
    OP_NEG,
    OP_XCHG,
    OP_XADD,
    OP_CMPXCHG,

    // Others with an operand in memory; the source is an immediate or `reg`.
    OP_TEST,
    OP_MOV,
    OP_MOVZX,
    OP_MOVSX, ///< MOVSXD too
    OP_CLFLUSH,

    // Strings: memory is segment:rSI, or ES:rDI where there is no rSI. MOVS has ES:rDI as well.
    OP_MOVS,
    OP_STOS,
    OP_LODS,
    OP_INS,
    OP_OUTS,

    // Instructions that are intercepted and carried out.
    OP_IN,
    OP_OUT,
    OP_MOV_CR, ///< `reg` is the control register, `rm` the general one; to_rm: it is read
    OP_CLTS,
    OP_LMSW,
    OP_SMSW,
    OP_OTHER, ///< CPUID, HLT, ...: the exit says which, only the length matters
    OP_COUNT
};

/// A decoded instruction. General registers are numbered as hardware does: RAX, RCX, RDX, RBX, RSP,
/// RBP, RSI, RDI, R8 to R15. Operand "r/m" is the one that may be memory.
struct insn {
    u8 op;           ///< enum insn_op
    u8 length;       ///< bytes, 1 to 15
    u8 operand_size; ///< bytes: 1, 2, 4, 8
    u8 rm_size;      ///< bytes of r/m: not operand_size for MOVZX, MOVSX, SMSW, LMSW, CLFLUSH
    u8 address_size; ///< bytes: 2, 4, 8
    u8 segment;      ///< of the memory operand, by default or by prefix
    u8 reg;          ///< register operand; 0 (the accumulator) where it is implied
    u8 rm;           ///< r/m as a register, if !memory
    u8 base;         ///< general register or INSN_NONE
    u8 index;        ///< general register or INSN_NONE
    u8 scale;        ///< factor of index: 1, 2, 4, 8
    bool memory;     ///< r/m is memory
    bool to_rm; ///< r/m is the first operand, which most operations write; else it is the source
    bool immediate_source; ///< `immediate` is the source, not `reg`
    bool reg_high;         ///< `reg` means bits 15:8 of that register: AH, CH, DH, BH
    bool rm_high;          ///< the same for `rm`
    bool rip_relative;
    bool rep; ///< F2 or F3 is among the prefixes: the string instructions here take both for REP
    bool lock;
    i64 displacement;
    u64 immediate; ///< sign-extended to the operand size
};

/// Decodes the instruction that begins at `bytes`, of which `valid` bytes may be read (more than 15
/// are not looked at) in a code segment of kind `mode`. Fills `*out`, which means something only if
/// the result is DECODE_OK; of what has no memory operand (`memory`) only what the operation has.
/// Whether the instruction is permitted at the guest's privilege is not asked.
must_check enum decode_status insn_decode(const u8 *bytes, unsigned valid, enum cpu_mode mode,
                                          struct insn *out);

/// The offset of the memory operand within its segment, truncated to the address size. `gprs` are
/// the registers before the instruction, `next_rip` is the address of the one after it.
u64 insn_offset(const struct insn *insn, const u64 gprs[16], u64 next_rip);

/// Computes `op` of the first operand `dst` and the second `src`, both `size` bytes (1, 2, 4, 8;
/// higher bits are ignored), and puts the arithmetic flags into *rflags. CMP and TEST return `dst`
/// itself; XADD is ADD; for CMPXCHG ask for CMP of the accumulator and memory. An operation without
/// arithmetic, such as MOV or XCHG, returns `src` (alu.c).
u64 alu(enum insn_op op, u64 dst, u64 src, unsigned size, u64 *rflags);

/// All bits of an operand of `size` bytes; of its low eight if it is larger.
static inline u64 insn_mask(unsigned size) { return size >= 8 ? ~0ull : (1ull << (8 * size)) - 1; }

/// The low `size` bytes (1 to 8) of `value` as a signed number.
static inline i64 insn_signed(u64 value, unsigned size) {
    unsigned shift = 64 - 8 * size;
    return (i64)(value << shift) >> shift;
}
