// SPDX-License-Identifier: Apache-2.0
//
// Arithmetic on behalf of a guest, done by the same instruction on this processor: results and flags
// are its own. LAHF, SAHF and SETO move the flags without touching the others. Invariant: a pure
// function; flags that an operation does not define keep their value. Follows the SDM, "Instruction
// Set Reference".

#include "emulator/decode.h"
#include "emulator/x86.h"

#define FLAGS_AH (RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF) // as SAHF has them

// Runs `insn` with operands of `size` bytes: %0 is `dst`, %2 is `src`.
#define EXECUTE(insn, operands, r)                              \
    asm("sahf\n\t" insn " " operands(r) "\n\tlahf\n\tseto %%al" \
        : "+r"(dst), "+a"(flags)                                \
        : "r"(src)                                              \
        : "cc")
#define SIZED(insn, operands)                        \
    switch (size) {                                  \
    case 1: EXECUTE(insn "b", operands, "b"); break; \
    case 2: EXECUTE(insn "w", operands, "w"); break; \
    case 4: EXECUTE(insn "l", operands, "k"); break; \
    default: EXECUTE(insn "q", operands, "q");       \
    }                                                \
    break
#define TWO(r) "%" r "2, %" r "0"
#define ONE(r) "%" r "0"

u64 alu(enum insn_op op, u64 dst, u64 src, unsigned size, u64 *rflags) {
    u64 flags = (*rflags & FLAGS_AH) << 8;

    switch (op) {
    case OP_ADD:
    case OP_XADD: SIZED("add", TWO);
    case OP_OR: SIZED("or", TWO);
    case OP_ADC: SIZED("adc", TWO);
    case OP_SBB: SIZED("sbb", TWO);
    case OP_AND: SIZED("and", TWO);
    case OP_SUB: SIZED("sub", TWO);
    case OP_XOR: SIZED("xor", TWO);
    case OP_CMP: SIZED("cmp", TWO);
    case OP_TEST: SIZED("test", TWO);
    case OP_INC: SIZED("inc", ONE);
    case OP_DEC: SIZED("dec", ONE);
    case OP_NEG: SIZED("neg", ONE);
    case OP_NOT: return ~dst & insn_mask(size);
    default: return src & insn_mask(size);
    }
    *rflags = (*rflags & ~(u64)(FLAGS_AH | RFLAGS_OF)) | (flags >> 8 & FLAGS_AH) |
              (flags & 1 ? RFLAGS_OF : 0);
    return dst & insn_mask(size);
}
