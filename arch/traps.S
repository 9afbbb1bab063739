// SPDX-License-Identifier: Apache-2.0
//
// Entry points of exceptions (0..31) and interrupts (32..255), 16 bytes each so that the IDT can be computed. An
// exception leaves a struct trap_frame; an interrupt keeps only what irq_record() may change. The kernel's GS base is
// always loaded and there is no user mode. Follows the SDM, "Interrupt and Exception Handling".

#define WITH_ERROR 0x227d00 // exceptions that push an error code: 8, 10-14, 17, 21

    .text
    .balign 16
    .globl trap_entries, irq_entries
trap_entries:
    .set vector, 0
    .rept 32
    .balign 16
    .if !((WITH_ERROR >> vector) & 1)
    pushq $0
    .endif
    pushq $vector
    jmp trap_common
    .set vector, vector + 1
    .endr

    .balign 16
irq_entries:
    .rept 224
    .balign 16
    pushq $vector
    jmp irq_common
    .set vector, vector + 1
    .endr

trap_common:
    pushq %rax
    pushq %rbx
    pushq %rcx
    pushq %rdx
    pushq %rsi
    pushq %rdi
    pushq %rbp
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    cld
    movq %rsp, %rdi
    call trap_handle
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rbp
    popq %rdi
    popq %rsi
    popq %rdx
    popq %rcx
    popq %rbx
    popq %rax
    addq $16, %rsp              // vector, error code
    iretq

irq_common:
    pushq %rbp
    movq %rsp, %rbp
    pushq %rax
    pushq %rcx
    pushq %rdx
    pushq %rsi
    pushq %rdi
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    cld
    movzbl 8(%rbp), %edi        // the vector; the push sign-extended nothing: below 256
    call irq_record
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rdi
    popq %rsi
    popq %rdx
    popq %rcx
    popq %rax
    popq %rbp
    addq $8, %rsp
    iretq

    .globl cpu_call_on_stack
cpu_call_on_stack:              // (stack top, function, argument)
    movq %rdi, %rsp
    xorl %ebp, %ebp             // backtraces end here
    movq %rdx, %rdi
    pushq $0
    jmp *%rsi

    .section .note.GNU-stack, "", @progbits
