// SPDX-License-Identifier: Apache-2.0
//
// Extended processor state (x87, SSE, AVX), which the kernel never uses itself: it saves and
// restores that of vCPUs. Only state that this file knows is ever enabled in XCR0. Follows the SDM,
// "Managing State Using the XSAVE Feature Set".

#pragma once

#include "arch/types.h"

extern u64 xstate_mask;      // XCR0 bits that a guest may use; 0: no XSAVE, FXSAVE only
extern u32 xstate_area_size; // bytes, for all bits of xstate_mask; at most a page

/// Enables the state components on this CPU; the mask and size are found on the first call.
void fpu_init(void);
/// Fills an area (64-byte aligned, xstate_area_size bytes) with the state after reset.
void xstate_init(void *area);
/// Gives this CPU the guest's XCR0, and takes it away again: xstate_leave() returns what the guest has (where the
/// processor lets it change XCR0 without an exit) and puts xstate_mask in its place.
void xstate_enter(u64 xcr0);
u64 xstate_leave(void);
/// Saves and restores all of xstate_mask. XCR0 must be xstate_mask.
void xstate_save(void *area);
/// An area that holds what the processor does not accept (reserved bits) is filled by xstate_init()
/// first.
void xstate_restore(void *area);
