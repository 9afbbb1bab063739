// SPDX-License-Identifier: Apache-2.0
//
// The static tables. Each is a structure of the specification's, filled in, with its checksum; they
// lie one after the other, 64-byte aligned. No legacy hardware is promised that does not exist (no
// 8042, no VGA, no SMI command port, no GPEs), so that an operating system does not look for it.
// Follows "ACPI System Description Tables".

#include <string.h>

#include "acpi.h"
#include "acpi_dsdt.h"
#include "acpi_tables.h"
#include "ioapic.h"
#include "machine.h"
#include "pm.h"
#include "rtc.h"

#define TABLE_ALIGN 64u

struct builder {
    uint8_t *buffer;
    size_t size, used;
    uint64_t base;
};

static uint8_t checksum(const void *bytes, size_t length) {
    uint8_t sum = 0;
    for (size_t i = 0; i < length; i++)
        sum = (uint8_t)(sum + ((const uint8_t *)bytes)[i]);
    return (uint8_t)-sum;
}

// The next place for a table of `size` bytes, zeroed; NULL when there is none.
static void *place(struct builder *b, size_t size, uint32_t *address) {
    size_t at = (b->used + TABLE_ALIGN - 1) & ~(size_t)(TABLE_ALIGN - 1);
    if (at > b->size || b->size - at < size)
        return NULL;
    b->used = at + size;
    *address = (uint32_t)(b->base + at);
    memset(b->buffer + at, 0, size);
    return b->buffer + at;
}

static void seal(struct acpi_header *h, const char *signature, uint8_t revision, size_t length) {
    memcpy(h->signature, signature, 4);
    memcpy(h->oem, "BASALT", 6);
    memcpy(h->oem_table, "BASALTVM", 8);
    memcpy(h->creator, "BSLT", 4);
    h->length = (uint32_t)length;
    h->revision = revision;
    h->oem_revision = h->creator_revision = 1;
    h->checksum = 0;
    h->checksum = checksum(h, length);
}

static uint32_t build_dsdt(struct builder *b, uint32_t vcpus) {
    uint32_t address;
    struct acpi_header *h = place(b, sizeof(*h), &address);
    if (!h)
        return 0;
    struct aml aml = {.bytes = (uint8_t *)(h + 1), .size = b->size - b->used};
    acpi_dsdt(&aml, vcpus);
    if (!aml_ok(&aml))
        return 0;
    b->used += aml.used;
    seal(h, "DSDT", 2, sizeof(*h) + aml.used);
    return address;
}

static uint32_t build_facs(struct builder *b) {
    uint32_t address;
    struct acpi_facs *facs = place(b, sizeof(*facs), &address);
    if (!facs)
        return 0;
    memcpy(facs->signature, "FACS", 4);
    facs->length = sizeof(*facs);
    facs->version = 2;
    return address;
}

static struct acpi_address io_address(uint32_t port, uint8_t bytes) {
    return (struct acpi_address){SPACE_IO, (uint8_t)(8 * bytes), 0, bytes == 4 ? 3 : bytes, port};
}

static void fadt_registers(struct acpi_fadt *f) {
    f->sci = PM_SCI;
    f->pm1a_event = PM_PORT + PM_EVENT;
    f->pm1a_control = PM_PORT + PM_CONTROL;
    f->pm_timer = PM_PORT + PM_TIMER;
    f->pm1_event_length = 4;
    f->pm1_control_length = 2;
    f->pm_timer_length = 4;
    f->x_pm1a_event = io_address(f->pm1a_event, 4);
    f->x_pm1a_event.access = 2; // status and enable are 16 bits each
    f->x_pm1a_control = io_address(f->pm1a_control, 2);
    f->x_pm_timer = io_address(f->pm_timer, 4);
    f->reset = io_address(MACHINE_RESET_PORT, 1);
    f->reset_value = MACHINE_RESET_VALUE;
}

static uint32_t build_fadt(struct builder *b, uint32_t facs, uint32_t dsdt) {
    uint32_t address;
    struct acpi_fadt *f = place(b, sizeof(*f), &address);
    if (!f || !facs || !dsdt)
        return 0;
    fadt_registers(f);
    f->facs = facs;
    f->dsdt = dsdt;
    f->x_dsdt = dsdt;
    f->c2_latency = C2_NONE;
    f->c3_latency = C3_NONE;
    f->century = RTC_CENTURY;
    f->boot_architecture = BOOT_NO_VGA | BOOT_NO_ASPM;
    f->flags = FADT_WBINVD | FADT_C1 | FADT_NO_SLEEP_BUTTON | FADT_NO_RTC_WAKE | FADT_TIMER_32 |
               FADT_RESET;
    seal(&f->header, "FACP", 5, sizeof(*f));
    return address;
}

static uint32_t build_madt(struct builder *b, uint32_t vcpus) {
    uint32_t address;
    size_t length = offsetof(struct acpi_madt, lapics) + vcpus * sizeof(struct acpi_madt_lapic);
    struct acpi_madt *m = place(b, length, &address);
    if (!m)
        return 0;
    m->lapic = LAPIC_ADDRESS;
    m->ioapic = (struct acpi_madt_ioapic){1, sizeof(m->ioapic), 0, 0, IOAPIC_ADDRESS, 0};
    m->sci = (struct acpi_madt_override){2, sizeof(m->sci), 0, PM_SCI, PM_SCI, LEVEL_HIGH};
    m->nmi = (struct acpi_madt_nmi){4, sizeof(m->nmi), 0xff, 0, 1}; // all processors, LINT1
    for (uint32_t i = 0; i < vcpus; i++)
        m->lapics[i] = (struct acpi_madt_lapic){0, sizeof(m->lapics[0]), (uint8_t)i, (uint8_t)i, 1};
    seal(&m->header, "APIC", 4, length);
    return address;
}

static uint32_t build_mcfg(struct builder *b) {
    uint32_t address;
    struct acpi_mcfg *m = place(b, sizeof(*m), &address);
    if (!m)
        return 0;
    m->base = MACHINE_ECAM;
    m->last_bus = (MACHINE_ECAM_SIZE >> 20) - 1;
    seal(&m->header, "MCFG", 1, sizeof(*m));
    return address;
}

static uint32_t build_xsdt(struct builder *b, uint32_t fadt, uint32_t madt, uint32_t mcfg) {
    uint32_t address;
    struct acpi_xsdt *x = place(b, sizeof(*x), &address);
    if (!x || !fadt || !madt || !mcfg)
        return 0;
    x->tables[0] = fadt;
    x->tables[1] = madt;
    x->tables[2] = mcfg;
    seal(&x->header, "XSDT", 1, sizeof(*x));
    return address;
}

size_t acpi_build(uint8_t *buffer, size_t size, uint64_t base, uint32_t vcpus) {
    struct builder b = {buffer, size, 0, base};
    uint32_t address;
    struct acpi_rsdp *rsdp = place(&b, sizeof(*rsdp), &address);
    if (!rsdp || vcpus > BASALT_VCPUS_MAX)
        return 0;
    uint32_t dsdt = build_dsdt(&b, vcpus);
    uint32_t fadt = build_fadt(&b, build_facs(&b), dsdt);
    uint32_t madt = build_madt(&b, vcpus);
    rsdp->xsdt = build_xsdt(&b, fadt, madt, build_mcfg(&b));
    if (!rsdp->xsdt)
        return 0;
    memcpy(rsdp->signature, "RSD PTR ", 8);
    memcpy(rsdp->oem, "BASALT", 6);
    rsdp->revision = 2;
    rsdp->length = sizeof(*rsdp);
    rsdp->checksum = checksum(rsdp, 20);
    rsdp->extended_checksum = checksum(rsdp, sizeof(*rsdp));
    return b.used;
}
