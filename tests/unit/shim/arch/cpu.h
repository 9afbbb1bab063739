// SPDX-License-Identifier: Apache-2.0
//
// Stand-in for arch/cpu.h on the host: one CPU.

#pragma once

#include "arch/x86.h"

#define VECTOR_DEVICE_FIRST 0x30u
#define VECTOR_DEVICE_LAST  0xdfu
#define VECTOR_CONSOLE      0xe0u
#define VECTOR_TIMER        0xf1u
#define CPUS_MAX            1u

enum cpu_vendor { VENDOR_OTHER, VENDOR_INTEL, VENDOR_AMD };
#define KERNEL_DS 0x10u

struct cpu_features {
    enum cpu_vendor vendor;
    u32 max_leaf, max_extended_leaf, physical_bits;
    bool hypervisor, invariant_tsc, pcid, xsave;
};
extern struct cpu_features cpu_features;

struct basalt_trace;
struct cpu {
    u32 id, apic_id;
    bool news;
    struct basalt_trace *trace;
    void *scheduler;
    u64 slot_changes;
};
extern struct cpu host_cpu;
static inline struct cpu *this_cpu(void) { return &host_cpu; }
extern void (*host_window)(void); // what an interrupt does that comes in here; NULL: none comes
static inline void irq_window(void) {
    if (host_window)
        host_window();
}
void host_idle(void);
extern u64 host_idle_tsc; // ticks that passed in it
static inline void cpu_idle(void) { host_idle(); }

void apic_timer_set(u64 deadline);

extern u64 xstate_mask;
extern u32 xstate_area_size;
void fpu_init(void);
void xstate_init(void *area);
u64 xstate_save(void *area);
void xstate_restore(const void *area, u64 xcr0);
noreturn void machine_reset(bool warm);

void irq_record(unsigned vector);
static inline void irq_pend(unsigned vector) { irq_record(vector); }
int cpu_take_vector(void);
void irq_quench(unsigned vector);
void irq_notice(void);
