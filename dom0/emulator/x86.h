// SPDX-License-Identifier: Apache-2.0
//
// The bits of a guest's registers and page tables that the emulator looks at. Follows the SDM, "System
// Architecture Overview" and "Paging".
#pragma once

#include "lib/types.h"

#define RFLAGS_CF    BIT(0)
#define RFLAGS_PF    BIT(2)
#define RFLAGS_AF    BIT(4)
#define RFLAGS_ZF    BIT(6)
#define RFLAGS_SF    BIT(7)
#define RFLAGS_DF    BIT(10) // strings go down
#define RFLAGS_OF    BIT(11)
#define RFLAGS_VM    BIT(17) // virtual-8086 mode
#define RFLAGS_AC    BIT(18) // SMAP override

#define CR0_PE       BIT(0)  // protected mode
#define CR0_TS       BIT(3)  // task switched
#define CR0_WP       BIT(16) // write protection for the supervisor, too
#define CR0_PG       BIT(31) // paging
#define CR4_PSE      BIT(4)  // 4 MiB pages
#define CR4_PAE      BIT(5)  // 8-byte entries
#define CR4_SMEP     BIT(20) // the supervisor does not execute user pages
#define CR4_SMAP     BIT(21) // nor read them
#define EFER_LMA     BIT(10) // long mode
#define EFER_NXE     BIT(11) // PTE_NX means something

#define PTE_PRESENT  BIT(0)
#define PTE_WRITE    BIT(1)
#define PTE_USER     BIT(2)
#define PTE_ACCESSED BIT(5)
#define PTE_DIRTY    BIT(6)
#define PTE_LARGE    BIT(7)
#define PTE_NX       BIT(63)
#define PTE_ADDRESS  0x000ffffffffff000ull

// Of a page fault's error code; also what an access does.
#define PF_PRESENT 0x01u
#define PF_WRITE   0x02u
#define PF_USER    0x04u
#define PF_FETCH   0x10u

#define EXC_UD     6u
#define EXC_SS     12u
#define EXC_GP     13u
#define EXC_PF     14u

// Attributes of a segment, as struct basalt_segment has them.
#define SEGMENT_WRITABLE    BIT(1) // data; code: readable
#define SEGMENT_EXPAND_DOWN BIT(2) // data
#define SEGMENT_CODE        BIT(3)
#define SEGMENT_S           BIT(4) // code or data
#define SEGMENT_LONG        BIT(13)
#define SEGMENT_DB          BIT(14)
#define SEGMENT_UNUSABLE    BIT(16)
