// SPDX-License-Identifier: Apache-2.0
//
// Arithmetic of the instructions that the decoder knows, for those whose operand is device memory.
// Invariant: pure functions; flags that an operation does not define keep their value. Follows the
// SDM, "Instruction Set Reference".
#pragma once

#include "guest/decode.h"

enum rflags_arithmetic {
    RFLAGS_CF = 1 << 0,
    RFLAGS_PF = 1 << 2,
    RFLAGS_AF = 1 << 4,
    RFLAGS_ZF = 1 << 6,
    RFLAGS_SF = 1 << 7,
    RFLAGS_OF = 1 << 11,
};

struct alu_result {
    u64 value; ///< of the first operand afterwards, as `size` bytes
    u64 flags; ///< rflags with what the operation changed
};

/// Computes `op` of the first operand `dst` and the second `src`, both `size` bytes (1, 2, 4, 8;
/// higher bits are ignored), with `rflags` before it. CMP and TEST return `dst` itself; XADD is ADD;
/// for CMPXCHG ask for CMP of the accumulator and memory. An operation without arithmetic, such as
/// MOV or XCHG, returns `src` and `rflags`.
struct alu_result alu(enum insn_op op, u64 dst, u64 src, unsigned size, u64 rflags);
