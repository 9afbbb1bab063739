// SPDX-License-Identifier: Apache-2.0
//
// What the tests of the emulator's decoder share: decoding of exact buffers, decoded instructions as text, and random
// numbers. BASALT_TEST_SEED in the environment repeats a random run, BASALT_TEST_ROUNDS changes its length.

#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "emulator/decode.h"
#include "emulator/x86.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static const char *const __attribute__((unused)) mode_name[3] = {"16", "32", "64"};

static const char *const __attribute__((unused)) op_name[OP_COUNT] = {
    [OP_ADD] = "add",   [OP_OR] = "or",           [OP_ADC] = "adc",     [OP_SBB] = "sbb",
    [OP_AND] = "and",   [OP_SUB] = "sub",         [OP_XOR] = "xor",     [OP_INC] = "inc",
    [OP_DEC] = "dec",   [OP_NOT] = "not",         [OP_NEG] = "neg",     [OP_XCHG] = "xchg",
    [OP_XADD] = "xadd", [OP_CMPXCHG] = "cmpxchg", [OP_CMP] = "cmp",     [OP_TEST] = "test",
    [OP_MOV] = "mov",   [OP_MOVZX] = "movzx",     [OP_MOVSX] = "movsx", [OP_CLFLUSH] = "clflush",
    [OP_MOVS] = "movs", [OP_STOS] = "stos",       [OP_LODS] = "lods",   [OP_INS] = "ins",
    [OP_OUTS] = "outs", [OP_IN] = "in",           [OP_OUT] = "out",     [OP_MOV_CR] = "movcr",
    [OP_CLTS] = "clts", [OP_LMSW] = "lmsw",       [OP_SMSW] = "smsw",   [OP_OTHER] = "other",
};

static const char *const segment_name[6] = {"es", "cs", "ss", "ds", "fs", "gs"};

// Decodes a heap copy of exactly `valid` bytes: under AddressSanitizer a read beyond them is fatal.
static inline enum decode_status decode_exactly(const u8 *bytes, unsigned valid, enum cpu_mode mode,
                                                struct insn *insn) {
    u8 *copy = malloc(valid);
    memcpy(copy, bytes, valid);
    enum decode_status status = insn_decode(copy, valid, mode, insn);
    free(copy);
    return status;
}

static inline unsigned parse_hex(const char *text, u8 bytes[32]) {
    unsigned count = 0;
    int used;
    unsigned byte;
    while (sscanf(text, "%2x%n", &byte, &used) == 1) {
        bytes[count++] = (u8)byte;
        text += used;
    }
    return count;
}

static inline const char *hex(const u8 *bytes, unsigned count) {
    static char text[64];
    text[0] = 0;
    for (unsigned i = 0; i < count; i++)
        sprintf(text + 3 * i, "%02x ", bytes[i]);
    return text;
}

static inline const char *register_name(unsigned number, unsigned size, bool high) {
    static const char *const word[8] = {"ax", "cx", "dx", "bx", "sp", "bp", "si", "di"};
    static const char *const high_byte[4] = {"ah", "ch", "dh", "bh"};
    static char ring[4][8];
    static unsigned next;
    char *name = ring[next++ % 4];

    if (size == 16)
        sprintf(name, "xmm%u", number);
    else if (high)
        return high_byte[number];
    else if (number >= 8)
        sprintf(name, "r%u%s", number, size == 1 ? "b" : size == 2 ? "w" : size == 4 ? "d" : "");
    else if (size == 1 && number < 4)
        sprintf(name, "%cl", word[number][0]);
    else
        sprintf(name, "%s%s%s",
                size == 4   ? "e"
                : size == 8 ? "r"
                            : "",
                word[number], size == 1 ? "l" : "");
    return name;
}

// "size segment:[base+index*scale+displacement]"; an address without registers is followed by its
// size.
static inline void format_memory(char *text, const struct insn *insn) {
    text += sprintf(text, "m%u %s:[", insn->rm_size, segment_name[insn->segment]);
    const char *plus = "";
    if (insn->rip_relative) {
        text += sprintf(text, "%s", insn->address_size == 8 ? "rip" : "eip");
        plus = "+";
    }
    if (insn->base != INSN_NONE) {
        text += sprintf(text, "%s", register_name(insn->base, insn->address_size, false));
        plus = "+";
    }
    if (insn->index != INSN_NONE) {
        text += sprintf(text, "%s%s*%u", plus,
                        register_name(insn->index, insn->address_size, false), insn->scale);
        plus = "+";
    }
    if (!*plus)
        sprintf(text, "%#llx]@%u",
                (unsigned long long)insn->displacement & insn_mask(insn->address_size),
                insn->address_size);
    else if (insn->displacement < 0)
        sprintf(text, "-%#llx]", -(long long)insn->displacement);
    else if (insn->displacement)
        sprintf(text, "+%#llx]", (long long)insn->displacement);
    else
        sprintf(text, "]");
}

static inline bool has_no_operands(u8 op) { return op == OP_CLTS || op == OP_OTHER; }

static inline bool has_one_operand(u8 op) {
    return op == OP_NOT || op == OP_NEG || op == OP_INC || op == OP_DEC || op == OP_CLFLUSH ||
           op == OP_LMSW || op == OP_SMSW;
}

static inline const char *format(const struct insn *insn) {
    static char text[256];
    char rm[80], other[40];
    const char *prefix = insn->lock ? "lock " : insn->rep ? "rep " : "";
    const char *name = op_name[insn->op];

    if (insn->memory)
        format_memory(rm, insn);
    else
        strcpy(rm, register_name(insn->rm, insn->rm_size, insn->rm_high));

    if (insn->immediate_source)
        sprintf(other, "%#llx", (unsigned long long)insn->immediate);
    else
        strcpy(other, register_name(insn->reg, insn->operand_size, insn->reg_high));

    if (insn->op == OP_MOV_CR)
        sprintf(other, "cr%u", insn->reg);

    if (has_no_operands(insn->op))
        sprintf(text, "%s%s", prefix, name);
    else if (insn->op == OP_IN || insn->op == OP_OUT)
        sprintf(text, "%s%s %u, %s", prefix, name, insn->operand_size,
                insn->immediate_source ? "imm" : "dx"); // the exit tells the port
    else if (has_one_operand(insn->op))
        sprintf(text, "%s%s %s", prefix, name, rm);
    else
        sprintf(text, "%s%s %s, %s", prefix, name, insn->to_rm ? rm : other,
                insn->to_rm ? other : rm);
    return text;
}

static u64 random_state;

static inline u64 random64(void) {
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * 0x2545f4914f6cdd1dull;
}

static inline unsigned random_rounds(void) {
    const char *seed = getenv("BASALT_TEST_SEED"), *rounds = getenv("BASALT_TEST_ROUNDS");
    random_state = seed ? strtoull(seed, NULL, 0) : (u64)time(NULL) * 2 + 1;
    print_message("BASALT_TEST_SEED=%llu\n", (unsigned long long)random_state);
    return rounds ? (unsigned)atoi(rounds) : 300000;
}
