// SPDX-License-Identifier: Apache-2.0
//
// Building the privileged domain from the first boot module. To the rest of the kernel it is a domain like any other
// that happens to hold the machine's handle and an identity map.

#pragma once

struct boot_params;
struct refusal;

/// Builds dom0 and makes its vCPU runnable. Returns 0, or -1 with *why filled.
int dom0_build(const struct boot_params *boot, struct refusal *why);
