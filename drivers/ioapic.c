// SPDX-License-Identifier: Apache-2.0
//
// I/O APICs. Invariant: an entry is unmasked only by ioapic_mask(). Follows Intel's I/O APIC data sheet, "Register Description".

#include "drivers/ioapic.h"

#include "arch/paging.h"
#include "arch/x86.h"
#include "kernel/log.h"

#define REG_SELECT       0x00u
#define REG_WINDOW       0x10u
#define IOAPIC_VERSION   0x01u
#define IOAPIC_ENTRIES   0x10u // two registers per entry
#define ENTRY_LOW_ACTIVE 0x2000u
#define ENTRY_LEVEL      0x8000u
#define ENTRY_MASKED     0x10000u

#define PIC1             0x20
#define PIC2             0xa0
#define PIC_INIT         0x11 // edge, cascade, four words
#define PIC_MODE_8086    0x01
#define PIC_VECTORS      0x20 // out of the way of exceptions

static struct ioapic {
    volatile u8 *registers;
    u32 gsi_base, count;
} ioapics[ACPI_IOAPICS_MAX]; // count 0: not there

static u32 read(const struct ioapic *io, u32 reg) {
    mmio_write32(io->registers + REG_SELECT, reg);
    return mmio_read32(io->registers + REG_WINDOW);
}

static void write(const struct ioapic *io, u32 reg, u32 value) {
    mmio_write32(io->registers + REG_SELECT, reg);
    mmio_write32(io->registers + REG_WINDOW, value);
}

// The I/O APIC that has the line, and the line's first register there; NULL if there is none.
static const struct ioapic *find(u32 gsi, u32 *reg) {
    for (const struct ioapic *io = ioapics; io < ioapics + ACPI_IOAPICS_MAX; io++) {
        *reg = IOAPIC_ENTRIES + 2 * (gsi - io->gsi_base);
        if (gsi - io->gsi_base < io->count)
            return io;
    }
    return NULL;
}

void ioapic_mask(u32 gsi, bool masked) {
    u32 reg;
    const struct ioapic *io = find(gsi, &reg);
    if (io)
        write(io, reg, (read(io, reg) & ~ENTRY_MASKED) | (masked ? ENTRY_MASKED : 0));
}

int ioapic_route(u32 gsi, unsigned vector, u32 destination, bool level, bool active_low) {
    u32 reg, trigger = (level ? ENTRY_LEVEL : 0) | (active_low ? ENTRY_LOW_ACTIVE : 0);
    const struct ioapic *io = find(gsi, &reg);
    if (!io)
        return -1;
    write(io, reg, ENTRY_MASKED); // first: the halves are written one after the other
    write(io, reg + 1, destination << 24);
    write(io, reg, ENTRY_MASKED | vector | trigger);
    return 0;
}

struct acpi_override ioapic_isa(u8 irq) {
    for (unsigned i = 0; i < acpi.override_count; i++)
        if (acpi.overrides[i].irq == irq)
            return acpi.overrides[i];
    return (struct acpi_override){.irq = irq, .gsi = irq};
}

static void pic_off(void) {
    for (u16 port = PIC1; port <= PIC2; port += PIC2 - PIC1) {
        outb(port, PIC_INIT);
        outb(port + 1, port == PIC1 ? PIC_VECTORS : PIC_VECTORS + 8);
        outb(port + 1, port == PIC1 ? 1 << 2 : 2); // the cascade is line 2
        outb(port + 1, PIC_MODE_8086);
        outb(port + 1, 0xff);
    }
}

void ioapic_init(void) {
    pic_off();
    for (unsigned i = 0; i < acpi.ioapic_count; i++) {
        struct ioapic *io = &ioapics[i];
        io->registers = device_map(HPA(acpi.ioapics[i].address), PAGE_SIZE, MAP_WRITE | MAP_UC);
        if (!io->registers)
            continue;
        io->gsi_base = acpi.ioapics[i].gsi_base;
        io->count = (read(io, IOAPIC_VERSION) >> 16 & 0xff) + 1;
        for (u32 line = 0; line < io->count; line++)
            write(io, IOAPIC_ENTRIES + 2 * line, ENTRY_MASKED);
        log_info("basalt: ioapic: lines %u to %u, all masked", io->gsi_base,
                 io->gsi_base + io->count - 1);
    }
    if (!acpi.ioapic_count)
        log_warn("basalt: ioapic: none: devices without MSI get no interrupts");
}
