// SPDX-License-Identifier: Apache-2.0
//
// Arithmetic on behalf of a guest, in plain C so that its flags can be checked against the
// processor's own. Invariant: pure functions. Follows the SDM, "Instruction Set Reference", for
// results and flags.

#include "guest/alu.h"

enum {
    RFLAGS_RESULT = RFLAGS_PF | RFLAGS_ZF | RFLAGS_SF,
    RFLAGS_LOGIC = RFLAGS_RESULT | RFLAGS_CF | RFLAGS_OF,
    RFLAGS_ALL = RFLAGS_LOGIC | RFLAGS_AF,
};

static bool top_bit(u64 value, unsigned size) { return value >> (8 * size - 1) & 1; }

// PF, ZF and SF follow from the result alone; PF looks at its lowest byte only.
static u64 result_flags(u64 value, unsigned size) {
    return (__builtin_parity((u8)value) ? 0 : RFLAGS_PF) |
           (value & insn_mask(size) ? 0 : RFLAGS_ZF) | (top_bit(value, size) ? RFLAGS_SF : 0);
}

// `changed` says which of the flags the operation defines.
static struct alu_result result(u64 value, unsigned size, u64 rflags, u64 changed, u64 flags) {
    return (struct alu_result){value & insn_mask(size), (rflags & ~changed) | (flags & changed)};
}

// `carries` has a bit for every position that carried (or borrowed) into the next one, `overflow`
// is about the top bit.
static u64 carry_flags(u64 carries, u64 overflow, u64 value, unsigned size) {
    return (top_bit(carries, size) ? RFLAGS_CF : 0) | (carries & 8 ? RFLAGS_AF : 0) |
           (top_bit(overflow, size) ? RFLAGS_OF : 0) | result_flags(value, size);
}

static struct alu_result add(u64 a, u64 b, bool carry, unsigned size, u64 rflags, u64 changed) {
    u64 sum = a + b + carry;
    u64 carries = (a & b) | ((a | b) & ~sum);
    return result(sum, size, rflags, changed,
                  carry_flags(carries, (a ^ sum) & (b ^ sum), sum, size));
}

static struct alu_result subtract(u64 a, u64 b, bool borrow, unsigned size, u64 rflags,
                                  u64 changed) {
    u64 difference = a - b - borrow;
    u64 borrows = (~a & b) | ((~a | b) & difference);
    u64 flags = carry_flags(borrows, (a ^ b) & (a ^ difference), difference, size);
    return result(difference, size, rflags, changed, flags);
}

struct alu_result alu(enum insn_op op, u64 dst, u64 src, unsigned size, u64 rflags) {
    u64 logic, not_carry = RFLAGS_ALL & ~RFLAGS_CF;
    bool carry = rflags & RFLAGS_CF;

    switch (op) {
    case OP_ADD:
    case OP_XADD: return add(dst, src, false, size, rflags, RFLAGS_ALL);
    case OP_ADC: return add(dst, src, carry, size, rflags, RFLAGS_ALL);
    case OP_INC: return add(dst, 1, false, size, rflags, not_carry);
    case OP_SUB: return subtract(dst, src, false, size, rflags, RFLAGS_ALL);
    case OP_SBB: return subtract(dst, src, carry, size, rflags, RFLAGS_ALL);
    case OP_DEC: return subtract(dst, 1, false, size, rflags, not_carry);
    case OP_NEG: return subtract(0, dst, false, size, rflags, RFLAGS_ALL);
    case OP_CMP:
        return result(dst, size, subtract(dst, src, false, size, rflags, RFLAGS_ALL).flags, 0, 0);
    case OP_TEST: return result(dst, size, rflags, RFLAGS_LOGIC, result_flags(dst & src, size));
    case OP_AND:
    case OP_OR:
    case OP_XOR:
        logic = op == OP_AND ? dst & src : op == OP_OR ? dst | src : dst ^ src;
        return result(logic, size, rflags, RFLAGS_LOGIC, result_flags(logic, size));
    case OP_NOT: return result(~dst, size, rflags, 0, 0);
    default: return result(src, size, rflags, 0, 0);
    }
}
