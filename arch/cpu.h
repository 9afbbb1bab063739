// SPDX-License-Identifier: Apache-2.0
//
// Processors: what they can do, per-CPU data, descriptor tables, traps, interrupts and extended state. Invariant:
// the kernel runs with interrupts off except inside irq_window() and cpu_idle(); an interrupt only
// sets its vector's pending bit and is acknowledged at the local APIC, whoever asks for it later
// with cpu_take_vector(). NMI and #MC may come anywhere; an NMI is only counted and reported later,
// a machine check that can be survived is reported at once.

#pragma once

#include "arch/x86.h"

#define CPUS_MAX   64u

#define KERNEL_CS  0x08u
#define KERNEL_DS  0x10u
#define KERNEL_TSS 0x18u // takes two descriptors

// Interrupt vectors. Those of devices are given out by the kernel's interrupt objects.
#define VECTOR_DEVICE_FIRST 0x30u
#define VECTOR_DEVICE_LAST  0xdfu
#define VECTOR_CONSOLE      0xe0u // UART
#define VECTOR_TIMER        0xf1u // local APIC timer
#define VECTOR_ERROR        0xf2u // local APIC error
#define VECTOR_SPURIOUS     0xffu // never recorded, never acknowledged

enum cpu_vendor { VENDOR_OTHER, VENDOR_INTEL, VENDOR_AMD };

// What the boot processor has; the others are required to have the same.
struct cpu_features {
    enum cpu_vendor vendor;
    u32 max_leaf, max_extended_leaf;
    u32 physical_bits, linear_bits;
    bool xsave, smep, smap, umip, fsgsbase, x2apic, tsc_deadline, invariant_tsc, page1g, mca;
    bool hypervisor, vmx, svm, pcid;
};
extern struct cpu_features cpu_features;

struct tss { // 64-bit task-state segment: only its stacks matter
    u32 reserved0;
    u64 rsp[3];
    u64 reserved1;
    u64 ist[7];
    u64 reserved2;
    u16 reserved3;
    u16 io_map_base;
} packed;
SIZE_ASSERT(struct tss, 104);

#define KERNEL_STACK_PAGES 4u
#define TRAP_STACKS        3u // of NMI, #DF and #MC
#define TRAP_STACK_PAGES   2u

#define SLOTS_MAX          17u

struct basalt_trace;

struct cpu {
    struct cpu *self; // first: this_cpu() reads it through GS
    u32 id, apic_id;
    u64 pending[4];             // interrupt vectors that came and were not taken
    bool nmi_pending;           // an NMI came and was not reported yet
    bool news;                  // one of these two may be
    struct basalt_trace *trace; // the kernel's trace ring of this CPU
    void *scheduler;            // the kernel's business
    // Paging of this CPU
    u64 *slot_table;          // last-level table of the slot window
    u64 slot_page[SLOTS_MAX]; // page number that each slot maps, ~0: none
    u32 slots_used;           // bit per slot that maps something
    u64 slot_changes;         // how often a slot got another page, or none
    // Hardware tables
    u64 stack_top;
    struct tss tss;
    u64 gdt[5] __attribute__((aligned(16)));
};

static inline struct cpu *this_cpu(void) {
    struct cpu *cpu;
    asm volatile("movq %%gs:0, %0" : "=r"(cpu)); // volatile: the value changes when a CPU is set up
    return cpu;
}

/// Fills cpu_features and gives the boot CPU its descriptor tables, control registers and trap
/// handlers.
void cpu_init(void);
extern struct cpu boot_cpu;
extern u64 cpu_idt[256][2]; // all CPUs'

/// Lets pending interrupts in, for one instant.
static inline void irq_window(void) { asm volatile("sti; nop; cli" : : : "memory"); }

/// Sleeps until an interrupt comes.
static inline void cpu_idle(void) { asm volatile("sti; hlt; cli" : : : "memory"); }

/// Records an interrupt and acknowledges it at the local APIC. trap_handle() calls it; the VMX backend's
/// caller does for vectors that VM exits acknowledged.
void irq_record(unsigned vector);
/// Makes a vector pending as if its interrupt had come.
static inline void irq_pend(unsigned vector) {
    struct cpu *cpu = this_cpu();
    cpu->pending[vector / 64] |= BIT(vector % 64);
    cpu->news = true;
}
/// The next pending vector (highest first), which is then no longer pending, or -1. Reports NMIs
/// that came meanwhile. To be called where `news` says that there may be something.
int cpu_take_vector(void);
/// kernel/interrupt.c's; called before the acknowledgement: masks a level-triggered line, else it would come again at once.
void irq_quench(unsigned vector);
/// kernel/schedule.c's: an interrupt was recorded, which shall be looked at before the next entry into a guest.
void irq_notice(void);

// What traps push; the order is that of arch/traps.S.
struct trap_frame {
    u64 r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax;
    u64 vector, error;
    u64 rip, cs, rflags, rsp, ss;
};

/// Exceptions, NMIs and interrupts end here; called by arch/traps.S only.
void trap_handle(struct trap_frame *frame);

/// Machine checks, in arch/mcheck.c: lets every bank of this CPU report, and reports what was left from before the boot.
void mcheck_init(void);
/// Handles #MC: names the banks that report. Panics when the processor can't go on.
void mcheck_handle(const struct trap_frame *frame);

// The local APIC, in arch/apic.c: acknowledgement and the one-shot timer.
/// Turns this CPU's local APIC on (x2APIC where present), everything masked but the timer and LINT1
/// = NMI.
void apic_init(void);
/// Finds out how fast the timer counts where there is no TSC deadline; after tsc_init().
void apic_timer_init(void);
void apic_eoi(void);
/// VECTOR_TIMER comes once, at or soon after `deadline` (host TSC; in the past: at once); ~0:
/// never.
void apic_timer_set(u64 deadline);

// Extended state (x87, SSE, AVX), in arch/fpu.c. The kernel never uses it itself: it saves and restores that of vCPUs. Only
// state that fpu.c knows is ever enabled in XCR0. Follows the SDM, "Managing State Using the XSAVE Feature Set".
extern u64 xstate_mask;      // XCR0 bits that a guest may use; 0: no XSAVE, FXSAVE only
extern u32 xstate_area_size; // bytes, for all bits of xstate_mask; at most a page

/// Enables the state components on this CPU; the mask and size are found on the first call.
void fpu_init(void);
/// Fills an area (64-byte aligned, xstate_area_size bytes) with the state after reset.
void xstate_init(void *area);
/// Saves all of xstate_mask and takes the guest's XCR0 away: returns what it is (0 without XSAVE), where the processor
/// lets the guest change it without an exit, and puts xstate_mask in its place.
u64 xstate_save(void *area);
/// Restores all of it, as xstate_init() or xstate_save() left it (XCR0 must be xstate_mask), and gives this CPU the guest's
/// XCR0.
void xstate_restore(const void *area, u64 xcr0);

/// Resets the machine, from the most to the least polite way. Memory keeps its contents in a warm reset where the
/// firmware honours the request.
noreturn void machine_reset(bool warm);
