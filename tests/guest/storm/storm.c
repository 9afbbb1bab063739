// SPDX-License-Identifier: Apache-2.0
//
// storm NUMBER: does for ever what keeps the processor, the kernel or dom0 busy: loops with and without exits, with
// interrupts off, requests to dom0, interrupts and NMIs to itself and to its second processor, timers at the shortest
// period, INITs at a processor that waits for dom0, exceptions that raise each other during their delivery. The
// neighbour must go on having its share, and the guest be destroyed like any other.

#include "../lib/guest.h"

#define SELF 0x40000u // shorthand of the ICR
#define ALL  0x80000u

static void spin(void) {
    for (;;)
        asm volatile("sti");
}
static void deaf(void) {
    asm volatile("cli");
    for (;;)
        ;
}
static void halted(void) {
    for (;;)
        asm volatile("cli; hlt");
}
static void exits(void) {
    u32 r[4];
    for (;;)
        cpuid(0, 0, r);
}
static void pauses(void) {
    for (;;)
        asm volatile("pause");
}
static void faults(void) {
    u64 value;
    for (;;)
        rdmsr(0x12345678, &value);
}
static void requests(void) { // one after the other: dom0's attention
    for (;;)
        inb(0x3fd);
}
static void console(void) {
    for (u32 i = 0;; i++)
        outb(0x3f8, (u8)(i & 63 ? '.' : '\n'));
}
static void configuration(void) {
    for (u32 i = 0;; i += 4) {
        outl(0xcf8, 0x80000000 | (i & 0xfffffc));
        inl(0xcfc);
    }
}
static void port_strings(void) {
    static u8 buffer[PAGE];
    for (;;) {
        word count = PAGE, to = (word)buffer;
        asm volatile("rep insb" : "+c"(count), "+D"(to) : "d"(0x3fd) : "memory");
    }
}
static void interrupts_to_self(void) {
    asm volatile("sti");
    for (;;)
        ipi(SELF | 0x60, 0);
}
static void nmis_to_self(void) {
    for (;;)
        ipi(0x4400, 0);
}
static void everything_to_self(void) {
    asm volatile("sti");
    for (u32 i = 0;; i++) {
        ipi(i & 1 ? 0x4400 : SELF | (0x40 + (i & 0x7f)), 0);
        asm volatile("int3" ::: "memory");
    }
}
static bool survive(struct frame *f) { return f->vector == 3; }

static void ping(void) {
    asm volatile("sti");
    for (;;)
        ipi(ALL | 0x61, 0);
}
static void both(void) {
    ap_run(ping);
    ping();
}
static void timer(void) {
    asm volatile("sti");
    apic_write(0x3e0, 0xb);
    apic_write(0x320, 0x20060);
    apic_write(0x380, 1);
    for (;;)
        asm volatile("hlt");
}
static void deadline(void) { // where there is none: the same with #GPs
    asm volatile("sti");
    apic_write(0x320, 0x40060);
    for (;;)
        wrmsr(0x6e0, rdtsc());
}
static void far_deadline(
    void) { // past the end of the TSC's range; then one behind the other, nearer and nearer
    asm volatile("sti");
    apic_write(0x320, 0x40060);
    for (u64 far = ~0ull;; far = far >> 63 ? far - (far >> 8) : ~0ull) {
        wrmsr(0x6e0, far);
        for (volatile unsigned i = 0; i < 10000000; i++)
            ;
    }
}
static void ap_requests(void) {
    for (;;)
        inb(0x3fd);
}
static void inits(void) { // at a processor that waits for dom0's answer
    for (;;) {
        ap_run(ap_requests);
        for (volatile unsigned i = 0; i < 1000; i++)
            ;
        ap_stop();
    }
}
// #DB's frame is pushed onto a stack with a breakpoint on it, so that its delivery raises #DB again (64-bit code: by an
// interrupt stack table, for ever).
static void breakpoint_on_stack(void) {
    static u8 stack[256] __attribute__((aligned(16)));
#ifdef __x86_64__
    *(u64 *)(tss + 36) = (word)stack + sizeof(stack); // IST1
    ((u32 *)(idt + 16))[1] |= 1;
#endif
    asm volatile("mov %0, %%dr0; mov %1, %%dr7"
                 :
                 : "r"((word)stack + sizeof(stack) - 8), "r"((word)0xd0702));
    for (;;)
        asm volatile("movl $1, %0" : "=m"(stack[sizeof(stack) - 8]));
}
static bool debug(struct frame *f) { return f->vector == 1; }

// #AC's handler is at CPL 3 and its stack misaligned, so that its delivery raises #AC again.
static void misaligned_stack(void) {
    static const u8 code[] = {0x9c, 0x81, 0x0c, 0x24, 0, 0, 4, 0, 0x9d, // pushf; or $AC, (sp); popf
                              0x83, 0xec, 3,                            // sub $3, %esp
                              0x50, 0x58, 0xeb, 0xfc};                  // push; pop; loop
    static u8 pages[2 * PAGE] __attribute__((aligned(4096)));           // the code's, the stack's
    u8 *at = fine_map(USER_PAGE, (word)pages, 7);
    fine_map(USER_PAGE + 1, (word)pages + PAGE, 7);
    memcpy(pages, code, sizeof(code));
    set_gate(17, at + sizeof(code) - 4);
    u32 *gate = (u32 *)(idt + 17 * 2 * sizeof(word));
    gate[0] = (gate[0] & 0xffff) | USER_CODE << 16;
    gate[1] |= 0x6000;
    write_cr0(read_cr0() | 1 << 18);
    for (;;)
        user_enter(at, at + 2 * PAGE - 64);
}

static void (*const storms[])(void) = {
    spin,
    deaf,
    halted,
    exits,
    pauses,
    faults, // 0
    requests,
    console,
    configuration,
    port_strings, // 6
    interrupts_to_self,
    nmis_to_self,
    everything_to_self,
    both,
    timer,
    deadline, // 10
    inits,
    breakpoint_on_stack,
    misaligned_stack, // 16
    far_deadline,
};

ATTACK(storm) {
    u64 way = ARGUMENT(0, 0) % (sizeof(storms) / sizeof(storms[0]));

    print("storm: goes\n");
    apic_write(0xf0, 0x1ff);
    if (way == 12)
        on_exception = survive;
    if (way == 17)
        on_exception = debug;
    storms[way]();
}
