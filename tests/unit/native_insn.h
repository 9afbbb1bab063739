// SPDX-License-Identifier: Apache-2.0
//
// Random instructions with a memory operand, and the real processor that runs them: for tests of what
// emulates instructions. The test includes its types, native_random() and cmocka first, and maps AREA_PAGES
// pages at DEVICE.
#pragma once

#include <string.h>

#include <basalt/domain.h>

#include "tests/unit/native_area.h"

// ---- The real processor ----

struct native {
    u64 gprs[16]; // RSP is not used
    u64 rflags;
};

static void *native_code;
void run_native(struct native *s);
extern char native_return[];
asm(".pushsection .text\n"
    ".globl run_native\n"
    "run_native:\n"
    "    push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15; push %rdi\n"
    "    push 128(%rdi)\n"
    "    popfq\n"
    "    mov 0(%rdi), %rax;  mov 8(%rdi), %rcx;   mov 16(%rdi), %rdx;  mov 24(%rdi), %rbx\n"
    "    mov 40(%rdi), %rbp; mov 48(%rdi), %rsi;  mov 64(%rdi), %r8;   mov 72(%rdi), %r9\n"
    "    mov 80(%rdi), %r10; mov 88(%rdi), %r11;  mov 96(%rdi), %r12;  mov 104(%rdi), %r13\n"
    "    mov 112(%rdi), %r14; mov 120(%rdi), %r15; mov 56(%rdi), %rdi\n"
    "    jmp *native_target(%rip)\n"
    ".globl native_return\n"
    "native_return:\n"
    "    pushfq\n"
    "    cld\n"
    "    push %rdi\n"
    "    mov 16(%rsp), %rdi\n"
    "    mov %rax, 0(%rdi);  mov %rcx, 8(%rdi);   mov %rdx, 16(%rdi);  mov %rbx, 24(%rdi)\n"
    "    mov %rbp, 40(%rdi); mov %rsi, 48(%rdi);  mov %r8, 64(%rdi);   mov %r9, 72(%rdi)\n"
    "    mov %r10, 80(%rdi); mov %r11, 88(%rdi);  mov %r12, 96(%rdi);  mov %r13, 104(%rdi)\n"
    "    mov %r14, 112(%rdi); mov %r15, 120(%rdi)\n"
    "    pop %rax; mov %rax, 56(%rdi)\n"
    "    pop %rax; mov %rax, 128(%rdi)\n"
    "    pop %rdi; pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp\n"
    "    ret\n"
    ".popsection\n"
    ".pushsection .data\n"
    "native_target: .quad 0x10002000\n"
    ".popsection\n");

static void execute_natively(struct native *s, const u8 *insn, unsigned length) {
    u64 back = (u64)native_return;

    native_code = (void *)CODE;
    memcpy(native_code, insn, length);
    memcpy((u8 *)native_code + length, "\xff\x25\x00\x00\x00\x00", 6); // JMP [RIP + 0]
    memcpy((u8 *)native_code + length + 6, &back, 8);
    run_native(s);
}

// ---- Random instructions ----

enum access { R = 1, W = 2, RW = 3, NONE = 0 };

struct form {
    const char *name;
    u8 opcode[3], opcode_bytes;
    i8 extension; // in ModRM.reg, or -1: a register
    u8 immediate; // bytes; 9: as the operand, at most 4
    u8 size;      // of the memory operand: 0: by prefixes, else bytes
    u8 access;    // enum access
    u32 flags;    // defined
    bool lockable;
    u8 kind; // SHIFT, BITS, ...
};

enum { PLAIN, SHIFT_IMMEDIATE, SHIFT_CL, SHIFT_ONE, BIT_REGISTER, NO_BYTE_REG, ONLY_W };

#define ALL   ARITHMETIC
#define LOGIC (ARITHMETIC & ~F_AF)
#define ARITH(name, n, flags, access)                                                 \
    {name " rm8,r8", {(n)*8}, 1, -1, 0, 1, access, flags, access == RW, PLAIN},       \
        {name " rm,r", {(n)*8 + 1}, 1, -1, 0, 0, access, flags, access == RW, PLAIN}, \
        {name " r8,rm8", {(n)*8 + 2}, 1, -1, 0, 1, R, flags, false, PLAIN},           \
        {name " r,rm", {(n)*8 + 3}, 1, -1, 0, 0, R, flags, false, PLAIN},             \
        {name " rm8,ib", {0x80}, 1, n, 1, 1, access, flags, access == RW, PLAIN},     \
        {name " rm,iz", {0x81}, 1, n, 9, 0, access, flags, access == RW, PLAIN}, {    \
        name " rm,ib", {0x83}, 1, n, 1, 0, access, flags, access == RW, PLAIN         \
    }
#define SHIFT(name, n, flags)                                                   \
    {name " rm8,ib", {0xc0}, 1, n, 1, 1, RW, flags, false, SHIFT_IMMEDIATE},    \
        {name " rm,ib", {0xc1}, 1, n, 1, 0, RW, flags, false, SHIFT_IMMEDIATE}, \
        {name " rm8,1", {0xd0}, 1, n, 0, 1, RW, flags, false, SHIFT_ONE},       \
        {name " rm,1", {0xd1}, 1, n, 0, 0, RW, flags, false, SHIFT_ONE},        \
        {name " rm8,cl", {0xd2}, 1, n, 0, 1, RW, flags, false, SHIFT_CL}, {     \
        name " rm,cl", {0xd3}, 1, n, 0, 0, RW, flags, false, SHIFT_CL           \
    }
#define ROTATED (F_CF | F_OF | F_ZF | F_SF | F_PF | F_AF) // the last four stay

static const struct form forms[] = {
    ARITH("add", 0, ALL, RW),
    ARITH("or", 1, LOGIC, RW),
    ARITH("adc", 2, ALL, RW),
    ARITH("sbb", 3, ALL, RW),
    ARITH("and", 4, LOGIC, RW),
    ARITH("sub", 5, ALL, RW),
    ARITH("xor", 6, LOGIC, RW),
    ARITH("cmp", 7, ALL, R),
    {"test rm8,r8", {0x84}, 1, -1, 0, 1, R, LOGIC, false, PLAIN},
    {"test rm,r", {0x85}, 1, -1, 0, 0, R, LOGIC, false, PLAIN},
    {"test rm8,ib", {0xf6}, 1, 0, 1, 1, R, LOGIC, false, PLAIN},
    {"test rm,iz", {0xf7}, 1, 0, 9, 0, R, LOGIC, false, PLAIN},
    {"not rm8", {0xf6}, 1, 2, 0, 1, RW, ALL, true, PLAIN},
    {"not rm", {0xf7}, 1, 2, 0, 0, RW, ALL, true, PLAIN},
    {"neg rm8", {0xf6}, 1, 3, 0, 1, RW, ALL, true, PLAIN},
    {"neg rm", {0xf7}, 1, 3, 0, 0, RW, ALL, true, PLAIN},
    {"inc rm8", {0xfe}, 1, 0, 0, 1, RW, ALL, true, PLAIN},
    {"inc rm", {0xff}, 1, 0, 0, 0, RW, ALL, true, PLAIN},
    {"dec rm8", {0xfe}, 1, 1, 0, 1, RW, ALL, true, PLAIN},
    {"dec rm", {0xff}, 1, 1, 0, 0, RW, ALL, true, PLAIN},
    {"xchg rm8,r8", {0x86}, 1, -1, 0, 1, RW, ALL, true, PLAIN},
    {"xchg rm,r", {0x87}, 1, -1, 0, 0, RW, ALL, true, PLAIN},
    {"mov rm8,r8", {0x88}, 1, -1, 0, 1, W, ALL, false, PLAIN},
    {"mov rm,r", {0x89}, 1, -1, 0, 0, W, ALL, false, PLAIN},
    {"mov r8,rm8", {0x8a}, 1, -1, 0, 1, R, ALL, false, PLAIN},
    {"mov r,rm", {0x8b}, 1, -1, 0, 0, R, ALL, false, PLAIN},
    {"mov rm8,ib", {0xc6}, 1, 0, 1, 1, W, ALL, false, PLAIN},
    {"mov rm,iz", {0xc7}, 1, 0, 9, 0, W, ALL, false, PLAIN},
    {"movsxd", {0x63}, 1, -1, 0, 4, R, ALL, false, ONLY_W},
    {"movzx r,rm8", {0x0f, 0xb6}, 2, -1, 0, 1, R, ALL, false, NO_BYTE_REG},
    {"movzx r,rm16", {0x0f, 0xb7}, 2, -1, 0, 2, R, ALL, false, NO_BYTE_REG},
    {"movsx r,rm8", {0x0f, 0xbe}, 2, -1, 0, 1, R, ALL, false, NO_BYTE_REG},
    {"movsx r,rm16", {0x0f, 0xbf}, 2, -1, 0, 2, R, ALL, false, NO_BYTE_REG},
    {"xadd rm8,r8", {0x0f, 0xc0}, 2, -1, 0, 1, RW, ALL, true, PLAIN},
    {"xadd rm,r", {0x0f, 0xc1}, 2, -1, 0, 0, RW, ALL, true, PLAIN},
    {"cmpxchg rm8,r8", {0x0f, 0xb0}, 2, -1, 0, 1, RW, ALL, true, PLAIN},
    {"cmpxchg rm,r", {0x0f, 0xb1}, 2, -1, 0, 0, RW, ALL, true, PLAIN},
    {"clflush", {0x0f, 0xae}, 2, 7, 0, 1, NONE, ALL, false, PLAIN},
};

struct sample {
    u8 bytes[24];
    unsigned length, size;
    u64 target; // linear address of the access
    struct native registers;
    u32 flags;
    bool crosses;
};

static void emit(struct sample *s, u64 value, unsigned bytes) {
    memcpy(s->bytes + s->length, &value, bytes);
    s->length += bytes;
}

static unsigned any_register(void) { // not RSP
    unsigned r;

    do
        r = (unsigned)(native_random() % 16);
    while (r == BASALT_RSP);
    return r;
}

static u32 shift_flags(const struct form *f, unsigned count, unsigned size) {
    bool rotation = f->extension < 4, through_carry = f->extension == 2 || f->extension == 3;
    unsigned bits = size * 8;
    u32 flags = f->flags;

    count &= size == 8 ? 63 : 31;
    if (!count)
        return ALL;
    if (count != 1)
        flags &= ~(u32)F_OF;
    if (!rotation && count >= bits && f->extension != 7)
        flags &= ~(u32)F_CF;
    (void)through_carry;
    return flags;
}

static struct sample make_sample(const struct form *f) {
    struct sample s = {.target = DEVICE + 64 + native_random() % (PAGES(2) - 128),
                       .flags = f->flags};
    u64 *gprs = s.registers.gprs, r = native_random(), immediate = native_random();
    bool word = r & 1 && f->size != 1 && f->kind != ONLY_W && f->kind != NO_BYTE_REG,
         narrow = (r >> 1) % 8 == 0;
    u8 rex = (r >> 4) % 2 ? 0x40 | (r >> 5 & 15) : 0;
    unsigned base = any_register(), index = any_register(), mod = (unsigned)(r >> 9) % 3,
             scale = (unsigned)(r >> 11) % 4;
    bool sib = (r >> 13) % 3 == 0, rip_relative = (r >> 16) % 12 == 0;
    unsigned reg = f->extension >= 0 ? (unsigned)f->extension : any_register();

    for (unsigned i = 0; i < 16; i++)
        gprs[i] = native_random() >> native_random() % 64;
    s.registers.rflags = 2 | (native_random() & ARITHMETIC) | BIT(9);
    if (f->kind == ONLY_W)
        rex |= 0x48;
    bool wide = rex & 8;
    s.size = f->size ? f->size : wide ? 8 : word ? 2 : 4;
    if (f->kind == NO_BYTE_REG && f->opcode[1] == 0xc3)
        s.size = wide ? 8 : 4;
    // Which registers the encoding can name without REX.
    if (!rip_relative) {
        if (base == index)
            sib = false;
        if ((base & 7) == 4)
            base ^= 1; // would be a SIB byte
        if (base == BASALT_RSP)
            base = BASALT_RBX;
        if (sib && base == index)
            sib = false;
        if ((base & 7) == 5 && mod == 0)
            mod = 1;
    }
    if (rip_relative)
        sib = false;
    rex &= 0x48;
    if (f->extension < 0 && reg & 8)
        rex |= 0x44;
    if (!rip_relative && base & 8)
        rex |= 0x41;
    if (sib && index & 8)
        rex |= 0x42;
    bool byte_register = f->size == 1 && f->extension < 0 && f->kind != NO_BYTE_REG;
    if (byte_register && !rex && native_random() % 2)
        reg = 4 + (unsigned)(native_random() % 4); // AH, CH, DH, BH
    i64 displacement = rip_relative || mod == 2 ? (i64)(native_random() % 4000) - 2000
                       : mod == 1               ? (i8)native_random()
                                                : 0;
    // Registers such that the operand lies at the target.
    i64 bits = 0;
    if (f->kind == BIT_REGISTER && (rip_relative || reg == base || (sib && reg == index))) {
        reg = (base == BASALT_RDX || (sib && index == BASALT_RDX)) ? BASALT_RSI : BASALT_RDX;
        if (sib && index == reg)
            reg = BASALT_RAX;
        rex &= (u8)~4u;
        if (reg == base || (sib && reg == index))
            return make_sample(f);
    }
    if (f->kind == BIT_REGISTER) {
        s.target = DEVICE + 1024 + native_random() % (PAGES(2) - 2048);
        bits = (i64)(native_random() % 8000) - 4000;
        gprs[reg] = s.size == 2   ? (gprs[reg] & ~0xffffull) | (u16)bits
                    : s.size == 4 ? (gprs[reg] << 32) | (u32)bits
                                  : (u64)bits;
    }
    if (f->kind == SHIFT_IMMEDIATE)
        s.flags = shift_flags(f, (u8)immediate, s.size);
    if (f->kind == SHIFT_ONE)
        s.flags = shift_flags(f, 1, s.size);
    u64 sum = 0;
    if (sib) {
        gprs[index] = native_random() % 1000;
        sum = gprs[index] << scale;
    }
    if (!rip_relative) {
        gprs[base] = s.target - sum - (u64)displacement;
        if (narrow) // only the low half counts
            gprs[base] = (u32)gprs[base] | native_random() << 32;
    }
    if (f->kind == SHIFT_CL)
        s.flags = shift_flags(f, (u8)gprs[BASALT_RCX], s.size);
    u64 operand = s.target; // before what the bit index adds
    s.target += (u64)(bits >> (s.size == 8   ? 6
                               : s.size == 4 ? 5
                                             : 4)) *
                (f->kind == BIT_REGISTER ? s.size : 0);
    s.crosses = (s.target & ~PAGE_MASK) + s.size > PAGE_SIZE;
    // Bytes.
    if (f->lockable && native_random() % 4 == 0)
        emit(&s, 0xf0, 1);
    if (word && !wide)
        emit(&s, 0x66, 1);
    if (narrow)
        emit(&s, 0x67, 1);
    if (native_random() % 8 == 0)
        emit(&s, 0x3e, 1); // DS, which means nothing here
    if (rex)
        emit(&s, rex, 1);
    for (unsigned i = 0; i < f->opcode_bytes; i++)
        emit(&s,
             f->opcode[i] +
                 (f->opcode_bytes == 2 && i && (f->opcode[1] == 0x40 || f->opcode[1] == 0x90)
                      ? native_random() % 16
                      : 0),
             1);
    unsigned immediate_bytes = f->immediate == 9 ? MIN(s.size, 4u) : f->immediate;
    if (rip_relative) {
        u64 next = CODE + s.length + 1 + 4 + immediate_bytes;
        emit(&s, (reg & 7) << 3 | 5, 1);
        emit(&s, operand - next, 4);
    } else {
        emit(&s, mod << 6 | (reg & 7) << 3 | (sib ? 4 : base & 7), 1);
        if (sib)
            emit(&s, scale << 6 | (index & 7) << 3 | (base & 7), 1);
        emit(&s, (u64)displacement, mod == 2 ? 4 : mod == 1 ? 1 : 0);
    }
    emit(&s, immediate, immediate_bytes);
    return s;
}

static void describe(const struct form *f, const struct sample *s) {
    print_message("%s:", f->name);
    for (unsigned i = 0; i < s->length; i++)
        print_message(" %02x", s->bytes[i]);
    print_message("  target %llx\n", (unsigned long long)s->target);
}

static void fail_with(const struct form *f, const struct sample *s, const char *what, u64 got,
                      u64 want) {
    describe(f, s);
    for (unsigned i = 0; i < 16; i++)
        print_message("  r%u = %llx\n", i, (unsigned long long)s->registers.gprs[i]);
    fail_msg("%s: %llx, the processor has %llx", what, (unsigned long long)got,
             (unsigned long long)want);
}

// The includer's: carries the sample out in the code under test and in the processor, and compares them.
static void compare(const struct form *f, struct sample *s);

// MOV between the accumulator and an absolute address.
static void test_absolute_address(void **state unused) {
    static const struct form load = {.name = "mov a,moffs", .access = R, .flags = ALL},
                             store = {.name = "mov moffs,a", .access = W, .flags = ALL};

    for (unsigned k = 0; k < 200; k++) {
        struct sample s = {.target = DEVICE + native_random() % 4000, .flags = ALL};
        bool byte = k & 1, to_memory = k & 2, word = k & 4, wide = k & 8;
        for (unsigned i = 0; i < 16; i++)
            s.registers.gprs[i] = native_random();
        s.registers.rflags = 2;
        s.size = byte ? 1 : wide ? 8 : word ? 2 : 4;
        if (word)
            emit(&s, 0x66, 1);
        if (wide)
            emit(&s, 0x48, 1);
        emit(&s, 0xa0u + !byte + 2 * to_memory, 1);
        emit(&s, s.target, 8);
        compare(to_memory ? &store : &load, &s);
    }
}
