// SPDX-License-Identifier: Apache-2.0
//
// The virtual I/O APIC and MSI decoding (see vioapic.h).

#include "guest/vioapic.h"

#define OFFSET_SELECT 0x00u
#define OFFSET_DATA   0x10u
#define OFFSET_EOI    0x40u

#define REG_ID        0x00u
#define REG_VERSION   0x01u
#define REG_ENTRIES   0x10u // two registers per pin

#define VERSION       (0x20u | (VIOAPIC_PINS - 1) << 16) // 0x20: has an EOI register

// A redirection entry.
#define ENTRY_MODE(entry) ((u8)((entry) >> 8 & 7))
#define ENTRY_LOGICAL     BIT(11)
#define ENTRY_REMOTE_IRR  BIT(14) // read-only: accepted, EOI outstanding
#define ENTRY_LEVEL       BIT(15)
#define ENTRY_MASKED      BIT(16)
#define ENTRY_DEST(entry) ((u32)((entry) >> 56))
#define ENTRY_WRITABLE    0xff0000000001afffull // with the polarity bit, which means nothing here

void vioapic_init(struct vioapic *io, u32 id) {
    *io = (struct vioapic){.id = (id & 15) << 24};
    for (unsigned pin = 0; pin < VIOAPIC_PINS; pin++)
        io->entries[pin] = ENTRY_MASKED;
}

static u32 widen(u32 dest) { return dest == 0xff ? VLAPIC_BROADCAST : dest; }

static void decode_entry(u64 entry, struct apic_message *message) {
    *message = (struct apic_message){
        .dest = widen(ENTRY_DEST(entry)),
        .vector = (u8)entry,
        .mode = ENTRY_MODE(entry),
        .logical = entry & ENTRY_LOGICAL,
        .level = entry & ENTRY_LEVEL,
    };
}

bool vioapic_deliver(struct vioapic *io, unsigned pin, struct apic_message *message) {
    if (pin >= VIOAPIC_PINS || !(io->lines & BIT(pin)))
        return false;
    u64 *entry = &io->entries[pin];
    if ((*entry & (ENTRY_MASKED | ENTRY_REMOTE_IRR)) || !(*entry & ENTRY_LEVEL))
        return false;
    *entry |= ENTRY_REMOTE_IRR;
    decode_entry(*entry, message);
    return true;
}

bool vioapic_set_line(struct vioapic *io, unsigned pin, bool level, struct apic_message *message) {
    if (pin >= VIOAPIC_PINS)
        return false;
    bool rises = level && !(io->lines & BIT(pin));
    u64 entry = io->entries[pin];

    io->lines = level ? io->lines | (u32)BIT(pin) : io->lines & ~(u32)BIT(pin);
    if (entry & ENTRY_LEVEL)
        return vioapic_deliver(io, pin, message);
    if (!rises || (entry & ENTRY_MASKED)) // an edge that meets a mask is lost
        return false;
    decode_entry(entry, message);
    return true;
}

struct vioapic_eoi vioapic_eoi(struct vioapic *io, u8 vector) {
    struct vioapic_eoi result = {0};

    for (unsigned pin = 0; pin < VIOAPIC_PINS; pin++) {
        u64 *entry = &io->entries[pin];
        if ((u8)*entry != vector || !(*entry & ENTRY_REMOTE_IRR))
            continue;
        *entry &= ~ENTRY_REMOTE_IRR;
        result.ended |= (u32)BIT(pin);
    }
    result.again = result.ended & io->lines;
    return result;
}

/// The pin whose entry the index register selects; VIOAPIC_PINS and more: none.
static u32 selected_pin(const struct vioapic *io) {
    return io->select < REG_ENTRIES ? VIOAPIC_PINS : (io->select - REG_ENTRIES) / 2;
}

u32 vioapic_read(const struct vioapic *io, u32 offset) {
    u32 pin = selected_pin(io);

    if (offset == OFFSET_SELECT)
        return io->select;
    if (offset != OFFSET_DATA)
        return 0;
    if (io->select == REG_ID)
        return io->id;
    if (io->select == REG_VERSION)
        return VERSION;
    return pin < VIOAPIC_PINS ? (u32)(io->entries[pin] >> (io->select & 1) * 32) : 0;
}

/// Writes half a redirection entry. Switching to edge forgets an outstanding EOI: guests end a stuck one that way.
static u32 write_entry(struct vioapic *io, u32 pin, unsigned shift, u32 value) {
    u64 old = io->entries[pin], half = 0xffffffffull << shift;
    u64 entry = (old & ~half) | ((u64)value << shift);

    entry = (entry & ENTRY_WRITABLE) | (old & ENTRY_REMOTE_IRR);
    if (!(entry & ENTRY_LEVEL))
        entry &= ~ENTRY_REMOTE_IRR;
    io->entries[pin] = entry;
    bool deliverable = (entry & ENTRY_LEVEL) && !(entry & (ENTRY_MASKED | ENTRY_REMOTE_IRR));
    return deliverable ? io->lines & (u32)BIT(pin) : 0;
}

u32 vioapic_write(struct vioapic *io, u32 offset, u32 value, struct vioapic_eoi *eoi) {
    *eoi = (struct vioapic_eoi){0};
    if (offset == OFFSET_SELECT)
        io->select = value & 0xff;
    if (offset == OFFSET_EOI)
        *eoi = vioapic_eoi(io, (u8)value);
    if (offset != OFFSET_DATA)
        return 0;
    if (io->select == REG_ID)
        io->id = value & 0x0f000000;
    u32 pin = selected_pin(io);
    return pin < VIOAPIC_PINS ? write_entry(io, pin, (io->select & 1) * 32, value) : 0;
}

bool msi_decode(u64 address, u32 data, struct apic_message *message) {
    u8 mode = data >> 8 & 7;

    if (address >> 20 != 0xfee || mode == APIC_RESERVED || mode == APIC_SIPI)
        return false;
    *message = (struct apic_message){
        .dest = widen((u32)(address >> 12) & 0xff),
        .vector = (u8)data,
        .mode = mode,
        .logical = address & 4,
        .level = data & 0x8000,
    };
    return true;
}
