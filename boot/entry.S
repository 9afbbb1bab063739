// SPDX-License-Identifier: Apache-2.0
//
// The first instructions. The boot loader enters in 32-bit protected mode with paging off; this
// code checks that the processor can do what the kernel is built for, and calls kernel_main() in
// 64-bit mode, with the low 4 GiB mapped at 0, in the pool window and below the kernel's image. Data segments stay the loader's
// until cpu_init(); 64-bit mode makes no use of them. Follows the Multiboot2 specification, "OS image format" and "Machine
// state", and the SDM, "Initializing IA-32e Mode".

#define COM1 0x3f8

    .section .multiboot2, "a"
    .balign 8
header:
    .long 0xe85250d6, 0, header_end - header, -(0xe85250d6 + (header_end - header))
    .balign 8
request:                        // of information: modules, memory map
    .short 1, 0
    .long request_end - request, 3, 6
request_end:
    .balign 8
    .short 6, 0                 // modules on page boundaries
    .long 8
    .balign 8
    .short 0, 0                 // end
    .long 8
header_end:

    .section .boot.text, "ax"
    .code32
    .globl _start
_start:
    cli
    cld
    movl %eax, %edi             // first argument of kernel_main
    movl %ebx, %ebp             // second one

    movl $no_long_mode, %esi
    movl $0x80000000, %eax
    cpuid
    cmpl $0x80000001, %eax
    jb refuse
    movl $0x80000001, %eax
    cpuid
    btl $29, %edx            // LM
    jnc refuse
    movl $no_nx, %esi
    btl $20, %edx            // NX
    jnc refuse

    movl %cr4, %eax
    orl $0x20, %eax             // PAE
    movl %eax, %cr4
    movl $boot_pml4, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x900, %eax            // EFER: LME, NXE
    wrmsr
    movl %cr0, %eax
    orl $0x80010001, %eax       // PG, WP, PE
    movl %eax, %cr0
    lgdt boot_gdtr
    ljmp $8, $start64

    // Says why on the serial port and the screen, and stops. ESI: text.
refuse:
    movl $0xb8000, %ebx
    movw $COM1 + 3, %dx
    movb $3, %al                // 8 bits, no parity
    outb %al, %dx
1:  lodsb
    testb %al, %al
    jz 3f
    movb %al, (%ebx)
    movb $7, 1(%ebx)
    addl $2, %ebx
    movb %al, %ah
    movl $100000, %ecx
    movw $COM1 + 5, %dx
2:  inb %dx, %al
    testb $0x20, %al            // transmitter empty
    loopz 2b
    movb %ah, %al
    movw $COM1, %dx
    outb %al, %dx
    jmp 1b
3:  hlt
    jmp 3b

    .code64
start64:
    movq $boot_stack_top, %rsp
    movl %ebp, %esi
    xorl %ebp, %ebp             // backtraces end here
    movq $kernel_main, %rax
    call *%rax

    .section .boot.rodata, "a"
no_long_mode: .asciz "basalt: refused: this processor has no 64-bit mode. Basalt needs an x86-64 processor.\r\n"
no_nx: .asciz "basalt: refused: no-execute pages are missing. Turn `Execute Disable`/`NX` on in the firmware setup.\r\n"
    .balign 8
boot_gdt:
    .quad 0, 0x00af9b000000ffff
boot_gdtr:
    .short 15
    .long boot_gdt

    // The low 4 GiB in pages of 2 MiB: present, writable, large.
    .section .boot.data, "aw"
    .balign 4096
    .globl boot_pml4
boot_pml4:
    .quad boot_pdpt + 3         // identity
    .fill 255, 8, 0
    .quad boot_pdpt + 3         // pool window
    .fill 254, 8, 0
    .quad boot_pdpt + 3         // image
boot_pdpt:
    .quad boot_pd + 3, boot_pd + 0x1003, boot_pd + 0x2003, boot_pd + 0x3003
    .fill 506, 8, 0
    .quad boot_pd + 3, boot_pd + 0x1003 // below the image
boot_pd:
    .set page, 0x83
    .rept 2048
    .quad page
    .set page, page + 0x200000
    .endr

    .section .bss.boot_stack, "aw", @nobits
    .balign 4096
    .skip 16384
boot_stack_top:

    .section .note.GNU-stack, "", @progbits
