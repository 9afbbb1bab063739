// SPDX-License-Identifier: Apache-2.0
//
// The VMX backend: loading a virtual processor, preparing its entry, windows, flushes. Invariant: a VMCS is current on at most
// one CPU, from load to unload, and "launched" is true only between a first exit and unload; every other function
// that takes a cpu_state, state_init too, works on the one that is loaded. Follows the SDM, "Virtual-Machine Monitor
// Programming Considerations" and "VMX Support for Address Translation".

#include "vmx/insn.h"
#include "vmx/vmcs.h"
#include "vmx/vmx.h"

#include "arch/cpu.h"
#include "arch/paging.h"
#include "kernel/panic.h"

#include <basalt/hypercall.h>

static void vmx_flush_second_level(struct cpu_state *cpu unused) {
    if (vmx_caps.ept_vpid & EPT_CAP_INVEPT_SINGLE)
        invept(INV_SINGLE, vmcs_read64(EPT_POINTER));
    else
        invept(INV_ALL, 0);
}

// On another CPU than before: what that one cached for this state when it was there last is out of date.
static void move_to_this_cpu(struct cpu_state *cpu) {
    cpu->vmx.host = this_cpu();
    vmx_init_host(this_cpu());
    vmx_flush_second_level(cpu);
}

// Each exit sets DR7 to what disarms the guest's breakpoints, so that they do no harm in the host.
static void load_debug(const struct cpu_state *cpu) {
    write_breakpoints(cpu->dr);
    write_dr6(cpu->dr6);
}

// The kernel survives no page fault and no debug exception of its own: CR2, and the debug registers of a guest that uses
// them, stay the guest's from load to unload, as the live MSRs do.
static void vmx_load(struct cpu_state *cpu) {
    hpa_t vmcs = pool_hpa(cpu->page);

    if (!cpu->vmx.host) {
        *(u32 *)cpu->page = vmx_caps.revision;
        assert(vmclear(vmcs), "the frame is aligned and in memory");
    }
    assert(vmptrld(vmcs), "it has the processor's revision");
    if (cpu->vmx.host != this_cpu())
        move_to_this_cpu(cpu);
    vmx_msrs_load(cpu);
    write_cr2(cpu->cr2);
    if (cpu->debug_active)
        load_debug(cpu);
}

static void vmx_unload(struct cpu_state *cpu) {
    vmx_msrs_save(cpu);
    cpu->cr2 = read_cr2();
    if (cpu->debug_active) {
        read_breakpoints(cpu->dr);
        cpu->dr6 = read_dr6();
    }
    vmclear(pool_hpa(cpu->page));
    cpu->vmx.launched = false;
}

static void vmx_prepare(struct cpu_state *cpu) {
    if (cpu->dirty & CPU_DIRTY_RSP)
        vmcs_writenat(GUEST_RSP, cpu->gprs[BASALT_RSP]);
    if (cpu->dirty & CPU_DIRTY_RFLAGS)
        vmcs_writenat(GUEST_RFLAGS, cpu->rflags);
    cpu->dirty = 0;
    if (cpu->queued.valid)
        vmx_queue_event(cpu);
}

static bool vmx_can_take(struct cpu_state *cpu, bool nmi) {
    u32 blocking = vmcs_read32(GUEST_INTERRUPTIBILITY);

    if (nmi)
        return !(blocking & (BLOCKED_BY_NMI | BLOCKED_BY_MOV_SS));
    return (cpu->rflags & RFLAGS_IF) && !(blocking & (BLOCKED_BY_STI | BLOCKED_BY_MOV_SS));
}

static void switch_primary(u32 bit, bool on) {
    u32 primary = vmcs_read32(PRIMARY_CONTROLS);

    vmcs_write32(PRIMARY_CONTROLS, on ? primary | bit : primary & ~bit);
}

static void vmx_window(struct cpu_state *cpu unused, bool nmi, bool on) {
    switch_primary(nmi ? PRIMARY_NMI_WINDOW : PRIMARY_IRQ_WINDOW, on);
}

static u16 vmx_apic_status(struct cpu_state *cpu unused, u16 status, bool all) {
    u16 now = vmcs_read16(GUEST_INTERRUPT_STATUS);

    if (!all)
        status = (u16)((now & 0xff00) | MAX(now & 0xff, status & 0xff));
    vmcs_write16(GUEST_INTERRUPT_STATUS, status);
    return status;
}

static void vmx_allow_dr(struct cpu_state *cpu) {
    load_debug(cpu);
    switch_primary(PRIMARY_DR, false);
}

// Without a VPID every entry flushes.
static void vmx_flush_linear(struct cpu_state *cpu) {
    if (!(vmx_caps.use[CONTROL_SECONDARY] & SECONDARY_VPID) || !cpu->tag)
        return;
    if (vmx_caps.ept_vpid & VPID_CAP_SINGLE)
        invvpid(INV_SINGLE, cpu->tag);
    else
        invvpid(INV_ALL, 0);
}

// Everything but the host state, which would tell the kernel's addresses.
static bool vmx_control_field(struct cpu_state *cpu unused, u64 field, u64 *value) {
    u64 msr = field - BASALT_FIELD_MSR(0);

    if (msr >= MSR_VMX_BASIC && msr <= MSR_VMX_TRUE_ENTRY_CTLS)
        return rdmsr_safe((u32)msr, value);
    if (field >= VMCS_FIELDS || (field & VMCS_TYPE) == VMCS_TYPE_HOST)
        return false;
    return vmcs_try_read((u32)field, value);
}

const struct backend vmx_backend = {
    .name = "VMX",
    .vmx = true,
    .probe = vmx_probe,
    .cpu_on = vmx_cpu_on,
    .state_init = vmx_state_init,
    .load = vmx_load,
    .unload = vmx_unload,
    .prepare = vmx_prepare,
    .enter = vmx_enter,
    .enter_guarded = vmx_enter_guarded,
    .read = vmx_read,
    .write = vmx_write,
    .read_segment = vmx_read_segment,
    .write_segment = vmx_write_segment,
    .access_msr = vmx_access_msr,
    .can_take = vmx_can_take,
    .window = vmx_window,
    .apic_mode = vmx_apic_mode,
    .apic_status = vmx_apic_status,
    .clear_shadow = vmx_clear_shadow,
    .allow_dr = vmx_allow_dr,
    .flush_second_level = vmx_flush_second_level,
    .flush_linear = vmx_flush_linear,
    .control_field = vmx_control_field,
};
