// SPDX-License-Identifier: Apache-2.0
//
// Bits of the local APIC's registers, and what the parts of the virtual one share among themselves. Follows the SDM,
// "Advanced Programmable Interrupt Controller (APIC)".
#pragma once

#include "guest/vlapic.h"

#define SVR_ENABLED          0x100u // software enable

#define LVT_STATUS           0x01000u // delivery status, read-only
#define LVT_REMOTE_IRR       0x04000u // read-only
#define LVT_MASKED           0x10000u
#define LVT_TIMER_MODE       0x60000u
#define LVT_TIMER_PERIODIC   0x20000u
#define LVT_TIMER_DEADLINE   0x40000u

#define ESR_SEND_ILLEGAL     0x20u // vector below 16 in an IPI
#define ESR_RECEIVE_ILLEGAL  0x40u // vector below 16 in a message or LVT entry
#define ESR_ILLEGAL_REGISTER 0x80u // access to a register that does not exist

#define DFR_FLAT             0xfu
#define DFR_CLUSTER          0x0u

#define X2APIC_LDR(id)       (((id) >> 4) << 16 | 1u << ((id)&15))

/// Notes an error for the ESR and raises the error interrupt.
void vlapic_error(struct vlapic *v, u32 error);

void vlapic_timer_init(struct vlapic *v, u32 tsc_khz);
u32 vlapic_timer_count(const struct vlapic *v, u64 now);
/// The timer's registers; `now` is the guest's TSC.
void vlapic_timer_set_initial(struct vlapic *v, u32 value, u64 now);
void vlapic_timer_set_divide(struct vlapic *v, u32 value, u64 now);
/// Call with the new entry before it is stored.
void vlapic_timer_set_lvt(struct vlapic *v, u32 entry, u64 now);
