// SPDX-License-Identifier: Apache-2.0
//
// Hypercalls: one table of number, name, right and handler. The dispatcher turns raw registers into a struct call,
// checks the caller's privilege and the handle's right, and only then calls the handler, which checks the rest before
// it changes anything.

#pragma once

#include "guest/vcpu.h"

/// Carries out the hypercall that the vCPU's registers describe (after its VMCALL/VMMCALL; RIP is already past it).
void hypercall(struct vcpu *v);
/// The name of a number, for the trace and the log.
const char *hypercall_name(u64 number);
