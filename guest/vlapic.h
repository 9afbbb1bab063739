// SPDX-License-Identifier: Apache-2.0
//
// The virtual local APIC: registers, priorities, timer and both programming interfaces (xAPIC MMIO, x2APIC MSRs) of
// one vCPU. Its registers are in a page of the architectural layout, which a processor with APIC virtualization reads
// and writes itself while the guest runs; at all other times, and elsewhere, the page is what counts. It never calls
// up: what a register write causes elsewhere is returned as a struct vlapic_effect. Times are in guest TSC ticks.
// Invariant: a bit of ISR is set only by vlapic_ack (or the processor's delivery) and cleared only by an EOI or a
// reset; no vector below 16 is ever pending. Only the CPU that runs the vCPU, or the holder of the lock that the caller
// chose, touches a struct vlapic. Follows the SDM, "Advanced Programmable Interrupt Controller (APIC)" and "APIC
// Virtualization and Virtual Interrupts".
#pragma once

#include "arch/x86.h"

#define VLAPIC_BASE_DEFAULT 0xfee00000ull
#define VLAPIC_BROADCAST    0xffffffffu

enum apic_delivery { // as ICR, LVT, MSI data and redirection entries encode it
    APIC_FIXED = 0,
    APIC_LOWEST = 1,
    APIC_RESERVED = 3,
    APIC_NMI = 4,
    APIC_INIT = 5,
    APIC_SIPI = 6,
    APIC_EXTINT = 7,
};

enum apic_shorthand { APIC_TO_DEST = 0, APIC_TO_SELF = 1, APIC_TO_ALL = 2, APIC_TO_OTHERS = 3 };

/// An interrupt message on its way: from an ICR, an MSI or a redirection entry. An 8-bit destination of 0xff has
/// become VLAPIC_BROADCAST.
struct apic_message {
    u32 dest; // APIC ID, or logical destination
    u8 vector;
    u8 mode;      // enum apic_delivery
    u8 shorthand; // enum apic_shorthand
    bool logical;
    bool level; // level-triggered
};

struct vlapic {
    u64 apic_base; // IA32_APIC_BASE
    u32 *page;     // the registers; bits 63:32 of the x2APIC's ICR follow its low half
    u32 id;        // x2APIC ID; below 255
    union {
        struct {
            // What is pending may have changed since the owner cleared this, who sets it for an NMI and HLT, too.
            bool changed;
            bool answered; // the owner's: an access waited for its answer
        };
        u16 attention; // not 0: one of them is to be looked at before the next entry
    };
    bool reconfigured; // the mode or TMR changed, too
    bool moved;        // and what is in service, other than by vlapic_ack
    // The highest vectors in IRR and ISR, 0 where there is none. Where the processor virtualizes they tell only what it has
    // not been told: the highest vector that was accepted since.
    u8 irr, isr;
    u64 deadline; // TSC of the next expiry; 0: not running
};

static inline u32 *vlapic_reg(const struct vlapic *v, unsigned reg) { return &v->page[reg * 4]; }

/// What a register write asks of the caller; all zero: nothing. Besides, any write may change vlapic_pending().
struct vlapic_effect {
    bool fault; // #GP(0); nothing was changed
    bool send;  // deliver `message`
    bool timer; // vlapic_timer_deadline() may have changed
    bool eoi;   // a level-triggered vector ended: tell the IOAPIC
    u8 eoi_vector;
    struct apic_message message; // shorthand APIC_TO_SELF never appears: handled inside
};

/// Power-up state; xAPIC mode, software-disabled. `page`: 4 KiB for the registers.
void vlapic_init(struct vlapic *v, void *page, u32 id, bool bsp);
/// The state after INIT: as after power-up, but ID and IA32_APIC_BASE (so the mode) stay.
void vlapic_reset(struct vlapic *v);

static inline bool vlapic_on(const struct vlapic *v) { return v->apic_base & APIC_BASE_ENABLE; }
static inline bool vlapic_x2apic(const struct vlapic *v) { return v->apic_base & APIC_BASE_X2APIC; }
/// True if an access to `gpa` belongs to the xAPIC's page.
static inline bool vlapic_owns(const struct vlapic *v, gpa_t gpa) {
    return vlapic_on(v) && !vlapic_x2apic(v) && (gpa.v & PAGE_MASK) == (v->apic_base & PAGE_MASK);
}

/// xAPIC access at `offset` (0..0xfff) of its page. Bytes within an aligned 32-bit register can be read; a write that
/// is not 32 bits wide and 16-byte aligned is ignored. Unknown registers read as 0. Errors are not recorded: the ESR is 0.
u64 vlapic_read(struct vlapic *v, u32 offset, unsigned bytes, u64 now);
struct vlapic_effect vlapic_write(struct vlapic *v, u32 offset, unsigned bytes, u32 value, u64 now);

/// RDMSR/WRMSR of 0x800..0x8ff. The read returns false for #GP; the write says so in the effect.
must_check bool vlapic_msr_read(struct vlapic *v, u32 msr, u64 now, u64 *value);
must_check struct vlapic_effect vlapic_msr_write(struct vlapic *v, u32 msr, u64 value, u64 now);
/// WRMSR of IA32_APIC_BASE; `phys_bits` is the guest's MAXPHYADDR. The register is read from v->apic_base.
must_check struct vlapic_effect vlapic_base_write(struct vlapic *v, u64 value, unsigned phys_bits);

/// Accepts a fixed interrupt; true if it was not pending yet (then the vCPU may have to be woken). An illegal vector
/// and one for a disabled APIC are dropped.
bool vlapic_accept(struct vlapic *v, u8 vector, bool level);

/// Highest pending vector that the processor may take now, or -1.
int vlapic_pending(const struct vlapic *v);
/// The processor takes `vector` (from vlapic_pending): IRR to ISR.
void vlapic_ack(struct vlapic *v, u8 vector);
/// Undoes vlapic_ack for an interrupt that could not be delivered after all.
void vlapic_unack(struct vlapic *v, u8 vector);
/// An EOI write, in whichever form it came.
struct vlapic_effect vlapic_eoi(struct vlapic *v);
/// Finds v->irr and v->isr in the page.
void vlapic_look(struct vlapic *v);

static inline u64 vlapic_get_cr8(const struct vlapic *v) { return *vlapic_reg(v, LAPIC_TPR) >> 4; }
static inline void vlapic_set_cr8(struct vlapic *v, u64 cr8) {
    *vlapic_reg(v, LAPIC_TPR) = (u32)(cr8 & 15) << 4;
    v->changed = true;
}

/// TSC at which vlapic_timer_fire shall be called; 0: none.
u64 vlapic_timer_deadline(const struct vlapic *v);
/// Lets the timer expire if it is due; true if an interrupt became pending. A periodic timer that is late by several
/// periods fires once and stays in phase; one whose last interrupt is still pending rests for some.
bool vlapic_timer_fire(struct vlapic *v, u64 now);
/// 0 once it has passed, and in the other modes.
u64 vlapic_get_tsc_deadline(const struct vlapic *v, u64 now);
/// WRMSR of IA32_TSC_DEADLINE: ignored unless the timer is in that mode.
struct vlapic_effect vlapic_set_tsc_deadline(struct vlapic *v, u64 value);

/// True if a message for `dest` is for this APIC.
bool vlapic_match(const struct vlapic *v, u32 dest, bool logical);

// What the parts share among themselves.
u32 vlapic_ppr(const struct vlapic *v);
u32 vlapic_timer_count(const struct vlapic *v, u64 now);
/// Writes one of the timer's registers: LVT entry, initial count, divider. `now` is the guest's TSC.
void vlapic_timer_write(struct vlapic *v, u32 reg, u32 value, u64 now);
