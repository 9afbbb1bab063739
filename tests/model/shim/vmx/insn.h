// SPDX-License-Identifier: Apache-2.0
//
// Stand-in for vmx/insn.h: the instructions tell the model of tests/model/test_tlb_vmx.c.

#pragma once

#include "arch/types.h"

#define INV_SINGLE 1u
#define INV_ALL    2u

bool vmxon(hpa_t region);
bool vmptrld(hpa_t vmcs);
bool vmclear(hpa_t vmcs);
void invept(u64 type, u64 pointer);
void invvpid(u64 type, u16 vpid);
