// SPDX-License-Identifier: Apache-2.0
//
// Building the privileged domain from the first boot module. To the rest of the kernel it is a domain like any other
// that happens to hold the machine's handle and an identity map.

#pragma once

#include "arch/types.h"

struct boot_params;

/// Builds dom0 and makes its vCPU runnable, or refuses to.
void dom0_build(const struct boot_params *boot);

/// Says what is missing (a format) and what to do about it, and stops the machine.
noreturn void refuse(const char *remedy, const char *missing, ...)
    __attribute__((format(printf, 2, 3)));
