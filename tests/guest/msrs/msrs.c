// SPDX-License-Identifier: Apache-2.0
//
// msrs [RANDOM] [STEP]: reads every MSR (every STEPth, those around it by turns from boot to boot) from 0 to 0x1fff,
// from 0x40000000, 0xc0000000 and 0xc0010000 on, KVM's, and RANDOM others, and writes extreme values to it, and back
// what it held. An address of the kernel's in any of them, or a writable MSR of the machine's that a guest has no
// business with, would be a hole. kvmclock's are given every kind of address, the x2APIC's self IPI every vector that
// is none.

#include "../lib/guest.h"

static u32 readable, written;

// Those that would end this guest's own work: the x2APIC's ICR and self IPI.
static bool spared(u32 index) { return index == 0x830 || index == 0x83f; }

// What must never be there for a guest: SMM, VMX, SVM, microcode, machine check control of banks, PMU, debug store.
static bool forbidden(u32 index) {
    return index == 0x9e || index == 0x79 || (index >= 0x480 && index <= 0x491) ||
           index == 0xc0010114 || index == 0xc0010117 || index == 0x600 || index == 0x186 ||
           index == 0x38f || index == 0xc0010111 || index == 0xc0010112 || index == 0xc0010113;
}

static void attack(u32 index) {
    static const u64 values[] = {
        0, ~0ull, 1ull << 63, 0xffff800000000000ull, 0x00007fffffffffffull, 0x55555555aaaaaaaaull};
    u64 old, now;

    if (rdmsr(index, &old) >= 0)
        old = 0;
    else
        readable++;
    if (trap_vector >= 0 && trap_vector != 13)
        fail("RDMSR %x: exception %u", index, (u32)trap_vector);
    if (trap_vector < 0 && old >> 47 == 0x1ffff && index != 0x3b) // TSC_ADJUST: what TSC was set to
        fail("MSR %x shows %X", index, old);
    if (spared(index))
        return;
    bool readable_now = trap_vector < 0;
    // An MSR that can't be read gets two of the values, in turns.
    for (unsigned i = readable_now ? 0 : index & 3; i < 6; i += readable_now ? 1 : 3) {
        int vector = wrmsr(index, values[i]);
        if (vector >= 0 && vector != 13)
            fail("WRMSR %x: exception %u", index, (u32)vector);
        if (vector < 0 && forbidden(index) && rdmsr(index, &now) < 0 && now == values[i])
            fail("MSR %x takes %X", index, values[i]);
        written += vector < 0;
        if (vector < 0 && readable_now)
            wrmsr(index, old);
    }
}

static u32 step;
static const u32 always[] = {0x10,       0x1b,       0x3a,       0x8b,       0x9e,       0x174,
                             0x175,      0x176,      0x179,      0x186,      0x1a0,      0x1d9,
                             0x277,      0x2ff,      0x38f,      0x480,      0x48b,      0x600,
                             0x6e0,      0x802,      0x808,      0x80b,      0x80f,      0xda0,
                             0xc0000081, 0xc0000082, 0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102,
                             0xc0000103, 0xc0010015, 0xc0010111, 0xc0010114, 0xc0010117};

static void range(u32 first, u32 last) {
    for (u32 i = first + (u32)rdtsc() % step; i <= last; i += step)
        attack(i);
}

static void clock_pages(void) {
    for (unsigned bit = 0; bit < 64; bit++)
        for (unsigned msr = 0; msr < 2; msr++) {
            wrmsr(0x4b564d00 + msr, 1ull << bit | msr);
            wrmsr(0x4b564d00 + msr, ~0ull << bit | msr);
        }
    wrmsr(0x4b564d01, ((ram - 16) & ~3ull) | 1); // over the end of RAM
    wrmsr(0x4b564d01, 0xfee00001);
    wrmsr(0x4b564d01, 0);
}

// In x2APIC mode, to itself: vectors that no interrupt has, and bits that the register does not.
static void self_ipis(void) {
    wrmsr(0x1b, 0xfee00d00);
    for (u32 vector = 0; vector < 16; vector++)
        if (wrmsr(0x83f, vector) >= 0)
            fail("self IPI %u", vector);
    for (unsigned bit = 8; bit < 64; bit++)
        if (wrmsr(0x83f, 1ull << bit | 0x50) != 13)
            fail("self IPI, bit %u", bit);
}

ATTACK(msrs) {
    u32 others = (u32)ARGUMENT(0, 2000);

    readable = written = 0;
    step = (u32)ARGUMENT(1, 1);
    range(0, 0x1fff);
    if (step > 1)
        for (unsigned i = 0; i < sizeof(always) / sizeof(always[0]); i++)
            attack(always[i]);
    range(0x40000000, 0x400001ff);
    range(0x4b564d00, 0x4b564d0f);
    range(0xc0000000, 0xc0001fff);
    range(0xc0010000, 0xc0011fff);
    seed = 7;
    while (others--)
        attack((u32)random64());
    clock_pages();
    self_ipis();
    print("msrs: %u readable, %u writes taken\n", readable, written);
}
