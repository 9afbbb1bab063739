// SPDX-License-Identifier: Apache-2.0
//
// What the files of the VMX backend share: the capabilities of the processor, found once by the boot CPU, and the
// area that a virtual processor has besides its VMCS. The interface to the outside is struct backend.

#pragma once

#include "guest/backend.h"

enum vmx_control {
    CONTROL_PIN,
    CONTROL_PRIMARY,
    CONTROL_SECONDARY,
    CONTROL_EXIT,
    CONTROL_ENTRY,
    CONTROLS
};

struct vmx_caps {
    u32 must[CONTROLS], may[CONTROLS];        // bits that must be, and that may be one
    u32 use[CONTROLS];                        // what Basalt uses of them
    u64 cr0_must, cr0_may, cr4_must, cr4_may; // in VMX operation
    u64 ept_vpid;                             // EPT_CAP_* and VPID_CAP_*
    u32 revision;                             // of the VMCS format
    u32 timer_shift;                          // the preemption timer counts TSC >> timer_shift
};

#define EPT_CAP_WALK_4             BIT(6)
#define EPT_CAP_WRITE_BACK         BIT(14)
#define EPT_CAP_2M                 BIT(16)
#define EPT_CAP_1G                 BIT(17)
#define EPT_CAP_INVEPT             BIT(20)
#define EPT_CAP_ACCESSED_DIRTY     BIT(21)
#define EPT_CAP_INVEPT_SINGLE      BIT(25)
#define EPT_CAP_INVEPT_ALL         BIT(26)
#define VPID_CAP_INVVPID           BIT(32)
#define VPID_CAP_SINGLE            BIT(41)
#define VPID_CAP_ALL               BIT(42)

#define EPT_POINTER_WRITE_BACK     6ull        // memory type of the tables
#define EPT_POINTER_WALK_4         (3ull << 3) // levels - 1
#define EPT_POINTER_ACCESSED_DIRTY BIT(6)

/// Reads what the processor can do through `read_msr`, asking only for MSRs that exist. `cpuid_vmx`: CPUID.1:ECX.VMX.
/// Fills *caps and the VMX part of *features, or refuses the machine.
void vmx_caps_read(u64 (*read_msr)(u32 msr), bool cpuid_vmx, struct vmx_caps *caps,
                   struct backend_features *features);

// APIC virtualization; the first only while the guest's APIC is in x2APIC mode
#define SECONDARY_APICV (SECONDARY_X2APIC | SECONDARY_APIC_REGISTERS | SECONDARY_VIRTUAL_IRQ)

extern struct vmx_caps vmx_caps;

/// Runs the guest until its next exit, and returns what vmx_exit() says of that. RSP and RFLAGS are in the VMCS; the
/// other registers are loaded before from *cpu, and all are stored there after (vmx/enter.S).
world_switch vmx_enter, vmx_enter_guarded;
extern const char vmx_exit_entry[], vmx_exit_entry_guarded[];

// What all guests share
extern hpa_t vmx_msr_bitmaps; // two pages: while the APIC is in xAPIC mode, in x2APIC mode

// Bits that the guest owns: it changes them often, without an exit, and hardware has no wish about them.
#define CR0_GUEST_OWNED (CR0_MP | CR0_EM | CR0_TS | CR0_WP | CR0_AM)
#define CR4_GUEST_OWNED (CR4_TSD | CR4_PGE)

/// Fill the current VMCS: all but the registers that callers write; the host state of a CPU.
void vmx_state_init(struct cpu_state *cpu);
void vmx_apic_mode(struct cpu_state *cpu, bool x2apic, const u32 *tmr);
struct cpu;
void vmx_init_host(const struct cpu *host);

/// An exit of the host's kind `vector`: 2 is an NMI, 18 a machine check.
void vmx_host_event(unsigned vector);
void vmx_probe(struct backend_features *features);
void vmx_cpu_on(void *page);

/// The facts of the exit (or failed entry) that is in the current VMCS. Follows what an exit does to NMI blocking, puts
/// an interrupted event back, and lets the host's handlers see its NMIs and machine checks.
struct exit vmx_exit(struct cpu_state *cpu);
/// What the VMCS says after a VMLAUNCH or VMRESUME that failed.
struct exit vmx_refused(void);
/// Ends the shadow of STI and MOV SS.
void vmx_clear_shadow(struct cpu_state *cpu);
/// Moves cpu->queued into the current VMCS.
void vmx_queue_event(struct cpu_state *cpu);

u64 vmx_read(struct cpu_state *cpu, enum backend_register reg);
void vmx_write(struct cpu_state *cpu, enum backend_register reg, u64 value);
struct basalt_segment vmx_read_segment(struct cpu_state *cpu, unsigned index);
void vmx_write_segment(struct cpu_state *cpu, unsigned index, const struct basalt_segment *segment);
bool vmx_access_msr(struct cpu_state *cpu, u32 msr, bool write, u64 *value);
/// Opens the guest's own MSRs in bitmaps that are all ones, and in the second one those that the processor virtualizes
/// in x2APIC mode.
void vmx_msr_bitmaps_fill(u8 *bitmap, u8 *x2apic_bitmap);
/// Exchange the live MSRs of the guest with its state. Before the first guest vmx_msrs_init() reads what this CPU has.
void vmx_msrs_init(void);
void vmx_msrs_load(const struct cpu_state *cpu);
void vmx_msrs_save(struct cpu_state *cpu);
