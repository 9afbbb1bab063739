// SPDX-License-Identifier: Apache-2.0
//
// Extended state. Invariant: XCR0 is xstate_mask whenever the kernel runs, so one area layout
// serves all. Follows the SDM, "XSAVE Area" and "Operation of XRSTOR".

#include "arch/cpu.h"

#define LEAF_XSTATE 0xdu
#define FXSAVE_SIZE 512u
#define FCW_RESET   0x37fu
#define MXCSR_RESET 0x1f80u

// The area, as far as it is the same for all components.
struct xsave_area {
    u16 fcw, fsw, ftw, fop;
    u64 fip, fdp;
    u32 mxcsr, mxcsr_mask;
    u8 registers[FXSAVE_SIZE - 32];
    u64 xstate_bv, xcomp_bv;
};

u64 xstate_mask;
u32 xstate_area_size = FXSAVE_SIZE;

void fpu_init(void) {
    if (!cpu_features.xsave)
        return;
    xstate_mask = cpuid(LEAF_XSTATE).eax & (XCR0_X87 | XCR0_SSE | XCR0_AVX);
    xsetbv(0, xstate_mask);
    xstate_area_size = cpuid(LEAF_XSTATE).ebx; // for what XCR0 has
}

void xstate_init(void *area) {
    struct xsave_area *a = area;
    memset(area, 0, xstate_area_size);
    a->fcw = FCW_RESET;
    a->mxcsr = MXCSR_RESET;
    if (xstate_mask)
        a->xstate_bv = xstate_mask;
}

// FNINIT clears the x87's pointers to its last instruction and operand, which AMD's processors restore only while an
// exception is pending: else the next guest would see them.
u64 xstate_save(void *area) {
    if (!xstate_mask) {
        asm volatile("fxsave64 (%0); fninit" : : "r"(area) : "memory");
        return 0;
    }
    u64 xcr0 = xgetbv(0);
    if (xcr0 != xstate_mask)
        xsetbv(0, xstate_mask);
    asm volatile("xsave64 (%0); fninit" : : "r"(area), "a"((u32)xstate_mask), "d"(0) : "memory");
    return xcr0;
}

void xstate_restore(const void *area, u64 xcr0) {
    if (xstate_mask)
        asm volatile("xrstor64 (%0)" : : "r"(area), "a"((u32)xstate_mask), "d"(0) : "memory");
    else
        asm volatile("fxrstor64 (%0)" : : "r"(area) : "memory");
    if (xcr0 != xstate_mask)
        xsetbv(0, xcr0);
}
