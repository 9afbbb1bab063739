// SPDX-License-Identifier: Apache-2.0
//
// Switching the machine off, or starting it anew: guests first. The ACPI part finds the value for
// soft-off (S5) in the DSDT without an interpreter.

#pragma once

#include "lib/types.h"

/// Shuts all guests down (those that don't listen are ended), then the machine; `reboot`: starts it
/// anew instead. Works on by itself; a second call ends the guests that are left at once.
void power_down(bool reboot);

/// Whether it is under way.
bool power_going_down(void);

/// News of a domain's state.
void power_domain_changed(void);

/// Switches the machine off, at once. Returns only if that is not possible, having said why.
void power_off_machine(void);

/// Finds the object _S5 in a DSDT (or SSDT): the values for SLP_TYP of PM1a and PM1b. Pure; the
/// bytes are not trusted.
bool power_find_s5(const u8 *aml, size_t bytes, u8 *type_a, u8 *type_b);
