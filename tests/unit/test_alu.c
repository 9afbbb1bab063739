// SPDX-License-Identifier: Apache-2.0
//
// The emulator's arithmetic against the processor that runs the test: results and the flags that the manuals define.
//
// sources: dom0/emulator/alu.c

#include "tests/unit/decoded.h"

#define EXECUTE(text)                                                         \
    __asm__ volatile("lea -128(%%rsp), %%rsp\n\tpushq %[f]\n\tpopfq\n\t" text \
                     "\n\tpushfq\n\tpopq %[f]\n\tlea 128(%%rsp), %%rsp"       \
                     : [d] "+q"(d), [f] "+r"(flags)                           \
                     : [s] "c"(s)                                             \
                     : "cc", "memory")

#define PROCESSOR(name, type)                                                                   \
    static u64 name(enum insn_op op, u64 dst, u64 src, u64 *rflags) {                           \
        u64 flags = *rflags;                                                                    \
        type d = (type)dst, s = (type)src;                                                      \
        switch ((int)op) {                                                                      \
        case OP_ADD: EXECUTE("add %[s], %[d]"); break;                                          \
        case OP_OR: EXECUTE("or %[s], %[d]"); break;                                            \
        case OP_ADC: EXECUTE("adc %[s], %[d]"); break;                                          \
        case OP_SBB: EXECUTE("sbb %[s], %[d]"); break;                                          \
        case OP_AND: EXECUTE("and %[s], %[d]"); break;                                          \
        case OP_SUB: EXECUTE("sub %[s], %[d]"); break;                                          \
        case OP_XOR: EXECUTE("xor %[s], %[d]"); break;                                          \
        case OP_CMP: EXECUTE("cmp %[s], %[d]"); break;                                          \
        case OP_TEST: EXECUTE("test %[s], %[d]"); break;                                        \
        case OP_XADD: {                                                                         \
            type saved = s;                                                                     \
            __asm__ volatile("lea -128(%%rsp), %%rsp\n\tpushq %[f]\n\tpopfq\n\txadd %[s], %[d]" \
                             "\n\tpushfq\n\tpopq %[f]\n\tlea 128(%%rsp), %%rsp"                 \
                             : [d] "+q"(d), [f] "+r"(flags), [s] "+q"(saved)                    \
                             :                                                                  \
                             : "cc", "memory");                                                 \
            break;                                                                              \
        }                                                                                       \
        case OP_INC: EXECUTE("inc %[d]"); break;                                                \
        case OP_DEC: EXECUTE("dec %[d]"); break;                                                \
        case OP_NOT: EXECUTE("not %[d]"); break;                                                \
        case OP_NEG: EXECUTE("neg %[d]"); break;                                                \
        case OP_XCHG:                                                                           \
        case OP_MOV: d = s; break;                                                              \
        default: fail();                                                                        \
        }                                                                                       \
        *rflags = flags;                                                                        \
        return d;                                                                               \
    }

PROCESSOR(processor8, u8)
PROCESSOR(processor16, u16)
PROCESSOR(processor32, u32)
PROCESSOR(processor64, u64)

static const enum insn_op arithmetic[] = {
    OP_ADD, OP_OR,  OP_ADC, OP_SBB,  OP_AND, OP_SUB,  OP_XOR,  OP_INC,
    OP_DEC, OP_NOT, OP_NEG, OP_XADD, OP_CMP, OP_TEST, OP_XCHG, OP_MOV,
};

#define ARITHMETIC_FLAGS (RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF)

// The flags that the manuals define after the operation.
static u64 defined_flags(enum insn_op op) {
    bool logic = op == OP_AND || op == OP_OR || op == OP_XOR || op == OP_TEST;

    return logic ? ARITHMETIC_FLAGS & ~RFLAGS_AF : ARITHMETIC_FLAGS;
}

static void check_alu(enum insn_op op, u64 dst, u64 src, unsigned size, u64 rflags) {
    u64 flags = rflags, real_flags = rflags;
    u64 real = size == 1   ? processor8(op, dst, src, &real_flags)
               : size == 2 ? processor16(op, dst, src, &real_flags)
               : size == 4 ? processor32(op, dst, src, &real_flags)
                           : processor64(op, dst, src, &real_flags);
    u64 ours = alu(op, dst, src, size, &flags);
    u64 defined = defined_flags(op);
    if (ours != real || ((flags ^ real_flags) & defined) ||
        ((flags ^ rflags) & ~(u64)ARITHMETIC_FLAGS))
        fail_msg(
            "%s size %u dst %#llx src %#llx flags %#llx: ours %#llx %#llx, processor %#llx %#llx",
            op_name[op], size, (unsigned long long)dst, (unsigned long long)src,
            (unsigned long long)rflags, (unsigned long long)ours, (unsigned long long)flags,
            (unsigned long long)real, (unsigned long long)real_flags);
}

static void test_alu_against_processor(void **state) {
    static const u64 edges[] = {0,          1,      2,          7,          8,          9,
                                0xf,        0x10,   0x1f,       0x20,       0x3f,       0x40,
                                0x7f,       0x80,   0x81,       0xff,       0x100,      0x7fff,
                                0x8000,     0xffff, 0x10000,    0x7fffffff, 0x80000000, 0xffffffff,
                                1ull << 32, ~0ull,  1ull << 63, ~0ull >> 1};
    unsigned long checks = 0;
    (void)state;
    unsigned rounds = random_rounds();
    for (unsigned o = 0; o < COUNT_OF(arithmetic); o++) {
        for (unsigned size = 1; size <= 8; size *= 2) {
            for (unsigned e = 0; e < COUNT_OF(edges) * COUNT_OF(edges) * 2; e++, checks++)
                check_alu(arithmetic[o], edges[e / 2 % COUNT_OF(edges)],
                          edges[e / 2 / COUNT_OF(edges)], size,
                          e & 1 ? 0x202 | ARITHMETIC_FLAGS : 0x202);
            for (unsigned i = 0; i < rounds / 50; i++, checks++)
                check_alu(arithmetic[o], random64(), random64(), size,
                          0x202 | (random64() & ARITHMETIC_FLAGS));
        }
    }
    print_message("%lu operations agree with the processor\n", checks);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alu_against_processor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
