// SPDX-License-Identifier: Apache-2.0
//
// The VM instructions as functions. They say in CF and ZF whether they failed. Follows the SDM, "VMX Instruction
// Reference".

#pragma once

#include "arch/types.h"

// The operand is the memory that holds the address. Returns true if it succeeded.
#define VMX_INSTRUCTION(name)                                                  \
    static inline bool name(hpa_t address) {                                   \
        bool done;                                                             \
        asm volatile(#name " %1" : "=@cca"(done) : "m"(address.v) : "memory"); \
        return done;                                                           \
    }
VMX_INSTRUCTION(vmxon)
VMX_INSTRUCTION(vmptrld)
VMX_INSTRUCTION(vmclear)

#define INV_SINGLE 1u // one EPT pointer, one VPID
#define INV_ALL    2u

struct inv_descriptor {
    u64 first, second;
};

static inline void invept(u64 type, u64 pointer) {
    struct inv_descriptor d = {pointer, 0};
    asm volatile("invept %0, %1" : : "m"(d), "r"(type) : "cc", "memory");
}

static inline void invvpid(u64 type, u16 vpid) {
    struct inv_descriptor d = {vpid, 0};
    asm volatile("invvpid %0, %1" : : "m"(d), "r"(type) : "cc", "memory");
}
