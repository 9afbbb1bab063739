// SPDX-License-Identifier: Apache-2.0
//
// The VMX capability MSRs: which controls this processor has, and whether Basalt can run on it. Invariant: a control
// word is always (wanted | must be one) & may be one. Follows the SDM appendix "VMX Capability Reporting Facility". Pure
// over the values of the MSRs, so that it is tested on the host.

#include "vmx/vmcs.h"
#include "vmx/vmx.h"

#include "arch/x86.h"
#include "kernel/panic.h"

#define BASIC_TRUE_CONTROLS BIT(55) // the TRUE MSRs exist

#define PRIMARY_WINDOWS     (PRIMARY_IRQ_WINDOW | PRIMARY_NMI_WINDOW) // opened while a guest runs
#define PRIMARY_EXITS                                                                     \
    (PRIMARY_TSC_OFFSET | PRIMARY_HLT | PRIMARY_MWAIT | PRIMARY_MONITOR | PRIMARY_RDPMC | \
     PRIMARY_CR8_LOAD | PRIMARY_CR8_STORE | PRIMARY_DR)
// Exits that EPT makes needless and that nobody handles
#define PRIMARY_UNWANTED (PRIMARY_CR3_LOAD | PRIMARY_CR3_STORE | PRIMARY_INVLPG | PRIMARY_RDTSC)
#define EXIT_ALL                                                                           \
    (EXIT_HOST_64 | EXIT_ACK_INTERRUPT | EXIT_SAVE_DEBUG | EXIT_SAVE_PAT | EXIT_LOAD_PAT | \
     EXIT_SAVE_EFER | EXIT_LOAD_EFER)
#define ENTRY_ALL (ENTRY_GUEST_64 | ENTRY_LOAD_DEBUG | ENTRY_LOAD_PAT | ENTRY_LOAD_EFER)

#define OLD \
    "use an Intel processor of 2010 (Westmere) or later; in a virtual machine, give it nested VMX with EPT"

static const u32 control_msrs[CONTROLS] = {
    [CONTROL_PIN] = MSR_VMX_TRUE_PINBASED_CTLS,    [CONTROL_PRIMARY] = MSR_VMX_TRUE_PROCBASED_CTLS,
    [CONTROL_SECONDARY] = MSR_VMX_PROCBASED_CTLS2, [CONTROL_EXIT] = MSR_VMX_TRUE_EXIT_CTLS,
    [CONTROL_ENTRY] = MSR_VMX_TRUE_ENTRY_CTLS,
};

// What Basalt wants. A row with a name is required, and the first such row that the processor lacks is the refusal; the
// others have a fallback each.
static const struct {
    enum vmx_control control;
    u32 bits;
    const char *name;
} wanted_controls[] = {
    {CONTROL_PRIMARY, PRIMARY_SECONDARY, "secondary VMX controls"},
    {CONTROL_SECONDARY, SECONDARY_EPT, "EPT"},
    {CONTROL_SECONDARY, SECONDARY_UNRESTRICTED, "unrestricted guest"},
    {CONTROL_SECONDARY, SECONDARY_WBINVD, "exits on WBINVD"},
    {CONTROL_PIN, PIN_EXTERNAL_INTERRUPT | PIN_NMI | PIN_VIRTUAL_NMI,
     "exits on interrupts, virtual NMIs"},
    {CONTROL_PRIMARY, PRIMARY_WINDOWS, "interrupt and NMI windows"},
    {CONTROL_PRIMARY, PRIMARY_MSR_BITMAPS | PRIMARY_IO_BITMAPS, "MSR and I/O bitmaps"},
    {CONTROL_PRIMARY, PRIMARY_EXITS, "TSC offset, exits on HLT, MWAIT, RDPMC, CR8 and DR"},
    {CONTROL_EXIT, EXIT_ALL, "switching of PAT, EFER and debug controls"},
    {CONTROL_ENTRY, ENTRY_ALL, "64-bit guests with PAT, EFER and debug controls"},
    {CONTROL_PIN, PIN_PREEMPTION_TIMER, NULL},
    {CONTROL_SECONDARY, SECONDARY_INVPCID | SECONDARY_VPID | SECONDARY_PLE | SECONDARY_ENCLS, NULL},
};

static void choose_controls(struct vmx_caps *caps) {
    u32 wanted[CONTROLS] = {0};

    for (unsigned i = 0; i < ARRAY_SIZE(wanted_controls); i++) {
        u32 bits = wanted_controls[i].bits, may = caps->may[wanted_controls[i].control];

        if (wanted_controls[i].name && (may & bits) != bits)
            refuse(OLD, "%s", wanted_controls[i].name);
        wanted[wanted_controls[i].control] |= bits;
    }
    wanted[CONTROL_PRIMARY] &= ~PRIMARY_WINDOWS;
    if (!(caps->may[CONTROL_SECONDARY] & SECONDARY_PLE))
        wanted[CONTROL_PRIMARY] |= PRIMARY_PAUSE;
    for (unsigned i = 0; i < CONTROLS; i++)
        caps->use[i] = (wanted[i] | caps->must[i]) & caps->may[i];
    if (caps->use[CONTROL_PRIMARY] & (PRIMARY_UNWANTED | PRIMARY_WINDOWS))
        refuse(OLD, "VMX controls that let CR3 accesses pass");
}

static void check_ept(struct vmx_caps *caps) {
    u64 ept = caps->ept_vpid;

    if (!(ept & EPT_CAP_WALK_4) || !(ept & EPT_CAP_WRITE_BACK))
        refuse(OLD, "EPT with four levels in write-back memory");
    if (!(ept & EPT_CAP_INVEPT) || !(ept & (EPT_CAP_INVEPT_SINGLE | EPT_CAP_INVEPT_ALL)))
        refuse(OLD, "INVEPT");
    if (!(ept & VPID_CAP_INVVPID) || !(ept & (VPID_CAP_SINGLE | VPID_CAP_ALL)))
        caps->use[CONTROL_SECONDARY] &= ~SECONDARY_VPID;
}

static void report(const struct vmx_caps *caps, struct backend_features *f) {
    u32 pin = caps->use[CONTROL_PIN], secondary = caps->use[CONTROL_SECONDARY];

    f->preemption_timer = pin & PIN_PREEMPTION_TIMER;
    f->vpid = secondary & SECONDARY_VPID;
    f->pause_filter = secondary & SECONDARY_PLE;
    f->apicv = !(SECONDARY_APICV & ~caps->may[CONTROL_SECONDARY]) &&
               (caps->may[CONTROL_PRIMARY] & PRIMARY_TPR_SHADOW) &&
               !(caps->must[CONTROL_PRIMARY] & (PRIMARY_CR8_LOAD | PRIMARY_CR8_STORE));
    f->ept_ad = caps->ept_vpid & EPT_CAP_ACCESSED_DIRTY;
    f->second_level_1g = caps->ept_vpid & EPT_CAP_1G;
    f->second_level_2m = caps->ept_vpid & EPT_CAP_2M;
}

void vmx_caps_read(u64 (*read_msr)(u32 msr), bool cpuid_vmx, struct vmx_caps *caps,
                   struct backend_features *features) {
    if (!cpuid_vmx)
        refuse("switch virtualization (VT-x) on in the firmware's setup, or use another machine",
               "VMX");
    u64 feature = read_msr(MSR_FEATURE_CONTROL);
    if ((feature & FEATURE_CONTROL_LOCKED) && !(feature & FEATURE_CONTROL_VMX))
        refuse(
            "switch virtualization (VT-x) on in the firmware's setup, then switch the machine off and on",
            "VMX, locked off by the firmware (IA32_FEATURE_CONTROL)");

    u64 basic = read_msr(MSR_VMX_BASIC), misc = read_msr(MSR_VMX_MISC);
    if (!(basic & BASIC_TRUE_CONTROLS))
        refuse(OLD, "VMX controls that need not be on (IA32_VMX_TRUE_*_CTLS)");
    *caps = (struct vmx_caps){
        .revision = (u32)basic & 0x7fffffff,
        .timer_shift = misc & 0x1f,
        .cr0_must = read_msr(MSR_VMX_CR0_FIXED0),
        .cr0_may = read_msr(MSR_VMX_CR0_FIXED1),
        .cr4_must = read_msr(MSR_VMX_CR4_FIXED0),
        .cr4_may = read_msr(MSR_VMX_CR4_FIXED1),
    };
    for (unsigned i = 0; i < CONTROLS; i++) {
        // The enumeration has the primary controls before the secondary ones, whose MSR they announce.
        if (i == CONTROL_SECONDARY && !(caps->may[CONTROL_PRIMARY] & PRIMARY_SECONDARY))
            continue;
        u64 value = read_msr(control_msrs[i]);
        caps->must[i] = (u32)value;
        caps->may[i] = (u32)(value >> 32);
    }
    if (caps->may[CONTROL_SECONDARY] & (SECONDARY_EPT | SECONDARY_VPID))
        caps->ept_vpid = read_msr(MSR_VMX_EPT_VPID_CAP);
    choose_controls(caps);
    check_ept(caps);
    report(caps, features);
}
