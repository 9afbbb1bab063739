// SPDX-License-Identifier: Apache-2.0
//
// The world switch. Interrupts, NMIs and machine checks are held back by the global interrupt flag
// while registers of the guest are in the processor. The host's IF is set at VMRUN: with
// V_INTR_MASKING it decides whether a physical interrupt ends the guest's run, and there it stays
// pending, since IF is clear again when GIF is set. Follows the APM, "VMRUN Instruction" and
// "Global Interrupt Flag, STGI and CLGI Instructions".

#include "arch/spec.h"

        .text
        // rdi: gprs, rsi: the guest's VMCB, rdx: the host's page
        .macro  world_switch name, guarded
        .globl  \name
        .type   \name, @function
\name:
        .irp    r, rbp, rbx, r12, r13, r14, r15, rdx, rdi
        pushq   %\r
        .endr
        .if     \guarded
        spec_entry
        .endif
        movq    %rsi, %rax
        clgi
        sti                             // its shadow ends before VMRUN
        vmload  %rax                    // FS, GS, TR, LDTR, system call MSRs
        movq    8(%rdi), %rcx
        movq    16(%rdi), %rdx
        movq    24(%rdi), %rbx
        movq    40(%rdi), %rbp
        movq    48(%rdi), %rsi
        .irp    n, 8, 9, 10, 11, 12, 13, 14, 15
        movq    8*\n(%rdi), %r\n
        .endr
        movq    56(%rdi), %rdi
        vmrun   %rax                    // RAX and RSP are the host's again after it
        vmsave  %rax
        xchgq   %rdi, (%rsp)
        movq    %rcx, 8(%rdi)
        movq    %rdx, 16(%rdi)
        movq    %rbx, 24(%rdi)
        movq    %rbp, 40(%rdi)
        movq    %rsi, 48(%rdi)
        .irp    n, 8, 9, 10, 11, 12, 13, 14, 15
        movq    %r\n, 8*\n(%rdi)
        .endr
        popq    56(%rdi)
        popq    %rax
        vmload  %rax                    // this CPU's GS and TR, before an NMI can need them
        .if     \guarded
        spec_exit
        .endif
        cli
        stgi
        .irp    r, ecx, edx, esi, edi, r8d, r9d, r10d, r11d
        xorl    %\r, %\r                // no guest value is left for speculation to use
        .endr
        .irp    r, r15, r14, r13, r12, rbx, rbp
        popq    %\r
        .endr
        ret
        .size   \name, . - \name
        .endm

        world_switch svm_enter, 0
        world_switch svm_enter_guarded, 1
        .section .note.GNU-stack, "", @progbits
