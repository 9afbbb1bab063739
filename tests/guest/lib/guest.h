// SPDX-License-Identifier: Apache-2.0
//
// What hostile guests share. An attack is a function in a file of its own folder, entered into a table with ATTACK();
// all of them are linked into one ELF file for 32-bit and one for 64-bit code (tests/system/hostile.py builds them).
// The guest runs the words of its command line first and then each line that is typed on its console: the name of an
// attack and numbers. It says "NAME: done ..." or "NAME: FAILED ..." and waits for the next line.
//
// Memory below 4 GiB is mapped one to one with large pages, but for FINE (pages of 4 KiB of one's own choice) and, in
// 64-bit code, WINDOW (2 MiB of any physical address).

#pragma once

#include "entry.h"

#define USER_CODE 0x33
#define USER_DATA 0x3b
#define TSS       0x40
#define SPARE     0x50 // selectors that attacks may use: two descriptors, and one of 16 bytes
#define AP_PAGE   0x8000
#define FINE      0x40000000
#define WINDOW    0x40400000
#ifdef __x86_64__
#define STACK      "rsp"
#define CODE       CODE64
#define PAGING_CR4 0x620 // PAE, OSFXSR, OSXMMEXCPT
#else
#define STACK      "esp"
#define CODE       CODE32
#define PAGING_CR4 0x610 // PSE
#endif

#ifndef __ASSEMBLER__

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef uintptr_t word; // as wide as a general register

#define PAGE  4096u
#define LAPIC 0xfee00000u

struct frame {
#ifdef __x86_64__
    u64 r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, bx, dx, cx, ax;
#else
    u32 edi, esi, ebp, esp, bx, dx, cx, ax;
#endif
    word vector, error, ip, cs, flags, sp, ss; // sp and ss: always in 64-bit mode, else from CPL 3
};

struct attack {
    const char *name;
    void (*run)(const u64 *arguments, unsigned count);
};

#define ATTACK(name)                                                                       \
    static void name##_attack(const u64 *arguments, unsigned count);                       \
    __attribute__((section(".attacks"), used)) static const struct attack name##_entry = { \
        #name, name##_attack};                                                             \
    static void name##_attack(const u64 *arguments __attribute__((unused)),                \
                              unsigned count __attribute__((unused)))

/// Argument `index` of the attack, or what to take where it was not given.
#define ARGUMENT(index, otherwise) (count > (index) ? arguments[index] : (otherwise))

// ---- printing: %s %u %x %c, and %U %X for 64 bits ----
void print(const char *format, ...);
/// Says "NAME: FAILED: ..." once per attack; the attack goes on.
void fail(const char *format, ...);
/// The next line that was typed; waits for it.
const char *read_line(void);
/// Whether something was typed; takes it.
int typed(void);

// ---- exceptions ----
// An instruction inside GUARD() may fault: trap_vector then holds the vector (else -1), and what follows goes on.
extern volatile word recover, trap_error, trap_address;
extern volatile int trap_vector;
#define GUARD(code) \
    "movl $771f, recover\n\tmovl $-1, trap_vector\n\t" code "\n771:\tmovl $0, recover\n\t"

/// Called with each interrupt (vectors from 32 on), and with NMI; counted in interrupts[] anyway.
extern void (*on_interrupt)(struct frame *f);
/// Called with an exception that nobody guards; false: print it and stop.
extern bool (*on_exception)(struct frame *f);
extern volatile u32 interrupts[256];
void set_gate(unsigned vector, void *handler);
extern u8 stubs[], tables[], fine_table[], idt[], tss[], gdt[], image_end[], ap_stack[],
    ap_stack_top[];
struct table_pointer {
    u16 limit;
    word base;
} __attribute__((packed));

/// Runs a copy of code at CPL 3 until it faults; returns error code * 0x100 + vector.
unsigned user_call(const void *code, size_t bytes);
/// The same with code, and a stack's top, that CPL 3 can reach.
unsigned user_enter(const void *code, const void *stack);
#define USER_PAGE 400 // of FINE: code from its start, stack from its end

// ---- processors ----
/// Starts the second processor in `function`, which may return (it then halts). False: there is none.
bool ap_run(void (*function)(void));
void ap_stop(void); // by an INIT IPI
extern volatile bool ap_arrived;
void apic_write(u32 offset, u32 value);
u32 apic_read(u32 offset);
void ipi(u32 low, u32 destination);

// ---- memory ----
/// Maps page `index` of FINE to a physical address, with the entry's low bits (0: not present).
void *fine_map(unsigned index, u64 physical, u32 bits);
/// Bytes of RAM from 0 on that this guest may use.
extern u64 ram;
void *memset(void *to, int value, size_t bytes);
void *memcpy(void *to, const void *from, size_t bytes);
u64 random64(void);
extern u64 seed;

// ---- instructions ----
static inline u64 rdtsc(void) {
    u32 low, high;
    asm volatile("rdtsc" : "=a"(low), "=d"(high));
    return (u64)high << 32 | low;
}
static inline void outb(u16 port, u8 value) {
    asm volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}
static inline void outw(u16 port, u16 value) {
    asm volatile("outw %0, %1" : : "a"(value), "Nd"(port) : "memory");
}
static inline void outl(u16 port, u32 value) {
    asm volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}
static inline u8 inb(u16 port) {
    u8 value;
    asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}
static inline u16 inw(u16 port) {
    u16 value;
    asm volatile("inw %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}
static inline u32 inl(u16 port) {
    u32 value;
    asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}
static inline int rdmsr(u32 index, u64 *value) {
    u32 low = 0, high = 0;
    asm volatile(GUARD("rdmsr") : "+a"(low), "+d"(high) : "c"(index) : "memory");
    *value = (u64)high << 32 | low;
    return trap_vector;
}
static inline int wrmsr(u32 index, u64 value) {
    asm volatile(GUARD("wrmsr")
                 :
                 : "a"((u32)value), "d"((u32)(value >> 32)), "c"(index)
                 : "memory");
    return trap_vector;
}
static inline void cpuid(u32 leaf, u32 sub, u32 out[4]) {
    asm volatile("cpuid"
                 : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3])
                 : "a"(leaf), "c"(sub));
}
#define READ_REGISTER(name)                                                \
    static inline word read_##name(void) {                                 \
        word value;                                                        \
        asm volatile("mov %%" #name ", %0" : "=r"(value));                 \
        return value;                                                      \
    }                                                                      \
    static inline int write_##name(word value) {                           \
        asm volatile(GUARD("mov %0, %%" #name) : : "r"(value) : "memory"); \
        return trap_vector;                                                \
    }
READ_REGISTER(cr0)
READ_REGISTER(cr2)
READ_REGISTER(cr3)
READ_REGISTER(cr4)
#endif
