// SPDX-License-Identifier: Apache-2.0
//
// The I/O APIC's registers and lines (see ioapic.h). A redirection entry has the fields of a message
// signalled interrupt in other places; the kernel gets that message.

#include <string.h>

#include "host.h"
#include "ioapic.h"

#define OFFSET_SELECT    0x00u
#define OFFSET_DATA      0x10u
#define OFFSET_EOI       0x40u

#define REG_ID           0x00u
#define REG_VERSION      0x01u
#define REG_ENTRIES      0x10u // two registers per pin

#define VERSION          (0x20u | (IOAPIC_PINS - 1) << 16) // 0x20: has an EOI register
#define ID_BITS          0x0f000000u

#define ENTRY_LOGICAL    (1ull << 11)
#define ENTRY_REMOTE_IRR (1ull << 14) // read-only: accepted, EOI outstanding
#define ENTRY_LEVEL      (1ull << 15)
#define ENTRY_MASKED     (1ull << 16)
#define ENTRY_DEST       56                    // shift
#define ENTRY_WRITABLE   0xff0000000001afffull // with the polarity bit, which means nothing here

#define MSI_BASE         0xfee00000u
#define MSI_DEST         12 // shift
#define MSI_LOGICAL      0x4u
#define MSI_DATA         0x87ffu // vector, delivery mode and trigger mode lie where an entry has them
#define MSI_ASSERT       0x4000u

void ioapic_reset(struct machine_state *machine) {
    memset(&machine->ioapic, 0, sizeof(machine->ioapic));
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
        machine->ioapic.entries[pin] = ENTRY_MASKED;
}

static void send(uint32_t domain, uint64_t entry) {
    uint64_t address = MSI_BASE | entry >> ENTRY_DEST << MSI_DEST |
                       (entry & ENTRY_LOGICAL ? MSI_LOGICAL : 0);
    host_inject_msi(domain, address, (uint32_t)(entry & MSI_DATA) | MSI_ASSERT);
}

// Delivers a level-triggered pin that is asserted, unmasked and without an EOI outstanding.
static void deliver(struct machine_state *machine, uint32_t domain, unsigned pin) {
    uint64_t *entry = &machine->ioapic.entries[pin];
    if (!(machine->lines >> pin & 1) ||
        (*entry & (ENTRY_LEVEL | ENTRY_MASKED | ENTRY_REMOTE_IRR)) != ENTRY_LEVEL)
        return;
    *entry |= ENTRY_REMOTE_IRR;
    send(domain, *entry);
}

void ioapic_set_line(struct machine_state *machine, uint32_t domain, unsigned pin, bool level) {
    if (pin >= IOAPIC_PINS || level == (machine->lines >> pin & 1))
        return;
    uint64_t entry = machine->ioapic.entries[pin];
    machine->lines ^= 1u << pin;
    if (entry & ENTRY_LEVEL)
        deliver(machine, domain, pin);
    else if (level && !(entry & ENTRY_MASKED)) // an edge that meets a mask is lost
        send(domain, entry);
}

static void end_of_interrupt(struct machine_state *machine, uint32_t domain, uint8_t vector) {
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        uint64_t *entry = &machine->ioapic.entries[pin];
        if ((uint8_t)*entry != vector || !(*entry & ENTRY_REMOTE_IRR))
            continue;
        *entry &= ~ENTRY_REMOTE_IRR;
        deliver(machine, domain, pin);
    }
}

// The pin whose entry the index register selects; IOAPIC_PINS and more: none.
static unsigned selected_pin(const struct machine_state *machine) {
    uint32_t select = machine->ioapic.select;
    return select < REG_ENTRIES ? IOAPIC_PINS : (select - REG_ENTRIES) / 2;
}

static unsigned selected_shift(const struct machine_state *machine) {
    return (machine->ioapic.select & 1) * 32;
}

uint32_t ioapic_read(const struct machine_state *machine, unsigned offset) {
    const struct ioapic_state *s = &machine->ioapic;
    unsigned pin = selected_pin(machine);
    if (offset == OFFSET_SELECT)
        return s->select;
    if (offset != OFFSET_DATA)
        return 0;
    if (s->select == REG_ID)
        return s->id;
    if (s->select == REG_VERSION)
        return VERSION;
    return pin < IOAPIC_PINS ? (uint32_t)(s->entries[pin] >> selected_shift(machine)) : 0;
}

// Switching to edge forgets an outstanding EOI: guests end a stuck one that way.
static void write_entry(struct machine_state *machine, uint32_t domain, unsigned pin,
                        uint32_t value) {
    uint64_t *entry = &machine->ioapic.entries[pin];
    unsigned shift = selected_shift(machine);
    uint64_t written = (*entry & ~(0xffffffffull << shift)) | (uint64_t)value << shift;
    uint64_t kept = written & ENTRY_LEVEL ? ENTRY_REMOTE_IRR : 0;
    *entry = (written & ENTRY_WRITABLE) | (*entry & kept);
    deliver(machine, domain, pin);
}

void ioapic_write(struct machine_state *machine, uint32_t domain, unsigned offset, uint32_t value) {
    struct ioapic_state *s = &machine->ioapic;
    unsigned pin = selected_pin(machine);
    if (offset == OFFSET_SELECT)
        s->select = value & 0xff;
    else if (offset == OFFSET_EOI)
        end_of_interrupt(machine, domain, (uint8_t)value);
    else if (offset == OFFSET_DATA && s->select == REG_ID)
        s->id = value & ID_BITS;
    else if (offset == OFFSET_DATA && pin < IOAPIC_PINS)
        write_entry(machine, domain, pin, value);
}
