// SPDX-License-Identifier: Apache-2.0
//
// Tests of the emulator's instruction decoder with vectors written by hand, and with itself on shorter input.
// test_decode_capstone.c compares it with an independent disassembler.
//
// sources: dom0/emulator/decode.c

#include "tests/unit/decoded.h"

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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_offsets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
