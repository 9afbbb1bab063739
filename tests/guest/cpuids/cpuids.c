// SPDX-License-Identifier: Apache-2.0
//
// cpuids: every CPUID leaf of the ranges in use, with subleaves, and random ones. What a guest must not see: VMX, SVM,
// MONITOR, the machine's PMU, SGX, and features whose state the kernel does not switch.

#include "../lib/guest.h"

static void not_set(const char *what, u32 value, u32 mask) {
    if (value & mask)
        fail("CPUID shows %s", what);
}

ATTACK(cpuids) {
    u32 r[4], leaves = 0;

    for (u32 base = 0; base != 0xc0000000; base += 0x40000000)
        for (u32 leaf = 0; leaf < 0x100; leaf++)
            for (u32 sub = 0; sub < 70; sub += sub < 4 ? 1 : 22) {
                cpuid(base + leaf, sub, r);
                leaves++;
            }
    seed = 11;
    for (unsigned i = 0; i < 1000; i++)
        cpuid((u32)random64(), (u32)random64(), r);
    cpuid(1, 0, r);
    not_set("VMX", r[2], 1u << 5);
    not_set("SMX", r[2], 1u << 6);
    not_set("MONITOR", r[2], 1u << 3);
    if (!(r[2] >> 31))
        fail("CPUID hides that there is a hypervisor");
    cpuid(7, 0, r);
    not_set("AVX-512", r[1], 1u << 16);
    not_set("SGX", r[1], 1u << 2);
    not_set("PKU", r[2], 1u << 3);
    not_set("shadow stacks", r[2], 1u << 7);
    cpuid(10, 0, r);
    not_set("a PMU", r[0], 0xff);
    cpuid(0x80000001, 0, r);
    not_set("SVM", r[2], 1u << 2);
    cpuid(0x8000000a, 0, r);
    not_set("SVM's features", r[0] | r[1] | r[3], ~0u);
    print("cpuids: %u leaves\n", leaves);
}
