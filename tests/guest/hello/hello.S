// SPDX-License-Identifier: Apache-2.0
//
// hello: the smallest guest that is of use to a test. One ELF file with a Multiboot 1 header, a Multiboot 2 header and a
// PVH note (Multiboot Specification 0.6.96 and 2.0; Xen documentation, "x86/HVM direct boot ABI"); all three begin in 32-bit
// protected mode without paging, at the same instruction. It says on the serial line at 0x3f8 which way it came, shows its
// command line, and then does what each word of that names, in order:
//
//     real        goes back to real mode, speaks from there, and returns           ("hello: in real mode")
//     long        goes to 64-bit mode with pages of 2 MiB, speaks, and returns     ("hello: in long mode")
//     paging      turns 32-bit paging with pages of 4 MiB on and off again         ("hello: with paging")
//     cpuid       names the hypervisor that leaf 0x40000000 names                  ("hello: hypervisor ...")
//     module      shows the first line of the first module                         ("hello: module ...")
//     msr         reads an MSR that nobody has, and lives on after its #GP         ("hello: #GP for the MSR")
//     poweroff    writes S5 to ACPI's PM1a control register, which the machine has at port 0x604
//     reset       writes to the reset register at port 0xcf9
//     triple      executes UD2 with an empty interrupt table, so that the processor shuts down; RAX is 0x0badc0de
//     spin        loops without an exit, with interrupts on
//     deaf        the same with interrupts off
//     type        shows what is typed, a line at a time, until a line is "end"
//
// After the last word it halts with interrupts off for ever. What the loader
// left below 1 MiB is copied first: the 16-bit code is put there.
// tests/system/conftest.py builds it, with hello.ld.

#include "../lib/entry.h"

#define MB1_MAGIC 0x1badb002
#define MB1_FLAGS 0x3
#define MB2_MAGIC 0xe85250d6
#define COM1      0x3f8
#define LOW_CODE  0x7000        // where the 16-bit code is copied to
#define PM1A      0x604

    pvh_note

    .section .header, "a"
    .balign 8
    .long MB1_MAGIC, MB1_FLAGS, -(MB1_MAGIC + MB1_FLAGS)
    .balign 8
multiboot2:
    .long MB2_MAGIC, 0, multiboot2_end - multiboot2, -(MB2_MAGIC + multiboot2_end - multiboot2)
    .word 0, 0                  // the end tag
    .long 8
multiboot2_end:

    .text
    .code32
    .globl start
start:
    mov $stack_top, %esp
    cld
    lgdt gdt_pointer
    ljmp $CODE32, $1f
1:  mov $DATA, %ecx
    mov %ecx, %ds
    mov %ecx, %es
    mov %ecx, %ss
    lidt idt_pointer
    sti                         // as in any kernel; nothing interrupts this one

    mov $by_multiboot1, %esi
    mov 16(%ebx), %edi          // command line
    mov 24(%ebx), %edx          // list of modules: start, end, ...
    cmp $0x2badb002, %eax
    je came
    cmp $0x36d76289, %eax
    je from_multiboot2
    mov $by_pvh, %esi
    mov 24(%ebx), %edi
    mov 16(%ebx), %edx          // list of modules: address (64 bits), bytes, ...
    cmpl $0x336ec578, (%ebx)
    je came
    mov $by_nothing, %esi
    call print
    jmp stop

// The tags of Multiboot 2: type, size, contents; 8-byte aligned. 1: command line, 3: module.
from_multiboot2:
    mov $by_multiboot2, %esi
    xor %edx, %edx
    add $8, %ebx
1:  mov (%ebx), %eax
    test %eax, %eax
    jz came
    cmp $1, %eax
    jne 2f
    lea 8(%ebx), %edi
2:  cmp $3, %eax
    jne 3f
    lea 8(%ebx), %edx           // start, end
3:  mov 4(%ebx), %eax
    lea 7(%ebx, %eax), %ebx
    and $~7, %ebx
    jmp 1b

came:
    call print
    test %edx, %edx
    jz 1f
    mov (%edx), %eax            // the first module's address; rubbish without a module
    mov %eax, first_module
1:  mov %edi, %esi
    mov $words, %edi
    mov $(words_end - words - 1), %ecx
1:  lodsb
    stosb
    test %al, %al
    loopnz 1b
    mov $command_line, %esi
    call print
    mov $words, %esi
    call print
    call newline
    movl $words, next

// Looks the next word up in the table and calls what it names.
next_word:
    mov next, %edi
1:  cmpb $' ', (%edi)
    jne 2f
    inc %edi
    jmp 1b
2:  cmpb $0, (%edi)
    je done
    mov $actions, %ebx
try:
    mov (%ebx), %esi
    test %esi, %esi
    jz unknown
    mov %edi, %edx
1:  lodsb
    test %al, %al
    jz 2f
    cmp (%edx), %al
    jne 3f
    inc %edx
    jmp 1b
2:  cmpb $' ', (%edx)
    ja 3f
    mov %edx, next
    call *4(%ebx)
    jmp next_word
3:  add $8, %ebx
    jmp try
unknown:
    mov $not_known, %esi
    call print
    jmp stop
done:
    mov $all_done, %esi
    call print
stop:
    cli
    hlt
    jmp stop

// ---- the serial line ----

// Prints the byte in AL. Keeps all registers.
put:
    push %eax
    push %edx
    mov %al, %ah
    mov $(COM1 + 5), %edx
1:  in %dx, %al
    test $0x20, %al
    jz 1b
    mov %ah, %al
    mov $COM1, %edx
    out %al, %dx
    pop %edx
    pop %eax
    ret

// Prints the text at ESI.
print:
    push %eax
    push %esi
1:  lodsb
    test %al, %al
    jz 2f
    call put
    jmp 1b
2:  pop %esi
    pop %eax
    ret

newline:
    push %esi
    mov $crlf, %esi
    call print
    pop %esi
    ret

// ---- the actions ----

paging:
    mov $tables, %edi
    mov $0x83, %eax             // present, writable, 4 MiB
1:  stosl
    add $0x400000, %eax
    cmp $(tables + 4096), %edi
    jb 1b
    turn_paging_on tables, 0x10, 0 // PSE
    mov $with_paging, %esi
    call print
    mov %cr0, %eax
    btr $31, %eax
    mov %eax, %cr0
    xor %eax, %eax
    mov %eax, %cr4
    ret

long:
    cli
    mov $tables, %edi
    mov $(6 * 4096 / 4), %ecx
    xor %eax, %eax
    rep stosl
    map_low_4g tables
    turn_paging_on tables, 0x20, 1 // PAE
    ljmp $CODE64, $in_64
    .code64
in_64:
    mov $0x123456789abcdef0, %rax
    mov %rax, %r15
    bswap %r15
    lea in_long_mode(%rip), %rsi
1:  lodsb
    test %al, %al
    jz 3f
    mov $COM1, %edx
    out %al, %dx
    jmp 1b
3:  ljmp *back_to_32(%rip)
    .code32
from_64:
    mov %cr0, %eax
    btr $31, %eax
    mov %eax, %cr0
    mov $0xc0000080, %ecx
    rdmsr
    btr $8, %eax
    wrmsr
    xor %eax, %eax
    mov %eax, %cr4
    sti
    ret

// Copies the 16-bit code below 64 KiB and goes there through a 16-bit code segment.
real:
    cli
    mov $code16, %esi
    mov $LOW_CODE, %edi
    mov $(code16_end - code16), %ecx
    rep movsb
    mov %esp, saved_esp
    lidt real_idt_pointer
    ljmp $CODE16, $LOW_CODE
from_real:
    mov $DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov saved_esp, %esp
    lidt idt_pointer
    sti
    ret

#define LOW(label) (LOW_CODE + label - code16)
    .code16
code16:
    mov $DATA16, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov %cr0, %eax
    and $~1, %eax
    mov %eax, %cr0
    ljmp $0, $LOW(in_16)
in_16:
    mov $(LOW_CODE >> 4), %ax
    mov %ax, %ds
    xor %ax, %ax
    mov %ax, %es
    mov %ax, %ss
    mov $LOW_CODE, %sp
    movw $LOW(handler16), %es:(0x60 * 4)        // an interrupt through the real-mode table
    movw $0, %es:(0x60 * 4 + 2)
    xor %bx, %bx
    int $0x60
    cmp $0x600d, %bx
    jne 2f
    mov $(in_real_mode - code16), %si
1:  lodsb
    test %al, %al
    jz 2f
    mov $COM1, %dx
    out %al, %dx
    jmp 1b
2:  xor %ax, %ax
    mov %ax, %ds
    mov %cr0, %eax
    or $1, %eax
    mov %eax, %cr0
    ljmpl $CODE32, $from_real
handler16:
    mov $0x600d, %bx
    iret
in_real_mode:
    .asciz "hello: in real mode\r\n"
code16_end:
    .code32

cpuid:
    mov $hypervisor, %esi
    call print
    mov $0x40000000, %eax
    cpuid
    mov %ebx, signature
    mov %ecx, signature + 4
    mov %edx, signature + 8
    mov $signature, %esi
    call print
    jmp newline

module:
    mov $module_text, %esi
    call print
    mov first_module, %esi
1:  lodsb
    cmp $' ', %al
    jb newline
    call put
    jmp 1b

// Vector 13 has a gate while this runs; the handler skips the instruction.
msr:
    mov $gp_handler, %eax
    mov %ax, idt + 13 * 8
    shr $16, %eax
    mov %ax, idt + 13 * 8 + 6
    movw $CODE32, idt + 13 * 8 + 2
    movw $0x8e00, idt + 13 * 8 + 4
    xor %edi, %edi
    mov $0x12345678, %ecx
    rdmsr
    movw $0, idt + 13 * 8 + 4
    cmp $13, %edi
    jne 1f
    mov $gp_for_msr, %esi
    call print
1:  ret
gp_handler:
    mov $13, %edi
    add $4, %esp                // the error code
    addl $2, (%esp)
    iret

poweroff:
    mov $PM1A, %edx
    mov $0x3400, %eax           // SLP_TYP 5, SLP_EN
    out %ax, %dx
    jmp stop

reset:
    mov $0xcf9, %edx
    mov $6, %al
    out %al, %dx
    jmp stop

triple:
    lidt no_idt_pointer
    mov $0x0badc0de, %eax
    ud2

deaf:
    cli
spin:
    jmp spin

// Input is polled: a guest that is asked to echo is busy until it has the line.
type:
    mov $ready, %esi
    call print
    xor %ecx, %ecx
1:  mov $(COM1 + 5), %edx
    in %dx, %al
    test $1, %al
    jz 1b
    mov $COM1, %edx
    in %dx, %al
    call put
    cmp $'\r', %al
    je 2f
    shl $8, %ecx
    mov %al, %cl
    jmp 1b
2:  call newline
    and $0xffffff, %ecx
    cmp $0x656e64, %ecx         // "end"
    jne type
    ret

// ---- data ----

    .section .rodata
by_multiboot1: .asciz "hello: by Multiboot 1\r\n"
by_multiboot2: .asciz "hello: by Multiboot 2\r\n"
by_pvh:        .asciz "hello: by PVH\r\n"
by_nothing:    .asciz "hello: by no protocol that is known here\r\n"
command_line:  .asciz "hello: command line: "
not_known:     .asciz "hello: a word is not known\r\n"
all_done:      .asciz "hello: done\r\n"
with_paging:   .asciz "hello: with paging\r\n"
in_long_mode:  .asciz "hello: in long mode\r\n"
hypervisor:    .asciz "hello: hypervisor "
module_text:   .asciz "hello: module "
gp_for_msr:    .asciz "hello: #GP for the MSR\r\n"
ready:         .asciz "hello: type\r\n"
crlf:          .asciz "\r\n"
    .irp name, real, long, paging, cpuid, module, msr, poweroff, reset, triple, spin, deaf, type
word_\name:    .asciz "\name"
    .endr
    .balign 4
actions:
    .irp name, real, long, paging, cpuid, module, msr, poweroff, reset, triple, spin, deaf, type
    .long word_\name, \name
    .endr
    .long 0
back_to_32:
    .long from_64
    .word CODE32

    .data
    .balign 8
gdt:
    flat_descriptors
gdt_pointer:
    .word . - gdt - 1
    .long gdt
idt_pointer:
    .word 32 * 8 - 1
    .long idt
no_idt_pointer:
    .word 0
    .long 0
real_idt_pointer:
    .word 0x3ff
    .long 0

    .bss
    .balign 8
idt:       .skip 32 * 8
signature: .skip 16
next:      .skip 4
first_module: .skip 4
saved_esp: .skip 4
words:     .skip 512
words_end: .skip 4
    .balign 4096
tables:    .skip 6 * 4096
    .skip 4096
stack_top:
