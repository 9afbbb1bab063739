// SPDX-License-Identifier: Apache-2.0
//
// How every guest of these tests begins: the PVH note (Xen documentation, "x86/HVM direct boot ABI"), flat descriptors, and
// page tables that map the low 4 GiB one to one. Macros for the assembler, and the selectors for both languages.

#pragma once

#define CODE32 0x08
#define DATA   0x10
#define CODE16 0x18
#define DATA16 0x20
#define CODE64 0x28

#ifdef __ASSEMBLER__

// The entry is `start`, in 32-bit protected mode without paging; EBX: struct hvm_start_info.
.macro pvh_note
    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 4, 18              // XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long start
.endm

// A GDT's first entries, as the selectors above have them.
.macro flat_descriptors
    .quad 0
    .quad 0x00cf9b000000ffff    // CODE32
    .quad 0x00cf93000000ffff    // DATA
    .quad 0x00009b000000ffff    // CODE16
    .quad 0x000093000000ffff    // DATA16
    .quad 0x00af9b000000ffff    // CODE64
.endm

// Four levels, in six pages of zeros: 2048 pages of 2 MiB, for all.
.macro map_low_4g tables
    movl $(\tables + 0x1007), \tables
    mov $(\tables + 0x2007), %eax
    mov $(\tables + 0x1000), %edi
1:  mov %eax, (%edi)
    add $0x1000, %eax
    add $8, %edi
    cmp $(\tables + 0x1020), %edi
    jne 1b
    mov $(\tables + 0x2000), %edi
    mov $0x83, %eax             // present, writable, 2 MiB
1:  mov %eax, (%edi)
    add $8, %edi
    add $0x200000, %eax
    jnc 1b
.endm

// Paging with these tables; with \long = 1 what is jumped to next may be 64-bit code.
.macro turn_paging_on tables, cr4, long
    mov %cr4, %eax
    or $\cr4, %eax
    mov %eax, %cr4
    mov $\tables, %eax
    mov %eax, %cr3
.if \long
    mov $0xc0000080, %ecx       // EFER.LME
    rdmsr
    or $0x100, %eax
    wrmsr
.endif
    mov %cr0, %eax
    or $0x80000001, %eax
    mov %eax, %cr0
.endm

#endif
