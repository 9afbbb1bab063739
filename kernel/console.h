// SPDX-License-Identifier: Apache-2.0
//
// The console as a domain with the right to it sees it: bytes out, bytes in, and a port that rings when either can go
// on. The UART itself is drivers/uart16550.c's.

#pragma once

#include "kernel/domain.h"

/// Handles the UART's interrupt and rings whoever is bound.
void console_interrupt(void);
/// Writes from the caller's memory; returns bytes taken, or -BASALT_EFAULT.
i64 console_write(struct domain *caller, gpa_t buffer, u64 bytes);
/// Up to eight bytes, first in bits 7:0; returns their count.
unsigned console_read(u64 *bytes);
void console_bind(struct domain *d, u32 port);
/// Forgets the binding if it is to this port (0: to any port of the domain's).
void console_unbind(const struct domain *d, u32 port);
