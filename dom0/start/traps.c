// SPDX-License-Identifier: Apache-2.0
//
// Descriptor tables and exception reports of dom0. There are no interrupts; an exception is a bug,
// so the handler prints the registers and the return addresses of the frames (look them up with
// addr2line in dom0.elf) and ends dom0. It runs on a stack of its own, so that an overflow of the
// main stack into its guard page is reported, too.

#include "start/traps.h"

#include "lib/console.h"
#include "lib/hypercall.h"
#include "lib/paging.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define TRAP_STACK_BYTES 16384

struct trap_frame {
    u64 rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15;
    u64 vector, error;
    u64 rip, cs, rflags, rsp, ss;
};
SIZE_ASSERT(struct trap_frame, 22 * 8);

struct gate { // 64-bit interrupt gate
    u16 offset_low, selector;
    u8 ist, type;
    u16 offset_middle;
    u32 offset_high, reserved;
};
SIZE_ASSERT(struct gate, 16);

struct tss {
    u32 reserved0;
    u64 rsp[3], reserved1, ist[7], reserved2;
    u16 reserved3, io_bitmap;
} __attribute__((packed));
SIZE_ASSERT(struct tss, 104);

struct table_pointer {
    u16 limit;
    u64 base;
} __attribute__((packed));

extern const char trap_entries[];
_Noreturn void trap_handle(const struct trap_frame *f);

static const char *const trap_names[32] = {
    "#DE divide error",
    "#DB debug",
    "NMI",
    "#BP breakpoint",
    "#OF overflow",
    "#BR bound",
    "#UD invalid opcode",
    "#NM no coprocessor",
    "#DF double fault",
    "9",
    "#TS invalid TSS",
    "#NP segment not present",
    "#SS stack fault",
    "#GP general protection",
    "#PF page fault",
    "15",
    "#MF x87 error",
    "#AC alignment",
    "#MC machine check",
    "#XM SIMD error",
    "#VE",
    "#CP control protection",
};

static struct gate idt[32] __attribute__((aligned(16)));
static struct tss tss;
static u8 trap_stack[TRAP_STACK_BYTES] __attribute__((aligned(16)));
static u64 gdt[5] = {
    0,
    0x00209b0000000000, // 8: 64-bit code
    0x0000930000000000, // 16: data
    0,
    0, // 24: TSS, filled in below
};

static void set_gate(unsigned vector) {
    u64 entry = (u64)trap_entries + 16ull * vector;
    idt[vector] = (struct gate){
        .offset_low = (u16)entry,
        .selector = 8,
        .ist = 1,
        .type = 0x8e, // present, DPL 0, interrupt gate
        .offset_middle = (u16)(entry >> 16),
        .offset_high = (u32)(entry >> 32),
    };
}

void traps_init(void) {
    u64 base = (u64)&tss;
    gdt[3] = (sizeof(tss) - 1) | (base & 0xffffff) << 16 | 0x89ull << 40 |
             (base >> 24 & 0xff) << 56;
    gdt[4] = base >> 32;
    tss.ist[0] = (u64)trap_stack + TRAP_STACK_BYTES;
    tss.io_bitmap = sizeof(tss);
    for (unsigned vector = 0; vector < 32; vector++)
        set_gate(vector);
    struct table_pointer gdt_pointer = {sizeof(gdt) - 1, (u64)gdt};
    struct table_pointer idt_pointer = {sizeof(idt) - 1, (u64)idt};
    __asm__ volatile("lgdt %0" : : "m"(gdt_pointer));
    __asm__ volatile("ltr %w0" : : "r"(24));
    __asm__ volatile("lidt %0" : : "m"(idt_pointer));
}

_Noreturn void dom0_end(void) {
    hc_domain_control(BASALT_HANDLE_SELF, BASALT_OP_END);
    // Without the right to end itself: a triple fault does it.
    struct table_pointer none = {0, 0};
    __asm__ volatile("lidt %0; int3" : : "m"(none));
    for (;;)
        hc_block();
}

// Prints on the kernel's console without a buffer that the bug could have hurt.
__attribute__((format(printf, 1, 2))) static void say(const char *format, ...) {
    static char line[256];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    console_write_now(line, MIN((size_t)MAX(n, 0), sizeof(line) - 1));
}

static void print_backtrace(const struct trap_frame *f) {
    say("dom0: called from");
    u64 frame = f->rbp;
    for (unsigned depth = 0; depth < 24 && stack_contains(frame, 16); depth++) {
        const u64 *words = (const u64 *)frame;
        if (words[1] == 0)
            break;
        say(" %llx", (unsigned long long)words[1]);
        if (words[0] <= frame)
            break;
        frame = words[0];
    }
    say("\r\n");
}

_Noreturn void trap_handle(const struct trap_frame *f) {
    static bool again;
    if (again)
        dom0_end();
    again = true;
    typedef unsigned long long ull;
    const char *name = f->vector < 32 && trap_names[f->vector] ? trap_names[f->vector] : "?";
    u64 cr2;
    __asm__ volatile("mov %%cr2, %0" : "=r"(cr2));
    say("\r\ndom0: exception %s, error %llx, address %llx%s\r\n", name, (ull)f->error, (ull)cr2,
        f->vector == 14 && address_is_stack_guard(cr2) ? " (stack overflow)" : "");
    say("dom0: rip %llx rsp %llx rflags %llx\r\n", (ull)f->rip, (ull)f->rsp, (ull)f->rflags);
    say("dom0: rax %llx rbx %llx rcx %llx rdx %llx\r\n", (ull)f->rax, (ull)f->rbx, (ull)f->rcx,
        (ull)f->rdx);
    say("dom0: rsi %llx rdi %llx rbp %llx r8 %llx\r\n", (ull)f->rsi, (ull)f->rdi, (ull)f->rbp,
        (ull)f->r8);
    say("dom0: r9 %llx r10 %llx r11 %llx r12 %llx\r\n", (ull)f->r9, (ull)f->r10, (ull)f->r11,
        (ull)f->r12);
    say("dom0: r13 %llx r14 %llx r15 %llx\r\n", (ull)f->r13, (ull)f->r14, (ull)f->r15);
    print_backtrace(f);
    dom0_end();
}
