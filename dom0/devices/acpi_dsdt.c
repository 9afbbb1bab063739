// SPDX-License-Identifier: Apache-2.0
//
// What the DSDT says: processors, the PCI root bridge with its windows and interrupt routing, the
// ISA devices COM1 and RTC, the ports and the ECAM area that no one else may have, and how to
// switch off (\_S5). The power button is fixed hardware and needs no device. Follows "ACPI Source
// Language" and "Resource Data Types for ACPI".

#include "acpi_dsdt.h"
#include "machine.h"
#include "pm.h"
#include "rtc.h"
#include "uart.h"
#include "vpci.h"

#define WORD(v)  (uint8_t)(v), (uint8_t)((v) >> 8)
#define DWORD(v) WORD((uint32_t)(v)), WORD((uint32_t)(v) >> 16)

// Small resources.
#define IO_PORTS(first, count) \
    0x47, 1 /* 16 bits decoded */, WORD(first), WORD(first), 1, (uint8_t)(count)
#define IRQ_LINE(n) 0x22, WORD(1u << (n)) // edge, active high, as ISA interrupts are
// Large resources.
#define MEMORY_FIXED(base, size) 0x86, WORD(9), 1 /* writable */, DWORD(base), DWORD(size)
#define BOUNDS_FIXED             0x0c // minimum and maximum are fixed, positive decode
#define BUS_NUMBERS(first, last)                                                   \
    0x88, WORD(13), 2, BOUNDS_FIXED, 0, WORD(0), WORD(first), WORD(last), WORD(0), \
        WORD((last) - (first) + 1)
#define IO_WINDOW(first, last)                                                          \
    0x88, WORD(13), 1, BOUNDS_FIXED, 3 /* ISA and other ports */, WORD(0), WORD(first), \
        WORD(last), WORD(0), WORD((last) - (first) + 1)
#define MEMORY_WINDOW(first, last)                                                            \
    0x87, WORD(23), 0, BOUNDS_FIXED, 1 /* writable, not cacheable */, DWORD(0), DWORD(first), \
        DWORD(last), DWORD(0), DWORD((last) - (first) + 1)

static const uint8_t root_resources[] = {
    BUS_NUMBERS(0, 0),
    IO_PORTS(0xcf8, 8),
    IO_WINDOW(MACHINE_PCI_IO, 0xffff),
    MEMORY_WINDOW(MACHINE_PCI_MEMORY, MACHINE_PCI_MEMORY_END - 1),
};
static const uint8_t board_resources[] = {
    MEMORY_FIXED(MACHINE_ECAM, MACHINE_ECAM_SIZE),
    IO_PORTS(PM_PORT, PM_PORTS),
};
static const uint8_t com1_resources[] = {IO_PORTS(UART_PORT, UART_PORTS), IRQ_LINE(UART_GSI)};
static const uint8_t rtc_resources[] = {IO_PORTS(RTC_PORT, 2), IRQ_LINE(RTC_GSI)};

static void device(struct aml *aml, const char *name, const char *id, uint32_t uid,
                   const uint8_t *resources, size_t length) {
    aml_device(aml, name);
    aml_name_eisa(aml, "_HID", id);
    aml_name_integer(aml, "_UID", uid);
    aml_name(aml, "_CRS");
    aml_resources(aml, resources, length);
}

// INTA of each slot goes straight to an IOAPIC pin: {address, pin, no link device, GSI}.
static void interrupt_routing(struct aml *aml) {
    aml_name(aml, "_PRT");
    aml_package(aml, VPCI_SLOTS);
    for (unsigned slot = 0; slot < VPCI_SLOTS; slot++) {
        aml_package(aml, 4);
        aml_integer(aml, slot << 16 | 0xffff);
        aml_integer(aml, 0);
        aml_integer(aml, 0);
        aml_integer(aml, vpci_gsi(slot));
        aml_close(aml);
    }
    aml_close(aml);
}

static void root_bridge(struct aml *aml) {
    device(aml, "PCI0", "PNP0A08", 0, root_resources, sizeof(root_resources));
    aml_name_eisa(aml, "_CID", "PNP0A03");
    aml_name_integer(aml, "_SEG", 0);
    aml_name_integer(aml, "_BBN", 0);
    interrupt_routing(aml);
    aml_close(aml);
}

static void processor(struct aml *aml, uint32_t id) {
    static const char digits[] = "0123456789ABCDEF";
    const char name[5] = {'C', 'P', digits[id >> 4 & 15], digits[id & 15], 0};
    aml_device(aml, name);
    aml_name(aml, "_HID");
    aml_string(aml, "ACPI0007");
    aml_name_integer(aml, "_UID", id);
    aml_close(aml);
}

static void soft_off(struct aml *aml) {
    aml_name(aml, "\\_S5");
    aml_package(aml, 4);
    aml_integer(aml, PM_SLEEP_S5); // for PM1a
    aml_integer(aml, PM_SLEEP_S5); // for PM1b, which does not exist
    aml_integer(aml, 0);
    aml_integer(aml, 0);
    aml_close(aml);
}

void acpi_dsdt(struct aml *aml, uint32_t vcpus) {
    aml_scope(aml, "\\_SB");
    for (uint32_t i = 0; i < vcpus; i++)
        processor(aml, i);
    root_bridge(aml);
    device(aml, "MBRD", "PNP0C02", 1, board_resources, sizeof(board_resources));
    aml_close(aml);
    device(aml, "COM1", "PNP0501", 1, com1_resources, sizeof(com1_resources));
    aml_close(aml);
    device(aml, "RTC", "PNP0B00", 1, rtc_resources, sizeof(rtc_resources));
    aml_close(aml);
    aml_close(aml);
    soft_off(aml);
}
