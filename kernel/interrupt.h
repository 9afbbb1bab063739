// SPDX-License-Identifier: Apache-2.0
//
// Device interrupts bound to event ports, and the PCI functions they come from. Only this file programs MSI, MSI-X and
// IOAPIC entries on a domain's behalf. Invariant: a message or a line has at most one host vector, and that rings one port;
// a line is masked from its interrupt until it is acknowledged.

#pragma once

#include "kernel/domain.h"

struct pci_function;
/// Gives the PCI function to `d` and maps its memory BARs into the (identity-mapped) domain.
must_check int device_assign(struct domain *d, struct pci_function *fn);
/// Rings the port that is bound to a vector.
void interrupt_deliver(unsigned vector);
/// Binds message `entry` of the domain's function, or BASALT_IRQ_LINE: its line (or an ISA interrupt's: BASALT_IRQ_ISA + n),
/// to `port`. -BASALT_ENODEV, -BASALT_EINVAL, -BASALT_ENOSPC, -BASALT_EBUSY: one of the two is bound already.
must_check int interrupt_bind(struct domain *d, u64 source, u64 entry, u64 port);
void interrupt_unbind(struct domain *d, u32 port);
must_check int interrupt_ack(struct domain *d, u64 port);
/// Stops the domain's functions (bus mastering off, interrupts off) and unbinds everything.
void interrupts_release(struct domain *d);
/// 32 bits of configuration space as the domain may see it.
i64 device_config_read(struct domain *d, u64 bdf, u64 offset);
/// Writes the command register, as far as a domain may.
must_check int device_command(struct domain *d, u64 bdf, u64 value);
