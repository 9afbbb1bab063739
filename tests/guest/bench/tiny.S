// SPDX-License-Identifier: Apache-2.0
//
// The smallest guest: it fits into 1 MiB of memory and switches itself off at its first instructions. It begins as
// start.S says. It is linked at 64 KiB.

#include "../lib/entry.h"

    pvh_note

    .text
    .code32
    .globl start
start:
    mov $0x604, %edx            // ACPI's PM1a control
    mov $0x3400, %eax           // SLP_TYP 5, SLP_EN
    out %ax, %dx
1:  hlt
    jmp 1b
    .section .note.GNU-stack, "", @progbits
