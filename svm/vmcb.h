// SPDX-License-Identifier: Apache-2.0
//
// The virtual machine control block as the processor reads and writes it, and the constants of its
// fields, grouped by the field that they belong to. Invariant: layout and values are the
// processor's, checked by size and offset; the one exception is `host`, 32 bytes that the
// architecture leaves to the hypervisor. Follows the APM, "Layout of VMCB" and "VMCB State Save
// Area".
#pragma once

#include "arch/types.h"

struct vmcb_segment {
    u16 selector;
    u16 attributes; // type 3:0, S 4, DPL 6:5, P 7, AVL 8, L 9, D/B 10, G 11
    u32 limit;      // bytes, whatever G says
    u64 base;
};
SIZE_ASSERT(struct vmcb_segment, 16);

enum nmi_state {
    NMI_OPEN,    // an NMI may be delivered
    NMI_BLOCKED, // the guest is in its NMI handler; its IRET is intercepted
    NMI_IRET,    // that IRET was seen, but not yet that it was executed
};

struct vmcb {
    // Control area.
    u32 intercepts[6]; // one bit per exit code: bit n % 32 of word n / 32 for code n
    u8 reserved018[0x24];
    u16 pause_threshold; // TSC ticks between two PAUSEs that make a new loop of them
    u16 pause_count;     // PAUSEs of one loop until the exit
    u64 iopm;            // physical address of the 12 KiB I/O permission bitmap
    u64 msrpm;           // physical address of the 8 KiB MSR permission bitmap
    u64 tsc_offset;
    u32 asid;
    u8 tlb_control; // TLB_CONTROL_*
    u8 reserved05d[3];
    u32 int_control; // V_*
    u32 int_vector;  // virtual interrupt's vector, 7:0
    u64 int_state;   // INT_STATE_*
    u64 exit_code;   // EXIT_*
    u64 exit_info1;
    u64 exit_info2;
    u64 exit_int_info;  // EVENT_*: the event whose delivery the exit interrupted
    u64 nested_control; // NESTED_*
    u8 reserved098[0x10];
    u64 event_inject; // EVENT_*
    u64 nested_cr3;   // root of the nested tables
    u64 lbr_control;  // 0: no LBR virtualization, no virtualized VMLOAD and VMSAVE
    u32 clean;        // VMCB_CLEAN_*
    u32 reserved0c4;
    u64 next_rip; // with NRIP save; 0: not known
    u8 fetched;   // with decode assists: bytes of `instruction` that are valid
    u8 instruction[15];
    u8 reserved0e0[0x320];

    // State save area.
    union {
        struct {
            struct vmcb_segment es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr;
        };
        struct vmcb_segment segments[10];
    };
    u8 reserved4a0[0x2b];
    u8 cpl;
    u32 reserved4cc;
    u64 efer;
    u8 reserved4d8[0x70];
    u64 cr4, cr3, cr0, dr7, dr6;
    u64 rflags, rip;
    u8 reserved580[0x58];
    u64 rsp;
    u8 reserved5e0[0x18];
    u64 rax;
    u64 star, lstar, cstar, sfmask, kernel_gs_base;
    u64 sysenter_cs, sysenter_esp, sysenter_eip;
    u64 cr2;
    u8 reserved648[0x20];
    u64 pat;      // the guest's PAT, in use with nested paging
    u64 debugctl; // loaded only with LBR virtualization
    u8 reserved678[0x988];
};
SIZE_ASSERT(struct vmcb, 4096);
#define VMCB_AT(field, offset) \
    _Static_assert(offsetof(struct vmcb, field) == (offset), #field " has a fixed place")
VMCB_AT(event_inject, 0x0a8);
VMCB_AT(cr4, 0x548);
VMCB_AT(rip, 0x578); // enter.S has these too
VMCB_AT(rflags, 0x570);
VMCB_AT(rsp, 0x5d8);
VMCB_AT(rax, 0x5f8);
VMCB_AT(pat, 0x668);

#define MSRPM_BYTES 0x2000u // MSR bitmap: two bits per MSR, 1 = exit

// tlb_control
#define TLB_CONTROL_NOTHING    0 // keep everything
#define TLB_CONTROL_FLUSH_ALL  1 // every entry of every ASID
#define TLB_CONTROL_FLUSH_ASID 3 // this ASID's entries; needs flush-by-ASID

// int_control
#define V_IRQ          (1u << 8) // a virtual interrupt is pending
#define V_PRIORITY     (15u << 16)
#define V_IGNORE_TPR   (1u << 20)
#define V_INTR_MASKING (1u << 24) // the guest's IF does not mask physical interrupts

// int_state
#define INT_STATE_SHADOW 1ull // behind STI or MOV SS

// nested_control
#define NESTED_PAGING 1ull

// exit_int_info and event_inject: the error code above what guest/backend.h has
#define EVENT_ERROR_SHIFT 32

// clean: the processor may use its cached copy of ...
#define VMCB_CLEAN_INTERCEPTS (1u << 0) // intercepts, TSC offset, PAUSE filter
#define VMCB_CLEAN_ASID       (1u << 2)
#define VMCB_CLEAN_TPR        (1u << 3) // int_control, int_vector
#define VMCB_CLEAN_NESTED     (1u << 4) // nested_control, nested_cr3, PAT
#define VMCB_CLEAN_CR         (1u << 5) // CR0, CR3, CR4, EFER
#define VMCB_CLEAN_DR         (1u << 6) // DR6, DR7
#define VMCB_CLEAN_TABLES     (1u << 7) // GDTR, IDTR
#define VMCB_CLEAN_SEGMENTS   (1u << 8) // CS, DS, ES, SS, CPL
#define VMCB_CLEAN_CR2        (1u << 9)
#define VMCB_CLEAN_KNOWN      0x3ffu
#define VMCB_TOLD             (1u << 31) // in cpu_state.dirty only: the last entry was told of changes

// exit_code: those that the code asks for; svm/exit.c lists all
#define EXIT_CR_READ      0x00u // + number
#define EXIT_CR_WRITE     0x10u
#define EXIT_DR_READ      0x20u
#define EXIT_EXCEPTION    0x40u // + vector
#define EXIT_VINTR        0x64u // the guest could take the virtual interrupt
#define EXIT_CR0_SELECT   0x65u // a write of CR0 that changes more than TS and MP
#define EXIT_IRET         0x74u
#define EXIT_PAUSE        0x77u
#define EXIT_VMRUN        0x80u
#define EXIT_ICEBP        0x88u
#define EXIT_NESTED_FAULT 0x400u
#define EXIT_INVALID      0xffffffffu // the control block breaks a rule

// exit_info1 of EXIT_CR_*, with decode assists
#define CR_INFO_MOV BIT(63) // by MOV: the general register is in bits 3:0

// exit_info1 of EXIT_NESTED_FAULT; exit_info2 is the guest-physical address
#define FAULT_INFO_WRITE BIT(1)
#define FAULT_INFO_FETCH BIT(4)
#define FAULT_INFO_WALK  BIT(33) // in the guest's own page tables
