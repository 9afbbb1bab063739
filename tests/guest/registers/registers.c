// SPDX-License-Identifier: Apache-2.0
//
// registers: flips every bit of CR0, CR4, CR8, XCR0, DR0 to DR7 and EFER one by one, and puts it back, and sets the bits
// of CR3 that no table needs. VMX must stay off, bits that are reserved must fault, and the machine must not notice.

#include "../lib/guest.h"

#define BITS (8 * sizeof(word))

static u32 accepted, refused;

static void count(int vector) {
    if (vector < 0)
        accepted++;
    else if (vector == 13 || vector == 6)
        refused++;
    else
        fail("exception %u", (u32)vector);
}

static void control_registers(void) {
    for (unsigned bit = 0; bit < BITS; bit++) {
        word cr0 = read_cr0(), cr4 = read_cr4(), cr3 = read_cr3();
        // Turning PE or PG off: back within the same breath, from the same page. TS and EM are no matter here.
        asm volatile(GUARD("mov %0, %%cr0; mov %1, %%cr0")
                     :
                     : "r"(cr0 ^ (word)1 << bit), "r"(cr0)
                     : "memory");
        count(trap_vector);
        write_cr0(cr0);
        // In 32-bit code PSE and PAE are what its page tables are made for (`deaths` turns them).
        bool format = sizeof(word) == 4 && (bit == 4 || bit == 5);
        count(write_cr4(format ? cr4 : cr4 ^ (word)1 << bit));
        if (bit == 13 && trap_vector < 0)
            fail("CR4.VMXE can be set");
        write_cr4(cr4);
        if (bit <
            12) // those above the physical width: QEMU takes them and then refuses to enter (`deaths`)
            count(write_cr3(cr3 ^ (word)1 << bit));
        write_cr3(cr3);
    }
}

static void task_priority(void) {
#ifdef __x86_64__
    for (unsigned bit = 0; bit < 64; bit++) {
        asm volatile(GUARD("mov %0, %%cr8") : : "r"(1ull << bit) : "memory");
        if ((trap_vector < 0) != (bit < 4))
            fail("bit %u of CR8: %u", bit, (u32)trap_vector);
        asm volatile("mov %0, %%cr8" : : "r"(0ull));
    }
#endif
}

#define FLIP_DR(number)                                                                 \
    for (unsigned bit = 0; bit < BITS; bit++) {                                         \
        if (number == 7 && bit == 13)                                                   \
            continue; /* GD: the next access would trap */                              \
        word old = 0;                                                                   \
        asm volatile(GUARD("mov %%dr" #number ", %0") : "+r"(old) : : "memory");        \
        asm volatile(GUARD("mov %0, %%dr" #number) : : "r"((word)1 << bit) : "memory"); \
        if (trap_vector != 1)                                                           \
            count(trap_vector);                                                         \
        asm volatile(GUARD("mov %0, %%dr" #number) : : "r"(old) : "memory");            \
    }

static void debug_registers(void) {
    FLIP_DR(0);
    FLIP_DR(1);
    FLIP_DR(2);
    FLIP_DR(3);
    FLIP_DR(6);
    FLIP_DR(7);
    asm volatile("mov %0, %%dr7" : : "r"((word)0x400));
}

// General detect: what touches a debug register traps, once. (QEMU's processor does not know it.)
static void general_detect(void) {
    word value = 0;

    asm volatile("mov %0, %%dr7" : : "r"((word)0x2400));
    asm volatile(GUARD("mov %%dr0, %0") : "+r"(value) : : "memory");
    bool known = trap_vector == 1;
    asm volatile(GUARD("mov %%dr7, %0") : "+r"(value) : : "memory");
    if (known && (trap_vector >= 0 || value & 0x2000))
        fail("DR7.GD is still set behind its exception: %x", (u32)value);
    asm volatile(GUARD("mov %0, %%dr7") : : "r"((word)0x400) : "memory");
}

static void extended_state(void) {
    u32 r[4];
    word cr4 = read_cr4();

    cpuid(1, 0, r);
    if (!(r[2] & 1u << 26))
        return;
    asm volatile(GUARD("xsetbv") : : "a"(1), "d"(0), "c"(0)); // CR4.OSXSAVE is off
    if (trap_vector != 6)
        fail("XSETBV without OSXSAVE: %u", (u32)trap_vector);
    write_cr4(cr4 | 1u << 18);
    for (u32 index = 0; index < 3; index++)
        for (unsigned bit = 0; bit < 64; bit++) {
            u64 value = 1ull << bit | 1;
            asm volatile(GUARD("xsetbv")
                         :
                         : "a"((u32)value), "d"((u32)(value >> 32)), "c"(index)
                         : "memory");
            count(trap_vector);
        }
    asm volatile(GUARD("xsetbv") : : "a"(0), "d"(0), "c"(0));
    count(trap_vector); // QEMU's processor takes it, and other bits, without asking the hypervisor
    asm volatile("xsetbv" : : "a"(1), "d"(0), "c"(0));
    write_cr4(cr4);
}

static void efer(void) {
    u64 old;

    rdmsr(0xc0000080, &old);
    for (unsigned bit = 0; bit < 64; bit++) {
        count(wrmsr(0xc0000080, old ^ 1ull << bit));
        if (bit == 12 && trap_vector < 0)
            fail("EFER.SVME can be changed");
        wrmsr(0xc0000080, old);
    }
}

ATTACK(registers) {
    accepted = refused = 0;
    control_registers();
    task_priority();
    debug_registers();
    general_detect();
    extended_state();
    efer();
    print("registers: %u bits taken, %u refused\n", accepted, refused);
}
