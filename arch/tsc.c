// SPDX-License-Identifier: Apache-2.0
//
// The clock. What the processor says of its frequency is believed if a measurement agrees within
// one percent: some emulators count instructions whatever they claim. Follows the SDM, "Determining
// the Processor Base Frequency".

#include "arch/tsc.h"

#include "arch/cpu.h"
#include "drivers/timer.h"
#include "kernel/log.h"
#include "kernel/panic.h"

#define LEAF_CRYSTAL    0x15u       // denominator, numerator, crystal's Hz
#define LEAF_HYPERVISOR 0x40000000u // highest hypervisor leaf
#define LEAF_TIMING     0x40000010u // TSC kHz, as VMware defined and KVM copied it
#define MEASURE_US      30000u

u64 tsc_khz = 1;
const char *tsc_source = "none";
static u64 ns_factor, tsc_factor; // times 2^32

static u64 claimed_khz(const char **source)
{
    if (cpu_features.hypervisor && cpuid(LEAF_HYPERVISOR).eax >= LEAF_TIMING &&
        cpuid(LEAF_TIMING).eax) {
        *source = "hypervisor";
        return cpuid(LEAF_TIMING).eax;
    }
    struct cpuid r = cpu_features.max_leaf >= LEAF_CRYSTAL ? cpuid(LEAF_CRYSTAL)
                                                           : (struct cpuid){0};
    if (!r.eax || !r.ebx || !r.ecx)
        return 0;
    *source = "CPUID";
    return (u64)r.ecx * r.ebx / r.eax / 1000;
}

void tsc_init(void)
{
    const char *source = NULL;
    u64 ticks, claimed = claimed_khz(&source), ns = timer_measure(rdtsc, MEASURE_US, &ticks);
    u64 measured = ns ? ticks * 1000000 / ns : 0;
    u64 difference = claimed > measured ? claimed - measured : measured - claimed;
    bool agree = claimed && (!measured || difference < claimed / 100);
    tsc_khz = agree ? claimed : measured;
    tsc_source = agree ? source : "ACPI PM timer";
    if (!tsc_khz)
        panic(
            "the time-stamp counter's frequency can't be found: no ACPI PM timer and no CPUID leaf");
    ns_factor = (1000000ull << 32) / tsc_khz;
    tsc_factor = (tsc_khz << 32) / 1000000;
}

u64 tsc_to_ns(u64 ticks) { return (u64)((unsigned __int128)ticks * ns_factor >> 32); }

u64 ns_to_tsc(u64 ns) { return (u64)((unsigned __int128)ns * tsc_factor >> 32); }

void tsc_report(void)
{
    log_info("basalt: clock: TSC %lu.%03lu MHz (%s)%s", tsc_khz / 1000, tsc_khz % 1000, tsc_source,
             cpu_features.invariant_tsc ? "" : ", not declared invariant");
}
