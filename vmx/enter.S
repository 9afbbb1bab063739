// SPDX-License-Identifier: Apache-2.0
//
// The world switch: struct exit vmx_enter(struct cpu_state *cpu). Between the two halves the guest runs. An exit loads RSP
// with HOST_RSP, which is the address of the cpu_state, so that the guest's registers can be stored before any other is
// free; the kernel's stack is found in there. Until then nothing may push: interrupts are off on both sides, and NMIs and
// machine checks have stacks of their own. Follows the SDM, "VM Entries" and "VM Exits".

#include "arch/spec.h"
#include "guest/backend.h"

#define HOST_RSP     0x6c14
#define GUEST_RSP    0x681c
#define GUEST_RIP    0x681e
#define GUEST_RFLAGS 0x6820

    // Applies `do` to the registers of struct cpu_state.gprs, but not to RSP, which the VMCS has, and RDI. MOV keeps the
    // flags.
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
    mov     CPU_GPR(\n)(%rdi), \reg
    .endm
    .macro  save reg, n
    mov     \reg, CPU_GPR(\n)(%rsp)
    .endm
    .macro  read field, to
    mov     $\field, %eax
    vmread  %rax, \to(%rdi)
    .endm
    .macro  leave_to function, guarded
    .if     \guarded
    spec_exit
    // No guest value stays in a register, where the kernel might speculate on it.
    .irp    reg, %ecx, %edx, %esi, %r8d, %r9d, %r10d, %r11d, %r12d, %r13d, %r14d, %r15d
    xor     \reg, \reg
    .endr
    .endif
    mov     %rdi, %rbx
    pop     %rbp
    jmp     \function              // its return is the world switch's: one less to predict
    .endm

    .text
    .macro  world_switch suffix, guarded
    .globl  vmx_enter\suffix
vmx_enter\suffix:
    push    %rbp                    // RBX is RDI, see backend_enter()
    mov     %rsp, CPU_HOST_RSP(%rdi)
    mov     $GUEST_RIP, %eax
    vmwrite CPU_RIP(%rdi), %rax
    .if     \guarded
    spec_entry
    .endif
    testb   $1, CPU_LAUNCHED(%rdi)  // decides at the JZ below
    each_gpr load
    mov     CPU_GPR(7)(%rdi), %rdi
    jz      1f
    vmresume
    jmp     2f
1:  vmlaunch
2:  // Here only when the instruction failed; RSP is as it was.
    mov     $HOST_RSP, %eax
    vmread  %rax, %rdi
    leave_to vmx_refused, \guarded

    .globl  vmx_exit_entry\suffix
vmx_exit_entry\suffix:
    each_gpr save
    save    %rdi, 7
    mov     %rsp, %rdi
    mov     CPU_HOST_RSP(%rdi), %rsp
    movb    $1, CPU_LAUNCHED(%rdi)
    read    GUEST_RIP, CPU_RIP
    read    GUEST_RFLAGS, CPU_RFLAGS
    read    GUEST_RSP, CPU_GPR(4)
    leave_to vmx_exit, \guarded
    .endm

    world_switch , 0
    world_switch _guarded, 1

    .section .note.GNU-stack, "", @progbits
