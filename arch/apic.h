// SPDX-License-Identifier: Apache-2.0
//
// The local APIC, as xAPIC (registers in memory) or x2APIC (MSRs): acknowledgement and the one-shot
// timer. Follows the SDM, "Advanced Programmable Interrupt Controller".

#pragma once

#include "arch/types.h"

// Register offsets of the xAPIC page.
#define APIC_ID              0x20u
#define APIC_VERSION         0x30u
#define APIC_TPR             0x80u
#define APIC_EOI             0xb0u
#define APIC_SVR             0xf0u
#define APIC_LVT_TIMER       0x320u
#define APIC_LVT_THERMAL     0x330u
#define APIC_LVT_PERFORMANCE 0x340u
#define APIC_LVT_LINT0       0x350u
#define APIC_LVT_LINT1       0x360u
#define APIC_LVT_ERROR       0x370u
#define APIC_TIMER_INITIAL   0x380u
#define APIC_TIMER_CURRENT   0x390u
#define APIC_TIMER_DIVIDE    0x3e0u

#define APIC_SVR_ENABLE      0x100u
#define APIC_LVT_MASKED      0x10000u
#define APIC_LVT_NMI         0x400u
#define APIC_LVT_DEADLINE    0x40000u

/// Turns this CPU's local APIC on (x2APIC where present), everything masked but the timer and LINT1
/// = NMI.
void apic_init(void);
/// Finds out how fast the timer counts where there is no TSC deadline; after tsc_init().
void apic_timer_init(void);
void apic_eoi(void);
/// VECTOR_TIMER comes once, at or soon after `deadline` (host TSC; in the past: at once); ~0:
/// never.
void apic_timer_set(u64 deadline);
