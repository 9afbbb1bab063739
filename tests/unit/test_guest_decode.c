// SPDX-License-Identifier: Apache-2.0
//
// The kernel's instruction decoder against Capstone (an independent disassembler), over random prefixes, opcodes and
// operands in all modes: what it decodes is what Capstone says, what it refuses is none of its instructions, and every
// byte of an instruction is needed. BASALT_TEST_SEED in the environment repeats a run.
//
// sources: guest/decode.c
// libs: -lcapstone

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <capstone/capstone.h>

#include "guest/decode.h"

static csh handles[3];
static unsigned differences;
static u64 seed;

static u64 any(void) {
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    u64 x = seed ^ seed >> 29;
    return x * 0xbf58476d1ce4e5b9ull ^ x >> 32;
}

static int open_capstone(void **state) {
    static const cs_mode modes[3] = {CS_MODE_16, CS_MODE_32, CS_MODE_64};
    const char *given = getenv("BASALT_TEST_SEED");

    (void)state;
    seed = given ? strtoull(given, NULL, 0) : (u64)time(NULL);
    for (unsigned mode = 0; mode < 3; mode++) {
        if (cs_open(CS_ARCH_X86, modes[mode], &handles[mode]))
            return -1;
        cs_option(handles[mode], CS_OPT_DETAIL, CS_OPT_ON);
    }
    return 0;
}

// Decodes a heap copy of exactly `valid` bytes: under AddressSanitizer a read beyond them is fatal.
static bool decode_exactly(const u8 *bytes, unsigned valid, enum cpu_mode mode, struct insn *insn) {
    u8 *copy = malloc(valid ? valid : 1);

    memcpy(copy, bytes, valid);
    bool decoded = insn_decode(copy, valid, mode, insn);
    assert_true(insn_prefixes(copy, valid, mode) <= valid);
    free(copy);
    return decoded;
}

static bool is_register(const cs_x86_op *op) { return op->type == X86_OP_REG; }

static bool is_control(const cs_x86_op *op) {
    return is_register(op) && op->reg >= X86_REG_CR0 && op->reg <= X86_REG_CR15;
}

static bool is_general(const cs_x86_op *op) {
    return is_register(op) && !is_control(op) &&
           !(op->reg >= X86_REG_DR0 && op->reg <= X86_REG_DR15) && op->reg != X86_REG_CS &&
           op->reg != X86_REG_DS && op->reg != X86_REG_ES && op->reg != X86_REG_FS &&
           op->reg != X86_REG_GS && op->reg != X86_REG_SS;
}

// The number of a general register; 99: it is none, or AH, CH, DH, BH.
static unsigned number_of(x86_reg reg) {
    static const x86_reg table[16][4] = {
        {X86_REG_AL, X86_REG_AX, X86_REG_EAX, X86_REG_RAX},
        {X86_REG_CL, X86_REG_CX, X86_REG_ECX, X86_REG_RCX},
        {X86_REG_DL, X86_REG_DX, X86_REG_EDX, X86_REG_RDX},
        {X86_REG_BL, X86_REG_BX, X86_REG_EBX, X86_REG_RBX},
        {X86_REG_SPL, X86_REG_SP, X86_REG_ESP, X86_REG_RSP},
        {X86_REG_BPL, X86_REG_BP, X86_REG_EBP, X86_REG_RBP},
        {X86_REG_SIL, X86_REG_SI, X86_REG_ESI, X86_REG_RSI},
        {X86_REG_DIL, X86_REG_DI, X86_REG_EDI, X86_REG_RDI},
        {X86_REG_R8B, X86_REG_R8W, X86_REG_R8D, X86_REG_R8},
        {X86_REG_R9B, X86_REG_R9W, X86_REG_R9D, X86_REG_R9},
        {X86_REG_R10B, X86_REG_R10W, X86_REG_R10D, X86_REG_R10},
        {X86_REG_R11B, X86_REG_R11W, X86_REG_R11D, X86_REG_R11},
        {X86_REG_R12B, X86_REG_R12W, X86_REG_R12D, X86_REG_R12},
        {X86_REG_R13B, X86_REG_R13W, X86_REG_R13D, X86_REG_R13},
        {X86_REG_R14B, X86_REG_R14W, X86_REG_R14D, X86_REG_R14},
        {X86_REG_R15B, X86_REG_R15W, X86_REG_R15D, X86_REG_R15},
    };

    for (unsigned n = 0; n < 16; n++)
        for (unsigned size = 0; size < 4; size++)
            if (table[n][size] == reg)
                return n;
    return 99;
}

static void differ(const char *what, const cs_insn *cs, const u8 *bytes, enum cpu_mode mode,
                   const struct insn *i) {
    differences++;
    fprintf(stderr, "%s, mode %u:", what, mode);
    for (unsigned n = 0; n < 15; n++)
        fprintf(stderr, " %02x", bytes[n]);
    fprintf(stderr, " = %s %s\n  op %u length %u bytes %u reg %u rm %u write %u value %llx\n",
            cs ? cs->mnemonic : "?", cs ? cs->op_str : "", i->op, i->length, i->bytes, i->reg,
            i->rm, i->write, (unsigned long long)i->value);
}

static bool is_move_register(const cs_x86_op *op) {
    return is_general(op) && number_of(op->reg) != 99;
}

// A MOV between memory and a general register but AH, CH, DH, BH, or of an immediate to memory.
static bool is_move(const cs_insn *cs) {
    const cs_x86 *x = &cs->detail->x86;

    if (cs->id != X86_INS_MOV && cs->id != X86_INS_MOVABS)
        return false;
    if (x->operands[0].type == X86_OP_MEM)
        return is_move_register(&x->operands[1]) || x->operands[1].type == X86_OP_IMM;
    return x->operands[1].type == X86_OP_MEM && is_move_register(&x->operands[0]);
}

static bool same_move(const cs_insn *cs, const struct insn *i) {
    const cs_x86_op *to = &cs->detail->x86.operands[0], *from = to + 1;
    bool write = to->type == X86_OP_MEM;
    const cs_x86_op *memory = write ? to : from, *other = write ? from : to;

    if (i->op != OP_MOV || i->write != write || i->bytes != memory->size)
        return false;
    if (other->type == X86_OP_IMM)
        return i->immediate &&
               (i->value & insn_mask(i->bytes)) == ((u64)other->imm & insn_mask(i->bytes));
    return !i->immediate && i->reg == number_of(other->reg) && i->bytes == other->size;
}

static bool same_control(const cs_insn *cs, const struct insn *i) {
    const cs_x86_op *to = &cs->detail->x86.operands[0], *from = to + 1;
    bool write = is_control(to);
    unsigned cr = (write ? to : from)->reg - X86_REG_CR0;

    return i->op == OP_MOV_CR && i->write == write && i->reg == cr &&
           i->rm == number_of((write ? from : to)->reg);
}

// What Capstone knows of `bytes`, held against the decoder's result.
static void compare(enum cpu_mode mode, const u8 *bytes, unsigned valid) {
    struct insn i = {0};
    cs_insn *cs = NULL;
    bool decoded = decode_exactly(bytes, valid, mode, &i);
    size_t count = cs_disasm(handles[mode], bytes, valid, 0, 1, &cs);
    bool wanted = false, same = false;

    if (count) {
        const cs_x86 *x = &cs->detail->x86;
        bool control = cs->id == X86_INS_MOV &&
                       (is_control(&x->operands[0]) || is_control(&x->operands[1]));
        if (is_move(cs)) {
            wanted = true;
            same = same_move(cs, &i);
        } else if (control) {
            wanted = BIT(i.reg) & 0x111;
            same = same_control(cs, &i);
        }
        if (wanted != decoded || (wanted && (!same || i.length != cs->size)))
            differ(wanted ? "not the same" : "not wanted", cs, bytes, mode, &i);
        cs_free(cs, count);
    }
}

// What Capstone 4 does not know or says otherwise than the manuals: LOCK MOV CR0, which is CR8; control registers with
// prefixes that it takes for another instruction's; 66 beside F2 or F3; a REX that is not the last prefix.
static bool excepted(enum cpu_mode mode, const u8 *bytes, unsigned valid) {
    unsigned opcode = insn_prefixes(bytes, valid, mode);
    bool lock = false, other = false, word = false;

    for (unsigned i = 0; i < opcode; i++) {
        lock |= bytes[i] == 0xf0;
        other |= bytes[i] == 0xf2 || bytes[i] == 0xf3;
        word |= bytes[i] == 0x66;
        if (mode == MODE_64 && (bytes[i] & 0xf0) == 0x40 && i + 1 != opcode)
            return true;
    }
    if (opcode + 1 >= valid)
        return true;
    return lock || (word && other) || (bytes[opcode] == 0x0f && (word || other));
}

static unsigned random_insn(u8 *bytes) {
    static const u8 prefixes[] = {0x66, 0x67, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0xf2,
                                  0xf3, 0xf0, 0x40, 0x41, 0x42, 0x44, 0x48, 0x4c, 0x4f};
    static const u8 opcodes[] = {0x88, 0x89, 0x8a, 0x8b, 0xa0, 0xa1, 0xa2, 0xa3, 0xc6, 0xc7};
    static const u8 second[] = {0x01, 0x06, 0x20, 0x22, 0xb6, 0xb7, 0xb6, 0xb7};
    unsigned n = 0;
    u64 r = any();

    for (unsigned i = 0; i < 32; i++)
        bytes[i] = (u8)any();
    for (unsigned count = (unsigned)(r % 3); count; count--)
        bytes[n++] = prefixes[any() % ARRAY_SIZE(prefixes)];
    if (r >> 8 & 1) {
        bytes[n++] = opcodes[any() % ARRAY_SIZE(opcodes)];
        if ((bytes[n - 1] & 0xfe) == 0xc6 && r >> 12 & 3)
            bytes[n] &= 0xc7;
    } else if (r >> 9 & 3) {
        bytes[n++] = 0x0f;
        bytes[n] = r >> 16 & 7 ? second[any() % ARRAY_SIZE(second)] : bytes[n];
    }
    return INSN_MAX_LENGTH;
}

static void test_against_capstone(void **state) {
    (void)state;
    printf("BASALT_TEST_SEED=%llu\n", (unsigned long long)seed);
    for (unsigned n = 0; n < 600000; n++) {
        u8 bytes[32];
        unsigned valid = random_insn(bytes);
        enum cpu_mode mode = n % 3;
        if (!excepted(mode, bytes, valid))
            compare(mode, bytes, valid);
        assert_true(differences < 10);
    }
    assert_int_equal(differences, 0);
}

static void test_every_byte_is_needed(void **state) {
    unsigned decoded = 0;

    (void)state;
    for (unsigned n = 0; n < 200000; n++) {
        u8 bytes[32];
        struct insn insn, again;
        enum cpu_mode mode = n % 3;
        if (!decode_exactly(bytes, random_insn(bytes), mode, &insn))
            continue;
        decoded++;
        assert_true(insn.length >= 2 && insn.length <= INSN_MAX_LENGTH);
        assert_true(decode_exactly(bytes, insn.length, mode, &again));
        assert_memory_equal(&insn, &again, sizeof(insn));
        for (unsigned shorter = 0; shorter < insn.length; shorter++)
            assert_false(decode_exactly(bytes, shorter, mode, &again));
    }
    assert_true(decoded > 50000);
}

static void test_vectors(void **state) {
    struct insn i;

    (void)state;
    assert_true(decode_exactly((const u8 *)"\xf0\x0f\x22\xc3", 4, MODE_32, &i)); // MOV CR8, EBX
    assert_true(i.op == OP_MOV_CR && i.reg == 8 && i.rm == 3 && i.write && i.length == 4);
    assert_false(decode_exactly((const u8 *)"\xf0\x0f\x22\xdb", 4, MODE_32, &i)); // CR3
    assert_false(decode_exactly((const u8 *)"\xf0\x89\x03", 3, MODE_32, &i));     // LOCK MOV
    assert_false(decode_exactly((const u8 *)"\x0f\x20\xc8", 3, MODE_32, &i));     // CR1
    assert_true(decode_exactly((const u8 *)"\x48\x66\x8b\x03", 4, MODE_64, &i));  // REX is ignored
    assert_true(i.bytes == 2);
    assert_false(decode_exactly((const u8 *)"\x87\x03", 2, MODE_64, &i));     // XCHG
    assert_false(decode_exactly((const u8 *)"\x0f\x01\x33", 3, MODE_64, &i)); // LMSW [RBX]
    assert_false(decode_exactly((const u8 *)"\x0f\x01\xf0", 3, MODE_64, &i)); // LMSW AX
    assert_false(decode_exactly((const u8 *)"\x0f\x01\xe0", 3, MODE_64, &i)); // SMSW EAX
    assert_int_equal(insn_prefixes((const u8 *)"\xf3\x90", 2, MODE_64), 1);
    assert_int_equal(insn_prefixes((const u8 *)"\x48\x0f\xa2", 3, MODE_64), 1);
    assert_int_equal(insn_prefixes((const u8 *)"\x48\x0f\xa2", 3, MODE_32), 0);
    assert_int_equal(insn_prefixes((const u8 *)"\x66\x66\x66", 3, MODE_64), 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_against_capstone),
        cmocka_unit_test(test_every_byte_is_needed),
    };
    return cmocka_run_group_tests(tests, open_capstone, NULL);
}
