// SPDX-License-Identifier: Apache-2.0
//
// The world switch: int vmx_enter(u64 *gprs, bool launched). Between the two halves the guest runs. An exit loads RSP
// with the value that HOST_RSP got here, so the stack is as it was left. Interrupts are off on both sides.
// Follows the SDM, "VM Entries" and "VM Exits".

#define HOST_RSP 0x6c14

    .text
    .globl vmx_enter
vmx_enter:
    push    %rbx
    push    %rbp
    push    %r12
    push    %r13
    push    %r14
    push    %r15
    push    %rdi
    mov     $HOST_RSP, %eax
    vmwrite %rsp, %rax
    jbe     2f
    test    %sil, %sil              // the flags last until the choice below: MOV keeps them
    mov     0x00(%rdi), %rax
    mov     0x08(%rdi), %rcx
    mov     0x10(%rdi), %rdx
    mov     0x18(%rdi), %rbx
    mov     0x28(%rdi), %rbp
    mov     0x30(%rdi), %rsi
    mov     0x40(%rdi), %r8
    mov     0x48(%rdi), %r9
    mov     0x50(%rdi), %r10
    mov     0x58(%rdi), %r11
    mov     0x60(%rdi), %r12
    mov     0x68(%rdi), %r13
    mov     0x70(%rdi), %r14
    mov     0x78(%rdi), %r15
    mov     0x38(%rdi), %rdi
    jne     1f
    vmlaunch
    jmp     2f
1:  vmresume
2:  // Here only when the instruction failed: CF says without, ZF with an error number in the VMCS.
    mov     $1, %eax
    mov     $2, %edx
    cmovnc  %edx, %eax
    pop     %rdi
    jmp     3f

    .globl vmx_exit_entry
vmx_exit_entry:
    push    %rdi
    mov     8(%rsp), %rdi
    mov     %rax, 0x00(%rdi)
    mov     %rcx, 0x08(%rdi)
    mov     %rdx, 0x10(%rdi)
    mov     %rbx, 0x18(%rdi)
    mov     %rbp, 0x28(%rdi)
    mov     %rsi, 0x30(%rdi)
    mov     %r8, 0x40(%rdi)
    mov     %r9, 0x48(%rdi)
    mov     %r10, 0x50(%rdi)
    mov     %r11, 0x58(%rdi)
    mov     %r12, 0x60(%rdi)
    mov     %r13, 0x68(%rdi)
    mov     %r14, 0x70(%rdi)
    mov     %r15, 0x78(%rdi)
    pop     %rax
    mov     %rax, 0x38(%rdi)
    add     $8, %rsp
    xor     %eax, %eax
3:  // No guest value stays in a register, where the kernel might speculate on it.
    xor     %ecx, %ecx
    xor     %edx, %edx
    xor     %esi, %esi
    xor     %edi, %edi
    xor     %r8d, %r8d
    xor     %r9d, %r9d
    xor     %r10d, %r10d
    xor     %r11d, %r11d
    pop     %r15
    pop     %r14
    pop     %r13
    pop     %r12
    pop     %rbp
    pop     %rbx
    ret

    .section .note.GNU-stack, "", @progbits
