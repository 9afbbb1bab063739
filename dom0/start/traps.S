// SPDX-License-Identifier: Apache-2.0
//
// Entry points of the 32 exception vectors, 16 bytes each, for start/traps.c. Each leaves a struct
// trap_frame on the stack: the processor's part, an error code (0 where there is none), the vector,
// and the general registers.

    .text
    .balign 16
    .globl trap_entries
trap_entries:
    vector = 0
    .rept 32
    .balign 16
    // Those with an error code: #DF, #TS, #NP, #SS, #GP, #PF, #AC, #CP, #VC, #SX
    error_code = vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21
    .if !(error_code || vector == 29 || vector == 30)
    push    $0
    .endif
    push    $vector
    jmp     trap_common
    vector = vector + 1
    .endr

trap_common:
    push    %r15
    push    %r14
    push    %r13
    push    %r12
    push    %r11
    push    %r10
    push    %r9
    push    %r8
    push    %rdi
    push    %rsi
    push    %rbp
    push    %rbx
    push    %rdx
    push    %rcx
    push    %rax
    cld
    mov     %rsp, %rdi
    and     $-16, %rsp
    call    trap_handle
    ud2

    .section .note.GNU-stack, "", @progbits
