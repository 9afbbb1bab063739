// SPDX-License-Identifier: Apache-2.0
//
// The world switch: int vmx_enter(u64 *gprs, bool launched). Between the two halves the guest runs. An exit loads RSP
// with the value that HOST_RSP got here, so the stack is as it was left. Interrupts are off on both sides.
// Follows the SDM, "VM Entries" and "VM Exits".

#include "arch/spec.h"

#define HOST_RSP 0x6c14

    // Applies `do` to the registers of struct cpu_state.gprs, but not to RSP, which the VMCS has, and RDI, which points
    // to them. MOV keeps the flags.
    .macro  each_gpr do
    \do     %rax, 0
    \do     %rcx, 1
    \do     %rdx, 2
    \do     %rbx, 3
    \do     %rbp, 5
    \do     %rsi, 6
    .irp    n, 8, 9, 10, 11, 12, 13, 14, 15
    \do     %r\n, \n
    .endr
    .endm
    .macro  load reg, n
    mov     8 * \n(%rdi), \reg
    .endm
    .macro  save reg, n
    mov     \reg, 8 * \n(%rdi)
    .endm

    .text
    .macro  world_switch suffix, guarded
    .globl  vmx_enter\suffix
vmx_enter\suffix:
    .irp    reg, %rbx, %rbp, %r12, %r13, %r14, %r15, %rdi
    push    \reg
    .endr
    mov     $HOST_RSP, %eax
    vmwrite %rsp, %rax
    jbe     2f
    .if     \guarded
    spec_entry
    .endif
    test    %sil, %sil              // decides at the JNE below
    each_gpr load
    mov     8 * 7(%rdi), %rdi
    jne     1f
    vmlaunch
    jmp     2f
1:  vmresume
2:  // Here only when the instruction failed.
    mov     $1, %eax
    pop     %rdi
    jmp     3f

    .globl  vmx_exit_entry\suffix
vmx_exit_entry\suffix:
    push    %rdi
    mov     8(%rsp), %rdi
    each_gpr save
    pop     8 * 7(%rdi)
    pop     %rdi
    xor     %eax, %eax
3:
    .if     \guarded
    mov     %eax, %ebx
    spec_exit
    mov     %ebx, %eax
    .endif
    // No guest value stays in a register, where the kernel might speculate on it.
    .irp    reg, %ecx, %edx, %esi, %edi, %r8d, %r9d, %r10d, %r11d
    xor     \reg, \reg
    .endr
    .irp    reg, %r15, %r14, %r13, %r12, %rbp, %rbx
    pop     \reg
    .endr
    ret

    .endm

    world_switch , 0
    world_switch _guarded, 1

    .section .note.GNU-stack, "", @progbits
