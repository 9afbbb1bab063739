// SPDX-License-Identifier: Apache-2.0
//
// Resets the machine: the FADT's register, the chipset's, the keyboard controller's, a triple
// fault, in that order; a warm one leaves the first to the end.

#pragma once

#include "arch/types.h"

/// Memory keeps its contents in a warm reset where the firmware honours the request.
noreturn void machine_reset(bool warm);
