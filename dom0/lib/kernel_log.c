// SPDX-License-Identifier: Apache-2.0
//
// Invariant: acknowledged <= shown <= the ring's head.

#include "lib/kernel_log.h"

#include "lib/boot.h"
#include "lib/console.h"
#include "lib/event.h"
#include "lib/hypercall.h"
#include "lib/log.h"

#include <basalt/trace.h>

static int port = -1;
static u64 shown, acknowledged; // bytes of the kernel's log

static void rung(void *context) {
    (void)context;
    kernel_log_show();
}

void kernel_log_init(void) {
    port = event_port_alloc(rung, NULL);
    i64 printed = port < 0 ? port : hc_console_bind((u32)port, 0);
    if (printed < 0) {
        port = -1;
        return;
    }
    shown = acknowledged = (u64)printed;
    kernel_log_show();
}

void kernel_log_show(void) {
    static bool busy; // what is shown here comes back here
    const struct basalt_log *log = (const struct basalt_log *)(uintptr_t)boot_info->log_base;
    if (port < 0 || busy)
        return;
    busy = true;
    u64 head = __atomic_load_n(&log->head, __ATOMIC_ACQUIRE);
    shown = MAX(shown, head - MIN(head, log->bytes));
    while (shown < head) {
        u64 at = shown % log->bytes, piece = MIN(head - shown, log->bytes - at);
        log_text(log->data + at, piece);
        shown += piece;
    }
    busy = false;
    console_drain();
}

void kernel_log_sent(void) {
    if (shown == acknowledged || port < 0)
        return;
    acknowledged = shown;
    hc_console_bind((u32)port, shown);
}
