// SPDX-License-Identifier: Apache-2.0
//
// Machine reset, from the most to the least polite way (a warm one avoids the first). Follows the ACPI specification, "Reset
// Register".

#include "drivers/reset.h"

#include "arch/acpi.h"
#include "arch/x86.h"
#include "drivers/uart16550.h"

#define PORT_KEYBOARD 0x64
#define PORT_RESET    0xcf9
#define RESET_FULL    0x02 // 0xcf9: hard reset, then with bit 2 set: now
#define RESET_NOW     0x04
#define RESET_POWER   0x08 // power cycle too

static void pause_some(void)
{
    for (unsigned i = 0; i < 100000; i++)
        inb(0x80); // about a microsecond each on real hardware
}

static void acpi_reset(void)
{
    if (!acpi.reset_supported || acpi.reset.space != ACPI_SPACE_IO || acpi.reset.address > 0xffff)
        return;
    outb((u16)acpi.reset.address, acpi.reset_value);
    pause_some();
}

void machine_reset(bool warm)
{
    cpu_cli();
    uart_flush();
    if (!warm)
        acpi_reset(); // its value often asks for a power cycle, which loses the memory
    outb(PORT_RESET, RESET_FULL);
    outb(PORT_RESET, (u8)(RESET_FULL | RESET_NOW | (warm ? 0 : RESET_POWER)));
    pause_some();
    outb(PORT_KEYBOARD, 0xfe);
    pause_some();
    acpi_reset();
    struct table_register none = {0, 0};
    lidt(&none);
    asm volatile("int3");
    for (;;)
        cpu_hlt();
}
