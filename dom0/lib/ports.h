// SPDX-License-Identifier: Apache-2.0
//
// I/O ports. dom0 reaches only those that the kernel gave it; others read as ones and take nothing. Host tests provide
// the functions themselves.

#pragma once

#include "lib/types.h"

#ifdef HOST_TEST
u8 in8(u16 port);
void out8(u16 port, u8 value);
#else
static inline u8 in8(u16 port) {
    u8 value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline void out8(u16 port, u8 value) {
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline u16 in16(u16 port) {
    u16 value;
    __asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline void out16(u16 port, u16 value) {
    __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}
#endif
