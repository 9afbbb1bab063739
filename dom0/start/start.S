// SPDX-License-Identifier: Apache-2.0
//
// dom0's first instructions, entered as <basalt/boot_info.h> says: 32-bit protected mode, paging
// off, at the start of an image that is linked for the top 2 GiB and loaded anywhere below 4 GiB.
// Builds the simplest tables that reach both (first 4 GiB one to one, the image's first 32 MiB at
// its link address, all writable and executable), enters long mode with SSE on and goes to C, where
// lib/paging.c takes the excess permissions away again before anything else runs.

// Offset of a symbol in the image: link addresses count from -2 GiB.
#define OFFSET(symbol) (symbol + 0x80000000)

#define P_RW   0x3      // present, writable
#define P_RW_2M 0x83    // the same, 2 MiB page
#define CR0_PE_MP_NE_WP_PG 0x80010023
#define CR4_PAE_OSFXSR_OSXMMEXCPT 0x620
#define EFER 0xc0000080
#define EFER_LME_NXE 0x900
#define BOOT_INFO_CALL_INSN 12 // offset of call_insn
#define STACK_BYTES 0x20000

    .section .start, "ax"
    .code32
    .globl _start
_start:                                   // EAX magic, EBX boot information, EDX load address
    cld
    cli
    lea     OFFSET(stack_top)(%edx), %esp
    cmp     $0xba5a1700, %eax             // BASALT_BOOT_MAGIC
    jne     refuse

    // The hypercall instruction of this processor: VMMCALL is 0f 01 d9. Done before the page is
    // read-only.
    cmpl    $1, BOOT_INFO_CALL_INSN(%ebx)
    jne     1f
    movb    $0xd9, OFFSET(hypercall_insn) + 2(%edx)
1:
    // Identity: four page directories of 2 MiB pages; their pointers in the lower PDPT.
    lea     OFFSET(boot_pd)(%edx), %edi
    mov     $P_RW_2M, %eax
    mov     $(4 * 512), %ecx
2:  mov     %eax, (%edi)
    add     $0x200000, %eax
    add     $8, %edi
    loop    2b
    lea     OFFSET(boot_pd) + P_RW(%edx), %eax
    lea     OFFSET(identity_pdpt)(%edx), %edi
    mov     $4, %ecx
3:  mov     %eax, (%edi)
    add     $4096, %eax
    add     $8, %edi
    loop    3b

    // The image at -2 GiB: sixteen 2 MiB pages from the load address.
    lea     P_RW_2M(%edx), %eax
    lea     OFFSET(image_pd)(%edx), %edi
    mov     $16, %ecx
4:  mov     %eax, (%edi)
    add     $0x200000, %eax
    add     $8, %edi
    loop    4b
    lea     OFFSET(image_pd) + P_RW(%edx), %eax
    mov     %eax, OFFSET(image_pdpt) + 510 * 8(%edx)
    lea     OFFSET(identity_pdpt) + P_RW(%edx), %eax
    mov     %eax, OFFSET(pml4)(%edx)
    lea     OFFSET(image_pdpt) + P_RW(%edx), %eax
    mov     %eax, OFFSET(pml4) + 511 * 8(%edx)

    mov     %edx, %esi                    // WRMSR takes EDX
    lea     OFFSET(pml4)(%esi), %eax
    mov     %eax, %cr3
    mov     $CR4_PAE_OSFXSR_OSXMMEXCPT, %eax
    mov     %eax, %cr4
    mov     $EFER, %ecx
    rdmsr
    or      $EFER_LME_NXE, %eax
    wrmsr
    mov     $CR0_PE_MP_NE_WP_PG, %eax
    mov     %eax, %cr0

    lea     OFFSET(boot_gdt)(%esi), %eax
    push    %eax
    pushw   $(boot_gdt_end - boot_gdt - 1)
    lgdt    (%esp)
    lea     OFFSET(long_mode)(%esi), %eax
    pushl   $8
    push    %eax
    lret

refuse:                                   // not started by Basalt: there is no one to tell
    hlt
    jmp     refuse

    .code64
long_mode:                                // still at the load address
    movabs  $high_half, %rax
    jmp     *%rax
high_half:
    mov     $16, %eax
    mov     %eax, %ds
    mov     %eax, %es
    mov     %eax, %ss
    xor     %eax, %eax
    mov     %eax, %fs
    mov     %eax, %gs
    mov     $stack_top, %rsp
    xor     %ebp, %ebp
    fninit
    mov     %ebx, %edi                    // dom0_entry(boot_info, load_address)
    mov     %esi, %esi
    call    dom0_entry
    ud2

    // Called by lib/hypercall.h with everything in its registers.
    .balign 16
    .globl hypercall_insn
hypercall_insn:
    vmcall
    ret

    .balign 8
boot_gdt:
    .quad 0
    .quad 0x00209b0000000000              // 8: 64-bit code
    .quad 0x0000930000000000              // 16: data
boot_gdt_end:

    .section .bss.page_aligned, "aw", @nobits
    .balign 4096
    .globl pml4, identity_pdpt, image_pdpt, image_pd, boot_pd, stack_guard, stack_top
pml4:          .skip 4096
identity_pdpt: .skip 4096
image_pdpt:    .skip 4096
image_pd:      .skip 4096
boot_pd:       .skip 4 * 4096
stack_guard:   .skip 4096                 // unmapped by lib/paging.c
               .skip STACK_BYTES
stack_top:

    .section .note.GNU-stack, "", @progbits
