// SPDX-License-Identifier: Apache-2.0
//
// The clock. What the processor says of its frequency is believed if a measurement against the ACPI PM timer agrees within
// one percent: some emulators count instructions whatever they claim. What the boot does during the measurement costs no
// time of its own. Below another hypervisor the CPU may be taken away at any instruction: of several tries to read a
// counter together with the TSC, the one that took least counts. Follows the SDM, "Determining the Processor Base
// Frequency", and the ACPI specification, "Power Management Timer".

#include "arch/acpi.h"
#include "arch/cpu.h"
#include "kernel/log.h"
#include "kernel/panic.h"

#define LEAF_CRYSTAL    0x15u       // denominator, numerator, crystal's Hz
#define LEAF_HYPERVISOR 0x40000000u // highest hypervisor leaf
#define LEAF_TIMING     0x40000010u // TSC kHz, as VMware defined and KVM copied it

#define PM_HZ           3579545ull
#define PM_MASK         0xffffffu // it has 24 bits, or more
#define MEASURE_TICKS   (PM_HZ / 200)
#define POLLS_MAX       20000u // until a PM timer counts as dead
#define PAIR_TRIES      5u

u64 tsc_khz = 1;
static u64 ns_factor; // times 2^32

static u64 begin_tsc;
static u32 begin_pm;

u32 tsc_pair(u32 (*read)(void), u64 *tsc) {
    u64 shortest = ~0ull;
    u32 value = 0;
    *tsc = 0;
    for (unsigned i = 0; i < PAIR_TRIES; i++) {
        u64 before = rdtsc();
        u32 now = read();
        u64 after = rdtsc();
        if (after - before >= shortest)
            continue;
        shortest = after - before;
        value = now;
        *tsc = after;
    }
    return value;
}

static u32 read_pm(void) { return inl(acpi.pm_timer_port) & PM_MASK; }

void tsc_begin(void) {
    if (acpi.pm_timer_port)
        begin_pm = tsc_pair(read_pm, &begin_tsc);
}

// 0: there is no PM timer, or it stands still.
static u64 measured_khz(void) {
    u64 tsc;
    u32 last = begin_pm;
    for (unsigned i = 0; acpi.pm_timer_port && i < POLLS_MAX; i++) {
        u32 pm = tsc_pair(read_pm, &tsc), passed = (pm - begin_pm) & PM_MASK;
        if (passed >= MEASURE_TICKS)
            return (tsc - begin_tsc) * PM_HZ / passed / 1000;
        if (pm != last)
            i = 0;
        last = pm;
    }
    return 0;
}

static u64 claimed_khz(const char **source) {
    *source = "hypervisor";
    if (cpu_features.hypervisor && cpuid(LEAF_HYPERVISOR).eax >= LEAF_TIMING &&
        cpuid(LEAF_TIMING).eax)
        return cpuid(LEAF_TIMING).eax;
    *source = "CPUID";
    struct cpuid r = cpuid(LEAF_CRYSTAL);
    bool known = cpu_features.max_leaf >= LEAF_CRYSTAL && r.eax && r.ebx && r.ecx;
    return known ? (u64)r.ecx * r.ebx / r.eax / 1000 : 0;
}

void tsc_init(void) {
    const char *source;
    u64 claimed = claimed_khz(&source), measured = measured_khz();
    u64 difference = claimed > measured ? claimed - measured : measured - claimed;
    bool agree = claimed && (!measured || difference < claimed / 100);
    tsc_khz = agree ? claimed : measured;
    if (!tsc_khz)
        panic("the TSC's frequency can't be found: no ACPI PM timer and no CPUID leaf");
    ns_factor = (1000000ull << 32) / tsc_khz;
    log_info("basalt: clock: TSC %lu.%03lu MHz (%s)%s", tsc_khz / 1000, tsc_khz % 1000,
             agree ? source : "ACPI PM timer",
             cpu_features.invariant_tsc ? "" : ", not declared invariant");
}

u64 tsc_to_ns(u64 ticks) { return (u64)((unsigned __int128)ticks * ns_factor >> 32); }
