// SPDX-License-Identifier: Apache-2.0
//
// See dom0_host.h.

#include "dom0_host.h"

#include "drivers/serial.h"
#include "lib/boot.h"
#include "lib/hypercall.h"
#include "lib/timer.h"

#include <stdlib.h>
#include <string.h>

u32 host_last_port, host_blocks, host_then_blocks, host_acked, host_shares, host_extent_count;
u64 host_timer_deadline;
void (*host_on_block)(void);
struct host_extent host_extents[64];
i64 host_share_error;
char host_console[65536];
bool host_console_full;
u32 host_console_port, host_isa_irq, host_isa_port;
u64 host_console_shown;

static struct basalt_boot_info info;
static struct basalt_event_page page;
static u64 clock_ticks = 1000;
static u32 timer_port;
static size_t console_used;

u64 host_tsc(void);
u64 host_tsc(void) { return clock_ticks; }

void host_reset(void) {
    memset(&page, 0, sizeof(page));
    info = (struct basalt_boot_info){
        .magic = BASALT_BOOT_MAGIC,
        .size = sizeof(info),
        .tsc_khz = 2000000,
        .event_page = (u64)(uintptr_t)&page,
    };
    boot_info = &info;
    host_last_port = host_blocks = host_then_blocks = host_acked = host_extent_count = 0;
    host_timer_deadline = 0;
    host_on_block = NULL;
    host_share_error = 0;
    host_console_port = host_isa_port = 0;
    host_console_shown = 0;
    console_used = 0;
    host_console[0] = 0;
}

void host_advance(u64 ns) { clock_ticks += ns * 2; }

void host_ring(u32 port) {
    page.pending[port / 64] |= BIT(port % 64);
    page.summary |= BIT(port / 64);
}

static i64 block(void) {
    host_blocks++;
    if (host_on_block)
        host_on_block();
    if (page.summary)
        return 0;
    if (host_timer_deadline == 0)
        abort(); // would sleep for ever
    if (clock_ticks < host_timer_deadline)
        clock_ticks = host_timer_deadline;
    host_timer_deadline = 0;
    host_ring(timer_port);
    return 0;
}

static u32 mapped; // extents of the share that was granted last

static struct hypercall_result map_share(void) {
    if (host_share_error || mapped == host_extent_count)
        return (struct hypercall_result){host_share_error, 0};
    const struct host_extent *e = &host_extents[mapped++];
    return (struct hypercall_result){(i64)e->address, e->pages};
}

struct hypercall_result hypercall_raw(u64 number, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f) {
    struct hypercall_result r = {0, 0};
    (void)e;
    (void)f;
    if (number & BASALT_HC_THEN_BLOCK) {
        host_then_blocks++;
        r = hypercall_raw(number & ~(u64)BASALT_HC_THEN_BLOCK, a, b, c, d, e, f);
        if (r.value >= 0)
            block();
        return r;
    }
    switch (number) {
    case BASALT_HC_PORT_ALLOC: r.value = ++host_last_port; break;
    case BASALT_HC_TIMER_SET:
        host_timer_deadline = a;
        timer_port = (u32)b;
        break;
    case BASALT_HC_BLOCK: r.value = block(); break;
    case BASALT_HC_CONSOLE_BIND:
        host_console_port = (u32)b;
        host_console_shown = MAX(host_console_shown, c);
        r.value = (i64)host_console_shown;
        break;
    case BASALT_HC_IRQ_BIND:
        host_isa_irq = (u32)b - BASALT_IRQ_ISA;
        host_isa_port = (u32)d;
        break;
    case BASALT_HC_SHARE_GRANT:
        host_shares++;
        mapped = 0;
        r.value = 7;
        break;
    case BASALT_HC_SHARE_MAP: r = map_share(); break;
    case BASALT_HC_SHARE_END: host_shares--; break;
    case BASALT_HC_IRQ_ACK: host_acked = (u32)a; break;
    case BASALT_HC_PORT_FREE: break;
    default: r.value = -BASALT_ENOSYS;
    }
    return r;
}

// drivers/serial.c's part.
__attribute__((weak)) void serial_init(void (*ready)(void)) { (void)ready; }
__attribute__((weak)) size_t serial_receive(u8 *bytes, size_t count) {
    (void)bytes;
    (void)count;
    return 0;
}
__attribute__((weak)) bool serial_idle(void) { return true; }
__attribute__((weak)) size_t serial_send(const char *bytes, size_t count) {
    if (host_console_full)
        return 0;
    for (size_t i = 0; i < count && console_used + 1 < sizeof(host_console); i++)
        host_console[console_used++] = bytes[i];
    host_console[console_used] = 0;
    return count;
}

// lib/paging.c's part: addresses are what they are.
u64 phys_of(const void *p) { return (u64)(uintptr_t)p; }

void *phys_map(u64 base, u64 bytes) {
    (void)bytes;
    return (void *)(uintptr_t)base;
}
