// SPDX-License-Identifier: Apache-2.0
//
// Instructions on device memory: decoded and emulated with a request server that answers late, and executed by the real
// processor from the same bytes, with the same registers, on RAM at the same address; registers, defined flags and
// memory must agree, and the device must have seen each access once, whole. String instructions in both directions,
// with REP, between devices and memory. Port I/O against a model. What can't be emulated ends the domain.
// sources: tests/unit/host_machine.c tests/unit/host_kernel.c
// sources: kernel/domain.c kernel/memory.c kernel/handle.c kernel/event.c kernel/request.c kernel/share.c
// sources: kernel/interrupt.c kernel/hypercall.c kernel/policy.c kernel/timer.c kernel/schedule.c kernel/frames.c
// sources: kernel/console.c ept/ept.c ept/format.c guest/vcpu.c guest/interrupt.c guest/walk.c guest/emulate.c
// sources: guest/run.c guest/decode.c guest/alu.c guest/event.c
// sources: guest/cpuid.c guest/msr.c guest/mtrr.c guest/cr.c guest/vlapic.c guest/vlapic_register.c
// sources: guest/vlapic_timer.c guest/control.c guest/pvclock.c
// libs: -Wl,--wrap=frame_alloc -Wl,--wrap=frame_alloc_chunk -Wl,--wrap=frame_kernel_alloc

#include "tests/unit/host_machine.h"

#include "arch/paging.h"
#include "kernel/event.h"
#include "kernel/handle.h"
#include "kernel/request.h"

#include <basalt/error.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#define DEVICE     0x10000000ull // linear, two pages
#define CODE       0x10002000ull // one page
#define RAM        0x10003000ull // three pages, whose frames are not neighbours
#define AREA_PAGES 6u
#define DEVICE_GPA 0xd0000000ull
#define PAGES(n)   ((n)*PAGE_SIZE)
#define F_CF       0x1u
#define F_PF       0x4u
#define F_AF       0x10u
#define F_ZF       0x40u
#define F_SF       0x80u
#define F_OF       0x800u
#define ARITHMETIC (F_CF | F_PF | F_AF | F_ZF | F_SF | F_OF)
#define DF         BIT(10)

static struct host_account empty;
static struct domain *d, *server;
static struct vcpu *v;
static struct host_vcpu *cpu;
static u32 port;
static u8 device[PAGES(2)]; // what the emulated device holds
static u8 *area;            // the processor's memory at DEVICE
static unsigned reads, writes;
static const u8 ram_pages[3] = {9, 7, 12}; // guest-physical pages of RAM

static u64 frame(u64 linear) { // guest-physical address of a linear one
    if (linear < CODE)
        return DEVICE_GPA + (linear - DEVICE);
    return linear < RAM ? PAGES(5) : PAGES(ram_pages[(linear - RAM) / PAGE_SIZE]);
}

static int setup(void **state unused) {
    host_seed();
    host_machine_init();
    host_log_quiet = true;
    area = mmap((void *)DEVICE, PAGES(AREA_PAGES), PROT_READ | PROT_WRITE | PROT_EXEC,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    assert_ptr_equal(area, (void *)DEVICE);
    return 0;
}

static void entry(u64 table, u64 index, u64 value) {
    memcpy((u8 *)host_memory(d, table) + index * 8, &value, 8);
}

static int begin(void **state unused) {
    u64 page;

    empty = host_account();
    d = host_domain("guest", 8 * MIB);
    for (u64 i = 0; i < 16; i++)
        assert_int_equal(memory_populate(d, GPA(PAGES(i ^ 3)), 1, 0), 1);
    assert_int_equal(vcpu_create(d, 0), 0);
    v = d->vcpus[0];
    cpu = host_vcpu(v);
    host_load(v);
    host_set_mode(v, MODE_64);
    vcpu_unblock(v, BLOCK_NEW);
    assert_int_equal(domain_control(d, BASALT_OP_RESUME), 0);
    cpu->registers[REG_CR3] = PAGES(1);
    entry(PAGES(1), 0, PAGES(2) | 7);
    entry(PAGES(2), 0, PAGES(3) | 7);
    entry(PAGES(3), DEVICE >> 21, PAGES(4) | 7);
    for (u64 i = 0; i < AREA_PAGES; i++)
        entry(PAGES(4), i, frame(DEVICE + PAGES(i)) | 7);
    server = host_domain("server", 2 * MIB);
    server->identity = true;
    assert_int_equal(events_init(server), 0);
    assert_non_null(handle_create(server, d, BASALT_RIGHTS_DOMAIN));
    port = (u32)port_alloc(server);
    assert_int_equal(request_serve(d, server, port, &page), 0);
    assert_int_equal(request_route(d, server, 0, BASALT_SPACE_MEMORY, DEVICE_GPA,
                                   DEVICE_GPA + sizeof(device) - 1),
                     0);
    assert_int_equal(request_route(d, server, 0, BASALT_SPACE_IO, 0x100, 0x1ff), 0);
    return 0;
}

static int end(void **state unused) {
    host_load(NULL);
    host_destroy(d);
    host_destroy(server);
    host_assert_same(empty);
    return 0;
}

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

// ---- The emulation ----

// Answers the request that is out, after having looked that nothing has changed meanwhile.
static void answer(void) {
    const struct basalt_request *r = &d->servers[0].page->slots[0];
    struct cpu_state before = v->cpu;
    u64 value = ~0ull; // what lies above the access's size means nothing

    assert_true(v->io.waiting && !v->io.answered);
    assert_int_equal(v->blocked, BLOCK_REQUEST);
    assert_true(r->bytes == 1 || r->bytes == 2 || r->bytes == 4 || r->bytes == 8);
    assert_int_equal(r->space, BASALT_SPACE_MEMORY);
    u64 offset = r->address - DEVICE_GPA;
    assert_true(offset + r->bytes <= sizeof(device));
    if (r->write) {
        assert_true(r->bytes == 8 || !(r->data >> (8 * r->bytes)));
        memcpy(device + offset, &r->data, r->bytes);
        writes++;
    } else {
        memcpy(&value, device + offset, r->bytes);
        reads++;
    }
    assert_int_equal(request_answer(d, server, 0, r->number, value), 0);
    assert_memory_equal(&before, &v->cpu, sizeof(before)); // registers wait for the end
    assert_int_equal(v->blocked, 0);
}

// As the run loop does.
static void finish(void) {
    for (unsigned n = 0; v->io.stage; n++) {
        assert_true(n < 4);
        answer();
        emulate(v);
    }
}

static void exit_at(u64 linear, bool write) {
    struct exit e = {
        .kind = BASALT_EXIT_MEMORY, .write = write, .gpa = GPA(DEVICE_GPA + (linear - DEVICE))};

    handle_device_memory(v, e);
}

static void load_code(const u8 *insn, unsigned length) {
    memset(host_memory(d, frame(CODE)), 0xcc, 32);
    memcpy(host_memory(d, frame(CODE)), insn, length);
    v->cpu.rip = CODE;
    v->cpu.dirty = 0;
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
        r = (unsigned)(host_random() % 16);
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
    struct sample s = {.target = DEVICE + 64 + host_random() % (PAGES(2) - 128), .flags = f->flags};
    u64 *gprs = s.registers.gprs, r = host_random(), immediate = host_random();
    bool word = r & 1 && f->size != 1 && f->kind != ONLY_W && f->kind != NO_BYTE_REG,
         narrow = (r >> 1) % 8 == 0;
    u8 rex = (r >> 4) % 2 ? 0x40 | (r >> 5 & 15) : 0;
    unsigned base = any_register(), index = any_register(), mod = (unsigned)(r >> 9) % 3,
             scale = (unsigned)(r >> 11) % 4;
    bool sib = (r >> 13) % 3 == 0, rip_relative = (r >> 16) % 12 == 0;
    unsigned reg = f->extension >= 0 ? (unsigned)f->extension : any_register();

    for (unsigned i = 0; i < 16; i++)
        gprs[i] = host_random() >> host_random() % 64;
    s.registers.rflags = 2 | (host_random() & ARITHMETIC) | BIT(9);
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
    if (byte_register && !rex && host_random() % 2)
        reg = 4 + (unsigned)(host_random() % 4); // AH, CH, DH, BH
    i64 displacement = rip_relative || mod == 2 ? (i64)(host_random() % 4000) - 2000
                       : mod == 1               ? (i8)host_random()
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
        s.target = DEVICE + 1024 + host_random() % (PAGES(2) - 2048);
        bits = (i64)(host_random() % 8000) - 4000;
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
        gprs[index] = host_random() % 1000;
        sum = gprs[index] << scale;
    }
    if (!rip_relative) {
        gprs[base] = s.target - sum - (u64)displacement;
        if (narrow) // only the low half counts
            gprs[base] = (u32)gprs[base] | host_random() << 32;
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
    if (f->lockable && host_random() % 4 == 0)
        emit(&s, 0xf0, 1);
    if (word && !wide)
        emit(&s, 0x66, 1);
    if (narrow)
        emit(&s, 0x67, 1);
    if (host_random() % 8 == 0)
        emit(&s, 0x3e, 1); // DS, which means nothing here
    if (rex)
        emit(&s, rex, 1);
    for (unsigned i = 0; i < f->opcode_bytes; i++)
        emit(&s,
             f->opcode[i] +
                 (f->opcode_bytes == 2 && i && (f->opcode[1] == 0x40 || f->opcode[1] == 0x90)
                      ? host_random() % 16
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

static void compare(const struct form *f, struct sample *s) {
    struct native n = s->registers;

    for (unsigned i = 0; i < sizeof(device); i++)
        device[i] = (u8)host_random();
    if (f->opcode_bytes == 2 && f->opcode[1] >> 1 == 0x58 &&
        host_random() % 2) // CMPXCHG that succeeds
        memcpy(device + (s->target - DEVICE), n.gprs, s->size);
    memcpy(area, device, sizeof(device));
    load_code(s->bytes, s->length);
    memcpy(v->cpu.gprs, n.gprs, sizeof(n.gprs));
    v->cpu.rflags = n.rflags;
    reads = writes = 0;
    exit_at(s->target, f->access & W);
    finish();
    execute_natively(&n, s->bytes, s->length);
    if (d->status == BASALT_STATUS_ENDED)
        fail_with(f, s, "the domain ended", 0, 0);
    if (v->cpu.queued.valid)
        fail_with(f, s, "an exception is queued", v->cpu.queued.vector, 0);
    for (unsigned i = 0; i < 16; i++)
        if (i != BASALT_RSP && v->cpu.gprs[i] != n.gprs[i])
            fail_with(f, s, "register", v->cpu.gprs[i], n.gprs[i]);
    if ((v->cpu.rflags ^ n.rflags) & (s->flags | DF))
        fail_with(f, s, "flags", v->cpu.rflags, n.rflags);
    if (v->cpu.rflags != s->registers.rflags && !(v->cpu.dirty & CPU_DIRTY_RFLAGS))
        fail_with(f, s, "flags changed, but not marked", v->cpu.rflags, 0);
    if (memcmp(device, area, sizeof(device)))
        fail_with(f, s, "memory", 0, 0);
    if (v->cpu.rip != CODE + s->length)
        fail_with(f, s, "RIP", v->cpu.rip, CODE + s->length);
    if (reads != (f->access & R) || writes != (f->access & W) / 2)
        fail_with(f, s, "accesses", reads << 4 | writes, 0);
}

static void test_against_the_processor(void **state unused) {
    for (unsigned n = 0; n < ARRAY_SIZE(forms); n++)
        for (unsigned k = 0; k < 150; k++) {
            struct sample s = make_sample(&forms[n]);
            if (!s.crosses)
                compare(&forms[n], &s);
        }
}

// MOV between the accumulator and an absolute address.
static void test_absolute_address(void **state unused) {
    static const struct form load = {.name = "mov a,moffs", .access = R, .flags = ALL},
                             store = {.name = "mov moffs,a", .access = W, .flags = ALL};

    for (unsigned k = 0; k < 200; k++) {
        struct sample s = {.target = DEVICE + host_random() % 4000, .flags = ALL};
        bool byte = k & 1, to_memory = k & 2, word = k & 4, wide = k & 8;
        for (unsigned i = 0; i < 16; i++)
            s.registers.gprs[i] = host_random();
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

// ---- Strings ----

static void mirror(void) { // the processor's RAM as the guest has it
    for (u64 i = 0; i < 3; i++)
        memcpy((u8 *)RAM + PAGES(i), host_memory(d, PAGES(ram_pages[i])), PAGE_SIZE);
}

static bool ram_differs(void) {
    for (u64 i = 0; i < 3; i++)
        if (memcmp((u8 *)RAM + PAGES(i), host_memory(d, PAGES(ram_pages[i])), PAGE_SIZE))
            return true;
    return false;
}

static void test_strings(void **state unused) {
    static const u8 opcodes[] = {0xa4, 0xaa, 0xac}; // MOVS, STOS, LODS
    static const struct form f = {.name = "string"};

    for (unsigned n = 0; n < 6000; n++) {
        struct sample s = {0};
        u64 r = host_random();
        unsigned which = n % 3, size = 1u << (r & 3), rep = (unsigned)(r >> 2) % 3;
        bool source_device = which == 2 || (r >> 8) & 1,
             target_device = which == 1 || !source_device || (r >> 9) & 1;
        u64 count = (r >> 16) % 20, span = 512;
        // The RAM side is never aligned to anything and crosses pages, the device's stays within one.
        u64 source = source_device ? DEVICE + span + host_random() % 2048
                                   : RAM + span + host_random() % (PAGES(3) - 1024);
        u64 target = target_device ? DEVICE + PAGE_SIZE + span + host_random() % 2048
                                   : RAM + span + host_random() % (PAGES(3) - 1024);
        if (rep == 2)
            emit(&s, (r >> 20) & 1 ? 0xf3 : 0xf2, 1); // REPNE does the same here
        if (size == 2)
            emit(&s, 0x66, 1);
        if ((r >> 21) % 6 == 0)
            emit(&s, 0x67, 1);
        if (size == 8)
            emit(&s, 0x48, 1);
        emit(&s, opcodes[which] | (size > 1), 1);
        for (unsigned i = 0; i < 16; i++)
            s.registers.gprs[i] = host_random();
        s.registers.gprs[BASALT_RSI] = source;
        s.registers.gprs[BASALT_RDI] = target;
        s.registers.gprs[BASALT_RCX] = rep == 2 ? count : host_random();
        s.registers.rflags = 2 | (host_random() & ARITHMETIC) | ((r >> 40) & 1 ? DF : 0);
        struct native native = s.registers;
        for (unsigned i = 0; i < sizeof(device); i++)
            device[i] = (u8)host_random();
        for (unsigned i = 0; i < 64; i++)
            ((u8 *)host_memory(d, PAGES(ram_pages[i % 3])))[host_random() % PAGE_SIZE] =
                (u8)host_random();
        memcpy(area, device, sizeof(device));
        mirror();
        load_code(s.bytes, s.length);
        memcpy(v->cpu.gprs, native.gprs, sizeof(native.gprs));
        v->cpu.rflags = native.rflags;
        reads = writes = 0;
        for (unsigned turns = 0; v->cpu.rip == CODE; turns++) {
            assert_true(turns <= 20);
            exit_at(source_device ? DEVICE : DEVICE + PAGE_SIZE,
                    !source_device); // where exactly is found out anew
            finish();
            assert_int_equal(d->status, BASALT_STATUS_RUNNING);
            assert_false(v->cpu.queued.valid);
        }
        execute_natively(&native, s.bytes, s.length);
        u64 elements = rep == 2 ? count : 1;
        assert_int_equal(reads, which != 1 && source_device ? elements : 0);
        assert_int_equal(writes, which != 2 && target_device ? elements : 0);
        for (unsigned i = 0; i < 16; i++)
            if (i != BASALT_RSP && v->cpu.gprs[i] != native.gprs[i])
                fail_with(&f, &s, "register", v->cpu.gprs[i], native.gprs[i]);
        assert_true(v->cpu.rflags == s.registers.rflags);
        assert_memory_equal(device, area, sizeof(device));
        assert_false(ram_differs());
        assert_true(v->cpu.rip == CODE + s.length);
    }
}

// The memory side faults before the device is touched, and nothing has moved.
static void test_string_faults(void **state unused) {
    entry(PAGES(4), 4, frame(RAM + PAGE_SIZE) | 5); // the second page of RAM is read-only
    entry(PAGES(4), 5, 0);                          // the third one is gone
    for (unsigned n = 0; n < 4; n++) {
        bool reading = n & 1, gone = n & 2 || reading;
        u64 where = RAM + PAGES(gone ? 2 : 1) + 8;
        load_code((const u8 *)"\xf3\x48\xa5", 3); // REP MOVSQ
        v->cpu.gprs[BASALT_RSI] = reading ? where : DEVICE + 64;
        v->cpu.gprs[BASALT_RDI] = reading ? DEVICE + 64 : where;
        v->cpu.gprs[BASALT_RCX] = 5;
        v->cpu.rflags = 2;
        struct cpu_state before = v->cpu;
        reads = writes = 0;
        exit_at(DEVICE + 64, reading);
        assert_int_equal(v->io.stage, IO_IDLE);
        assert_int_equal(reads + writes, 0);
        assert_true(v->cpu.queued.valid && v->cpu.queued.vector == 14);
        assert_int_equal(v->cpu.queued.error, reading ? 0 : gone ? 2 : 3);
        assert_true(backend->read(&v->cpu, REG_CR2) == where);
        assert_true(v->cpu.rip == CODE);
        assert_memory_equal(before.gprs, v->cpu.gprs, sizeof(before.gprs));
        v->cpu.queued.valid = false;
    }
    assert_int_equal(d->status, BASALT_STATUS_RUNNING);
}

// ---- Around it ----

static void emulate_one(const char *bytes, unsigned length, u64 gpa, bool write) {
    struct exit e = {.kind = BASALT_EXIT_MEMORY, .write = write, .gpa = GPA(gpa)};

    load_code((const u8 *)bytes, length);
    handle_device_memory(v, e);
}

static void test_nobody_answers(void **state unused) {
    v->cpu.gprs[BASALT_RAX] = 0x1122334455667788;
    emulate_one("\x8a\x03", 2, 0xe0000000, false); // MOV AL, [RBX]
    assert_true(v->cpu.gprs[BASALT_RAX] == 0x11223344556677ff);
    emulate_one("\x8b\x03", 2, 0xe0000000, false);
    assert_true(v->cpu.gprs[BASALT_RAX] == 0xffffffff);
    emulate_one("\x89\x03", 2, 0xe0000000, true);
    assert_true(v->cpu.rip == CODE + 2);
    assert_int_equal(v->io.stage, IO_IDLE);
    assert_int_equal(v->blocked, 0);
}

static void test_doorbells(void **state unused) {
    struct basalt_doorbell bell = {
        .address = DEVICE_GPA + 0x50, .space = BASALT_SPACE_MEMORY, .bytes = 2, .port = port};

    assert_int_equal(doorbell_bind(d, server, &bell), 0);
    server->events->pending[0] = 0;
    emulate_one("\x66\x89\x03", 3, DEVICE_GPA + 0x50, true); // MOV [RBX], AX
    assert_int_equal(v->io.stage, IO_IDLE);
    assert_true(v->cpu.rip == CODE + 3);
    assert_true(server->events->pending[0] & BIT(port));
    emulate_one("\x66\x8b\x03", 3, DEVICE_GPA + 0x50, false); // a read is a request
    assert_int_not_equal(v->io.stage, IO_IDLE);
    finish();
    emulate_one("\x89\x03", 2, DEVICE_GPA + 0x50, true); // so is a write of another size
    assert_int_not_equal(v->io.stage, IO_IDLE);
    finish();
}

static void test_local_apic(void **state unused) {
    v->cpu.gprs[BASALT_RAX] = 0x1ff;
    emulate_one("\x89\x03", 2, 0xfee000f0, true); // spurious vector register
    assert_int_equal(v->io.stage, IO_IDLE);
    v->cpu.gprs[BASALT_RAX] = 0;
    emulate_one("\x8b\x03", 2, 0xfee000f0, false);
    assert_true(v->cpu.gprs[BASALT_RAX] == 0x1ff);
    assert_int_equal(v->stats.requests, 0);
}

static void take_interrupt(u8 vector) {
    v->cpu.queued.valid = false;
    v->cpu.rflags |= BIT(9);
    vcpu_prepare_event(v);
    assert_true(v->cpu.queued.valid && v->cpu.queued.vector == vector);
    v->cpu.queued.valid = false;
}

// The EOI of a level-triggered interrupt is a write to the IOAPIC's EOI register, if someone claims that.
static void test_end_of_level_interrupt(void **state unused) {
    const struct basalt_request *r = &d->servers[0].page->slots[0];

    vlapic_write(&v->lapic, 0xf0, 4, 0x1ff, 0);
    assert_int_equal(guest_msi(d, 0xfee00000, 0xc041), 0);
    take_interrupt(0x41);
    emulate_one("\x89\x03", 2, 0xfee000b0, true); // nobody there
    assert_int_equal(v->stats.requests, 0);
    assert_int_equal(request_route(d, server, 0, BASALT_SPACE_MEMORY, 0xfec00000, 0xfec00fff), 0);
    for (unsigned by_msr = 0; by_msr < 2; by_msr++) {
        assert_int_equal(guest_msi(d, 0xfee00000, 0xc052), 0);
        take_interrupt(0x52);
        if (by_msr) {
            struct vlapic_effect effect = vlapic_eoi(&v->lapic);
            vcpu_apic_effect(v, &effect);
        } else {
            emulate_one("\x89\x03", 2, 0xfee000b0, true);
            assert_true(v->cpu.rip == CODE + 2);
        }
        assert_int_equal(v->io.stage, IO_IDLE);
        assert_int_equal(v->blocked, BLOCK_REQUEST);
        assert_true(r->address == 0xfec00040 && r->data == 0x52 && r->write && r->bytes == 4);
        assert_int_equal(request_answer(d, server, 0, r->number, 0), 0);
        assert_int_equal(v->blocked, 0);
    }
    assert_int_equal(guest_msi(d, 0xfee00000, 0x53), 0); // an edge: no request
    take_interrupt(0x53);
    emulate_one("\x89\x03", 2, 0xfee000b0, true);
    assert_int_equal(v->stats.requests, 2);
}

static void test_messages(void **state unused) {
    vlapic_write(&v->lapic, 0xf0, 4, 0x1ff, 0);
    assert_int_equal(guest_msi(d, 0xfee05000, 0x4041), 0); // for another
    assert_int_equal(vlapic_pending(&v->lapic), -1);
    assert_int_equal(guest_msi(d, 0xfeeff00c, 0xc1ff), 0); // broadcast, lowest priority, level
    assert_int_equal(vlapic_pending(&v->lapic), 0xff);
    assert_true(*vlapic_reg(&v->lapic, LAPIC_TMR + 7) == BIT(31));
    assert_int_equal(guest_msi(d, 0xfed00000, 0x41), -BASALT_EINVAL);
    assert_int_equal(guest_msi(d, 0xfef00000, 0x41), -BASALT_EINVAL);
    assert_int_equal(guest_msi(d, 0x1fee00000, 0x41), -BASALT_EINVAL);
    assert_int_equal(guest_msi(d, 0xfee00000, BIT(32) | 0x41), -BASALT_EINVAL);
    for (u32 mode = 0; mode < 8; mode++)
        assert_int_equal(guest_msi(d, 0xfee05000, mode << 8 | 0x40),
                         mode == APIC_RESERVED || mode == APIC_SIPI ? -BASALT_EINVAL : 0);
}

static void test_single_step(void **state unused) {
    v->cpu.rflags = 2 | BIT(8);
    emulate_one("\x8b\x03", 2, 0xe0000000, false);
    assert_true(v->cpu.queued.valid && v->cpu.queued.vector == 1);
    assert_true(backend->read(&v->cpu, REG_DR6) & BIT(14));
    assert_true(v->cpu.rip == CODE + 2);
}

// The shadow of STI ends with the emulated instruction.
static void test_interrupt_shadow(void **state unused) {
    cpu->no_interrupt = true;
    emulate_one("\x8b\x03", 2, 0xe0000000, false);
    assert_false(cpu->no_interrupt);
}

static void expect_end(const char *bytes, unsigned length, u64 gpa) {
    void *state = NULL;

    assert_int_equal(begin(&state), 0);
    emulate_one(bytes, length, gpa, true);
    assert_int_equal(d->status, BASALT_STATUS_ENDED);
    assert_int_equal(d->end_reason, BASALT_END_EMULATION);
    assert_true(d->end_detail == gpa);
    assert_true(d->end_insn_length >= length &&
                !memcmp(d->end_insn, bytes, length)); // for the report
    assert_int_equal(v->io.stage, IO_IDLE);
    assert_true(v->cpu.rip == CODE);
    assert_int_equal(end(&state), 0);
}

static void test_what_cannot_be_emulated(void **state unused) {
    expect_end("\xff\x33", 2, DEVICE_GPA);                 // PUSH [RBX]
    expect_end("\x8f\x03", 2, DEVICE_GPA);                 // POP [RBX]
    expect_end("\x0f\x29\x03", 3, DEVICE_GPA);             // MOVAPS [RBX], XMM0
    expect_end("\x0f\xc7\x0b", 3, DEVICE_GPA);             // CMPXCHG8B [RBX]
    expect_end("\xdd\x03", 2, DEVICE_GPA);                 // FLD [RBX]
    expect_end("\xa6", 1, DEVICE_GPA);                     // CMPSB
    expect_end("\xff\x13", 2, DEVICE_GPA);                 // CALL [RBX]
    expect_end("\x89\x03", 2, DEVICE_GPA + PAGE_SIZE - 2); // across two pages
    expect_end("\x0f\x01\xc1", 3, DEVICE_GPA);             // VMCALL: no memory operand at all
    expect_end("\x90", 1, DEVICE_GPA);
}

static void test_fetch_and_delivery_from_a_device(void **state) {
    struct exit kinds[] = {{.fetch = true}, {.in_walk = true}, {.kind = 0}};

    for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
        begin(state);
        load_code((const u8 *)"\x90", 1);
        kinds[i].gpa = GPA(DEVICE_GPA);
        v->cpu.queued.valid = i == 2; // being delivered
        handle_device_memory(v, kinds[i]);
        assert_int_equal(d->status, BASALT_STATUS_ENDED);
        assert_int_equal(end(state), 0);
    }
}

// ---- Ports ----

static u64 port_values[64];
static unsigned port_count;

// A device that gives what it is asked for from a list, and remembers what it is given.
static void finish_ports(void) {
    for (unsigned n = 0; v->io.stage; n++) {
        const struct basalt_request *r = &d->servers[0].page->slots[0];
        struct cpu_state before = v->cpu;
        assert_true(n < 2);
        assert_int_equal(r->space, BASALT_SPACE_IO);
        assert_int_equal(r->address, 0x170);
        if (r->write)
            port_values[port_count] = r->data;
        assert_int_equal(
            request_answer(d, server, 0, r->number, r->write ? ~0ull : port_values[port_count]), 0);
        port_count++;
        assert_memory_equal(&before, &v->cpu, sizeof(before));
        emulate(v);
    }
}

static void test_plain_ports(void **state unused) {
    static const u64 want[] = {0x1122334455667788 & ~0xffull, 0x1122334455660000, 0};

    for (unsigned n = 0; n < 6; n++) {
        unsigned bytes = 1u << n % 3;
        bool write = n >= 3;
        struct exit e = {.kind = BASALT_EXIT_IO,
                         .bytes = (u8)bytes,
                         .write = write,
                         .port = 0x170,
                         .insn_length = 1};
        load_code((const u8 *)"\xec", 1);
        v->cpu.gprs[BASALT_RAX] = 0x1122334455667788;
        port_count = 0;
        port_values[0] = 0xa5a5a5a5a5a5a5a5;
        handle_port(v, e);
        finish_ports();
        assert_int_equal(port_count, 1);
        assert_true(v->cpu.rip == CODE + 1);
        if (write) {
            assert_true(port_values[0] == (0x1122334455667788 & insn_mask(bytes)));
            assert_true(v->cpu.gprs[BASALT_RAX] == 0x1122334455667788);
        } else {
            assert_true(v->cpu.gprs[BASALT_RAX] ==
                        (want[n] | (0xa5a5a5a5a5a5a5a5 & insn_mask(bytes))));
        }
    }
    // A length that the exit does not tell is decoded; a port that nobody has reads as ones.
    struct exit e = {.kind = BASALT_EXIT_IO, .bytes = 2, .port = 0x80};
    load_code((const u8 *)"\x66\xe5\x80", 3);
    handle_port(v, e);
    assert_true(v->cpu.rip == CODE + 3);
    assert_int_equal(v->cpu.gprs[BASALT_RAX] & 0xffff, 0xffff);
    assert_int_equal(v->io.stage, IO_IDLE);
}

static void test_string_ports(void **state unused) {
    for (unsigned n = 0; n < 2000; n++) {
        struct sample s = {0};
        u64 r = host_random(), start = RAM + 600 + host_random() % (PAGES(3) - 1200);
        unsigned bytes = 1u << (r & 3) % 3;
        bool out = r & 4, rep = r & 8, down = r & 16, narrow = (r >> 5) % 6 == 0;
        u64 count = rep ? (r >> 16) % 20 : 1, step = down ? -(u64)bytes : bytes;
        u8 expected[PAGES(3)];
        if (rep)
            emit(&s, 0xf3, 1);
        if (bytes == 2)
            emit(&s, 0x66, 1);
        if (narrow)
            emit(&s, 0x67, 1);
        emit(&s, (out ? 0x6eu : 0x6cu) | (bytes > 1), 1);
        struct exit e = {.kind = BASALT_EXIT_IO,
                         .bytes = (u8)bytes,
                         .write = out,
                         .port = 0x170,
                         .string = true,
                         .insn_length = (u8)s.length};
        for (unsigned i = 0; i < 16; i++)
            v->cpu.gprs[i] = host_random();
        unsigned pointer = out ? BASALT_RSI : BASALT_RDI;
        v->cpu.gprs[pointer] = start | (narrow ? host_random() << 32 : 0);
        v->cpu.gprs[BASALT_RCX] = rep ? count | (narrow ? host_random() << 32 : 0) : host_random();
        u64 old_count = v->cpu.gprs[BASALT_RCX];
        v->cpu.rflags = 2 | (down ? DF : 0);
        for (unsigned i = 0; i < 64; i++) {
            ((u8 *)host_memory(d, PAGES(ram_pages[i % 3])))[host_random() % PAGE_SIZE] =
                (u8)host_random();
            port_values[i] = host_random();
        }
        mirror();
        memcpy(expected, (u8 *)RAM, sizeof(expected));
        u64 given[64];
        memcpy(given, port_values, sizeof(given));
        load_code(s.bytes, s.length);
        port_count = 0;
        for (unsigned turns = 0; v->cpu.rip == CODE; turns++) {
            assert_true(turns <= 20);
            handle_port(v, e);
            finish_ports();
            assert_false(v->cpu.queued.valid);
        }
        assert_int_equal(port_count, count);
        for (u64 i = 0; i < count; i++) {
            u8 *at = expected + (i64)(start - RAM + i * step);
            u64 value = 0;
            if (out) {
                memcpy(&value, at, bytes);
                assert_true(port_values[i] == value);
            } else {
                memcpy(at, &given[i], bytes);
            }
        }
        mirror();
        assert_memory_equal(expected, (u8 *)RAM, sizeof(expected));
        u64 after = start + count * step;
        assert_true(narrow ? (u32)v->cpu.gprs[pointer] == (u32)after
                           : v->cpu.gprs[pointer] == after);
        if (narrow && count)
            assert_true(v->cpu.gprs[pointer] == (u32)after); // a 32-bit write clears the upper half
        assert_true(v->cpu.gprs[BASALT_RCX] ==
                    (rep ? narrow && !count ? old_count : 0 : old_count));
    }
}

static void test_string_port_faults(void **state unused) {
    struct exit e = {
        .kind = BASALT_EXIT_IO, .bytes = 4, .port = 0x170, .string = true, .insn_length = 1};

    entry(PAGES(4), 4, frame(RAM + PAGE_SIZE) | 5);
    for (unsigned user = 0; user < 2; user++) {
        cpu->cpl = user ? 3 : 0;
        load_code((const u8 *)"\x6d", 1); // INSD to a read-only page
        v->cpu.gprs[BASALT_RDI] = RAM + PAGE_SIZE + 16;
        v->cpu.rflags = 2;
        port_count = 0;
        handle_port(v, e);
        assert_int_equal(v->io.stage, IO_IDLE);
        assert_int_equal(port_count, 0);
        assert_true(v->cpu.queued.valid && v->cpu.queued.vector == 14);
        assert_int_equal(v->cpu.queued.error, user ? 7 : 3);
        assert_true(v->cpu.rip == CODE && backend->read(&v->cpu, REG_CR2) == RAM + PAGE_SIZE + 16);
        v->cpu.queued.valid = false;
    }
    cpu->cpl = 0;
    load_code((const u8 *)"\x6d", 1);
    v->cpu.gprs[BASALT_RDI] = BIT(47); // not canonical
    handle_port(v, e);
    assert_true(v->cpu.queued.valid && v->cpu.queued.vector == 13);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_against_the_processor),
        TEST(test_absolute_address),
        TEST(test_strings),
        TEST(test_string_faults),
        TEST(test_nobody_answers),
        TEST(test_doorbells),
        TEST(test_local_apic),
        TEST(test_end_of_level_interrupt),
        TEST(test_messages),
        TEST(test_single_step),
        TEST(test_interrupt_shadow),
        cmocka_unit_test(test_what_cannot_be_emulated),
        cmocka_unit_test(test_fetch_and_delivery_from_a_device),
        TEST(test_plain_ports),
        TEST(test_string_ports),
        TEST(test_string_port_faults),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
