// SPDX-License-Identifier: Apache-2.0
//
// Guests first, then the machine: ACPI soft-off through PM1 control (ACPI specification, "Fixed
// Hardware Features"), then the emulators' own port.

#include "toolstack/power.h"

#include "lib/boot.h"
#include "lib/console.h"
#include "lib/hypercall.h"
#include "lib/log.h"
#include "lib/ports.h"
#include "toolstack/domain.h"

#include <string.h>

#define PATIENCE_NS (60 * NS_PER_S)

static bool going_down, reboot_wanted, last_step;
static struct timer patience;
static struct work work;

// ---- the machine ----

#define TABLE_HEADER 36u
#define TABLE_MOST   (4 * MIB)
#define FADT_DSDT    40u // u32
#define FADT_PM1A    64u // u32: port of the PM1a control block
#define FADT_PM1B    68u
#define FADT_X_DSDT  140u // u64
#define SLP_TYP(n)   ((u16)((n) << 10))
#define SLP_TYP_MASK SLP_TYP(7)
#define SLP_EN       ((u16)(1 << 13))
#define BOCHS_PORT   0x8900

static u32 field32(const u8 *table, u32 offset) {
    u32 value;
    memcpy(&value, table + offset, sizeof(value));
    return value;
}

static u64 field64(const u8 *table, u32 offset) {
    u64 value;
    memcpy(&value, table + offset, sizeof(value));
    return value;
}

// A table at `address` with the given signature and a right checksum; its length goes to *bytes.
// NULL otherwise.
static const u8 *table_at(u64 address, const char *signature, u32 *bytes) {
    const u8 *table = address ? phys_map(address, TABLE_HEADER) : NULL;
    if (!table || memcmp(table, signature, 4) != 0)
        return NULL;
    *bytes = field32(table, 4);
    if (*bytes < TABLE_HEADER || *bytes > TABLE_MOST || !(table = phys_map(address, *bytes)))
        return NULL;
    u8 sum = 0;
    for (u32 i = 0; i < *bytes; i++)
        sum = (u8)(sum + table[i]);
    return sum == 0 ? table : NULL;
}

// The table that RSDT or XSDT points to.
static const u8 *find_table(const char *signature, u32 *bytes) {
    u32 root_bytes, step = 8;
    const u8 *root = table_at(boot_info->acpi_root, "XSDT", &root_bytes);
    if (!root) {
        root = table_at(boot_info->acpi_root, "RSDT", &root_bytes);
        step = 4;
    }
    for (u32 at = TABLE_HEADER; root && at + step <= root_bytes; at += step) {
        u64 address = step == 8 ? field64(root, at) : field32(root, at);
        const u8 *table = table_at(address, signature, bytes);
        if (table)
            return table;
    }
    return NULL;
}

static void sleep_type(u32 port, u8 type) {
    if (port == 0 || port > 0xffff)
        return;
    u16 value = in16((u16)port) & (u16) ~(SLP_TYP_MASK | SLP_EN);
    out16((u16)port, value | SLP_TYP(type));
    out16((u16)port, value | SLP_TYP(type) | SLP_EN);
}

// Returns why it did not work.
static const char *acpi_off(void) {
    u32 fadt_bytes = 0, dsdt_bytes = 0;
    u8 type_a = 0, type_b = 0;
    const u8 *fadt = find_table("FACP", &fadt_bytes), *dsdt = NULL;
    if (!fadt || fadt_bytes < FADT_PM1B + 4)
        return "the firmware's ACPI tables have no usable FADT";
    if (fadt_bytes >= FADT_X_DSDT + 8)
        dsdt = table_at(field64(fadt, FADT_X_DSDT), "DSDT", &dsdt_bytes);
    if (!dsdt)
        dsdt = table_at(field32(fadt, FADT_DSDT), "DSDT", &dsdt_bytes);
    if (!dsdt || !power_find_s5(dsdt + TABLE_HEADER, dsdt_bytes - TABLE_HEADER, &type_a, &type_b))
        return "the firmware's DSDT does not say how to switch off (no _S5)";
    sleep_type(field32(fadt, FADT_PM1A), type_a);
    sleep_type(field32(fadt, FADT_PM1B), type_b);
    delay_us(500000);
    return "the machine ignored ACPI's soft-off";
}

void power_off_machine(void) {
    log_info("power", "switching the machine off");
    console_flush(6000); // the buffer at 115200 baud
    const char *why = acpi_off();
    for (const char *c = "Shutdown"; *c; c++)
        out8(BOCHS_PORT, (u8)*c);
    delay_us(100000);
    log_error("power", "%s: it is safe to switch it off by hand now", why);
}

static void reset_machine(void) {
    log_info("power", "starting the machine anew");
    console_flush(6000);
    i64 r = hc_reset(BASALT_RESET_COLD);
    log_error("power", "the kernel does not reset the machine: %s", error_text(r));
}

// ---- guests first ----

static bool any_alive(void) {
    for (struct domain *d = domain_first(); d; d = d->next)
        if (domain_alive(d) || d->state == DOMAIN_WAITING)
            return true;
    return false;
}

static void end_one(struct domain *d, bool at_once) {
    char error[DOMAIN_ERROR_SIZE];
    if (d->state == DOMAIN_STOPPED || d->state == DOMAIN_ENDING)
        return;
    if (!at_once && d->state == DOMAIN_RUNNING) {
        if (d->shutdown_asked || domain_shutdown(d, error) == 0)
            return;
        log_info(d->config.name, "does not listen to its power button: ended");
    }
    if (domain_destroy(d, error) < 0)
        log_error(d->config.name, "%s", error);
}

static void end_all(bool at_once) {
    for (struct domain *d = domain_first(); d; d = d->next)
        end_one(d, at_once);
}

static void go_on(void *context) {
    (void)context;
    end_all(last_step);
    if (any_alive())
        return;
    timer_cancel(&patience);
    going_down = false;
    if (reboot_wanted)
        reset_machine();
    else
        power_off_machine();
}

static void late(void *context) {
    (void)context;
    log_warning("power", "guests that have not shut down are ended");
    last_step = true;
    work_queue(&work);
}

void power_down(bool reboot) {
    last_step = going_down; // asked twice
    going_down = true;
    reboot_wanted = reboot;
    work.handler = go_on;
    patience.handler = late;
    timer_set(&patience, time_ns() + PATIENCE_NS);
    work_queue(&work);
}

bool power_going_down(void) { return going_down; }

void power_domain_changed(void) {
    if (going_down)
        work_queue(&work);
}
