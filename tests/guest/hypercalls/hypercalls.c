// SPDX-License-Identifier: Apache-2.0
//
// hypercalls COUNT [SEED]: calls the kernel with numbers and arguments that are random, extreme, or nearly right. Of a
// guest, only what concerns itself may succeed; from CPL 3 nothing at all.

#include "../lib/guest.h"

#include <basalt/hypercall.h>

#define BASE  0xba5a0000u
#define IMAGE 0x100000u // where it is linked at

enum {
    VERSION = BASALT_HC_VERSION - BASE,
    YIELD = BASALT_HC_YIELD - BASE,
    HANDLE_INFO = BASALT_HC_HANDLE_INFO - BASE,
    DOMAIN_INFO = BASALT_HC_DOMAIN_INFO - BASE,
    VCPU_STATS = BASALT_HC_VCPU_STATS - BASE,
    SHARES = 64, // more than dom0 has on a small guest
};

static bool amd;

static u64 argument(void) {
    static const u64 extreme[] = {
        0,          1,          2,          ~0ull,      1ull << 63,
        1ull << 47, ~0ull >> 1, 0xffffffff, 0x80000000, 0xfffffffffffff000ull,
        0x300000,   0x7fffff,   0x800000,   LAPIC,      0xffff800000000000ull,
        4096};
    u64 r = random64();

    switch (r & 7) {
    case 0:
    case 1: return extreme[r >> 3 & 15];
    case 2: return r >> 3 & 0xff;
    case 3: return (r >> 3 & 0x3fffff) | 0x400000; // RAM where nothing is
    case 4: return 1ull << (r >> 3 & 63);
    default: return random64();
    }
}

static u64 call(u64 number, const u64 a[6]) {
#ifdef __x86_64__
    u64 result = number;
    register u64 r10 asm("r10") = a[3];
    register u64 r8 asm("r8") = a[4];
    register u64 r9 asm("r9") = a[5];
    u64 rdx = a[2];
    if (amd)
        asm volatile("vmmcall"
                     : "+a"(result), "+d"(rdx)
                     : "D"(a[0]), "S"(a[1]), "r"(r10), "r"(r8), "r"(r9)
                     : "memory");
    else
        asm volatile("vmcall"
                     : "+a"(result), "+d"(rdx)
                     : "D"(a[0]), "S"(a[1]), "r"(r10), "r"(r8), "r"(r9)
                     : "memory");
    return result;
#else
    static u32 low[6];
    u32 result = (u32)number;
    for (unsigned i = 0; i < 6; i++)
        low[i] = (u32)a[i];
    asm volatile(
        "pusha\n\tmov %%eax, 28(%%esp)\n\t"
        "mov %[low], %%ebx\n\tmov 4+%[low], %%ecx\n\tmov 8+%[low], %%edx\n\tmov 12+%[low], %%esi\n\t"
        "mov 16+%[low], %%edi\n\tmov 20+%[low], %%ebp\n\t"
        "cmpb $0, %[amd]\n\tjne 1f\n\tvmcall\n\tjmp 2f\n1:\tvmmcall\n2:\tmov %%eax, 28(%%esp)\n\tpopa"
        : "+a"(result)
        : [low] "m"(low), [amd] "m"(amd)
        : "memory", "cc");
    return (u64)(int64_t)(int32_t)result;
#endif
}

// What a guest may do with the one handle that it has, 0, which is on itself and carries no rights: look at itself. Its
// memory is lent to dom0, so that it can't even give that back.
static bool allowed(u32 call, const u64 a[6]) {
    u32 handle = (u32)a[0];
    bool self = sizeof(word) == 4 ? !handle : !a[0];
    return call == VERSION || call == YIELD || call == HANDLE_INFO ||
           (self && (call == DOMAIN_INFO || call == VCPU_STATS));
}

// These two write where they are told to, which must not be this program.
static bool overwrites(u32 call, const u64 a[6]) {
    word at = (word)a[call == DOMAIN_INFO ? 1 : 2];
    bool writes = call == DOMAIN_INFO || call == VCPU_STATS;
    return writes && at > IMAGE - PAGE && at < (word)image_end;
}

ATTACK(hypercalls) {
    u64 calls = ARGUMENT(0, 10000);
    u32 r[4], succeeded = 0;

    seed = ARGUMENT(1, 0);
    if (!seed)
        seed = rdtsc() | 1;
    print("hypercalls: %U calls, seed %U\n", calls, seed);
    cpuid(0, 0, r);
    amd = r[2] == 0x444d4163;
    u64 none[6] = {0};
    if (!(call(BASE, none) + 1))
        fail("the version is not told");
    for (u64 i = 0; i < SHARES; i++) { // through which dom0 reaches this guest's memory
        u64 a[6] = {0, i};
        if ((int64_t)call(BASALT_HC_SHARE_END, a) >= 0)
            fail("share %U of dom0 could be ended", i);
    }
    for (u64 i = 0; i < calls; i++) {
        u64 a[6], was = seed, number = BASE + random64() % 80;
        if (!(random64() & 31))
            number = argument();
        for (unsigned j = 0; j < 6; j++)
            a[j] = argument();
        u32 which = (u32)number - BASE;
        if ((which == YIELD && i & 0xff) || overwrites(which, a))
            continue; // the former takes its time
        u64 result = call(number, a);
        bool error = (int64_t)result < 0 && (int64_t)result >= -1000;
        succeeded += !error;
        if (error || allowed(which, a))
            continue;
        fail("call %x with %X, %X, %X gave %X (state %X)", which, a[0], a[1], a[2], result, was);
    }
    // From CPL 3: asks for the version; UD2 (6) if that is told, else HLT (13).
    static const u8 user_calls[] = {0xb8, 0,    0,    0x5a, 0xba, 0x0f, 0x01, 0xd9,
                                    0x85, 0xc0, 0x78, 2,    0x0f, 0x0b, 0xf4};
    static u8 code[16];
    memcpy(code, user_calls, sizeof(user_calls));
    if (!amd)
        code[7] = 0xc1;
    unsigned end = user_call(code, sizeof(code));
    if ((end & 0xff) != 13)
        fail("a call from CPL 3 succeeds: %x", end);
    print("hypercalls: %u succeeded\n", succeeded);
}
