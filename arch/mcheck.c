// SPDX-License-Identifier: Apache-2.0
//
// Machine checks. A report that leaves the processor's context intact is logged; any other is the
// end of the machine. Follows the SDM, "Machine-Check Architecture"; docs/debugging.md has what the status means.

#include "arch/cpu.h"
#include "kernel/log.h"
#include "kernel/panic.h"

static u64 capabilities(void) { return cpu_features.mca ? rdmsr(MSR_MCG_CAP) : 0; }

// Shows and clears all banks. Returns the sum (or) of the valid status words.
static u64 report_banks(void) {
    u64 all = 0;
    for (unsigned bank = 0; bank < (capabilities() & MCG_CAP_COUNT); bank++) {
        u64 status, address = 0;
        u32 msr = MSR_MC0_CTL + 4 * bank;
        if (!rdmsr_safe(msr + 1, &status) || !(status & MC_STATUS_VALID))
            continue;
        if (status & MC_STATUS_ADDRV && !rdmsr_safe(msr + 2, &address))
            address = 0;
        log_err("basalt: machine check: CPU %u bank %u: %scorrected, status 0x%lx, address 0x%lx",
                this_cpu()->id, bank, status & MC_STATUS_UC ? "un" : "", status, address);
        all |= status;
        wrmsr_safe(msr + 1, 0);
    }
    return all;
}

void mcheck_init(void) {
    (void)report_banks();
    for (unsigned bank = 0; bank < (capabilities() & MCG_CAP_COUNT); bank++)
        wrmsr_safe(MSR_MC0_CTL + 4 * bank, ~0ull);
    if (capabilities() & MCG_CAP_CTL)
        wrmsr_safe(MSR_MCG_CTL, ~0ull);
}

void mcheck_handle(const struct trap_frame *frame) {
    u64 global = 0;
    bool known = rdmsr_safe(MSR_MCG_STATUS, &global);
    u64 status = report_banks();
    if (!known || !(global & MCG_STATUS_RIPV) || status & MC_STATUS_PCC)
        panic_trap(frame, "machine check that cannot be survived (global status 0x%lx)", global);
    wrmsr_safe(MSR_MCG_STATUS, 0);
}
