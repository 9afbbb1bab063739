// SPDX-License-Identifier: Apache-2.0
//
// What a VMCS begins with: its controls, most of which stay the same for the life of a virtual processor, and what of the
// guest's state nobody else writes. Follows the SDM, "VM-Execution Control Fields", "VM-Exit Control Fields" and "VM-Entry
// Control Fields".

#include "vmx/vmcs.h"
#include "vmx/vmx.h"

#include "arch/x86.h"

// A guest can make the processor raise #AC and #DB for ever while an event is being delivered: only an exit ends that.
#define EXCEPTIONS (BIT(EXC_MC) | BIT(EXC_DB) | BIT(EXC_AC))

// The APIC's timer ends a guest's run. This one is for a processor that keeps an interrupt to itself while a guest runs
// with IF clear, as Bochs does: no run is longer than this, and the kernel then looks what has come.
#define PREEMPTION_MS  4

#define PLE_GAP_TSC    128u  // PAUSEs at most this far apart belong to one loop
#define PLE_WINDOW_TSC 4096u // exit when a loop lasts longer than this

static u64 ept_pointer(const struct cpu_state *cpu) {
    u64 pointer = cpu->second_level.v | EPT_POINTER_WRITE_BACK | EPT_POINTER_WALK_4;

    return vmx_caps.ept_vpid & EPT_CAP_ACCESSED_DIRTY ? pointer | EPT_POINTER_ACCESSED_DIRTY
                                                      : pointer;
}

static u32 secondary_controls(const struct cpu_state *cpu) {
    u32 vpid = cpu->tag ? 0 : SECONDARY_VPID;
    u32 apicv = cpu->virtual_apic.v ? SECONDARY_APIC_REGISTERS | SECONDARY_VIRTUAL_IRQ : 0;

    return (vmx_caps.use[CONTROL_SECONDARY] & ~vpid) | apicv;
}

static u32 primary_controls(const struct cpu_state *cpu) {
    u32 primary = vmx_caps.use[CONTROL_PRIMARY];

    if (cpu->virtual_apic.v)
        primary = (primary & ~(PRIMARY_CR8_LOAD | PRIMARY_CR8_STORE)) | PRIMARY_TPR_SHADOW;
    return primary;
}

// Only the x2APIC's registers are virtualized, and CR8. The xAPIC's page is not mapped in any guest: an access is an
// EPT violation, which leads to the emulation that works without APICv too. So there is no APIC-access page, and there
// are no exits for APIC accesses. The one for a write follows a self IPI with a vector below 16. With virtual-interrupt
// delivery nothing looks at the TPR threshold.
void vmx_apic_mode(struct cpu_state *cpu, bool x2apic, const u32 *tmr) {
    vmcs_write32(SECONDARY_CONTROLS, secondary_controls(cpu) | (x2apic ? SECONDARY_X2APIC : 0));
    vmcs_write64(MSR_BITMAP, vmx_msr_bitmaps.v + (x2apic ? PAGE_SIZE : 0));
    for (unsigned i = 0; i < 4; i++)
        vmcs_write64(EOI_EXIT_BITMAP(i), tmr[8 * i] | (u64)tmr[8 * i + 4] << 32);
}

static void init_secondary(const struct cpu_state *cpu) {
    u32 secondary = secondary_controls(cpu);

    vmcs_write32(SECONDARY_CONTROLS, secondary);
    vmcs_write64(EPT_POINTER, ept_pointer(cpu));
    if (secondary & SECONDARY_VPID)
        vmcs_write16(VPID, cpu->tag);
    if (secondary & SECONDARY_PLE) {
        vmcs_write32(PLE_GAP, PLE_GAP_TSC);
        vmcs_write32(PLE_WINDOW, PLE_WINDOW_TSC);
    }
    if (secondary & SECONDARY_VIRTUAL_IRQ) {
        vmcs_write64(VIRTUAL_APIC_ADDRESS, cpu->virtual_apic.v);
        vmcs_write32(TPR_THRESHOLD, 0);
        vmcs_write16(GUEST_INTERRUPT_STATUS, 0);
    }
    if (secondary & SECONDARY_ENCLS)
        vmcs_write64(ENCLS_EXITING_BITMAP, ~0ull);
}

void vmx_state_init(struct cpu_state *cpu) {
    static const u32 zero[] = {
        CR3_TARGET_COUNT,       ENTRY_EVENT,         PAGE_FAULT_MASK,      PAGE_FAULT_MATCH,
        EXIT_MSR_STORE_COUNT,   EXIT_MSR_LOAD_COUNT, ENTRY_MSR_LOAD_COUNT, GUEST_DEBUGCTL,
        GUEST_SYSENTER_CS,      GUEST_SYSENTER_ESP,  GUEST_SYSENTER_EIP,   GUEST_PENDING_DEBUG,
        GUEST_INTERRUPTIBILITY, GUEST_ACTIVITY,      GUEST_PDPTE(0),       GUEST_PDPTE(1),
        GUEST_PDPTE(2),         GUEST_PDPTE(3),
    };

    for (unsigned i = 0; i < ARRAY_SIZE(zero); i++)
        vmcs_write_raw(zero[i], 0);
    vmcs_write32(PIN_CONTROLS, vmx_caps.use[CONTROL_PIN]);
    vmcs_write32(PRIMARY_CONTROLS, primary_controls(cpu));
    init_secondary(cpu);
    vmcs_write32(EXIT_CONTROLS, vmx_caps.use[CONTROL_EXIT]);
    vmcs_write32(ENTRY_CONTROLS, vmx_caps.use[CONTROL_ENTRY] & ~ENTRY_GUEST_64);
    vmcs_write32(EXCEPTION_BITMAP, EXCEPTIONS);
    if (vmx_caps.use[CONTROL_PIN] & PIN_PREEMPTION_TIMER)
        vmcs_write32(PREEMPTION_TIMER, (u32)(tsc_khz * PREEMPTION_MS >> vmx_caps.timer_shift));
    vmcs_write64(TSC_OFFSET, cpu->tsc_offset);
    vmcs_write64(MSR_BITMAP, vmx_msr_bitmaps.v);
    vmcs_write64(IO_BITMAP_A, cpu->io_bitmap);
    vmcs_write64(IO_BITMAP_B, cpu->io_bitmap + PAGE_SIZE);
    vmcs_write64(VMCS_LINK_POINTER, ~0ull);
    vmcs_writenat(CR0_MASK, ~CR0_GUEST_OWNED);
    vmcs_writenat(CR4_MASK, ~CR4_GUEST_OWNED);
    vmcs_writenat(HOST_RSP, (u64)cpu); // see enter.S
}
