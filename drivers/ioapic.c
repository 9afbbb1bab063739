// SPDX-License-Identifier: Apache-2.0
//
// I/O APICs. Invariant: an entry is unmasked only between ioapic_unmask() and ioapic_mask(), and a
// level-triggered one is masked again by its own interrupt before that is acknowledged, so that a
// line nobody serves can't storm. Follows Intel's I/O APIC data sheet, "Register Description".

#include "drivers/ioapic.h"

#include "arch/acpi.h"
#include "arch/cpu.h"
#include "arch/paging.h"
#include "arch/x86.h"
#include "kernel/log.h"

#define REG_SELECT       0x00u
#define REG_WINDOW       0x10u
#define IOAPIC_VERSION   0x01u
#define IOAPIC_ENTRIES   0x10u // two registers per entry
#define ENTRY_LOW_ACTIVE BIT(13)
#define ENTRY_LEVEL      BIT(15)
#define ENTRY_MASKED     BIT(16)

#define PIC1             0x20
#define PIC2             0xa0
#define PIC_INIT         0x11 // edge, cascade, four words
#define PIC_MODE_8086    0x01
#define PIC_VECTORS      0x20 // out of the way of exceptions

static struct {
    volatile u8 *registers;
    u32 gsi_base, count;
} ioapics[ACPI_IOAPICS_MAX];
static unsigned ioapic_count;
static u32 line_of_vector[256]; // gsi of each level-triggered vector

static u32 read(unsigned n, u32 reg)
{
    mmio_write32(ioapics[n].registers + REG_SELECT, reg);
    return mmio_read32(ioapics[n].registers + REG_WINDOW);
}

static void write(unsigned n, u32 reg, u32 value)
{
    mmio_write32(ioapics[n].registers + REG_SELECT, reg);
    mmio_write32(ioapics[n].registers + REG_WINDOW, value);
}

// The I/O APIC that has the line, and the line's first register there. Returns -1 if there is none.
static int find(u32 gsi, u32 *reg)
{
    for (unsigned n = 0; n < ioapic_count; n++) {
        if (gsi - ioapics[n].gsi_base < ioapics[n].count) {
            *reg = IOAPIC_ENTRIES + 2 * (gsi - ioapics[n].gsi_base);
            return (int)n;
        }
    }
    return -1;
}

static void set_mask(u32 gsi, bool masked)
{
    u32 reg;
    int n = find(gsi, &reg);
    if (n < 0)
        return;
    u32 entry = read((unsigned)n, reg) & ~(u32)ENTRY_MASKED;
    write((unsigned)n, reg, entry | (masked ? (u32)ENTRY_MASKED : 0));
}

void ioapic_mask(u32 gsi) { set_mask(gsi, true); }

void ioapic_unmask(u32 gsi) { set_mask(gsi, false); }

static void quench(unsigned vector) { ioapic_mask(line_of_vector[vector]); }

int ioapic_route(u32 gsi, unsigned vector, u32 destination, bool level, bool active_low)
{
    u32 reg;
    int n = find(gsi, &reg);
    if (n < 0)
        return -1;
    // Masked first: the halves are written one after the other.
    write((unsigned)n, reg, (u32)ENTRY_MASKED);
    write((unsigned)n, reg + 1, destination << 24);
    write((unsigned)n, reg,
          (u32)(ENTRY_MASKED | vector | (level ? ENTRY_LEVEL : 0) |
                (active_low ? ENTRY_LOW_ACTIVE : 0)));
    line_of_vector[vector] = gsi;
    if (level)
        irq_level_vectors[vector / 64] |= BIT(vector % 64);
    else
        irq_level_vectors[vector / 64] &= ~BIT(vector % 64);
    return 0;
}

u32 ioapic_isa_gsi(u8 irq, bool *level, bool *active_low)
{
    *level = false;
    *active_low = false;
    for (unsigned i = 0; i < acpi.override_count; i++) {
        if (acpi.overrides[i].irq == irq) {
            *level = acpi.overrides[i].level;
            *active_low = acpi.overrides[i].active_low;
            return acpi.overrides[i].gsi;
        }
    }
    return irq;
}

static void pic_off(void)
{
    for (u16 port = PIC1; port <= PIC2; port += PIC2 - PIC1) {
        outb(port, PIC_INIT);
        outb(port + 1, port == PIC1 ? PIC_VECTORS : PIC_VECTORS + 8);
        outb(port + 1, port == PIC1 ? 1 << 2 : 2); // the cascade is line 2
        outb(port + 1, PIC_MODE_8086);
        outb(port + 1, 0xff);
    }
}

void ioapic_init(void)
{
    pic_off();
    irq_quench = quench;
    for (unsigned i = 0; i < acpi.ioapic_count; i++) {
        unsigned n = ioapic_count;
        ioapics[n].registers =
            device_map(HPA(acpi.ioapics[i].address), PAGE_SIZE, MAP_WRITE | MAP_UC);
        if (!ioapics[n].registers)
            continue;
        ioapics[n].gsi_base = acpi.ioapics[i].gsi_base;
        ioapics[n].count = (read(n, IOAPIC_VERSION) >> 16 & 0xff) + 1;
        for (u32 line = 0; line < ioapics[n].count; line++)
            write(n, IOAPIC_ENTRIES + 2 * line, (u32)ENTRY_MASKED);
        ioapic_count++;
    }
}

void ioapic_report(void)
{
    if (!ioapic_count)
        log_warn("basalt: ioapic: none: devices without MSI get no interrupts");
    for (unsigned n = 0; n < ioapic_count; n++)
        log_info("basalt: ioapic: lines %u to %u, all masked", ioapics[n].gsi_base,
                 ioapics[n].gsi_base + ioapics[n].count - 1);
}
