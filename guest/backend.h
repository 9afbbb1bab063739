// SPDX-License-Identifier: Apache-2.0
//
// The interface between the vendor-neutral vCPU platform (guest/) and a virtualization backend (vmx/, svm/). A
// backend turns VMCS/VMCB facts into an exit returned by value and never calls up: it sees only the cpu_state, not
// domains or vCPUs. All functions run on the CPU that owns the state, with interrupts off; there is no lock.

#pragma once

// Offsets in struct cpu_state for the world switches
#define CPU_GPR(n)     (8 * (n)) // enum basalt_gpr
#define CPU_RIP        0x80
#define CPU_RFLAGS     0x88
#define CPU_PAGE       0x90
#define CPU_HOST_RSP   0x98 // VMX
#define CPU_LAUNCHED   0xa0
#define CPU_VMCB       0x98 // SVM
#define CPU_HOST_STATE 0xa0

#ifndef __ASSEMBLER__

#include "arch/types.h"

#include <basalt/domain.h>
#include <basalt/trace.h>

// Both vendors' event fields: the vector in bits 7:0, how it is delivered in 10:8, and these
#define EVENT_HAS_ERROR 0x00000800u
#define EVENT_VALID     0x80000000u

enum event_type {
    EVENT_INTERRUPT = 0,
    EVENT_NMI = 2,
    EVENT_EXCEPTION = 3,       // hardware exception
    EVENT_SOFT_INTERRUPT = 4,  // INT n
    EVENT_PRIVILEGED_SOFT = 5, // INT1 (ICEBP)
    EVENT_SOFT_EXCEPTION = 6,  // INT3, INTO
};

struct event {
    bool valid;
    bool has_error;
    u8 vector;
    u8 type;        // enum event_type
    u8 insn_length; // of the soft types, bytes
    u32 error;
};

static inline struct event event_from_field(u32 field, u32 error) {
    return (struct event){.valid = true,
                          .has_error = field & EVENT_HAS_ERROR,
                          .vector = (u8)field,
                          .type = field >> 8 & 7,
                          .error = error};
}

static inline u32 event_field(const struct event *event) {
    return event->vector | (u32)event->type << 8 | EVENT_VALID;
}

// Facts of one VM exit, in two registers. Which fields are set depends on the kind. An event whose delivery the exit
// interrupted is back in cpu_state.queued.
struct exit {
    u8 insn_length; // bytes; 0: not known, the caller decodes
    u8 kind;        // enum basalt_exit_kind
    union {
        u8 vector; // EXCEPTION, APIC_EOI, INTERRUPT (VMX acknowledges on exit; 0 on SVM: still pending)
        u8 cr;     // CR_ACCESS: register number; 0xff: not known, the caller decodes
    };
    union {
        u8 gpr; // CR_ACCESS by MOV: the general register; 0xff: not known, or another instruction
        bool fetch; // MEMORY: an instruction fetch
    };
    bool in_walk; // MEMORY: the access was to a guest page-table entry
    bool write;   // CR_ACCESS: to the register; MEMORY: a write
    union {
        u64 detail; // EXCEPTION: the error code, of #DB the DR6 bits; HYPERCALL: CPL; else what the vendor tells
        gpa_t gpa;      // MEMORY
        struct {        // IO, in the form of the APM's "IOIO Intercept Information"
            u16 access; // EXIT_IO_*
            u16 port;
        };
    };
};
SIZE_ASSERT(struct exit, 16);

// An exit as two words, for what compilers make of bytes in registers is three times as long.
union exit_words {
    u64 word[2];
    struct exit e;
};
static inline struct exit exit_new(u64 kind, u64 insn_length, u64 detail) {
    return (union exit_words){.word = {kind << 8 | insn_length, detail}}.e;
}

#define EXIT_IO_IN     0x0001u
#define EXIT_IO_STRING 0x0004u
#define EXIT_IO_BYTES  4 // the first of three bits: 1, 2 or 4 bytes
static inline unsigned exit_io_bytes(struct exit e) { return e.access >> EXIT_IO_BYTES & 7; }

// MSRs that the VMCS doesn't switch: the guest's values are in the processor from load to unload.
#define VMX_LIVE_MSRS 5

// What the next entry must be told; the other bits are the backend's
#define CPU_DIRTY_RSP    0x10000u // gprs[RSP] changed by the kernel
#define CPU_DIRTY_RFLAGS 0x20000u // rflags changed by the kernel

// What a backend knows of one virtual processor. gprs, rip and rflags are valid between exit and entry; RIP is written
// back at each entry, RSP and RFLAGS when marked in `dirty`.
struct cpu_state {
    u64 gprs[16]; // enum basalt_gpr
    u64 rip, rflags;
    void *page; // the control block: a zeroed frame's kernel address, from the caller of state_init
    union {
        struct {
            u64 host_rsp;            // the kernel's stack while the guest runs
            bool launched;           // VMLAUNCH was done on this CPU
            const void *host;        // the CPU whose host state is in the VMCS; NULL: a fresh frame
            u64 live[VMX_LIVE_MSRS]; // KERNEL_GS_BASE, the first, while not loaded
        } vmx;
        struct {
            hpa_t vmcb;       // the guest's
            hpa_t host_state; // the page with what VMLOAD restores of this CPU
            u64 iret_rip;     // with NMI_IRET: where the IRET is
            u8 nmi;           // enum nmi_state
            u8 flush;         // TLB_CONTROL_* wanted at the next entry
            u32 cpu;          // on which the state ran last: the processor's cached copy is there
        } svm;
    };
    u32 dirty;
    bool
        debug_active; // the guest's DR0-3 are in the processor while the state is loaded, on VMX DR6 too
    u64 cr2;
    u64 dr[4], dr6;
    hpa_t second_level; // root of the nested tables
    hpa_t
        virtual_apic; // page of the local APIC's registers that the processor is to virtualize; 0: none
    u64 io_bitmap;        // physical address of 12 KiB (I/O permission bitmap, 1 = exit)
    u64 tsc_offset;       // guest TSC = host TSC + offset
    u16 tag;              // VPID or ASID; 0: none
    u64 tag_generation;   // of the CPU on which `tag` was given out (SVM)
    u64 flush_generation; // second-level generation that this state has flushed for
    // What the guest believes it wrote (the backend combines them with what hardware needs). Of CR0 and CR4 the bits that
    // it changes without an exit are up to date only in what `read` returns: MP, EM, TS, WP, AM; TSD, PGE.
    u64 cr0_guest, cr4_guest, efer_guest;
    struct event queued; // event to deliver at the next entry
};
#define CPU_STATE_AT(field, offset) \
    _Static_assert(offsetof(struct cpu_state, field) == (offset), "as the world switch has it")
CPU_STATE_AT(gprs, CPU_GPR(0));
CPU_STATE_AT(rip, CPU_RIP);
CPU_STATE_AT(rflags, CPU_RFLAGS);
CPU_STATE_AT(page, CPU_PAGE);
CPU_STATE_AT(vmx.host_rsp, CPU_HOST_RSP);
CPU_STATE_AT(vmx.launched, CPU_LAUNCHED);
CPU_STATE_AT(svm.vmcb, CPU_VMCB);
CPU_STATE_AT(svm.host_state, CPU_HOST_STATE);

enum backend_register { // CR0, CR4, EFER as the guest sees them
    REG_CR0,
    REG_CR2,
    REG_CR3,
    REG_CR4,
    REG_EFER,
    REG_DR6,
    REG_DR7,
    REG_PDPTE0, // and the next three
    REG_PDPTE3 = REG_PDPTE0 + 3,
    REG_CPL, // these to be read only
    REG_CS_BASE,
    REG_CS_ATTRIBUTES,
};

// Optional processor features that a backend found; each has a fallback.
struct backend_features {
    bool nrip_save, decode_assists, flush_by_asid, clean_bits; // SVM
    bool vpid, ept_ad, preemption_timer, apicv;                // VMX
    bool pause_filter;
    bool second_level_1g, second_level_2m;
    u32 tags; // ASIDs
};

typedef struct exit world_switch(struct cpu_state *cpu);

/// Calls a world switch. It keeps RSP, RBP and RBX, which has to be *cpu, too: the caller saves the other registers once for
/// many entries. Changes *cpu to what it was, in a register that the caller need not save.
static inline struct exit backend_enter(world_switch *enter, struct cpu_state **cpu) {
    struct cpu_state *argument = *cpu;
    union exit_words result;

    asm volatile("call *%[enter]"
                 : "=a"(result.word[0]), "=d"(result.word[1]), "+D"(argument), "+b"(*cpu)
                 : [enter] "rm"(enter)
                 : "rcx", "rsi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "cc",
                   "memory");
    return result.e;
}

struct backend {
    const char *name; // "VMX", "SVM"
    bool vmx;         // VMCALL and EPT's tables, not VMMCALL and nested paging's

    /// Looks at this CPU, changing nothing; refuses a machine that can't be used.
    void (*probe)(struct backend_features *features);
    /// Turns virtualization on for this CPU, or refuses; `page` is a zeroed frame for VMXON region or host save area.
    void (*cpu_on)(void *page);

    /// Makes a new control block of what the caller filled: page, second_level, io_bitmap, tag. Registers and segments
    /// are then to be written.
    void (*state_init)(struct cpu_state *cpu);
    /// Makes the state current on this CPU (VMPTRLD, VMLOAD of the syscall MSRs, ...).
    void (*load)(struct cpu_state *cpu);
    /// Writes back what the CPU caches, so that another CPU may load it (VMCLEAR, ...).
    void (*unload)(struct cpu_state *cpu);
    /// Tells the control block what cpu->dirty and cpu->queued say, before the next entry: that delivers the event, which is
    /// taken from cpu->queued.
    void (*prepare)(struct cpu_state *cpu);
    /// Enters the guest and returns the exit; an event whose delivery the exit interrupted is put back in cpu->queued. To be
    /// called through backend_enter(). The second with the controls of arch/spec.h around the guest's run.
    world_switch *enter, *enter_guarded;

    u64 (*read)(struct cpu_state *cpu, enum backend_register reg);
    void (*write)(struct cpu_state *cpu, enum backend_register reg, u64 value);
    /// `index`: enum basalt_segment_index.
    struct basalt_segment (*read_segment)(struct cpu_state *cpu, unsigned index);
    void (*write_segment)(struct cpu_state *cpu, unsigned index,
                          const struct basalt_segment *segment);

    /// MSRs that the backend keeps in the control block or loads directly (FS/GS/KERNEL_GS base, STAR, LSTAR,
    /// CSTAR, FMASK, SYSENTER_*, PAT, DEBUGCTL): reads one into *value or writes it. False: not one of mine.
    bool (*access_msr)(struct cpu_state *cpu, u32 msr, bool write, u64 *value);

    /// True when an interrupt, or an NMI, could be delivered at the next entry: IF, STI/MOV-SS shadow, NMI blocking.
    bool (*can_take)(struct cpu_state *cpu, bool nmi);
    /// Asks for an exit as soon as an interrupt, or an NMI, could be delivered.
    void (*window)(struct cpu_state *cpu, bool nmi, bool on);
    /// Where features.apicv, for a state with a virtual_apic: what the processor must know of changes in that page
    /// before the next entry. The mode and the TMR registers (one every 16 bytes); the highest vectors in IRR (bits
    /// 7:0) and ISR, or unless `all` the highest that was added to IRR. Returns what the highest vectors are then.
    void (*apic_mode)(struct cpu_state *cpu, bool x2apic, const u32 *tmr);
    u16 (*apic_status)(struct cpu_state *cpu, u16 status, bool all);
    /// Ends an STI/MOV-SS shadow (after an emulated instruction).
    void (*clear_shadow)(struct cpu_state *cpu);
    /// Exits on debug registers, which begin at the state's making, end; the guest's, in *cpu, are in the processor now.
    void (*allow_dr)(struct cpu_state *cpu);

    /// Forgets this CPU's cached translations of the state's second-level table / of one guest's own tables.
    void (*flush_second_level)(struct cpu_state *cpu);
    void (*flush_linear)(struct cpu_state *cpu);
    /// Reads a field of the control block for diagnosis (see BASALT_HC_VCPU_FIELD). False: there is no such field.
    bool (*control_field)(struct cpu_state *cpu, u64 field, u64 *value);
};

// Attributes of a segment, as VMX and struct basalt_segment have them
#define SEGMENT_ACCESSED        0x00001u
#define SEGMENT_BUSY            0x00002u // of a TSS
#define SEGMENT_S               0x00010u // code or data
#define SEGMENT_DPL(attributes) ((attributes) >> 5 & 3)
#define SEGMENT_PRESENT         0x00080u
#define SEGMENT_LONG            0x02000u // 64-bit code
#define SEGMENT_DB              0x04000u // 32-bit
#define SEGMENT_G               0x08000u // limit in pages
#define SEGMENT_UNUSABLE        0x10000u
#define SEGMENT_BITS            0x1f0ffu

extern const struct backend vmx_backend, svm_backend;
// The one of this machine, and what it found; set once.
extern const struct backend *backend;
extern struct backend_features backend_features;

#endif
