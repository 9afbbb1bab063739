// SPDX-License-Identifier: Apache-2.0
//
// The virtual I/O APIC: 24 lines, each turned into an interrupt message by its redirection entry; and the decoding of
// MSIs, which are the same messages without a line. It never calls up: messages to deliver are returned. Invariant:
// remote IRR is set only in level-triggered entries, from delivery to EOI. Follows the 82093AA I/O APIC datasheet and
// the SDM, "Message Signalled Interrupts".
#pragma once

#include "guest/vlapic.h"

#define VIOAPIC_BASE 0xfec00000ull
#define VIOAPIC_PINS 24u

struct vioapic {
    u32 select; // register chosen by the index window
    u32 id;     // bits 27:24, as the register shows it
    u32 lines;  // bit per pin: asserted
    u64 entries[VIOAPIC_PINS];
};

/// What an EOI did.
struct vioapic_eoi {
    u32 ended; // pins whose interrupt ended: their EOI ports ring
    u32 again; // of these, pins still asserted: call vioapic_deliver for each
};

void vioapic_init(struct vioapic *io, u32 id);

static inline bool vioapic_owns(gpa_t gpa) { return (gpa.v & PAGE_MASK) == VIOAPIC_BASE; }

/// Access at `offset` (0..0xfff) of its page. A write returns the pin (as a bit) that it made deliverable (unmasked
/// while its level is asserted), or 0: call vioapic_deliver for it. A write to the EOI register fills *eoi.
u32 vioapic_read(const struct vioapic *io, u32 offset);
must_check u32 vioapic_write(struct vioapic *io, u32 offset, u32 value, struct vioapic_eoi *eoi);

/// Drives line `pin` (0..23; others are ignored). True: deliver *message.
must_check bool vioapic_set_line(struct vioapic *io, unsigned pin, bool level,
                                 struct apic_message *message);
/// Delivers `pin` if its level is asserted, it is unmasked and no EOI is outstanding. True: deliver *message.
must_check bool vioapic_deliver(struct vioapic *io, unsigned pin, struct apic_message *message);
/// The guest ended level-triggered `vector` on one of its local APICs.
must_check struct vioapic_eoi vioapic_eoi(struct vioapic *io, u8 vector);

/// Decodes an MSI. False for an address outside the interrupt window or a delivery mode that MSIs don't have.
must_check bool msi_decode(u64 address, u32 data, struct apic_message *message);
