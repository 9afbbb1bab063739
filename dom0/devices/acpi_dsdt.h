// SPDX-License-Identifier: Apache-2.0
//
// The DSDT's AML, for acpi.c.

#pragma once

#include "aml.h"

void acpi_dsdt(struct aml *aml, uint32_t vcpus);
