// SPDX-License-Identifier: Apache-2.0
//
// What comes before an entry of enter.S: cpu_state into the VMCB, breakpoints, ASIDs. Invariant: the processor
// is told to use its cached copy of a VMCB only on the CPU that ran it last, and only for what
// has not changed since. What most entries need not look at hangs on one condition. Follows the APM,
// "Canonicalization and Consistency Checks", "VMCB Clean Bits" and "TLB Control".

#include "arch/cpu.h"
#include "arch/paging.h"
#include "svm/svm.h"

// Where VMLOAD finds what VMRUN does not restore; in the form of a VMCB, of which only that part is
// used.
static struct vmcb host_state[CPUS_MAX] __attribute__((aligned(PAGE_SIZE)));
static struct asid_pool asids[CPUS_MAX];

void svm_run_init(u32 asid_count) {
    u32 id = this_cpu()->id;

    asm volatile("vmsave %%rax" : : "a"(kernel_virt_to_hpa(&host_state[id]).v) : "memory");
    asid_pool_init(&asids[id], id, asid_count);
}

void svm_load(struct cpu_state *cpu) {
    struct vmcb *vmcb = vmcb_of(cpu);
    u32 id = this_cpu()->id;

    // A fresh state, one of another CPU, or one whose ASID is no longer its own.
    if (cpu->tag_generation != asids[id].generation) {
        cpu->dirty |= VMCB_CLEAN_KNOWN;
        cpu->svm.cpu = id;
        cpu->svm.vmcb = pool_hpa(vmcb);
        cpu->svm.host_state = kernel_virt_to_hpa(&host_state[id]); // walks the kernel's tables
    }
    if (cpu->debug_active)
        write_breakpoints(cpu->dr); // each exit clears DR7, so that they do no harm in the host
}

void svm_unload(struct cpu_state *cpu) {
    if (cpu->debug_active)
        read_breakpoints(cpu->dr);
}

// Takes in what has changed since the last entry; once more at the entry after that, which has nothing to tell.
void svm_prepare(struct cpu_state *cpu) {
    struct vmcb *vmcb = vmcb_of(cpu);
    bool again = cpu->queued.valid || cpu->dirty != VMCB_TOLD;

    vmcb->event_inject = 0;
    if (cpu->queued.valid)
        svm_inject(cpu); // may change intercepts
    if (cpu->dirty & CPU_DIRTY_RSP)
        vmcb->rsp = cpu->gprs[BASALT_RSP];
    if (cpu->dirty & CPU_DIRTY_RFLAGS)
        vmcb->rflags = cpu->rflags;
    u8 flush = asid_assign(&asids[cpu->svm.cpu], cpu);
    vmcb->tlb_control = flush ? flush : cpu->svm.flush;
    cpu->svm.flush = TLB_CONTROL_NOTHING;
    vmcb->asid = cpu->tag;
    vmcb->clean = backend_features.clean_bits ? VMCB_CLEAN_KNOWN & ~cpu->dirty : 0;
    cpu->dirty = again ? VMCB_TOLD : 0;
}
