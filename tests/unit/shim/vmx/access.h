// SPDX-License-Identifier: Apache-2.0
//
// VMREAD and VMWRITE on the host: an array with a value per encoding, which also remembers what was written. Stands in
// for vmx/access.h in unit tests.

#pragma once

#include "arch/types.h"

#define VMCS_MODEL_FIELDS 0x7000u

extern u64 vmcs_model[VMCS_MODEL_FIELDS];
extern bool vmcs_model_written[VMCS_MODEL_FIELDS];

static inline u64 vmcs_read_raw(u32 field) { return vmcs_model[field]; }

static inline bool vmcs_try_read(u32 field, u64 *value) {
    *value = vmcs_model[field];
    return true;
}

static inline void vmcs_write_raw(u32 field, u64 value) {
    vmcs_model[field] = value;
    vmcs_model_written[field] = true;
}
