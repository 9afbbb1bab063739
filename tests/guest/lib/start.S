// SPDX-License-Identifier: Apache-2.0
//
// The beginning of a hostile guest, once for 32-bit and once for 64-bit code: PVH entry (Xen documentation, "x86/HVM
// direct boot ABI"), page tables that map the low 4 GiB one to one, descriptor tables, exception and interrupt stubs,
// the way of a second processor from its start-up IPI into C, and a visit to CPL 3.

#include "guest.h"

    pvh_note

    .text
    .code32
    .globl start
start:
    mov $stack_top, %esp
    cld
    mov 24(%ebx), %eax
    mov %eax, boot_cmdline
#ifdef __x86_64__
    map_low_4g tables
#else
    mov $tables, %edi
    mov $0x83, %eax             // present, writable, 4 MiB
    mov $1024, %ecx
1:  mov %eax, (%edi)
    add $0x400000, %eax
    add $4, %edi
    loop 1b
#endif
    call paging_on
    lgdt gdt_pointer
    ljmp $CODE, $1f
1:
#ifdef __x86_64__
    .code64
#endif
    call load_segments
    call guest_main
1:  cli
    hlt
    jmp 1b

// Paging with the tables above; for both processors.
    .code32
paging_on:
#ifdef __x86_64__
    turn_paging_on tables, PAGING_CR4, 1
#else
    turn_paging_on tables, PAGING_CR4, 0
#endif
    ret

#ifdef __x86_64__
    .code64
#endif
load_segments:
    mov $DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov %eax, %fs
    mov %eax, %gs
    ret

// Where the start-up IPI leads: copied to AP_PAGE.
    .globl ap_start, ap_start_end
    .code16
ap_start:
    cli
    xor %ax, %ax
    mov %ax, %ds
    lgdtl AP_PAGE + ap_gdt_pointer - ap_start
    mov %cr0, %eax
    or $1, %eax
    mov %eax, %cr0
    ljmpl $CODE32, $ap_32
    .balign 4
ap_gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt
ap_start_end:
    .code32
ap_32:
    mov $DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $ap_stack_top, %esp
    call paging_on
    ljmp $CODE, $1f
1:
#ifdef __x86_64__
    .code64
    call load_segments
    call ap_main
#else
    call load_segments
    call ap_main
#endif
1:  cli
    hlt
    jmp 1b

// ---- exceptions and interrupts: struct frame, by vector ----

#define STUB_SIZE 16
    .globl stubs
    .balign STUB_SIZE
stubs:
    .set vector, 0
    .rept 256
    .balign STUB_SIZE
    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17)
    push $0
    .endif
    push $vector
    jmp common
    .set vector, vector + 1
    .endr

#ifdef __x86_64__
common:
    .irp r, rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
    push %\r
    .endr
    mov %rsp, %rdi
    mov %rsp, %rbp
    and $-16, %rsp
    cld
    call trap
    mov %rbp, %rsp
    .irp r, r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax
    pop %\r
    .endr
    add $16, %rsp
    iretq

// unsigned user_enter(code, stack): runs code at CPL 3 until it faults; returns 0x100 * error code + vector.
    .globl user_enter
user_enter:
    .irp r, rbx, rbp, r12, r13, r14, r15
    push %\r
    .endr
    mov %rsp, user_return
    mov %rsp, tss + 4           // RSP0: the exception's frame goes below
    push $USER_DATA
    push %rsi
    pushf
    push $USER_CODE
    push %rdi
    iretq
    .globl user_came_back
user_came_back:
    mov user_return, %rsp
    movq $0, user_return
    .irp r, r15, r14, r13, r12, rbp, rbx
    pop %\r
    .endr
    mov user_result, %eax
    ret
#else
common:
    pusha
    testb $2, 50(%esp)          // from virtual-8086 mode: without segments
    jz 1f
    mov $DATA, %eax
    mov %eax, %ds
    mov %eax, %es
1:
    push %esp
    cld
    call trap
    add $4, %esp
    popa
    add $8, %esp
    iret

    .globl user_enter
user_enter:
    mov 4(%esp), %eax
    mov 8(%esp), %edx
    push %ebx
    push %ebp
    push %esi
    push %edi
    mov %esp, user_return
    mov %esp, tss + 4           // ESP0
    mov $USER_DATA, %ecx
    mov %ecx, %ds
    mov %ecx, %es
    push $USER_DATA
    push %edx
    pushf
    push $USER_CODE
    push %eax
    iret
    .globl user_came_back
user_came_back:
    mov $DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov user_return, %esp
    movl $0, user_return
    pop %edi
    pop %esi
    pop %ebp
    pop %ebx
    mov user_result, %eax
    ret
#endif

    .data
    .balign 8
    .globl gdt
gdt:
    flat_descriptors
#ifdef __x86_64__
    .quad 0x00affb000000ffff    // user code
#else
    .quad 0x00cffb000000ffff
#endif
    .quad 0x00cff3000000ffff    // user data
    .skip 8 * 8                 // TSS (16 bytes in 64-bit mode), and what attacks put here
gdt_end:
    .globl gdt_pointer
gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt, 0

    .bss
    .balign 4096
    .globl tables, fine_table, idt, tss, user_return, boot_cmdline
tables:      .skip 6 * 4096
fine_table:  .skip 4096
idt:         .skip 4096
tss:         .skip 256
user_return: .skip 8
boot_cmdline: .skip 8
    .balign 4096
    .globl ap_stack, ap_stack_top, stack_top
ap_stack:    .skip 8192
ap_stack_top:
    .skip 16384
stack_top:
