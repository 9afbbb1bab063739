// SPDX-License-Identifier: Apache-2.0
//
// The ACPI tables of a guest: RSDP, XSDT, FADT, FACS, MADT, MCFG and DSDT, which describe what the
// device models are. Follows "ACPI Software Programming Model" of the ACPI specification and the
// PCI firmware specification (MCFG).

#pragma once

#include <stddef.h>
#include <stdint.h>

/// Writes the tables for `vcpus` processors to `buffer`, which the guest will find at physical
/// address `base` (64-byte aligned); the RSDP comes first. Returns the bytes used, 0 if `size` is
/// too small (16 KiB are enough).
size_t acpi_build(uint8_t *buffer, size_t size, uint64_t base, uint32_t vcpus);
