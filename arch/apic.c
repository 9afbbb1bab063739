// SPDX-License-Identifier: Apache-2.0
//
// The local APIC. Registers have the same numbers in both modes: xAPIC's are in memory, x2APIC's are MSRs. Invariant:
// after apic_init() only the timer and LINT1 (NMI) of the local sources are unmasked. Follows the
// SDM, "Advanced Programmable Interrupt Controller", and for the timer "TSC-Deadline Mode".

#include "arch/cpu.h"
#include "arch/paging.h"
#include "kernel/cmdline.h"
#include "kernel/log.h"
#include "kernel/panic.h"

#define DIVIDE_BY_1 0xbu
#define COUNT_MAX   0xffffffffull

static volatile u8 *registers; // NULL: x2APIC
static u64 timer_factor;       // timer ticks per TSC tick, times 2^32; 0: TSC deadline
static u32 first_count;        // what the timer counted down to
static u64 first_tsc;          // at this TSC

static u32 read(u32 reg) {
    return registers ? mmio_read32(registers + reg * 16) : (u32)rdmsr(MSR_X2APIC_BASE + reg);
}

static void write(u32 reg, u32 value) {
    if (registers)
        mmio_write32(registers + reg * 16, value);
    else
        wrmsr(MSR_X2APIC_BASE + reg, value);
}

static u32 current_count(void) { return read(LAPIC_CURRENT); }

void apic_eoi(void) { write(LAPIC_EOI, 0); }

static void choose_mode(void) {
    u64 base = rdmsr(MSR_APIC_BASE);
    bool x2apic = base & APIC_BASE_X2APIC || (cpu_features.x2apic && !options.nox2apic);
    if (!x2apic && !registers)
        registers = device_map(HPA(base & PTE_ADDRESS), PAGE_SIZE, MAP_WRITE | MAP_UC);
    assert(x2apic || registers, "memory is plenty at boot");
    wrmsr(MSR_APIC_BASE, base | APIC_BASE_ENABLE);
    if (x2apic)
        wrmsr(MSR_APIC_BASE, base | APIC_BASE_ENABLE | APIC_BASE_X2APIC);
}

void apic_init(void) {
    choose_mode();
    this_cpu()->apic_id = read(LAPIC_ID) >> (registers ? 24 : 0);
    u32 last_lvt = read(LAPIC_VERSION) >> 16 & 0xff;
    write(LAPIC_TPR, 0);
    write(LAPIC_SVR, SVR_ENABLED | VECTOR_SPURIOUS);
    write(LAPIC_LVT_TIMER, LVT_MASKED);
    write(LAPIC_LVT_LINT0, LVT_MASKED);
    write(LAPIC_LVT_LINT1, LVT_NMI);
    write(LAPIC_LVT_ERROR, LVT_MASKED | VECTOR_ERROR);
    if (last_lvt >= 4)
        write(LAPIC_LVT_PERF, LVT_MASKED);
    if (last_lvt >= 5)
        write(LAPIC_LVT_THERMAL, LVT_MASKED);
    for (unsigned i = 0; i < 256; i++) // whatever firmware left in service
        apic_eoi();
    write(LAPIC_DIVIDE, DIVIDE_BY_1);
    write(LAPIC_INITIAL, (u32)COUNT_MAX); // masked: to see how fast it counts
    first_count = tsc_pair(current_count, &first_tsc);
}

void apic_timer_init(void) {
    log_info("basalt: apic: %s, id %u, %s timer", registers ? "xAPIC" : "x2APIC",
             this_cpu()->apic_id, cpu_features.tsc_deadline ? "TSC-deadline" : "one-shot");
    if (cpu_features.tsc_deadline) {
        write(LAPIC_LVT_TIMER, LVT_TIMER_DEADLINE | VECTOR_TIMER);
        asm volatile("mfence" : : : "memory"); // the mode is set before a deadline is
        return;
    }
    u64 last_tsc, counted = first_count - tsc_pair(current_count, &last_tsc);
    timer_factor = (counted << 32) / (last_tsc - first_tsc);
    write(LAPIC_INITIAL, 0);
    if (!timer_factor)
        panic("the local APIC's timer does not count");
    write(LAPIC_LVT_TIMER, VECTOR_TIMER);
}

void apic_timer_set(u64 deadline) {
    if (!timer_factor) {
        wrmsr(MSR_TSC_DEADLINE, deadline == ~0ull ? 0 : MAX(deadline, 1ull));
        return;
    }
    u64 now = rdtsc(), delta = deadline > now ? deadline - now : 0;
    unsigned __int128 count = ((unsigned __int128)delta * timer_factor >> 32) + 1;
    write(LAPIC_INITIAL, deadline == ~0ull ? 0 : (u32)MIN(count, COUNT_MAX));
}
