// SPDX-License-Identifier: Apache-2.0
//
// Controls of speculative execution: which ones this processor needs, chosen once from a table with
// reasons, and what has to be done for them around each run of a guest. Invariant: but with spec=off, no
// return and no indirect branch comes between a guest's last instruction and the end of spec_exit, and no value of
// the guest's is in a register after the world switch. Follows the SDM, "Speculative Execution Control MSRs",
// Intel's and AMD's notes on each attack, docs/security.md and docs/decisions/0014.

#pragma once

// struct spec.flags
#define SPEC_SWITCH    0x01 // IA32_SPEC_CTRL differs between kernel and guests
#define SPEC_L1D_FLUSH 0x02 // before each entry
#define SPEC_VERW      0x04 // the same
#define SPEC_EXIT_IBPB 0x08 // after each exit
#define SPEC_EXIT_RSB  0x10 // the same; done wherever the guarded path is taken
#define SPEC_LOAD_IBPB 0x20 // when a vCPU of another domain is loaded
#define SPEC_AUTO_IBRS 0x40 // EFER.AIBRSE, once
// Guests are entered by the guarded path, which also clears their values from the registers after each exit: always, but
// with spec=off.
#define SPEC_AROUND     0x80
#define SPEC_SMALL_CODE 0x100 // superpages of second-level tables are not executable

// Calls after an exit, so that no return is predicted from a guest's calls. Two returns have none of their own after the
// exit: the world switch's to vcpu_run() and that one's to schedule_loop(), which never returns.
#define SPEC_RSB_ENTRIES 8

#ifdef __ASSEMBLER__
// clang-format off
    .macro  spec_wrmsr_if flag, msr, value
    testl   $\flag, spec(%rip)
    jz      7f
    mov     $\msr, %ecx
    mov     \value, %eax
    xor     %edx, %edx
    wrmsr
7:
    .endm

    // Before a guest runs, and after one has run. Both change EAX, ECX, EDX and the flags.
    .macro  spec_entry
    testl   $(SPEC_SWITCH | SPEC_L1D_FLUSH | SPEC_VERW), spec(%rip)
    jz      8f
    spec_wrmsr_if SPEC_SWITCH, 0x48, spec+8(%rip)
    spec_wrmsr_if SPEC_L1D_FLUSH, 0x10b, $1
    testl   $SPEC_VERW, spec(%rip)
    jz      7f
    verw    spec_data_selector(%rip)
7:
8:
    .endm

    .macro  spec_exit
    testl   $(SPEC_SWITCH | SPEC_EXIT_IBPB), spec(%rip)
    jz      8f
    spec_wrmsr_if SPEC_SWITCH, 0x48, spec+4(%rip)
    spec_wrmsr_if SPEC_EXIT_IBPB, 0x49, $1
8:
    .rept   SPEC_RSB_ENTRIES
    call    9f
    int3    // where a return goes on the wrong path
9:
    .endr
    add     $8 * SPEC_RSB_ENTRIES, %rsp
    lfence  // whatever the tests above were predicted to say
    .endm

// clang-format on
#else

#include "arch/cpu.h"

// What the choice is made from: CPUID leaf 7, its subleaf 2, leaves 0x80000008 and 0x80000021, and the
// lower half of IA32_ARCH_CAPABILITIES.
enum spec_fact { EBX7, EDX7, EDX72, EBX88, EAX821, ECX821, CAPS, SPEC_FACTS };
struct spec_cpu {
    enum cpu_vendor vendor;
    u32 fact[SPEC_FACTS];
};

struct spec {
    u32 flags;
    u32 host_ctrl, guest_ctrl; // IA32_SPEC_CTRL in the kernel, in guests
    u32 on, missing;           // rows of the table
};
extern struct spec spec;

/// Makes the choice; with `off` all that is needed is missing. Pure.
struct spec spec_choose(const struct spec_cpu *cpu, bool off);
/// Makes the choice for this processor as the command line says, reports it, and puts in force what is set once.
void spec_init(void);

/// To be called when a vCPU is loaded of another domain than before: it shall not meet that one's branches.
static inline void spec_other_domain(void) {
    if (spec.flags & SPEC_LOAD_IBPB)
        wrmsr(MSR_PRED_CMD, 1);
}

#endif
