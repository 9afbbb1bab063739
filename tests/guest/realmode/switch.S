// SPDX-License-Identifier: Apache-2.0
//
// The way of 32-bit code into real-address mode and back (see realmode.c), in a page at REAL_PAGE, and the way into
// virtual-8086 mode. What runs there ends with any interrupt: 256 stubs tell which. Nothing of this needs a second processor.

#include "../lib/guest.h"
#include "realmode.h"

#ifndef __x86_64__
    .text
    .code32
    .globl real_enter
real_enter:                     // void real_enter(void)
    pusha
    mov %cr0, %eax
    mov %eax, saved_cr0
    sidt saved_idt
    mov %esp, saved_esp
    lidt REAL_STATE + STATE_IDT
    ljmp $CODE16, $REAL_PAGE

    .globl real_code, real_code_end
    .code16
real_code:
    mov $DATA16, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov %ax, %fs
    mov $DATA, %ax              // its limit of 4 GiB stays in real mode
    mov %ax, %gs
    mov %cr0, %eax
    and $0x7fffffff, %eax
    mov %eax, %cr0
    and $0xfffffffe, %eax
    mov %eax, %cr0
    ljmp $0, $(REAL_PAGE + 1f - real_code)
1:  xor %ax, %ax
    mov %ax, %ds
    mov %ax, %fs
    mov $REAL_STACK, %ax
    mov %ax, %ss
    mov $0xfff0, %esp
    pushw REAL_STATE + STATE_FLAGS
    pushw $REAL_CODE
    pushw REAL_STATE + STATE_IP
    mov REAL_STATE + 0, %eax
    mov REAL_STATE + 4, %ecx
    mov REAL_STATE + 8, %edx
    mov REAL_STATE + 12, %ebx
    mov REAL_STATE + 16, %ebp
    mov REAL_STATE + 20, %esi
    mov REAL_STATE + 24, %edi
    mov REAL_STATE + STATE_ES, %es
    mov REAL_STATE + STATE_DS, %ds
    iret

    .set vector, 0
    .balign 16
    .globl real_stubs
real_stubs:
    .rept 256
    call ended                  // three bytes each; where it would return to is the vector
    .endr
ended:
    mov %eax, %cs:REAL_STATE + 0
    pop %ax
    mov %ax, %cs:REAL_STATE + STATE_VECTOR
    popw %cs:REAL_STATE + STATE_IP
    popw %cs:REAL_STATE + STATE_CS
    mov %ecx, %cs:REAL_STATE + 4
    mov %edx, %cs:REAL_STATE + 8
    mov %ebx, %cs:REAL_STATE + 12
    mov %ebp, %cs:REAL_STATE + 16
    mov %esi, %cs:REAL_STATE + 20
    mov %edi, %cs:REAL_STATE + 24
    xor %ax, %ax
    mov %ax, %ds
    lgdtl REAL_STATE + STATE_GDT
    mov %cr0, %eax
    or $1, %eax
    mov %eax, %cr0
    ljmpl $CODE32, $real_back
real_code_end:

    .code32
real_back:
    mov $DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov %eax, %fs
    mov %eax, %gs
    mov saved_esp, %esp
    mov saved_cr0, %eax
    mov %eax, %cr0
    lidt saved_idt
    popa
    ret

// unsigned v86_enter(segment): runs the code at the segment's start, with its stack at its end, until it faults; returns
// what user_enter() does.
    .globl v86_enter
v86_enter:
    mov 4(%esp), %eax
    push %ebx
    push %ebp
    push %esi
    push %edi
    mov %esp, user_return
    mov %esp, tss + 4
    push %eax                   // GS, FS, DS, ES
    push %eax
    push %eax
    push %eax
    push %eax
    push $0xfff0
    push $0x20002               // VM
    push %eax
    push $0
    iret

    .bss
    .balign 8
saved_idt: .skip 8
saved_cr0: .skip 4
saved_esp: .skip 4
#endif
