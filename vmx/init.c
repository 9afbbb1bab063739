// SPDX-License-Identifier: Apache-2.0
//
// The controls of a VMCS, most of which stay the same for the life of a virtual processor. Follows the SDM,
// "VM-Execution Control Fields", "VM-Exit Control Fields" and "VM-Entry Control Fields".

#include "vmx/vmcs.h"
#include "vmx/vmx.h"

#include "arch/x86.h"

// A guest can make the processor raise #AC and #DB for ever while an event is being delivered: only an exit ends that.
#define EXCEPTIONS     (BIT(EXC_MC) | BIT(EXC_DB) | BIT(EXC_AC))

#define PLE_GAP_TSC    128u  // PAUSEs at most this far apart belong to one loop
#define PLE_WINDOW_TSC 4096u // exit when a loop lasts longer than this

static u64 ept_pointer(const struct cpu_state *cpu) {
    u64 pointer = cpu->second_level.v | EPT_POINTER_WRITE_BACK | EPT_POINTER_WALK_4;

    return vmx_caps.ept_vpid & EPT_CAP_ACCESSED_DIRTY ? pointer | EPT_POINTER_ACCESSED_DIRTY
                                                      : pointer;
}

static void init_secondary(const struct cpu_state *cpu) {
    u32 secondary = vmx_caps.use[CONTROL_SECONDARY];

    if (!cpu->tag)
        secondary &= ~SECONDARY_VPID;
    vmcs_write32(SECONDARY_CONTROLS, secondary);
    vmcs_write64(EPT_POINTER, ept_pointer(cpu));
    if (secondary & SECONDARY_VPID)
        vmcs_write16(VPID, cpu->tag);
    if (secondary & SECONDARY_PLE) {
        vmcs_write32(PLE_GAP, PLE_GAP_TSC);
        vmcs_write32(PLE_WINDOW, PLE_WINDOW_TSC);
    }
    if (secondary & SECONDARY_XSAVES)
        vmcs_write64(XSS_EXITING_BITMAP, 0);
    if (secondary & SECONDARY_ENCLS)
        vmcs_write64(ENCLS_EXITING_BITMAP, ~0ull);
}

void vmx_init_controls(struct cpu_state *cpu, hpa_t msr_bitmap, hpa_t io_bitmap) {
    static const enum vmcs32 zero[] = {
        CR3_TARGET_COUNT,     ENTRY_EVENT,         PAGE_FAULT_MASK,      PAGE_FAULT_MATCH,
        EXIT_MSR_STORE_COUNT, EXIT_MSR_LOAD_COUNT, ENTRY_MSR_LOAD_COUNT,
    };
    struct vmx_area *area = vmx_area(cpu);

    area->primary = vmx_caps.use[CONTROL_PRIMARY];
    vmcs_write32(PIN_CONTROLS, vmx_caps.use[CONTROL_PIN]);
    vmcs_write32(PRIMARY_CONTROLS, area->primary);
    init_secondary(cpu);
    vmcs_write32(EXIT_CONTROLS, vmx_caps.use[CONTROL_EXIT]);
    vmcs_write32(ENTRY_CONTROLS, vmx_caps.use[CONTROL_ENTRY] & ~ENTRY_GUEST_64);
    vmcs_write32(EXCEPTION_BITMAP, EXCEPTIONS);
    for (unsigned i = 0; i < ARRAY_SIZE(zero); i++)
        vmcs_write32(zero[i], 0);
    vmcs_write64(TSC_OFFSET, cpu->tsc_offset);
    vmcs_write64(MSR_BITMAP, msr_bitmap.v);
    vmcs_write64(IO_BITMAP_A, io_bitmap.v);
    vmcs_write64(IO_BITMAP_B, io_bitmap.v + PAGE_SIZE);
}
