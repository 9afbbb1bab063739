// SPDX-License-Identifier: Apache-2.0
//
// A kernel for dom0's files on the host: ports, a timer and a clock that stands still but for BLOCK
// (which jumps to the timer) and host_advance(); shares over memory of the test's own. The tests
// link dom0_host.c.

#pragma once

#include "lib/types.h"

#include <basalt/domain.h>
#include <basalt/event.h>

/// Forgets everything: call it first in each test.
void host_reset(void);

/// Moves the clock on.
void host_advance(u64 ns);

/// Rings a port, as the kernel does.
void host_ring(u32 port);

/// What PORT_ALLOC gave last; how often BLOCK was called; TIMER_SET's last deadline in ticks;
/// shares alive.
extern u32 host_last_port, host_blocks, host_then_blocks, host_shares;
extern u32 host_acked; // last port of IRQ_ACK
extern u64 host_timer_deadline;

/// Called by BLOCK before anything else; NULL: none.
extern void (*host_on_block)(void);

/// The extents that the next share has; page numbers count from the share's start.
struct host_extent {
    u64 address, pages;
};
extern struct host_extent host_extents[64]; // where SHARE_MAP maps, one each
extern u32 host_extent_count;
extern i64 host_share_error; // what SHARE_MAP returns

/// Console output, as text.
extern char host_console[65536];
extern bool host_console_full; // takes nothing

/// What CONSOLE_BIND and, of an ISA interrupt, IRQ_BIND said.
extern u64 host_console_shown;
extern u32 host_console_port, host_isa_irq, host_isa_port;
