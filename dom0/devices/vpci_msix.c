// SPDX-License-Identifier: Apache-2.0
//
// Interrupts of the guest's PCI functions: MSI-X (table and pending bits live in the state page; a
// masked vector waits in its pending bit) and INTx (a wire that several slots share). Invariant: a
// pending bit is set only for a vector that is masked now. Follows "MSI-X Capability and Table
// Structures" of the PCI local bus specification.

#include <string.h>

#include "access.h"
#include "ioapic.h"
#include "vpci.h"

#define MSIX_CAP_ID         0x11u
#define MSIX_CONTROL        2u // offset in the capability
#define MSIX_CONTROL_ENABLE 0x8000u
#define MSIX_CONTROL_MASK   0x4000u // all vectors
#define MSIX_ENTRY_MASKED   1u

void vpci_add_msix(struct vpci_function *f, unsigned vectors, unsigned bar, uint32_t table,
                   uint32_t pba, bool fresh) {
    uint8_t body[10], writable[10] = {0};
    access_store(body, 2, vectors - 1);
    access_store(body + 2, 4, table | bar);
    access_store(body + 6, 4, pba | bar);
    access_store(writable, 2, MSIX_CONTROL_ENABLE | MSIX_CONTROL_MASK);
    f->msix = (uint8_t)vpci_add_capability(f, MSIX_CAP_ID, 12, body, writable, fresh);
    f->msix_bar = (uint8_t)bar;
    f->vectors = (uint8_t)vectors;
    f->msix_table = table;
    f->msix_pba = pba;
    for (unsigned i = 0; fresh && i < vectors; i++)
        f->state->msix[i].control = MSIX_ENTRY_MASKED;
}

static uint16_t control(const struct vpci_function *f) {
    return f->msix ? (uint16_t)access_load(f->state->config + f->msix + MSIX_CONTROL, 2) : 0;
}

bool vpci_msix_enabled(const struct vpci_function *f) { return control(f) & MSIX_CONTROL_ENABLE; }

static bool deliverable(const struct vpci_function *f, unsigned vector) {
    return (control(f) & (MSIX_CONTROL_ENABLE | MSIX_CONTROL_MASK)) == MSIX_CONTROL_ENABLE &&
           !(f->state->msix[vector].control & MSIX_ENTRY_MASKED) &&
           (vpci_command(f) & PCI_COMMAND_MASTER);
}

void vpci_msix_send(struct vpci_function *f, unsigned vector) {
    if (vector >= f->vectors || !vpci_msix_enabled(f))
        return;
    if (!deliverable(f, vector)) {
        f->state->msix_pending |= 1ull << vector;
        return;
    }
    f->state->msix_pending &= ~(1ull << vector);
    host_inject_msi(f->bus->domain, f->state->msix[vector].address, f->state->msix[vector].data);
}

static void send_pending(struct vpci_function *f) {
    for (unsigned i = 0; i < f->vectors; i++)
        if ((f->state->msix_pending >> i & 1) && deliverable(f, i))
            vpci_msix_send(f, i);
}

void vpci_msix_written(struct vpci_function *f, unsigned offset, unsigned bytes) {
    if (!f->msix)
        return;
    bool touched = access_touches(offset, bytes, f->msix + MSIX_CONTROL, 2);
    if (touched && !vpci_msix_enabled(f))
        f->state->msix_pending = 0;
    if (touched || access_touches(offset, bytes, PCI_COMMAND, 2)) {
        send_pending(f);
        vpci_set_line(f, f->line); // MSI-X replaces INTx
    }
}

static bool in_table(const struct vpci_function *f, unsigned bar, uint32_t offset) {
    return f->msix && bar == f->msix_bar && offset >= f->msix_table &&
           offset - f->msix_table < 16u * f->vectors;
}

static bool in_pba(const struct vpci_function *f, unsigned bar, uint32_t offset) {
    return f->msix && bar == f->msix_bar && offset >= f->msix_pba && offset - f->msix_pba < 8;
}

uint64_t vpci_function_read(struct vpci_function *f, unsigned bar, uint32_t offset,
                            unsigned bytes) {
    if (in_table(f, bar, offset))
        return access_load((const uint8_t *)f->state->msix + (offset - f->msix_table), bytes);
    if (in_pba(f, bar, offset))
        return access_load((const uint8_t *)&f->state->msix_pending + (offset - f->msix_pba),
                           bytes);
    return f->ops->bar_read(f, bar, offset, bytes) & access_mask(bytes);
}

void vpci_function_write(struct vpci_function *f, unsigned bar, uint32_t offset, unsigned bytes,
                         uint64_t data) {
    if (in_pba(f, bar, offset))
        return; // read-only
    if (!in_table(f, bar, offset)) {
        f->ops->bar_write(f, bar, offset, bytes, data & access_mask(bytes));
        return;
    }
    unsigned vector = (offset - f->msix_table) / 16;
    access_store((uint8_t *)f->state->msix + (offset - f->msix_table), bytes, data);
    f->state->msix[vector].address &= ~3ull;
    f->state->msix[vector].control &= MSIX_ENTRY_MASKED;
    if ((f->state->msix_pending >> vector & 1) && deliverable(f, vector))
        vpci_msix_send(f, vector);
}

static bool asserts(const struct vpci_function *f) {
    return f->line && !vpci_msix_enabled(f) && !(vpci_command(f) & PCI_COMMAND_NO_INTX);
}

void vpci_set_line(struct vpci_function *f, bool level) {
    struct vpci_bus *bus = f->bus;
    uint32_t gsi = vpci_gsi(f->slot);
    bool any = false;
    f->line = level;
    f->state->config[PCI_STATUS] &= (uint8_t)~PCI_STATUS_INTX;
    if (level && !vpci_msix_enabled(f))
        f->state->config[PCI_STATUS] |= PCI_STATUS_INTX;
    for (unsigned slot = f->slot & 7u; slot < VPCI_SLOTS; slot += 8)
        any |= bus->functions[slot] && asserts(bus->functions[slot]);
    ioapic_set_line(bus->machine, bus->domain, gsi, any);
}
