// SPDX-License-Identifier: Apache-2.0
//
// The clock. What the processor says of its frequency is believed if a measurement against the ACPI PM timer agrees within
// one percent: some emulators count instructions whatever they claim. The measurement begins at one edge of the PM timer
// and ends at another; what the boot does in between costs no time of its own. Follows the SDM, "Determining the Processor
// Base Frequency", and the ACPI specification, "Power Management Timer".

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
#define POLLS_MAX       100000u // until a PM timer counts as dead

u64 tsc_khz = 1;
static u64 ns_factor; // times 2^32

static u64 begin_tsc;
static u32 begin_pm;

// The PM timer just after its next tick; false if it stands still.
static bool next_tick(u32 *pm, u64 *tsc) {
    u32 before = inl(acpi.pm_timer_port) & PM_MASK;
    for (unsigned i = 0; acpi.pm_timer_port && i < POLLS_MAX; i++) {
        *pm = inl(acpi.pm_timer_port) & PM_MASK;
        *tsc = rdtsc();
        if (*pm != before)
            return true;
    }
    return false;
}

void tsc_begin(void) { (void)next_tick(&begin_pm, &begin_tsc); }

static u64 measured_khz(void) {
    u64 tsc;
    u32 pm;
    while (next_tick(&pm, &tsc)) {
        u32 passed = (pm - begin_pm) & PM_MASK;
        if (passed >= MEASURE_TICKS)
            return (tsc - begin_tsc) * PM_HZ / passed / 1000;
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
