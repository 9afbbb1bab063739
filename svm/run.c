// SPDX-License-Identifier: Apache-2.0
//
// Entering the guest: cpu_state into the VMCB, world switch, and back. A block whose control
// registers were changed is checked in software first: emulators let bad ones in, or overwrite them
// when they refuse. Invariant: the processor is told to use its cached copy of a VMCB only on the
// CPU that ran it last, and only for what has not changed since. VMLOAD and VMSAVE are done at each
// entry, also where the exit is handled without a look at what they save; keeping the guest's FS,
// GS, TR and MSRs loaded over such exits is an optimization still to be made. Follows the APM,
// "Canonicalization and Consistency Checks", "VMCB Clean Bits" and "TLB Control".

#include "arch/cpu.h"
#include "arch/paging.h"
#include "arch/spec.h"
#include "arch/x86.h"
#include "svm/svm.h"

// Where VMLOAD finds what VMRUN does not restore; in the form of a VMCB, of which only that part is
// used.
static struct vmcb host_state[CPUS_MAX] __attribute__((aligned(PAGE_SIZE)));

static struct svm_cpu {
    hpa_t host_state;
    struct asid_pool asids;
} svm_cpus[CPUS_MAX];

void svm_run_init(u32 asids) {
    u32 id = this_cpu()->id;
    struct svm_cpu *self = &svm_cpus[id];

    self->host_state = kernel_virt_to_hpa(&host_state[id]);
    asm volatile("vmsave %%rax" : : "a"(self->host_state.v) : "memory");
    asid_pool_init(&self->asids, id, asids);
}

static void prepare_tlb(struct asid_pool *asids, struct cpu_state *cpu, struct vmcb *vmcb) {
    u8 flush = asid_assign(asids, cpu);

    vmcb->tlb_control = flush ? flush : vmcb->host.flush;
    vmcb->host.flush = TLB_CONTROL_NOTHING;
    if (vmcb->asid != cpu->tag)
        vmcb_changed(vmcb, VMCB_CLEAN_ASID);
    vmcb->asid = cpu->tag;
}

static void prepare_clean_bits(u32 id, struct vmcb *vmcb) {
    bool cached = svm_features.clean_bits && vmcb->host.cpu == id;

    vmcb->clean = cached ? VMCB_CLEAN_KNOWN & ~vmcb->host.dirty : 0;
    vmcb->host.cpu = id;
    vmcb->host.dirty = 0;
}

static void registers_to_vmcb(const struct cpu_state *cpu, struct vmcb *vmcb) {
    vmcb->rax = cpu->gprs[BASALT_RAX];
    vmcb->rsp = cpu->gprs[BASALT_RSP];
    vmcb->rip = cpu->rip;
    vmcb->rflags = cpu->rflags;
    if (vmcb->cr2 != cpu->cr2)
        vmcb_changed(vmcb, VMCB_CLEAN_CR2);
    vmcb->cr2 = cpu->cr2;
    if (vmcb->dr6 != cpu->dr6)
        vmcb_changed(vmcb, VMCB_CLEAN_DR);
    vmcb->dr6 = cpu->dr6;
}

static void registers_from_vmcb(struct cpu_state *cpu, const struct vmcb *vmcb) {
    cpu->gprs[BASALT_RAX] = vmcb->rax;
    cpu->gprs[BASALT_RSP] = vmcb->rsp;
    cpu->rip = vmcb->rip;
    cpu->rflags = vmcb->rflags;
    cpu->cr2 = vmcb->cr2;
    cpu->dr6 = vmcb->dr6;
    cpu->dirty = 0;
    svm_sync_cr0(cpu);
}

// The exit has cleared the breakpoints of DR7, so that the guest's addresses do no harm in the
// host.
static void load_breakpoints(const struct cpu_state *cpu) {
    write_dr0(cpu->dr[0]);
    write_dr1(cpu->dr[1]);
    write_dr2(cpu->dr[2]);
    write_dr3(cpu->dr[3]);
}

static void save_breakpoints(struct cpu_state *cpu) {
    cpu->dr[0] = read_dr0();
    cpu->dr[1] = read_dr1();
    cpu->dr[2] = read_dr2();
    cpu->dr[3] = read_dr3();
}

struct exit svm_run(struct cpu_state *cpu, u64 preempt_tsc) {
    struct vmcb *vmcb = vmcb_of(cpu);
    u32 id = this_cpu()->id;
    struct svm_cpu *self = &svm_cpus[id];

    (void)preempt_tsc; // there is no such timer: the local APIC's interrupt ends the run
    registers_to_vmcb(cpu, vmcb);
    if ((vmcb->host.dirty & VMCB_CLEAN_CR) && svm_check_vmrun(vmcb))
        return (struct exit){.kind = BASALT_EXIT_BAD_STATE, .raw = EXIT_INVALID};
    svm_inject(cpu);
    prepare_tlb(&self->asids, cpu, vmcb);
    prepare_clean_bits(id, vmcb);
    if (cpu->debug_active)
        load_breakpoints(cpu);
    if (spec.flags & SPEC_AROUND)
        svm_enter_guarded(cpu->gprs, pool_hpa(vmcb), self->host_state);
    else
        svm_enter(cpu->gprs, pool_hpa(vmcb), self->host_state);
    if (cpu->debug_active)
        save_breakpoints(cpu);
    svm_events_after_exit(cpu);
    registers_from_vmcb(cpu, vmcb);
    return svm_exit(vmcb);
}

const char *svm_check_state(struct cpu_state *cpu) {
    registers_to_vmcb(cpu, vmcb_of(cpu));
    return svm_check(vmcb_of(cpu));
}
