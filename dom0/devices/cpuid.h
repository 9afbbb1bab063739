// SPDX-License-Identifier: Apache-2.0
//
// What CPUID shows a guest: the processor's features as far as the kernel switches their state and a guest can do without
// their MSRs, and the paravirtual interface that stock guests know.

#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <basalt/domain.h>

#define CPUID_ROWS 40u // at most

/// Makes the table of a machine with that many vCPUs; returns how many rows it has.
unsigned cpuid_table(struct basalt_cpuid rows[CPUID_ROWS], uint32_t vcpus);

/// Whether the processor is AMD's or Hygon's.
bool cpuid_is_amd(void);
