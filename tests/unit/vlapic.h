// SPDX-License-Identifier: Apache-2.0
//
// What the tests of the virtual local APIC begin with: one APIC, its page, and its registers as the guest reaches them.

#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest/vlapic.h"

#define ON 0x100u // SVR: software enable

u64 tsc_khz = 2500000;
u64 tsc_to_ns(u64 ticks) { // as arch/tsc.c
    return (u64)((unsigned __int128)ticks * ((1000000ull << 32) / tsc_khz) >> 32);
}

static struct vlapic v;
static u32 page[1024];

static struct vlapic_effect put(u32 offset, u32 value, u64 now) {
    return vlapic_write(&v, offset, 4, value, now);
}
static u32 get(u32 offset, u64 now) { return (u32)vlapic_read(&v, offset, 4, now); }
static int fresh(void **state) {
    (void)state;
    vlapic_init(&v, page, 5, false);
    put(0xf0, ON | 0xff, 0);
    return 0;
}
