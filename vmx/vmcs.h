// SPDX-License-Identifier: Apache-2.0
//
// The virtual-machine control structure: field encodings, one enum per width, control bits one per line, and typed
// accessors, so that a value can't be written to a field of another width unnoticed. Follows the SDM chapter
// "Virtual Machine Control Structures" and the appendix "Field Encoding in VMCS". Only the fields in use are listed.

#pragma once

#include "arch/types.h"
#include "vmx/access.h"

enum vmcs16 {
    VPID = 0x0000,
    GUEST_INTERRUPT_STATUS = 0x0810, // RVI in bits 7:0, SVI in 15:8
};

enum vmcs64 {
    IO_BITMAP_A = 0x2000,
    IO_BITMAP_B = 0x2002,
    MSR_BITMAP = 0x2004,
    TSC_OFFSET = 0x2010,
    VIRTUAL_APIC_ADDRESS = 0x2012,
    EPT_POINTER = 0x201a,
    ENCLS_EXITING_BITMAP = 0x202e,
    GUEST_PHYSICAL_ADDRESS = 0x2400,
    VMCS_LINK_POINTER = 0x2800,
    GUEST_DEBUGCTL = 0x2802,
    GUEST_PAT = 0x2804,
    GUEST_EFER = 0x2806,
    HOST_PAT = 0x2c00,
    HOST_EFER = 0x2c02,
};

enum vmcs32 {
    PIN_CONTROLS = 0x4000,
    PRIMARY_CONTROLS = 0x4002,
    EXCEPTION_BITMAP = 0x4004,
    PAGE_FAULT_MASK = 0x4006,
    PAGE_FAULT_MATCH = 0x4008,
    CR3_TARGET_COUNT = 0x400a,
    EXIT_CONTROLS = 0x400c,
    EXIT_MSR_STORE_COUNT = 0x400e,
    EXIT_MSR_LOAD_COUNT = 0x4010,
    ENTRY_CONTROLS = 0x4012,
    ENTRY_MSR_LOAD_COUNT = 0x4014,
    ENTRY_EVENT = 0x4016,
    ENTRY_ERROR_CODE = 0x4018,
    ENTRY_INSN_LENGTH = 0x401a,
    TPR_THRESHOLD = 0x401c,
    SECONDARY_CONTROLS = 0x401e,
    PLE_GAP = 0x4020,
    PLE_WINDOW = 0x4022,
    INSTRUCTION_ERROR = 0x4400,
    EXIT_REASON = 0x4402,
    EXIT_EVENT = 0x4404,
    EXIT_ERROR_CODE = 0x4406,
    VECTORING_EVENT = 0x4408,
    VECTORING_ERROR_CODE = 0x440a,
    EXIT_INSN_LENGTH = 0x440c,
    GUEST_INTERRUPTIBILITY = 0x4824,
    GUEST_ACTIVITY = 0x4826,
    GUEST_SYSENTER_CS = 0x482a,
    PREEMPTION_TIMER = 0x482e,
    HOST_SYSENTER_CS = 0x4c00,
};

enum vmcsnat {
    CR0_MASK = 0x6000,
    CR4_MASK = 0x6002,
    CR0_SHADOW = 0x6004,
    CR4_SHADOW = 0x6006,
    EXIT_QUALIFICATION = 0x6400,
    GUEST_CR0 = 0x6800,
    GUEST_CR3 = 0x6802,
    GUEST_CR4 = 0x6804,
    GUEST_DR7 = 0x681a,
    GUEST_RSP = 0x681c,
    GUEST_RIP = 0x681e,
    GUEST_RFLAGS = 0x6820,
    GUEST_PENDING_DEBUG = 0x6822,
    GUEST_SYSENTER_ESP = 0x6824,
    GUEST_SYSENTER_EIP = 0x6826,
    HOST_CR0 = 0x6c00,
    HOST_CR3 = 0x6c02,
    HOST_CR4 = 0x6c04,
    HOST_FS_BASE = 0x6c06,
    HOST_GS_BASE = 0x6c08,
    HOST_TR_BASE = 0x6c0a,
    HOST_GDTR_BASE = 0x6c0c,
    HOST_IDTR_BASE = 0x6c0e,
    HOST_SYSENTER_ESP = 0x6c10,
    HOST_SYSENTER_EIP = 0x6c12,
    HOST_RSP = 0x6c14,
    HOST_RIP = 0x6c16,
};

// Encodings: all are below the first, and have what they belong to in these bits
#define VMCS_FIELDS    0x8000u
#define VMCS_TYPE      0x0c00u
#define VMCS_TYPE_HOST 0x0c00u

// Fields of segment register i (enum basalt_segment_index) and of PDPTE i
#define GUEST_SELECTOR(i)   ((enum vmcs16)(0x0800 + 2 * (i)))
#define HOST_SELECTOR(i)    ((enum vmcs16)(0x0c00 + 2 * (i))) // TR's is the seventh
#define GUEST_LIMIT(i)      ((enum vmcs32)(0x4800 + 2 * (i)))
#define GUEST_ATTRIBUTES(i) ((enum vmcs32)(0x4814 + 2 * (i)))
#define GUEST_BASE(i)       ((enum vmcsnat)(0x6806 + 2 * (i)))
#define GUEST_PDPTE(i)      ((enum vmcs64)(0x280a + 2 * (i)))
#define EOI_EXIT_BITMAP(i)  ((enum vmcs64)(0x201c + 2 * (i))) // of vectors 64 * i and up

// Pin-based controls
#define PIN_EXTERNAL_INTERRUPT 0x00000001u // exit on an external interrupt
#define PIN_NMI                0x00000008u // exit on an NMI
#define PIN_VIRTUAL_NMI        0x00000020u // "blocking by NMI" is the guest's own
#define PIN_PREEMPTION_TIMER   0x00000040u // count down in the guest, exit at 0

// Primary processor-based controls
#define PRIMARY_IRQ_WINDOW  0x00000004u // exit when an interrupt could be delivered
#define PRIMARY_TSC_OFFSET  0x00000008u // add TSC_OFFSET to what the guest reads
#define PRIMARY_HLT         0x00000080u // exit on HLT
#define PRIMARY_INVLPG      0x00000200u // exit on INVLPG
#define PRIMARY_MWAIT       0x00000400u // exit on MWAIT
#define PRIMARY_RDPMC       0x00000800u // exit on RDPMC
#define PRIMARY_RDTSC       0x00001000u // exit on RDTSC
#define PRIMARY_CR3_LOAD    0x00008000u // exit on MOV to CR3
#define PRIMARY_CR3_STORE   0x00010000u // exit on MOV from CR3
#define PRIMARY_CR8_LOAD    0x00080000u // exit on MOV to CR8
#define PRIMARY_CR8_STORE   0x00100000u // exit on MOV from CR8
#define PRIMARY_TPR_SHADOW  0x00200000u // CR8 is in the virtual-APIC page
#define PRIMARY_NMI_WINDOW  0x00400000u // exit when an NMI could be delivered
#define PRIMARY_DR          0x00800000u // exit on MOV DR
#define PRIMARY_IO_BITMAPS  0x02000000u // exit on ports whose bit is set
#define PRIMARY_MSR_BITMAPS 0x10000000u // exit on MSRs whose bit is set
#define PRIMARY_MONITOR     0x20000000u // exit on MONITOR
#define PRIMARY_PAUSE       0x40000000u // exit on every PAUSE
#define PRIMARY_SECONDARY   0x80000000u // the secondary controls count

// Secondary processor-based controls
#define SECONDARY_EPT            0x00000002u // second-level address translation
#define SECONDARY_X2APIC         0x00000010u // the x2APIC's MSRs are in the virtual-APIC page
#define SECONDARY_VPID           0x00000020u // cached translations are tagged
#define SECONDARY_WBINVD         0x00000040u // exit on WBINVD
#define SECONDARY_UNRESTRICTED   0x00000080u // real mode, protected mode without paging
#define SECONDARY_APIC_REGISTERS 0x00000100u // virtualize reads of APIC registers
#define SECONDARY_VIRTUAL_IRQ    0x00000200u // evaluate and deliver virtual interrupts
#define SECONDARY_PLE            0x00000400u // exit on a loop of PAUSEs in CPL 0
#define SECONDARY_INVPCID        0x00001000u // INVPCID is not #UD
#define SECONDARY_ENCLS          0x00008000u // exit on ENCLS as its bitmap says

// VM-exit controls
#define EXIT_SAVE_DEBUG    0x00000004u // save DR7 and DEBUGCTL
#define EXIT_HOST_64       0x00000200u // the host is in 64-bit mode
#define EXIT_ACK_INTERRUPT 0x00008000u // acknowledge the interrupt, report its vector
#define EXIT_SAVE_PAT      0x00040000u
#define EXIT_LOAD_PAT      0x00080000u
#define EXIT_SAVE_EFER     0x00100000u
#define EXIT_LOAD_EFER     0x00200000u

// VM-entry controls
#define ENTRY_LOAD_DEBUG 0x00000004u // load DR7 and DEBUGCTL
#define ENTRY_GUEST_64   0x00000200u // the guest is in IA-32e mode (EFER.LMA)
#define ENTRY_LOAD_PAT   0x00004000u
#define ENTRY_LOAD_EFER  0x00008000u

// Event information on an exit, besides what guest/backend.h has: by the IRET that faulted
#define EVENT_NMI_UNBLOCKED 0x00001000u

// Guest interruptibility state
#define BLOCKED_BY_STI       0x1u
#define BLOCKED_BY_MOV_SS    0x2u
#define BLOCKED_BY_NMI       0x8u

#define REASON_ENTRY_FAILURE 0x80000000u // in EXIT_REASON: the exit is a failed entry

#define VMCS_ACCESS(width, type)                                               \
    static inline type vmcs_read##width(enum vmcs##width field) {              \
        return (type)vmcs_read_raw(field);                                     \
    }                                                                          \
    static inline void vmcs_write##width(enum vmcs##width field, type value) { \
        vmcs_write_raw(field, value);                                          \
    }
VMCS_ACCESS(16, u16)
VMCS_ACCESS(32, u32)
VMCS_ACCESS(64, u64)
VMCS_ACCESS(nat, u64)
