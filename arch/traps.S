// SPDX-License-Identifier: Apache-2.0
//
// Entry points of exceptions (0..31) and interrupts (32..255), 16 bytes each so that the IDT can be computed. Each leaves a
// struct trap_frame. The kernel's GS base is always loaded and there is no user mode. Follows the SDM, "Interrupt and
// Exception Handling".

#define WITH_ERROR 0x227d00 // exceptions that push an error code: 8, 10-14, 17, 21

    .text
    .balign 16
    .globl trap_entries
trap_entries:
    .set vector, 0
    .set mask, WITH_ERROR
    .rept 256
    .balign 16
    .if !(mask & 1)
    pushq $0
    .endif
    pushq $vector
    jmp trap_common
    .set vector, vector + 1
    .set mask, mask >> 1
    .endr

trap_common:
    .irp register, rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15
    pushq %\register
    .endr
    cld
    movq %rsp, %rdi
    call trap_handle
    .irp register, r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax
    popq %\register
    .endr
    addq $16, %rsp              // vector, error code
    iretq

    .section .note.GNU-stack, "", @progbits
