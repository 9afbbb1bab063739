// SPDX-License-Identifier: Apache-2.0
//
// Machine reset, from the most to the least polite way. Follows the ACPI specification, "Reset Register".

#include "drivers/reset.h"

#include "arch/acpi.h"
#include "arch/x86.h"
#include "drivers/uart16550.h"

#define PORT_KEYBOARD 0x64
#define PORT_RESET    0xcf9
#define RESET_FULL    0x02 // 0xcf9: hard reset, then with bit 2 set: now
#define RESET_NOW     0x04

static void pause_some(void)
{
    for (unsigned i = 0; i < 100000; i++)
        inb(0x80); // about a microsecond each on real hardware
}

void machine_reset(bool warm)
{
    cpu_cli();
    uart_flush();
    if (acpi.reset_supported && acpi.reset.space == ACPI_SPACE_IO && acpi.reset.address <= 0xffff) {
        outb((u16)acpi.reset.address, acpi.reset_value);
        pause_some();
    }
    outb(PORT_RESET, RESET_FULL);
    outb(PORT_RESET, (u8)(RESET_FULL | RESET_NOW | (warm ? 0 : 0x08))); // bit 3: power cycle too
    pause_some();
    outb(PORT_KEYBOARD, 0xfe);
    pause_some();
    struct table_register none = {0, 0};
    lidt(&none);
    asm volatile("int3");
    for (;;)
        cpu_hlt();
}
