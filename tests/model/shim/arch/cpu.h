// SPDX-License-Identifier: Apache-2.0
//
// Stand-in for arch/cpu.h: the same, but that there are several CPUs, of which the model says which is the current one.

#pragma once

#define this_cpu real_this_cpu
#include "../../../../arch/cpu.h"
#undef this_cpu

struct cpu *this_cpu(void);
