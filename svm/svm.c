// SPDX-License-Identifier: Apache-2.0
//
// The SVM backend: what the processor must have, switching SVM on, and the parts of a control block
// that are the same for every guest. Invariant: whatever could reach the host is intercepted in
// every VMCB; a guest touches physical MSRs only where VMSAVE and VMLOAD switch them, and I/O ports
// only where its own bitmap says so. Follows the APM, "Enabling SVM", "Intercept Operation", "MSR
// Intercepts" and "Nested Paging".

#include "arch/cpu.h"
#include "arch/paging.h"
#include "kernel/panic.h"
#include "svm/svm.h"

#include <basalt/hypercall.h>

#define PAUSE_LOOP     3000 // PAUSEs, each within ...
#define PAUSE_DISTANCE 128 // ... this many TSC ticks of the one before, until a waiting guest exits

static u8 msr_bitmap[MSRPM_BYTES] __attribute__((aligned(PAGE_SIZE))); // two bits per MSR: 1 = exit

static void svm_probe(struct backend_features *features) {
    u64 vm_cr;

    if (cpu_features.max_extended_leaf < 0x8000000a || !cpu_features.svm)
        refuse("use another processor; in a virtual machine, enable nested SVM (+svm)",
               "the processor has no SVM (AMD-V)");
    struct cpuid svm = cpuid(0x8000000a);
    if (rdmsr_safe(MSR_VM_CR, &vm_cr) && (vm_cr & VM_CR_SVMDIS))
        refuse("enable SVM (AMD-V, virtualization) in the firmware setup",
               vm_cr & VM_CR_LOCK ? "SVM (AMD-V) is locked off by firmware (VM_CR.LOCK)"
                                  : "SVM (AMD-V) is switched off by firmware (VM_CR.SVMDIS)");
    if (!(svm.edx & CPUID_8A_EDX_NPT))
        refuse("use another processor; in a virtual machine, enable it (+npt)",
               "the processor has no nested paging (NPT)");
    if (svm.ebx < 2)
        refuse("use another processor or hypervisor",
               "the processor has no address space identifier for guests");
    *features = (struct backend_features){
        .nrip_save = svm.edx & CPUID_8A_EDX_NRIP_SAVE,
        .decode_assists = svm.edx & CPUID_8A_EDX_DECODE_ASSISTS,
        .flush_by_asid = svm.edx & CPUID_8A_EDX_FLUSH_BY_ASID,
        .clean_bits = svm.edx & CPUID_8A_EDX_CLEAN_BITS,
        .pause_filter = svm.edx & CPUID_8A_EDX_PAUSE_FILTER,
        .tags = svm.ebx,
        .second_level_1g = cpu_features.page1g,
        .second_level_2m = true,
    };
}

static void svm_cpu_on(void *page) {
    if (!wrmsr_safe(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME) ||
        !wrmsr_safe(MSR_VM_HSAVE_PA, pool_hpa(page).v))
        refuse("enable SVM in the firmware setup, or in the hypervisor below",
               "the processor refuses to switch SVM on (EFER.SVME, VM_HSAVE_PA)");
    svm_fill_msr_bitmap(msr_bitmap);
    svm_run_init(backend_features.tags);
}

void svm_machine_check(void) { asm volatile("int $18" : : : "memory"); }

static void intercept_dr(struct cpu_state *cpu, bool on) {
    for (u32 code = EXIT_DR_READ; code < EXIT_EXCEPTION; code++)
        vmcb_intercept(cpu, code, on);
}

static void svm_allow_dr(struct cpu_state *cpu) {
    svm_load(cpu); // now with the breakpoints
    intercept_dr(cpu, false);
}

static void set_intercepts(struct cpu_state *cpu, struct vmcb *vmcb) {
    svm_intercept_always(cpu);
    intercept_dr(cpu, true);
    vmcb_intercept(cpu, EXIT_CR_WRITE + 4, true);
    vmcb_intercept(cpu, EXIT_CR_READ + 8, true); // the TPR is the vLAPIC's
    vmcb_intercept(cpu, EXIT_CR_WRITE + 8, true);
    vmcb_intercept(cpu, EXIT_PAUSE, backend_features.pause_filter); // else each PAUSE would exit
    vmcb->pause_count = PAUSE_LOOP;
    vmcb->pause_threshold = PAUSE_DISTANCE;
}

static void svm_state_init(struct cpu_state *cpu) {
    struct vmcb *vmcb = vmcb_of(cpu);

    memset(vmcb, 0, sizeof(*vmcb)); // an exit by shutdown leaves it undefined
    cpu->svm.nmi = NMI_OPEN;
    set_intercepts(cpu, vmcb);
    vmcb->iopm = cpu->io_bitmap;
    vmcb->msrpm = kernel_virt_to_hpa(msr_bitmap).v;
    vmcb->int_control = V_INTR_MASKING;
    vmcb->nested_control = NESTED_PAGING;
    vmcb->nested_cr3 = cpu->second_level.v;
    vmcb->tsc_offset = cpu->tsc_offset;
    vmcb->asid = 1;          // any but 0
    cpu->tag_generation = 0; // the next entry takes one
    svm_load(cpu);
}

// Entries for guest-linear and guest-physical addresses go together. A new ASID does the same as a
// flush of the old one.
static void svm_flush(struct cpu_state *cpu) {
    if (backend_features.flush_by_asid)
        cpu->svm.flush = TLB_CONTROL_FLUSH_ASID;
    else
        cpu->tag = 0;
    cpu->dirty |= VMCB_CLEAN_ASID;
}

static bool svm_control_field(struct cpu_state *cpu, u64 field, u64 *value) {
    if (field == BASALT_FIELD_SVM_FEATURES)
        *value = cpuid(0x8000000a).edx;
    else if (field <= sizeof(struct vmcb) - sizeof(*value))
        memcpy(value, (const u8 *)vmcb_of(cpu) + field, sizeof(*value));
    else
        return false;
    return true;
}

const struct backend svm_backend = {
    .name = "SVM",
    .probe = svm_probe,
    .cpu_on = svm_cpu_on,
    .state_init = svm_state_init,
    .load = svm_load,
    .unload = svm_unload,
    .prepare = svm_prepare,
    .enter = svm_enter,
    .enter_guarded = svm_enter_guarded,
    .read = svm_read,
    .write = svm_write,
    .read_segment = svm_read_segment,
    .write_segment = svm_write_segment,
    .access_msr = svm_access_msr,
    .can_take = svm_can_take,
    .window = svm_window,
    .clear_shadow = svm_clear_shadow,
    .allow_dr = svm_allow_dr,
    .flush_second_level = svm_flush,
    .flush_linear = svm_flush,
    .control_field = svm_control_field,
};
