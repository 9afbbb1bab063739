// SPDX-License-Identifier: Apache-2.0
//
// VMREAD and VMWRITE on the current VMCS, by encoding; vmx/vmcs.h puts types on them. Unit tests replace this file
// by an array. The first two fail only for a field that the processor lacks or without a current VMCS: faults of the caller.

#pragma once

#include "arch/types.h"

static inline u64 vmcs_read_raw(u32 field) {
    u64 value;
    __asm__ volatile("vmread %1, %0" : "=r"(value) : "r"((u64)field) : "cc");
    return value;
}

// For a field that the processor may lack: false, and *value is left alone.
static inline bool vmcs_try_read(u32 field, u64 *value) {
    bool there;
    __asm__ volatile("vmread %2, %0" : "+r"(*value), "=@cca"(there) : "r"((u64)field));
    return there;
}

static inline void vmcs_write_raw(u32 field, u64 value) {
    __asm__ volatile("vmwrite %1, %0" : : "r"((u64)field), "r"(value) : "cc", "memory");
}
