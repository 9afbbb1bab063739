// SPDX-License-Identifier: Apache-2.0
//
// The bench guest's entry: by PVH, in 32-bit protected mode without paging (Xen documentation, "x86/HVM direct boot
// ABI"). Built with -m32 it stays there; built with -m64 it goes to 64-bit mode with four-level paging, 2 MiB pages that
// map the low 4 GiB at their own addresses. Then it calls bench_main() with the command line (bench.c).

#define CODE32 0x08
#define DATA32 0x10
#define CODE64 0x18

    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 4, 18              // XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long start

    .text
    .code32
    .globl start
start:
    mov $stack_top, %esp
    cld
    mov 24(%ebx), %ebp          // struct hvm_start_info: the command line's address
    lgdt gdt_pointer
    ljmp $CODE32, $1f
1:  mov $DATA32, %ecx
    mov %ecx, %ds
    mov %ecx, %es
    mov %ecx, %ss
    lidt idt_pointer

#ifdef __x86_64__
    mov $directories, %edi      // 2048 pages of 2 MiB: present, writable, large
    mov $0x83, %eax
2:  mov %eax, (%edi)
    add $8, %edi
    add $0x200000, %eax
    jnc 2b
    movl $(pointers + 3), top
    movl $(directories + 0x0003), pointers
    movl $(directories + 0x1003), pointers + 8
    movl $(directories + 0x2003), pointers + 16
    movl $(directories + 0x3003), pointers + 24
    mov $0x20, %eax             // PAE
    mov %eax, %cr4
    mov $top, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx       // EFER: LME
    rdmsr
    bts $8, %eax
    wrmsr
    mov %cr0, %eax
    bts $31, %eax
    mov %eax, %cr0
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
    .quad 0
    .quad 0x00cf9b000000ffff    // CODE32
    .quad 0x00cf93000000ffff    // DATA32
    .quad 0x00af9b000000ffff    // CODE64
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
top: .skip 4096
pointers: .skip 4096
directories: .skip 4 * 4096
#endif
    .skip 16384
    .balign 16
stack_top:
    .section .note.GNU-stack, "", @progbits
