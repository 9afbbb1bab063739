// SPDX-License-Identifier: Apache-2.0
//
// Machine reset: the FADT's register, the chipset's, the keyboard controller's, a triple fault, in that order; a warm one
// leaves the first to the end. Follows the ACPI specification, "Reset Register".

#include "arch/acpi.h"
#include "arch/cpu.h"

#define PORT_KEYBOARD 0x64
#define PORT_RESET    0xcf9
#define RESET_FULL    0x02 // 0xcf9: hard reset, then with bit 2 set: now
#define RESET_NOW     0x04
#define RESET_POWER   0x08 // power cycle too

static void attempt(u16 port, u8 value) {
    if (port)
        outb(port, value);
    for (unsigned i = 0; i < 100000; i++)
        inb(0x80); // about a microsecond each on real hardware
}

void machine_reset(bool warm) {
    struct table_register none = {0, 0};
    cpu_cli();
    if (!warm)
        attempt(acpi.reset_port, acpi.reset_value); // often a power cycle: the memory is lost
    outb(PORT_RESET, RESET_FULL);
    attempt(PORT_RESET, (u8)(RESET_FULL | RESET_NOW | (warm ? 0 : RESET_POWER)));
    attempt(PORT_KEYBOARD, 0xfe);
    attempt(acpi.reset_port, acpi.reset_value);
    lidt(&none);
    asm volatile("int3");
    for (;;)
        cpu_hlt();
}
