// SPDX-License-Identifier: Apache-2.0
//
// Machine checks. A report that leaves the processor's context intact is logged; any other is the
// end of the machine. Follows the SDM, "Machine-Check Architecture", and "Interpreting
// Machine-Check Error Codes".

#include "arch/mcheck.h"

#include "arch/cpu.h"
#include "arch/x86.h"
#include "kernel/log.h"
#include "kernel/panic.h"

// What a compound error code says, by its highest set bit.
static const char *error_name(u64 status)
{
    u32 code = status & 0xffff & ~0x1000u; // bit 12: filtering
    if (code & 0x800)
        return "bus or interconnect error";
    if (code & 0x400)
        return "internal unclassified error";
    if (code & 0x100)
        return "cache hierarchy error";
    if (code & 0x80)
        return "memory controller error";
    if (code & 0x10)
        return "TLB error";
    if (code & 0xc)
        return "generic cache hierarchy error";
    static const char *const simple[] = {"no error code", "unclassified error",
                                         "microcode ROM parity error", "external error"};
    return simple[code & 3];
}

static unsigned bank_count(void)
{
    u64 cap;
    return cpu_features.mca && rdmsr_safe(MSR_MCG_CAP, &cap) ? cap & MCG_CAP_COUNT : 0;
}

// Shows and clears all banks. Returns the sum (or) of the valid status words.
static u64 report_banks(void)
{
    u64 all = 0;
    for (unsigned bank = 0; bank < bank_count(); bank++) {
        u64 status, address = 0;
        u32 msr = MSR_MC0_CTL + 4 * bank;
        if (!rdmsr_safe(msr + 1, &status) || !(status & MC_STATUS_VALID))
            continue;
        if (status & MC_STATUS_ADDRV && !rdmsr_safe(msr + 2, &address))
            address = 0;
        log_err(
            "basalt: machine check: CPU %u bank %u: %s, %scorrected%s, status 0x%lx, address 0x%lx",
            this_cpu()->id, bank, error_name(status), status & MC_STATUS_UC ? "not " : "",
            status & MC_STATUS_PCC ? ", context lost" : "", status, address);
        all |= status;
        wrmsr_safe(msr + 1, 0);
    }
    return all;
}

void mcheck_init(void)
{
    (void)report_banks();
    for (unsigned bank = 0; bank < bank_count(); bank++)
        wrmsr_safe(MSR_MC0_CTL + 4 * bank, ~0ull);
    u64 cap;
    if (cpu_features.mca && rdmsr_safe(MSR_MCG_CAP, &cap) && cap & MCG_CAP_CTL)
        wrmsr_safe(MSR_MCG_CTL, ~0ull);
}

void mcheck_handle(const struct trap_frame *frame)
{
    u64 global = 0;
    bool known = rdmsr_safe(MSR_MCG_STATUS, &global);
    u64 status = report_banks();
    if (!known || !(global & MCG_STATUS_RIPV) || status & MC_STATUS_PCC)
        panic_trap(frame, "machine check that cannot be survived (global status 0x%lx)", global);
    wrmsr_safe(MSR_MCG_STATUS, 0);
}
