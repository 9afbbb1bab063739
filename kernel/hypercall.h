// SPDX-License-Identifier: Apache-2.0
//
// Hypercalls: one table of number, right and handler. The dispatcher turns raw registers into a struct call,
// checks the caller's privilege and the handle's right, and only then calls the handler, which checks the rest before
// it changes anything.

#pragma once

#include "guest/vcpu.h"

/// Handles the exit by VMCALL or VMMCALL: carries out the hypercall that the vCPU's registers describe.
void hypercall(struct vcpu *v, struct exit e);
