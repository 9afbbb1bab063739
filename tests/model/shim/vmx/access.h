// SPDX-License-Identifier: Apache-2.0
//
// Stand-in for vmx/access.h: an array for each VMCS, of which one is current on each CPU.

#pragma once

#include "arch/types.h"

u64 *model_field(u32 field);

static inline u64 vmcs_read_raw(u32 field) { return *model_field(field); }
static inline bool vmcs_try_read(u32 field, u64 *value) {
    *value = *model_field(field);
    return true;
}
static inline void vmcs_write_raw(u32 field, u64 value) { *model_field(field) = value; }
