// SPDX-License-Identifier: Apache-2.0
//
// Tests of the emulator's instruction decoder and its arithmetic. The decoder is compared with vectors written
// by hand, with Capstone (an independent disassembler), and with itself on shorter input;
// the arithmetic with the processor that runs the test. BASALT_TEST_SEED in the environment repeats
// a random run, BASALT_TEST_ROUNDS changes its length.
//
// sources: dom0/emulator/decode.c dom0/emulator/alu.c
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

#include "emulator/decode.h"
#include "emulator/x86.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static const char *const mode_name[3] = {"16", "32", "64"};

static const char *const op_name[OP_COUNT] = {
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

// ---------------------------------------------------------------------------------------------
// Decoding of exact buffers, and decoded instructions as text.

// Decodes a heap copy of exactly `valid` bytes: under AddressSanitizer a read beyond them is fatal.
static enum decode_status decode_exactly(const u8 *bytes, unsigned valid, enum cpu_mode mode,
                                         struct insn *insn) {
    u8 *copy = malloc(valid);
    memcpy(copy, bytes, valid);
    enum decode_status status = insn_decode(copy, valid, mode, insn);
    free(copy);
    return status;
}

static unsigned parse_hex(const char *text, u8 bytes[32]) {
    unsigned count = 0;
    int used;
    unsigned byte;
    while (sscanf(text, "%2x%n", &byte, &used) == 1) {
        bytes[count++] = (u8)byte;
        text += used;
    }
    return count;
}

static const char *hex(const u8 *bytes, unsigned count) {
    static char text[64];
    text[0] = 0;
    for (unsigned i = 0; i < count; i++)
        sprintf(text + 3 * i, "%02x ", bytes[i]);
    return text;
}

static const char *register_name(unsigned number, unsigned size, bool high) {
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
static void format_memory(char *text, const struct insn *insn) {
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

static bool has_no_operands(u8 op) { return op == OP_CLTS || op == OP_OTHER; }

static bool has_one_operand(u8 op) {
    return op == OP_NOT || op == OP_NEG || op == OP_INC || op == OP_DEC || op == OP_CLFLUSH ||
           op == OP_LMSW || op == OP_SMSW;
}

static const char *format(const struct insn *insn) {
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

// ---------------------------------------------------------------------------------------------
// Vectors, written by hand.

static const struct vector {
    enum cpu_mode mode;
    const char *bytes;
    const char *text;
} vectors[] = {
    // 64-bit mode: forms of ModRM and SIB.
    {MODE_64, "8b 03", "mov eax, m4 ds:[rbx]"},
    {MODE_64, "8b 43 10", "mov eax, m4 ds:[rbx+0x10]"},
    {MODE_64, "8b 43 f0", "mov eax, m4 ds:[rbx-0x10]"},
    {MODE_64, "8b 83 00 10 00 00", "mov eax, m4 ds:[rbx+0x1000]"},
    {MODE_64, "8b 83 00 00 00 80", "mov eax, m4 ds:[rbx-0x80000000]"},
    {MODE_64, "8b 05 44 33 22 11", "mov eax, m4 ds:[rip+0x11223344]"},
    {MODE_64, "41 8b 05 00 00 00 00", "mov eax, m4 ds:[rip]"},
    {MODE_64, "67 8b 05 fc ff ff ff", "mov eax, m4 ds:[eip-0x4]"},
    {MODE_64, "8b 04 25 00 00 e0 fe", "mov eax, m4 ds:[0xfffffffffee00000]@8"},
    {MODE_64, "67 8b 04 25 00 00 e0 fe", "mov eax, m4 ds:[0xfee00000]@4"},
    {MODE_64, "8b 44 b3 10", "mov eax, m4 ds:[rbx+rsi*4+0x10]"},
    {MODE_64, "8b 04 24", "mov eax, m4 ss:[rsp]"},
    {MODE_64, "8b 45 00", "mov eax, m4 ss:[rbp]"},
    {MODE_64, "41 8b 45 00", "mov eax, m4 ds:[r13]"},
    {MODE_64, "41 8b 04 24", "mov eax, m4 ds:[r12]"},
    {MODE_64, "42 8b 04 23", "mov eax, m4 ds:[rbx+r12*1]"},
    {MODE_64, "42 8b 04 65 08 00 00 00", "mov eax, m4 ds:[r12*2+0x8]"},
    {MODE_64, "43 8b 44 fd 08", "mov eax, m4 ds:[r13+r15*8+0x8]"},
    {MODE_64, "4f 8b 54 fd 08", "mov r10, m8 ds:[r13+r15*8+0x8]"},
    {MODE_64, "67 8b 03", "mov eax, m4 ds:[ebx]"},
    {MODE_64, "66 8b 03", "mov ax, m2 ds:[rbx]"},
    {MODE_64, "66 48 8b 03", "mov rax, m8 ds:[rbx]"},
    {MODE_64, "48 66 8b 03", "mov ax, m2 ds:[rbx]"},
    {MODE_64, "40 44 8b 03", "mov r8d, m4 ds:[rbx]"},
    {MODE_64, "65 8b 03", "mov eax, m4 gs:[rbx]"},
    {MODE_64, "64 8b 45 08", "mov eax, m4 fs:[rbp+0x8]"},
    {MODE_64, "2e 8b 03", "mov eax, m4 ds:[rbx]"},
    {MODE_64, "64 2e 8b 03", "mov eax, m4 fs:[rbx]"},
    {MODE_64, "3e 26 36 8b 45 00", "mov eax, m4 ss:[rbp]"},
    {MODE_64, "64 65 8b 03", "mov eax, m4 gs:[rbx]"},
    {MODE_64, "88 23", "mov m1 ds:[rbx], ah"},
    {MODE_64, "40 88 23", "mov m1 ds:[rbx], spl"},
    {MODE_64, "44 88 23", "mov m1 ds:[rbx], r12b"},
    {MODE_64, "8a 3b", "mov bh, m1 ds:[rbx]"},
    {MODE_64, "88 fc", "mov ah, bh"},
    {MODE_64, "a1 88 77 66 55 44 33 22 11", "mov eax, m4 ds:[0x1122334455667788]@8"},
    {MODE_64, "48 a3 88 77 66 55 44 33 22 91", "mov m8 ds:[0x9122334455667788]@8, rax"},
    {MODE_64, "67 a0 44 33 22 f1", "mov al, m1 ds:[0xf1223344]@4"},
    {MODE_64, "65 66 a1 08 00 00 00 00 00 00 00", "mov ax, m2 gs:[0x8]@8"},
    // 64-bit mode: every row of the one-byte map.
    {MODE_64, "00 03", "add m1 ds:[rbx], al"},
    {MODE_64, "f0 01 03", "lock add m4 ds:[rbx], eax"},
    {MODE_64, "0a 03", "or al, m1 ds:[rbx]"},
    {MODE_64, "48 13 03", "adc rax, m8 ds:[rbx]"},
    {MODE_64, "19 03", "sbb m4 ds:[rbx], eax"},
    {MODE_64, "21 03", "and m4 ds:[rbx], eax"},
    {MODE_64, "2b 03", "sub eax, m4 ds:[rbx]"},
    {MODE_64, "33 03", "xor eax, m4 ds:[rbx]"},
    {MODE_64, "39 03", "cmp m4 ds:[rbx], eax"},
    {MODE_64, "3b 03", "cmp eax, m4 ds:[rbx]"},
    {MODE_64, "63 03", "movsx eax, m4 ds:[rbx]"},
    {MODE_64, "48 63 03", "movsx rax, m4 ds:[rbx]"},
    {MODE_64, "66 63 03", "movsx ax, m2 ds:[rbx]"},
    {MODE_64, "6c", "ins m1 es:[rdi], al"},
    {MODE_64, "f3 6d", "rep ins m4 es:[rdi], eax"},
    {MODE_64, "f3 48 6d", "rep ins m4 es:[rdi], eax"},
    {MODE_64, "66 6f", "outs ax, m2 ds:[rsi]"},
    {MODE_64, "80 03 ff", "add m1 ds:[rbx], 0xff"},
    {MODE_64, "81 0b 78 56 34 12", "or m4 ds:[rbx], 0x12345678"},
    {MODE_64, "48 81 0b 78 56 34 92", "or m8 ds:[rbx], 0xffffffff92345678"},
    {MODE_64, "66 81 13 34 92", "adc m2 ds:[rbx], 0x9234"},
    {MODE_64, "83 1b ff", "sbb m4 ds:[rbx], 0xffffffff"},
    {MODE_64, "48 83 23 fe", "and m8 ds:[rbx], 0xfffffffffffffffe"},
    {MODE_64, "66 83 2b 80", "sub m2 ds:[rbx], 0xff80"},
    {MODE_64, "83 33 01", "xor m4 ds:[rbx], 0x1"},
    {MODE_64, "83 7b 04 00", "cmp m4 ds:[rbx+0x4], 0"},
    {MODE_64, "83 3d 10 00 00 00 05", "cmp m4 ds:[rip+0x10], 0x5"},
    {MODE_64, "84 03", "test m1 ds:[rbx], al"},
    {MODE_64, "85 03", "test m4 ds:[rbx], eax"},
    {MODE_64, "87 03", "xchg m4 ds:[rbx], eax"},
    {MODE_64, "f0 86 23", "lock xchg m1 ds:[rbx], ah"},
    {MODE_64, "89 0b", "mov m4 ds:[rbx], ecx"},
    {MODE_64, "f3 90", "rep other"},
    {MODE_64, "f3 a4", "rep movs al, m1 ds:[rsi]"},
    {MODE_64, "f3 48 a5", "rep movs rax, m8 ds:[rsi]"},
    {MODE_64, "64 67 a5", "movs eax, m4 fs:[esi]"},
    {MODE_64, "f3 ab", "rep stos m4 es:[rdi], eax"},
    {MODE_64, "64 ab", "stos m4 es:[rdi], eax"},
    {MODE_64, "ac", "lods al, m1 ds:[rsi]"},
    {MODE_64, "c6 03 80", "mov m1 ds:[rbx], 0x80"},
    {MODE_64, "c7 83 b0 00 00 00 00 00 00 00", "mov m4 ds:[rbx+0xb0], 0"},
    {MODE_64, "48 c7 03 ff ff ff ff", "mov m8 ds:[rbx], 0xffffffffffffffff"},
    {MODE_64, "66 c7 03 34 12", "mov m2 ds:[rbx], 0x1234"},
    {MODE_64, "e4 60", "in 1, imm"},
    {MODE_64, "66 e5 f8", "in 2, imm"},
    {MODE_64, "e6 80", "out 1, imm"},
    {MODE_64, "e7 80", "out 4, imm"},
    {MODE_64, "ec", "in 1, dx"},
    {MODE_64, "48 ed", "in 4, dx"},
    {MODE_64, "ee", "out 1, dx"},
    {MODE_64, "66 ef", "out 2, dx"},
    {MODE_64, "f4", "other"},
    {MODE_64, "f6 03 01", "test m1 ds:[rbx], 0x1"},
    {MODE_64, "f7 03 01 00 00 80", "test m4 ds:[rbx], 0x80000001"},
    {MODE_64, "f7 0b 01 00 00 00", "test m4 ds:[rbx], 0x1"},
    {MODE_64, "f0 f7 13", "lock not m4 ds:[rbx]"},
    {MODE_64, "f6 1b", "neg m1 ds:[rbx]"},
    {MODE_64, "fe 03", "inc m1 ds:[rbx]"},
    {MODE_64, "f0 48 ff 0b", "lock dec m8 ds:[rbx]"},
    // 64-bit mode: the two-byte map.
    {MODE_64, "0f 01 23", "smsw m2 ds:[rbx]"},
    {MODE_64, "49 0f 01 e3", "smsw r11w"},
    {MODE_16, "0f 01 e0", "smsw ax"},
    {MODE_64, "0f 01 f3", "lmsw bx"},
    {MODE_64, "0f 01 33", "lmsw m2 ds:[rbx]"},
    {MODE_64, "0f 01 c1", "other"},
    {MODE_64, "0f 01 d1", "other"},
    {MODE_64, "0f 01 d9", "other"},
    {MODE_64, "0f 06", "clts"},
    {MODE_64, "0f 08", "other"},
    {MODE_64, "0f 09", "other"},
    {MODE_64, "0f 20 c0", "movcr rax, cr0"},
    {MODE_64, "44 0f 20 c3", "movcr rbx, cr8"},
    {MODE_64, "41 0f 22 d8", "movcr cr3, r8"},
    {MODE_64, "0f 22 1c", "movcr cr3, rsp"},
    {MODE_64, "0f 30", "other"},
    {MODE_64, "0f 32", "other"},
    {MODE_64, "0f a2", "other"},
    {MODE_64, "0f ae 3b", "clflush m1 ds:[rbx]"},
    {MODE_64, "66 0f ae 3b", "clflush m1 ds:[rbx]"},
    {MODE_64, "f0 0f b0 23", "lock cmpxchg m1 ds:[rbx], ah"},
    {MODE_64, "f0 48 0f b1 0b", "lock cmpxchg m8 ds:[rbx], rcx"},
    {MODE_64, "0f b6 03", "movzx eax, m1 ds:[rbx]"},
    {MODE_64, "48 0f b6 c4", "movzx rax, spl"},
    {MODE_64, "0f b6 c4", "movzx eax, ah"},
    {MODE_64, "66 0f b6 03", "movzx ax, m1 ds:[rbx]"},
    {MODE_64, "44 0f b7 23", "movzx r12d, m2 ds:[rbx]"},
    {MODE_64, "48 0f be 03", "movsx rax, m1 ds:[rbx]"},
    {MODE_64, "0f bf 03", "movsx eax, m2 ds:[rbx]"},
    {MODE_64, "f0 0f c0 03", "lock xadd m1 ds:[rbx], al"},
    {MODE_64, "0f c1 03", "xadd m4 ds:[rbx], eax"},

    // 32-bit code.
    {MODE_32, "8b 03", "mov eax, m4 ds:[ebx]"},
    {MODE_32, "8b 05 00 00 e0 fe", "mov eax, m4 ds:[0xfee00000]@4"},
    {MODE_32, "8b 04 25 00 00 e0 fe", "mov eax, m4 ds:[0xfee00000]@4"},
    {MODE_32, "8b 44 b3 10", "mov eax, m4 ds:[ebx+esi*4+0x10]"},
    {MODE_32, "8b 44 24 04", "mov eax, m4 ss:[esp+0x4]"},
    {MODE_32, "3e 8b 45 00", "mov eax, m4 ds:[ebp]"},
    {MODE_32, "26 8b 03", "mov eax, m4 es:[ebx]"},
    {MODE_32, "64 2e 8b 03", "mov eax, m4 cs:[ebx]"},
    {MODE_32, "66 89 0b", "mov m2 ds:[ebx], cx"},
    {MODE_32, "67 8b 07", "mov eax, m4 ds:[bx]"},
    {MODE_32, "a1 30 00 d0 fe", "mov eax, m4 ds:[0xfed00030]@4"},
    {MODE_32, "67 a1 30 00", "mov eax, m4 ds:[0x30]@2"},
    {MODE_32, "f3 a5", "rep movs eax, m4 ds:[esi]"},
    {MODE_32, "26 f3 67 a5", "rep movs eax, m4 es:[si]"},
    {MODE_32, "26 aa", "stos m1 es:[edi], al"},
    {MODE_32, "0f 20 c0", "movcr eax, cr0"},
    {MODE_32, "66 0f 22 e0", "movcr cr4, eax"},
    {MODE_32, "f0 0f 22 c3", "movcr cr8, ebx"},
    {MODE_32, "88 23", "mov m1 ds:[ebx], ah"},
    {MODE_32, "0f a2", "other"},
    {MODE_32, "66 c7 05 00 00 e0 fe 34 12", "mov m2 ds:[0xfee00000]@4, 0x1234"},

    // 16-bit code.
    {MODE_16, "8b 00", "mov ax, m2 ds:[bx+si*1]"},
    {MODE_16, "8b 01", "mov ax, m2 ds:[bx+di*1]"},
    {MODE_16, "8b 02", "mov ax, m2 ss:[bp+si*1]"},
    {MODE_16, "8b 03", "mov ax, m2 ss:[bp+di*1]"},
    {MODE_16, "8b 04", "mov ax, m2 ds:[si]"},
    {MODE_16, "8b 05", "mov ax, m2 ds:[di]"},
    {MODE_16, "8b 06 34 92", "mov ax, m2 ds:[0x9234]@2"},
    {MODE_16, "8b 46 fe", "mov ax, m2 ss:[bp-0x2]"},
    {MODE_16, "8b 07", "mov ax, m2 ds:[bx]"},
    {MODE_16, "8b 80 00 80", "mov ax, m2 ds:[bx+si*1-0x8000]"},
    {MODE_16, "26 88 05", "mov m1 es:[di], al"},
    {MODE_16, "66 8b 07", "mov eax, m4 ds:[bx]"},
    {MODE_16, "67 8b 03", "mov ax, m2 ds:[ebx]"},
    {MODE_16, "67 66 8b 83 30 00 00 00", "mov eax, m4 ds:[ebx+0x30]"},
    {MODE_16, "66 67 a1 00 00 e0 fe", "mov eax, m4 ds:[0xfee00000]@4"},
    {MODE_16, "a1 6c 04", "mov ax, m2 ds:[0x46c]@2"},
    {MODE_16, "c7 07 34 12", "mov m2 ds:[bx], 0x1234"},
    {MODE_16, "66 c7 07 78 56 34 12", "mov m4 ds:[bx], 0x12345678"},
    {MODE_16, "f3 ab", "rep stos m2 es:[di], ax"},
    {MODE_16, "f3 66 a5", "rep movs eax, m4 ds:[si]"},
    {MODE_16, "f3 67 66 a5", "rep movs eax, m4 ds:[esi]"},
    {MODE_16, "0f 20 c0", "movcr eax, cr0"},
    {MODE_16, "0f 01 f0", "lmsw ax"},
    {MODE_16, "66 ed", "in 4, dx"},
    {MODE_16, "ed", "in 2, dx"},
    {MODE_16, "0f b7 07", "movzx ax, m2 ds:[bx]"},
    {MODE_16, "66 0f b6 07", "movzx eax, m1 ds:[bx]"},
};

static void test_vectors(void **state) {
    (void)state;
    for (unsigned i = 0; i < COUNT_OF(vectors); i++) {
        u8 bytes[32];
        struct insn insn;
        unsigned count = parse_hex(vectors[i].bytes, bytes);
        if (decode_exactly(bytes, count, vectors[i].mode, &insn) != DECODE_OK)
            fail_msg("%s is not decoded", vectors[i].bytes);
        assert_int_equal(insn.length, count);
        assert_string_equal(format(&insn), vectors[i].text);
        for (unsigned shorter = 0; shorter < count; shorter++)
            assert_int_equal(decode_exactly(bytes, shorter, vectors[i].mode, &insn),
                             DECODE_TRUNCATED);
    }
    print_message("%zu vectors\n", COUNT_OF(vectors));
}

static const struct refusal {
    enum cpu_mode mode;
    const char *bytes;
    enum decode_status status;
} refusals[] = {
    // LOCK without a memory operand that is written, or before an operation that does not lock.
    {MODE_64, "f0 8b 03", DECODE_INVALID},
    {MODE_64, "f0 89 03", DECODE_INVALID},
    {MODE_64, "f0 01 c3", DECODE_INVALID},
    {MODE_64, "f0 03 03", DECODE_INVALID},
    {MODE_64, "f0 39 03", DECODE_INVALID},
    {MODE_64, "f0 83 3b 00", DECODE_INVALID},
    {MODE_64, "f0 85 03", DECODE_INVALID},
    {MODE_64, "f0 0f a2", DECODE_INVALID},
    {MODE_64, "f0 a5", DECODE_INVALID},
    {MODE_64, "f0 0f 22 d8", DECODE_INVALID},
    // Registers that do not exist, opcodes that 64-bit mode took away, UD2.
    {MODE_64, "0f 20 c8", DECODE_INVALID},
    {MODE_64, "0f 20 e8", DECODE_INVALID},
    {MODE_64, "44 0f 22 c8", DECODE_INVALID},
    {MODE_32, "0f 22 f8", DECODE_INVALID},
    {MODE_16, "0f 0b", DECODE_INVALID},
    // Instructions that share an opcode with one that is known.
    {MODE_32, "63 03", DECODE_UNSUPPORTED},
    {MODE_32, "40", DECODE_UNSUPPORTED},
    {MODE_64, "0f 6f 03", DECODE_UNSUPPORTED},
    {MODE_64, "0f e7 03", DECODE_UNSUPPORTED},
    {MODE_64, "f3 0f 28 03", DECODE_UNSUPPORTED},
    {MODE_64, "0f 28 c1", DECODE_UNSUPPORTED},
    {MODE_64, "66 0f c3 03", DECODE_UNSUPPORTED},
    {MODE_64, "0f c3 c3", DECODE_UNSUPPORTED},
    {MODE_64, "f2 0f 38 f0 03", DECODE_UNSUPPORTED},
    {MODE_64, "66 f2 0f 38 f1 03", DECODE_UNSUPPORTED},
    {MODE_64, "0f 38 82 03", DECODE_UNSUPPORTED},
    {MODE_64, "0f ae f8", DECODE_UNSUPPORTED},
    {MODE_64, "0f c7 c9", DECODE_UNSUPPORTED},
    {MODE_64, "0f c7 33", DECODE_UNSUPPORTED},
    {MODE_64, "0f 01 f8", DECODE_UNSUPPORTED},
    {MODE_64, "0f 01 e8", DECODE_UNSUPPORTED},
    {MODE_64, "8f 0b", DECODE_UNSUPPORTED},
    {MODE_64, "c7 0b", DECODE_UNSUPPORTED},
    {MODE_64, "ff 23", DECODE_UNSUPPORTED},
    {MODE_64, "f7 23", DECODE_UNSUPPORTED},
    {MODE_64, "c5 f8 10 03", DECODE_UNSUPPORTED},
    {MODE_64, "62 f1 7c 48 10 03", DECODE_UNSUPPORTED},
    {MODE_64, "d9 03", DECODE_UNSUPPORTED},
    // Length: 15 bytes are an instruction, 16 are not, however many are valid.
    {MODE_64, "66 66 66 66 66 66 66 66 66 66 66 66 66 8b 03", DECODE_OK},
    {MODE_64, "66 66 66 66 66 66 66 66 66 66 66 66 66 66 8b 03", DECODE_TOO_LONG},
    {MODE_64, "66 66 66 66 66 66 66 66 66 66 66 66 66 66 f4", DECODE_OK},
    {MODE_64, "66 66 66 66 66 66 66 66 66 66 66 66 66 66 66", DECODE_TOO_LONG},
    {MODE_64, "66 66 66 66 66 66 66 66 66 66 66 66 66 66", DECODE_TRUNCATED},
    {MODE_64, "2e 2e 2e 2e 48 c7 84 24 00 00 00 00 00 00 00 00", DECODE_TOO_LONG},
    {MODE_64, "2e 2e 2e 2e 48 c7 84 24 00 00 00 00", DECODE_TOO_LONG},
    {MODE_64, "2e 2e 2e 48 c7 84 24 00 00 00 00 00 00 00 00", DECODE_OK},
};

static void test_refusals(void **state) {
    (void)state;
    for (unsigned i = 0; i < COUNT_OF(refusals); i++) {
        u8 bytes[32];
        struct insn insn;
        unsigned count = parse_hex(refusals[i].bytes, bytes);
        enum decode_status status = decode_exactly(bytes, count, refusals[i].mode, &insn);
        if (status != refusals[i].status)
            fail_msg("%s mode %s: status %d", refusals[i].bytes, mode_name[refusals[i].mode],
                     status);
    }
}

static void test_offsets(void **state) {
    static const struct {
        enum cpu_mode mode;
        const char *bytes;
        u64 offset;
    } cases[] = {
        {MODE_64, "8b 03", 0xffff888012345000}, // [rbx]
        {MODE_64, "8b 44 b3 10", 0xffff888012345000 + 4 * 0x23 + 0x10},
        {MODE_64, "8b 44 b3 f0", 0xffff888012345000 + 4 * 0x23 - 0x10},
        {MODE_64, "67 8b 03", 0x12345000},
        {MODE_64, "8b 05 fc ff ff ff", 0xfffffffffffffffc + 0x7000},
        {MODE_64, "67 8b 05 fc 8f ff ff", 0xfffffffc},
        {MODE_64, "a1 88 77 66 55 44 33 22 91", 0x9122334455667788},
        {MODE_64, "8b 04 25 00 00 e0 fe", 0xfffffffffee00000},
        {MODE_32, "8b 05 00 00 e0 fe", 0xfee00000},
        {MODE_32, "8b 83 00 00 00 f0", 0x02345000},
        {MODE_16, "8b 00", 0x5023},       // [bx+si]
        {MODE_16, "8b 40 80", 0x4fa3},    // [bx+si-0x80]
        {MODE_16, "8b 80 00 f0", 0x4023}, // wraps at 64 KiB
        {MODE_64, "a4", 0x23},
        {MODE_64, "aa", 0x1111},
    };
    static const u64 gprs[16] = {
        [1] = 0x105, [2] = ~0ull, [3] = 0xffff888012345000, [4] = 0x8000, [6] = 0x23, [7] = 0x1111};
    (void)state;
    for (unsigned i = 0; i < COUNT_OF(cases); i++) {
        u8 bytes[32];
        struct insn insn;
        unsigned count = parse_hex(cases[i].bytes, bytes);
        assert_int_equal(decode_exactly(bytes, count, cases[i].mode, &insn), DECODE_OK);
        u64 offset = insn_offset(&insn, gprs, 0x7000);
        if (offset != cases[i].offset)
            fail_msg("%s: offset %#llx", cases[i].bytes, (unsigned long long)offset);
    }
}

// ---------------------------------------------------------------------------------------------
// Comparison with Capstone.

static csh capstone[3];
static cs_insn *theirs;
static unsigned long compared, compared_memory, compared_registers, differences,
    compared_op[OP_COUNT], excepted[16];

static int open_capstone(void **state) {
    static const cs_mode modes[3] = {CS_MODE_16, CS_MODE_32, CS_MODE_64};
    (void)state;
    for (int i = 0; i < 3; i++) {
        if (cs_open(CS_ARCH_X86, modes[i], &capstone[i]) != CS_ERR_OK)
            return -1;
        cs_option(capstone[i], CS_OPT_DETAIL, CS_OPT_ON);
    }
    theirs = cs_malloc(capstone[0]);
    return 0;
}

static int close_capstone(void **state) {
    (void)state;
    cs_free(theirs, 1);
    for (int i = 0; i < 3; i++)
        cs_close(&capstone[i]);
    return 0;
}

// Whether Capstone's mnemonic is one of those that our operation stands for.
static bool same_operation(const struct insn *insn, const char *name) {
    static const struct {
        u8 op;
        const char
            *pattern; // names separated by spaces; one that ends in * matches all that begin so
    } others[] = {
        {OP_MOV, "mov movabs"},
        {OP_MOVSX, "movsx movsxd"},
        {OP_CLFLUSH, "clflush clflushopt"},
        {OP_MOVS, "movsb movsw movsd movsq"},
        {OP_STOS, "stosb stosw stosd stosq"},
        {OP_LODS, "lodsb lodsw lodsd lodsq"},
        {OP_INS, "insb insw insd"},
        {OP_OUTS, "outsb outsw outsd"},
        {OP_MOV_CR, "mov"},
        {OP_OTHER,
         "cpuid hlt invd wbinvd rdmsr wrmsr xsetbv vmcall vmmcall nop pause xchg"}, // the last three: 90
    };
    const char *pattern = op_name[insn->op];
    for (unsigned i = 0; i < COUNT_OF(others); i++)
        if (others[i].op == insn->op)
            pattern = others[i].pattern;
    // Capstone 4 puts prefixes in front of the mnemonic.
    const char *last = strrchr(name, ' ');
    name = last ? last + 1 : name;
    size_t length = strlen(name);
    for (const char *p = pattern; *p; p += strcspn(p, " "), p += *p == ' ') {
        size_t n = strcspn(p, " ");
        if (p[n - 1] == '*' ? !strncmp(p, name, n - 1) : n == length && !strncmp(p, name, n))
            return true;
    }
    return false;
}

static const char *capstone_register(x86_reg reg) {
    const char *name = cs_reg_name(capstone[2], reg);
    return name ? name : "";
}

static bool same_register(x86_reg reg, u8 number, unsigned size) {
    if (reg == X86_REG_INVALID || reg == X86_REG_EIZ || reg == X86_REG_RIZ)
        return number == INSN_NONE;
    return number != INSN_NONE &&
           !strcmp(capstone_register(reg), register_name(number, size, false));
}

static bool same_memory(const struct insn *insn, const x86_op_mem *mem, enum cpu_mode mode) {
    u64 mask = insn_mask(insn->address_size);
    bool rip = mem->base == X86_REG_RIP || mem->base == X86_REG_EIP;
    bool base = rip ? insn->rip_relative
                    : !insn->rip_relative &&
                          same_register(mem->base, insn->base, insn->address_size);
    bool scale = insn->index == INSN_NONE || mem->scale == insn->scale;
    bool displacement = !(((u64)mem->disp ^ (u64)insn->displacement) & mask);

    // Capstone tells of overrides only, and in 64-bit mode also of those that have no effect.
    const char *segment = capstone_register(mem->segment);
    bool by_stack = insn->base == 4 || insn->base == 5;
    const char *ours = segment_name[insn->segment];
    const char *implied = by_stack ? "ss" : "ds";
    bool effective = *segment && (mode != MODE_64 || *segment == 'f' || *segment == 'g');
    bool same_segment = !strcmp(ours, effective ? segment : implied);
    if (insn->op >= OP_MOVS && insn->op <= OP_OUTS && insn->base == 7)
        same_segment = !strcmp(ours, "es");

    return base && same_register(mem->index, insn->index, insn->address_size) && scale &&
           displacement && same_segment;
}

// The memory operand that is our r/m: of the two of MOVS and CMPS the one at rSI.
static const cs_x86_op *memory_operand(const struct insn *insn, const cs_x86 *x86) {
    const cs_x86_op *found = NULL;
    for (int i = 0; i < x86->op_count; i++) {
        const cs_x86_op *op = &x86->operands[i];
        bool two = insn->op == OP_MOVS;
        if (op->type == X86_OP_MEM && (!two || same_register(op->mem.base, 6, insn->address_size)))
            found = op;
    }
    return found;
}

static bool same_immediate(const struct insn *insn, const cs_x86 *x86) {
    for (int i = 0; i < x86->op_count; i++)
        if (x86->operands[i].type == X86_OP_IMM)
            return !(((u64)x86->operands[i].imm ^ insn->immediate) & insn_mask(insn->operand_size));
    return insn->immediate == 1; // of shifts by one, which Capstone may leave out
}

static bool is_register(const cs_x86_op *op, const char *name) {
    return op->type == X86_OP_REG && !strcmp(capstone_register(op->reg), name);
}

// The register operands, in the order in which Intel writes them.
static bool same_registers(const struct insn *insn, const cs_x86 *x86) {
    bool control = insn->op == OP_MOV_CR;
    if (insn->op > OP_CLFLUSH && !control)
        return true;
    const cs_x86_op *rm = &x86->operands[0], *reg = &x86->operands[1];
    unsigned rm_size = insn->op == OP_SMSW ? insn->operand_size : insn->rm_size;
    if (!insn->to_rm && !has_one_operand(insn->op)) {
        rm = &x86->operands[1];
        reg = &x86->operands[0];
    }
    if (!insn->memory && !is_register(rm, register_name(insn->rm, rm_size, insn->rm_high)))
        return false;
    if (has_one_operand(insn->op) || insn->immediate_source)
        return true;
    compared_registers++;
    char name[8];
    if (control)
        sprintf(name, "cr%u", insn->reg);
    else
        strcpy(name, register_name(insn->reg, insn->operand_size, insn->reg_high));
    return is_register(reg, name);
}

struct prefix_summary {
    bool operand;   // 66 among them
    u8 last;        // of all but REX
    u8 segment;     // the last segment override
    u8 rex;         // the last REX
    bool split_rex; // REX that another prefix, or REX, follows
};

static bool is_one_of(u8 byte, const char *set) { return byte && strchr(set, byte); }

static struct prefix_summary summarize_prefixes(const u8 *bytes, enum cpu_mode mode) {
    struct prefix_summary sum = {0};
    for (;; bytes++) {
        bool rex = mode == MODE_64 && (*bytes & 0xf0) == 0x40;
        bool segment = is_one_of(*bytes, "\x26\x2e\x36\x3e\x64\x65");
        if (!rex && !segment && !is_one_of(*bytes, "\x66\x67\xf0\xf2\xf3"))
            return sum;
        sum.split_rex |= sum.rex != 0;
        if (rex) {
            sum.rex = *bytes;
            continue;
        }
        sum.last = *bytes;
        sum.operand |= *bytes == 0x66;
        if (segment)
            sum.segment = *bytes;
    }
}

enum deviation {
    DEVIATION_NONE,
    DEVIATION_LOCK_CR,      // nor AMD's LOCK MOV to and from CR0 for CR8
    DEVIATION_66_REPEAT,    // F2 or F3 makes it forget 66, even where they select nothing
    DEVIATION_MOVSXD,       // MOVSXD is always into 8 bytes
    DEVIATION_REX_W,        // REX.W makes PUSH, POP, INS and OUTS 2 bytes wide
    DEVIATION_NULL_SEGMENT, // ES, CS, SS, DS overrides end the effect of FS and GS in 64-bit mode
    DEVIATION_COUNT
};

// Where Capstone 4.0.2 is taken to be wrong; asked only about instructions that differ.
static enum deviation capstone_deviation(const struct insn *insn, enum cpu_mode mode,
                                         const u8 *bytes) {
    struct prefix_summary sum = summarize_prefixes(bytes, mode);

    if (insn->op == OP_MOV_CR && insn->reg == 8 && (sum.split_rex || !(sum.rex & 4)))
        return DEVIATION_LOCK_CR;
    if (sum.operand && insn->rep)
        return DEVIATION_66_REPEAT;
    if (insn->op == OP_MOVSX && strstr(theirs->mnemonic, "movsxd") && insn->operand_size != 8)
        return DEVIATION_MOVSXD;
    if (sum.rex & 8 && (insn->op == OP_INS || insn->op == OP_OUTS))
        return DEVIATION_REX_W;
    if (insn->segment >= SEG_FS && mode == MODE_64 && sum.segment < 0x64)
        return DEVIATION_NULL_SEGMENT;
    return DEVIATION_NONE;
}

static const char *difference(const struct insn *insn, enum cpu_mode mode, const u8 *bytes,
                              size_t count) {
    const u8 *code = bytes;
    u64 address = 0;
    if (!cs_disasm_iter(capstone[mode], &code, &count, &address, theirs))
        return "unknown to Capstone";
    const cs_x86 *x86 = &theirs->detail->x86;
    if (theirs->size != insn->length)
        return "length";
    if (!same_operation(insn, theirs->mnemonic))
        return "operation";
    const cs_x86_op *mem = memory_operand(insn, x86);
    bool memory = insn->memory;
    if (memory && !mem)
        return "no memory operand";
    if (memory && !same_memory(insn, &mem->mem, mode))
        return "memory operand";
    if (memory && mem->size != insn->rm_size && insn->op != OP_CLFLUSH)
        return "size of the memory operand";
    if (!same_registers(insn, x86))
        return "registers";
    if (insn->immediate_source && insn->op != OP_IN && insn->op != OP_OUT &&
        !same_immediate(insn, x86))
        return "immediate";
    compared++;
    compared_op[insn->op]++;
    compared_memory += memory;
    return NULL;
}

// Reports each kind of difference once, with the first instruction that shows it.
static void report(const struct insn *insn, enum cpu_mode mode, const u8 *bytes,
                   const char *problem) {
    static const char *seen[OP_COUNT][3];
    differences++;
    if (seen[insn->op][mode] == problem)
        return;
    seen[insn->op][mode] = problem;
    print_error("mode %s: %s: %s; ours: %s; Capstone: %s %s\n", mode_name[mode],
                hex(bytes, insn->length), problem, format(insn), theirs->mnemonic, theirs->op_str);
}

static void compare(enum cpu_mode mode, const u8 *bytes, unsigned count) {
    struct insn insn;
    if (insn_decode(bytes, count, mode, &insn) != DECODE_OK)
        return;
    const char *problem = difference(&insn, mode, bytes, insn.length);
    if (!problem)
        return;
    enum deviation deviation = capstone_deviation(&insn, mode, bytes);
    excepted[deviation]++;
    if (deviation == DEVIATION_NONE)
        report(&insn, mode, bytes, problem);
}

static u64 random_state;

// xorshift64*
static u64 random64(void) {
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * 0x2545f4914f6cdd1dull;
}

static unsigned random_rounds(void) {
    const char *seed = getenv("BASALT_TEST_SEED"), *rounds = getenv("BASALT_TEST_ROUNDS");
    random_state = seed ? strtoull(seed, NULL, 0) : (u64)time(NULL) * 2 + 1;
    print_message("BASALT_TEST_SEED=%llu\n", (unsigned long long)random_state);
    return rounds ? (unsigned)atoi(rounds) : 300000;
}

// Sometimes prefixes, often REX or 0F, then random bytes.
static unsigned random_instruction(u8 bytes[15]) {
    static const u8 prefixes[] = {0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x26,
                                  0x2e, 0x36, 0x3e, 0x64, 0x65, 0x48};
    u64 dice = random64();
    unsigned count = 0;

    for (unsigned i = dice & 0x300 ? 0 : dice & 3; i; i--)
        bytes[count++] = prefixes[random64() % COUNT_OF(prefixes)];
    if (dice & 4)
        bytes[count++] = 0x40 | (dice >> 12 & 15);
    if (dice & 8)
        bytes[count++] = 0x0f;
    while (count < 15)
        bytes[count++] = (u8)random64();
    return count;
}

static void test_random_against_capstone(void **state) {
    (void)state;
    unsigned rounds = random_rounds();
    unsigned long before = compared;
    u8 bytes[15];
    struct insn insn, again;

    differences = 0;
    for (unsigned i = 0; i < rounds; i++) {
        for (int mode = MODE_16; mode <= MODE_64; mode++) {
            unsigned count = random_instruction(bytes);
            compare(mode, bytes, count);
            if (i % 8 || insn_decode(bytes, count, mode, &insn) != DECODE_OK)
                continue;
            for (unsigned shorter = 0; shorter < insn.length; shorter++)
                assert_int_equal(decode_exactly(bytes, shorter, mode, &again), DECODE_TRUNCATED);
            assert_int_equal(decode_exactly(bytes, insn.length, mode, &again), DECODE_OK);
            assert_int_equal(again.length, insn.length);
        }
    }
    print_message("%u random strings per mode, %lu instructions compared\n", rounds,
                  compared - before);
    assert_true(compared - before > rounds / 4);
    assert_int_equal(differences, 0);
}

static void compare_modrm(enum cpu_mode mode, u8 *bytes, unsigned count) {
    for (unsigned modrm = 0; modrm < 256; modrm++) {
        bytes[count] = (u8)modrm;
        bytes[count + 1] = (u8)(modrm * 37 + bytes[count - 1] * 11); // SIB: varied, reproducible
        compare(mode, bytes, 15);
    }
}

// Every opcode with every ModRM behind subsets of the prefixes.
static void test_all_opcodes_against_capstone(void **state) {
    // The first three of these meet every REX, the others the first three REX.
    static const char *const prefixes[] = {"",      "66",    "67",    "f2",    "f3",   "f0",
                                           "26",    "2e",    "36",    "3e",    "64",   "65",
                                           "66 67", "66 f2", "f3 66", "66 f0", "65 f3"};
    static const u8 rex[] = {0, 0x48, 0x45, 0x40, 0x41, 0x42, 0x44, 0x4f};
    u8 bytes[32];

    (void)state;
    for (int mode = MODE_16; mode <= MODE_64; mode++) {
        for (unsigned p = 0; p < COUNT_OF(prefixes); p++) {
            unsigned rex_count = mode != MODE_64 ? 1 : p < 3 ? COUNT_OF(rex) : 3;
            for (unsigned r = 0; r < rex_count; r++) {
                memset(bytes, 0x91, sizeof(bytes));
                unsigned count = parse_hex(prefixes[p], bytes);
                if (rex[r])
                    bytes[count++] = rex[r];
                for (unsigned opcode = 0; opcode < 256; opcode++) {
                    bytes[count] = (u8)opcode;
                    compare_modrm(mode, bytes, count + 1);
                    bytes[count] = 0x0f;
                    bytes[count + 1] = (u8)opcode;
                    compare_modrm(mode, bytes, count + 2);
                }
            }
        }
    }
    print_message("%lu instructions compared, %lu with memory, %lu with two registers\n", compared,
                  compared_memory, compared_registers);
    for (int i = 1; i < DEVIATION_COUNT; i++)
        print_message("deviation %d: %lu excepted\n", i, excepted[i]);
    for (unsigned op = OP_INVALID + 1; op < OP_COUNT; op++)
        if (!compared_op[op])
            fail_msg("never compared: %s", op_name[op]);
    assert_int_equal(differences, 0);
    assert_true(compared > 500000 && compared_memory > 400000 && compared_registers > 100000);
}

// ---------------------------------------------------------------------------------------------
// Arithmetic against the processor.

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
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_offsets),
        cmocka_unit_test(test_all_opcodes_against_capstone),
        cmocka_unit_test(test_random_against_capstone),
        cmocka_unit_test(test_alu_against_processor),
    };
    return cmocka_run_group_tests(tests, open_capstone, close_capstone);
}
