// SPDX-License-Identifier: Apache-2.0
//
// The world switch. Interrupts, NMIs and machine checks are held back by the global interrupt flag
// while registers of the guest are in the processor. The host's IF is set at VMRUN: with
// V_INTR_MASKING it decides whether a physical interrupt ends the guest's run, and there it stays
// pending, since IF is clear again when GIF is set. Follows the APM, "VMRUN Instruction" and
// "Global Interrupt Flag, STGI and CLGI Instructions".

#include "arch/spec.h"
#include "guest/backend.h"

// Of the VMCB
#define RFLAGS 0x570
#define RIP    0x578
#define RSP    0x5d8
#define RAX    0x5f8

        .text
        // rdi: struct cpu_state, and so RBX, which with RBP is kept of the others (see backend_enter()).
        .macro  world_switch name, guarded
        .globl  \name
        .type   \name, @function
\name:
        pushq   %rbp
        pushq   %rdi
        .if     \guarded
        spec_entry
        .endif
        movq    CPU_PAGE(%rdi), %rsi
        movq    CPU_GPR(0)(%rdi), %rax
        movq    %rax, RAX(%rsi)
        movq    CPU_RIP(%rdi), %rax
        movq    %rax, RIP(%rsi)
        movq    CPU_VMCB(%rdi), %rax
        clgi
        sti                             // its shadow ends before VMRUN
        vmload  %rax                    // FS, GS, TR, LDTR, system call MSRs
        movq    CPU_GPR(1)(%rdi), %rcx
        movq    CPU_GPR(2)(%rdi), %rdx
        movq    CPU_GPR(3)(%rdi), %rbx
        movq    CPU_GPR(5)(%rdi), %rbp
        movq    CPU_GPR(6)(%rdi), %rsi
        .irp    n, 8, 9, 10, 11, 12, 13, 14, 15
        movq    CPU_GPR(\n)(%rdi), %r\n
        .endr
        movq    CPU_GPR(7)(%rdi), %rdi
        vmrun   %rax                    // RAX and RSP are the host's again after it
        vmsave  %rax
        xchgq   %rdi, (%rsp)
        movq    %rcx, CPU_GPR(1)(%rdi)
        movq    %rdx, CPU_GPR(2)(%rdi)
        movq    %rbx, CPU_GPR(3)(%rdi)
        movq    %rbp, CPU_GPR(5)(%rdi)
        movq    %rsi, CPU_GPR(6)(%rdi)
        .irp    n, 8, 9, 10, 11, 12, 13, 14, 15
        movq    %r\n, CPU_GPR(\n)(%rdi)
        .endr
        popq    CPU_GPR(7)(%rdi)
        movq    CPU_HOST_STATE(%rdi), %rax
        vmload  %rax                    // this CPU's GS and TR, before an NMI can need them
        .if     \guarded
        spec_exit
        .endif
        cli
        stgi
        movq    CPU_PAGE(%rdi), %rsi
        movq    RFLAGS(%rsi), %rax
        movq    %rax, CPU_RFLAGS(%rdi)
        movq    RIP(%rsi), %rax
        movq    %rax, CPU_RIP(%rdi)
        movq    RSP(%rsi), %rax
        movq    %rax, CPU_GPR(4)(%rdi)
        movq    RAX(%rsi), %rax
        movq    %rax, CPU_GPR(0)(%rdi)
        .if     \guarded
        .irp    r, eax, ecx, edx, r8d, r9d, r10d, r11d, r12d, r13d, r14d, r15d
        xorl    %\r, %\r                // no guest value is left for speculation to use
        .endr
        .endif
        movq    %rdi, %rbx
        popq    %rbp
        jmp     svm_exit                // its return is the world switch's: one less to predict
        .size   \name, . - \name
        .endm

        world_switch svm_enter, 0
        world_switch svm_enter_guarded, 1
        .section .note.GNU-stack, "", @progbits
