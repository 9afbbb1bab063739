// SPDX-License-Identifier: Apache-2.0
//
// arch/x86.h on the host: the same, but that MSRs are not there or a test's, XCR0 stays, CR2 is a variable, and a
// test may have the clock in its hand.

#pragma once

#include_next "arch/x86.h"

extern u64 host_safe_msr __attribute__((weak)); // of a test that has one
static inline bool host_rdmsr_safe(u32 msr unused, u64 *value) {
    *value = &host_safe_msr ? host_safe_msr : 0;
    return &host_safe_msr;
}

bool host_command(u32 msr, u64 value) __attribute__((weak)); // of a test that has commands
static inline bool host_wrmsr_safe(u32 msr, u64 value) {
    return host_command && host_command(msr, value);
}

u64 *host_msr(u32 msr) __attribute__((weak)); // of a test that has MSRs
static inline u64 host_rdmsr(u32 msr) { return *host_msr(msr); }
static inline void host_wrmsr(u32 msr, u64 value) { *host_msr(msr) = value; }

extern u64 host_cr4 __attribute__((weak)); // of a test that asks for it
static inline u64 host_read_cr4(void) { return &host_cr4 ? host_cr4 : 0; }

static u64 host_cr2 unused;
static inline u64 host_read_cr2(void) { return host_cr2; }
static inline void host_write_cr2(u64 value) { host_cr2 = value; }

static inline void host_xsetbv(u32 index unused, u64 value unused) {}
extern u64 host_xcr0 __attribute__((weak)); // of a test that asks for it
static inline u64 host_xgetbv(u32 index unused) { return &host_xcr0 ? host_xcr0 : 1; }

// A test that defines it, and gives it a value but 0, has time stand still but for what it adds.
extern u64 host_tsc __attribute__((weak));
static inline u64 host_rdtsc(void) { return &host_tsc && host_tsc ? host_tsc : rdtsc(); }

u32 host_inl(u16 port) __attribute__((weak)); // of a test that has ports

#define inl        host_inl
#define rdtsc      host_rdtsc
#define read_cr2   host_read_cr2
#define read_cr4   host_read_cr4
#define write_cr2  host_write_cr2
#define xsetbv     host_xsetbv
#define xgetbv     host_xgetbv
#define rdmsr      host_rdmsr
#define wrmsr      host_wrmsr
#define rdmsr_safe host_rdmsr_safe
#define wrmsr_safe host_wrmsr_safe
