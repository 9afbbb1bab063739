// SPDX-License-Identifier: Apache-2.0
//
// What the files of the SVM backend share. Everything here works on one cpu_state whose pages[0] is
// its VMCB, on the CPU that owns the state, with interrupts off; no locks. Invariant: whoever
// changes a VMCB field that the processor may cache says so in cpu_state.dirty, whose lower half has
// the bits of VMCB_CLEAN_*.
#pragma once

#include "guest/backend.h"
#include "svm/vmcb.h"

/// ASIDs of one CPU. Generations count up and are unique over all CPUs: the CPU's number is in
/// their upper bits.
struct asid_pool {
    u64 generation;
    u32 next;
    u32 count; // ASIDs that the processor has, 0 (the host's) included
};

static inline struct vmcb *vmcb_of(const struct cpu_state *cpu) { return cpu->page; }

/// Whether exit code `code` (below 0xc0) is to happen.
static inline void vmcb_intercept(struct cpu_state *cpu, u32 code, bool on) {
    u32 *word = &vmcb_of(cpu)->intercepts[code / 32], bit = 1u << code % 32;
    *word = on ? *word | bit : *word & ~bit;
    cpu->dirty |= VMCB_CLEAN_INTERCEPTS;
}

static inline bool vmcb_intercepts(const struct vmcb *vmcb, u32 code) {
    return vmcb->intercepts[code / 32] >> code % 32 & 1;
}

// asid.c
/// Makes the pool of CPU number `cpu` of a processor that reports `count` ASIDs (at least 2).
/// Nothing is handed out twice before a flush of everything, and such a flush comes with the first
/// one.
void asid_pool_init(struct asid_pool *pool, u32 cpu, u32 count);
/// Gives `state` an ASID of this pool unless it has one. Returns the TLB_CONTROL_* that the next
/// entry must have.
must_check u8 asid_assign(struct asid_pool *pool, struct cpu_state *state);

// exit.c
/// Turns on the intercepts that every guest has.
void svm_intercept_always(struct cpu_state *cpu);
/// What the VMCB says about the exit that it holds. The world switch ends here.
struct exit svm_exit(struct cpu_state *cpu);

// svm.c
/// Lets the host's handler see a machine check that ended a guest's run, as if it had come now.
void svm_machine_check(void);

// registers.c
/// Makes the bitmap that lets a guest touch what VMLOAD and VMSAVE switch, and no other MSR.
void svm_fill_msr_bitmap(u8 bitmap[MSRPM_BYTES]);
u64 svm_read(struct cpu_state *cpu, enum backend_register reg);
void svm_write(struct cpu_state *cpu, enum backend_register reg, u64 value);
struct basalt_segment svm_read_segment(struct cpu_state *cpu, unsigned index);
void svm_write_segment(struct cpu_state *cpu, unsigned index, const struct basalt_segment *segment);
bool svm_access_msr(struct cpu_state *cpu, u32 msr, bool write, u64 *value);

// event.c
/// Moves cpu->queued, which is valid, into the VMCB, for delivery at the entry that follows.
void svm_inject(struct cpu_state *cpu);
/// After an exit that an instruction did not ask for: follows the guest's NMI blocking, and puts an interrupted event
/// back into cpu->queued.
void svm_events_after_exit(struct cpu_state *cpu);
bool svm_can_take(struct cpu_state *cpu, bool nmi);
void svm_window(struct cpu_state *cpu, bool nmi, bool on);
void svm_clear_shadow(struct cpu_state *cpu);

// run.c
/// Fills the host's state page of this CPU and its ASID pool. SVM is on.
void svm_run_init(u32 asid_count);
void svm_load(struct cpu_state *cpu);
void svm_unload(struct cpu_state *cpu);
void svm_prepare(struct cpu_state *cpu);

// enter.S
/// Runs the guest until its next exit, and returns what svm_exit() says of that. RSP and RFLAGS are in the VMCB; the
/// other registers are loaded before from *cpu, and all are stored there after.
world_switch svm_enter, svm_enter_guarded;
