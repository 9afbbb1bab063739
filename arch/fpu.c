// SPDX-License-Identifier: Apache-2.0
//
// Extended state. Invariant: XCR0 is xstate_mask whenever the kernel runs, so one area layout
// serves all. Follows the SDM, "XSAVE Area" and "Operation of XRSTOR".

#include "arch/fpu.h"

#include "arch/cpu.h"
#include "arch/string.h"
#include "arch/x86.h"

#define LEAF_XSTATE   0xdu
#define FXSAVE_SIZE   512u
#define HEADER_OFFSET 512u // XSTATE_BV, XCOMP_BV
#define HEADER_SIZE   64u
#define FCW_OFFSET    0u
#define MXCSR_OFFSET  24u
#define FCW_RESET     0x37fu
#define MXCSR_RESET   0x1f80u

u64 xstate_mask;
u32 xstate_area_size = FXSAVE_SIZE;

void fpu_init(void)
{
    if (!cpu_features.xsave)
        return;
    struct cpuid r = cpuid(LEAF_XSTATE);
    u64 supported = r.eax | (u64)r.edx << 32;
    xstate_mask = supported & (XCR0_X87 | XCR0_SSE | XCR0_AVX);
    xsetbv(0, xstate_mask);
    xstate_area_size = FXSAVE_SIZE + HEADER_SIZE;
    if (xstate_mask & XCR0_AVX) {
        struct cpuid avx = cpuid_count(LEAF_XSTATE, 2); // size, offset
        xstate_area_size = MAX(xstate_area_size, avx.eax + avx.ebx);
    }
}

void xstate_init(void *area)
{
    u8 *bytes = area;
    u16 fcw = FCW_RESET;
    u32 mxcsr = MXCSR_RESET;
    memset(area, 0, xstate_area_size);
    memcpy(bytes + FCW_OFFSET, &fcw, sizeof(fcw));
    memcpy(bytes + MXCSR_OFFSET, &mxcsr, sizeof(mxcsr));
    if (xstate_mask)
        memcpy(bytes + HEADER_OFFSET, &xstate_mask, sizeof(xstate_mask));
}

void xstate_enter(u64 xcr0)
{
    if (xstate_mask && xcr0 != xstate_mask)
        xsetbv(0, xcr0);
}

u64 xstate_leave(void)
{
    u64 xcr0 = xstate_mask ? xgetbv(0) : 0;
    if (xcr0 != xstate_mask)
        xsetbv(0, xstate_mask);
    return xcr0;
}

void xstate_save(void *area)
{
    u32 low = (u32)xstate_mask, high = (u32)(xstate_mask >> 32);
    if (!xstate_mask)
        asm volatile("fxsave64 (%0)" : : "r"(area) : "memory");
    else
        asm volatile("xsave64 (%0)" : : "r"(area), "a"(low), "d"(high) : "memory");
}

static bool restore(const void *area)
{
    u32 low = (u32)xstate_mask, high = (u32)(xstate_mask >> 32), ok = 0;
    if (!xstate_mask)
        asm volatile("1: fxrstor64 (%1)\n\tmovl $1, %0\n\t2:\n\t" EXTABLE("1b", "2b")
                     : "+r"(ok)
                     : "r"(area)
                     : "memory");
    else
        asm volatile("1: xrstor64 (%1)\n\tmovl $1, %0\n\t2:\n\t" EXTABLE("1b", "2b")
                     : "+r"(ok)
                     : "r"(area), "a"(low), "d"(high)
                     : "memory");
    return ok;
}

bool xstate_restore(const void *area)
{
    static u8 clean[PAGE_SIZE] __attribute__((aligned(64)));
    if (restore(area))
        return true;
    xstate_init(clean);
    (void)restore(clean);
    return false;
}
