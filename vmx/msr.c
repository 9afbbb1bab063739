// SPDX-License-Identifier: Apache-2.0
//
// MSRs that a guest reads and writes without exits. Those of the VMCS change hands at each entry and exit; the live
// ones (SYSCALL, KERNEL_GS_BASE, TSC_AUX), which the kernel itself never uses, when a virtual processor is loaded and
// unloaded. Invariant: values were found legal in guest/msr.c, so no WRMSR and
// no entry fails for them. Follows the SDM, "MSR-Bitmap Address".

#include "vmx/vmcs.h"
#include "vmx/vmx.h"

#include "arch/x86.h"

#define BITMAP_HIGH  0x400u // bytes to the part for MSRs from 0xc0000000 on
#define BITMAP_WRITE 0x800u

#define DEBUGCTL_BTF BIT(1) // single-step on branches

// MSRs 0x800 to 0x83f as the bits of the 64 in a bitmap: those that the page has (all but the current count), and those
// that the processor virtualizes when they are written: TPR, EOI, SELF_IPI.
#define X2APIC_BYTE  (MSR_X2APIC_BASE / 8)
#define X2APIC_READ  0x41fd01ffffffa50cull
#define X2APIC_WRITE (BIT(0x08) | BIT(0x0b) | BIT(0x3f))

// The live ones, in the order of struct vmx_area, have no field.
static const struct guest_msr {
    u32 msr, field;
} msrs[] = {
    {MSR_STAR, 0},
    {MSR_LSTAR, 0},
    {MSR_CSTAR, 0},
    {MSR_FMASK, 0},
    {MSR_KERNEL_GS_BASE, 0},
    {MSR_TSC_AUX, 0}, // last of the live ones: not on every processor
    {MSR_FS_BASE, GUEST_BASE(BASALT_FS)},
    {MSR_GS_BASE, GUEST_BASE(BASALT_GS)},
    {MSR_SYSENTER_CS, GUEST_SYSENTER_CS},
    {MSR_SYSENTER_ESP, GUEST_SYSENTER_ESP},
    {MSR_SYSENTER_EIP, GUEST_SYSENTER_EIP},
    {MSR_PAT, GUEST_PAT},
    {MSR_DEBUGCTL, GUEST_DEBUGCTL}, // writes to this one exit
};

static unsigned live_count(void) {
    return vmx_caps.use[CONTROL_SECONDARY] & SECONDARY_RDTSCP ? VMX_LIVE_MSRS : VMX_LIVE_MSRS - 1;
}

static bool exists(unsigned i) { return msrs[i].field || i < live_count(); }

static void open_msr(u8 *bitmap, u32 msr) {
    unsigned bit = (msr & 0x1fff) + (msr >> 31) * BITMAP_HIGH * 8;

    bitmap[bit / 8] &= (u8)~BIT(bit % 8);
    bitmap[BITMAP_WRITE + bit / 8] &= (u8)~BIT(bit % 8);
}

void vmx_msr_bitmaps_fill(u8 *bitmap, u8 *x2apic_bitmap) {
    for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++)
        if (exists(i) && msrs[i].msr != MSR_DEBUGCTL) {
            open_msr(bitmap, msrs[i].msr);
            open_msr(x2apic_bitmap, msrs[i].msr);
        }
    *(u64 *)(x2apic_bitmap + X2APIC_BYTE) = ~X2APIC_READ;
    *(u64 *)(x2apic_bitmap + X2APIC_BYTE + BITMAP_WRITE) = ~X2APIC_WRITE;
}

void vmx_msrs_load(const struct vmx_area *area) {
    for (unsigned i = 0; i < live_count(); i++)
        wrmsr(msrs[i].msr, area->live[i]);
}

void vmx_msrs_save(struct vmx_area *area) {
    for (unsigned i = 0; i < live_count(); i++)
        area->live[i] = rdmsr(msrs[i].msr);
}

static void access_field(u32 field, bool write, u64 *value) {
    if (write)
        vmcs_write_raw(field, *value);
    else
        *value = vmcs_read_raw(field);
}

static void access_live(u32 msr, bool write, u64 *value) {
    if (write)
        wrmsr(msr, *value);
    else
        *value = rdmsr(msr);
}

bool vmx_access_msr(struct cpu_state *cpu unused, u32 msr, bool write, u64 *value) {
    if (write && msr == MSR_DEBUGCTL)
        *value &= DEBUGCTL_BTF; // branch records and traces would be the host's
    for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++) {
        if (msrs[i].msr != msr || !exists(i))
            continue;
        if (msrs[i].field)
            access_field(msrs[i].field, write, value);
        else
            access_live(msr, write, value);
        return true;
    }
    return false;
}
