// SPDX-License-Identifier: Apache-2.0
//
// The bench guest's entry: by PVH, in 32-bit protected mode without paging (Xen documentation, "x86/HVM direct boot
// ABI"). Built with -m32 it stays there; built with -m64 it goes to 64-bit mode with four-level paging, 2 MiB pages that
// map the low 4 GiB at their own addresses. Then it calls bench_main() with the command line (bench.c).

#include "../lib/entry.h"

    pvh_note

    .text
    .code32
    .globl start
start:
    mov $stack_top, %esp
    cld
    mov 24(%ebx), %ebp          // struct hvm_start_info: the command line's address
    lgdt gdt_pointer
    ljmp $CODE32, $1f
1:  mov $DATA, %ecx
    mov %ecx, %ds
    mov %ecx, %es
    mov %ecx, %ss
    lidt idt_pointer

#ifdef __x86_64__
    map_low_4g tables
    turn_paging_on tables, 0x20, 1 // PAE
    ljmp $CODE64, $in_64
    .code64
in_64:
    mov %ebp, %edi
    call bench_main
#else
    push %ebp
    call bench_main
#endif
1:  cli
    hlt
    jmp 1b

// What is measured with the guest halted ends here: the first instruction of the handler takes the time.
    .globl interrupted
interrupted:
    rdtsc
    mov %eax, interrupt_tsc
    cmpl $0, 0x8018             // bench.c: events->mark
    je 1f
    xchg %bx, %bx
1:
#ifdef __x86_64__
    iretq
#else
    iret
#endif

    .data
    .balign 8
gdt:
    flat_descriptors
gdt_pointer:
    .word . - gdt - 1
    .long gdt
idt_pointer:
    .word 256 * 16 - 1
    .long idt, 0

    .bss
    .balign 4096
    .globl idt, interrupt_tsc
idt: .skip 256 * 16
interrupt_tsc: .skip 4
#ifdef __x86_64__
    .balign 4096
tables: .skip 6 * 4096
#endif
    .skip 16384
    .balign 16
stack_top:
    .section .note.GNU-stack, "", @progbits
