// SPDX-License-Identifier: Apache-2.0
//
// Device interrupts: which messages and lines a domain may bind to its ports, what a second binding of the same message
// or line does, that a released domain's functions are silent, and what of configuration space its owner may write.
//
// sources: kernel/interrupt.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/cpu.h"
#include "drivers/ioapic.h"
#include "drivers/pci.h"
#include "kernel/event.h"
#include "kernel/interrupt.h"

#include <basalt/error.h>

#define BAR_BASE 0xf0000000ull
#define BDF      0x0020u
#define OTHER    0x0028u
#define ENTRIES  8u
#define PORTS    16u
#define GSIS     24u

struct pci_function pci_functions[PCI_FUNCTIONS_MAX];
unsigned pci_function_count = 2;
static u8 config[2][256];
static struct domain driver, stranger;
static struct port ports[PORTS];
static unsigned entry_vector[ENTRIES], line_vector[GSIS]; // 0: masked
static unsigned rung[PORTS];
static bool msi_on;

struct cpu host_cpu;

bool boot_is_ram(u64 base, u64 end unused) { return base < BAR_BASE; }

struct pci_function *pci_find(u16 bdf) {
    for (unsigned i = 0; i < pci_function_count; i++)
        if (pci_functions[i].bdf == bdf)
            return &pci_functions[i];
    return NULL;
}
unsigned pci_config_size(u16 bdf unused) { return 256; }
static u8 *config_of(u16 bdf) { return config[bdf == OTHER]; }
u32 pci_read(u16 bdf, unsigned offset) {
    u32 value = 0;
    assert_true(offset % 4 == 0 && offset < 256);
    memcpy(&value, config_of(bdf) + offset, 4);
    return value;
}
void pci_change(u16 bdf, unsigned offset, u32 clear, u32 set) {
    u32 value = (pci_read(bdf, offset) & ~clear) | set;
    memcpy(config_of(bdf) + offset, &value, 4);
}
int pci_msi_set(const struct pci_function *f unused, unsigned entry, u32 apic_id unused,
                unsigned vector) {
    if (entry >= ENTRIES)
        return -1;
    entry_vector[entry] = vector;
    return 0;
}
void pci_msi_mask(const struct pci_function *f unused, unsigned entry) {
    assert_true(entry < ENTRIES);
    entry_vector[entry] = 0;
}
void pci_msi_disable(const struct pci_function *f unused) { msi_on = false; }
struct acpi_override ioapic_isa(u8 irq) {
    return (struct acpi_override){.gsi = irq};
}
int ioapic_route(u32 gsi, unsigned vector, u32 destination unused, bool level unused,
                 bool active_low unused) {
    if (gsi >= GSIS)
        return -1;
    line_vector[gsi] = vector;
    return 0;
}
void ioapic_mask(u32 gsi, bool masked) { line_vector[gsi] = masked ? 0 : line_vector[gsi]; }
static u8 page_flags[16]; // how the pages from BAR_BASE on are mapped
int memory_map_identity(struct domain *d unused, hpa_t start, u64 bytes, u32 flags) {
    assert_int_equal(bytes, PAGE_SIZE);
    assert_in_range(start.v, BAR_BASE, BAR_BASE + 15 * PAGE_SIZE);
    page_flags[(start.v - BAR_BASE) / PAGE_SIZE] = (u8)flags;
    return 0;
}
void event_ring(struct domain *d unused, u32 port) { rung[port]++; }
struct port *port_find(struct domain *d unused, u64 port) {
    return port < PORTS && ports[port].kind != PORT_FREE ? &ports[port] : NULL;
}

// Two functions, the first of which is the driver domain's; all ports allocated, nothing bound.
static int fresh(void **state unused) {
    driver.has_devices = true;
    interrupts_release(&driver);
    memset(config, 0, sizeof(config));
    memset(rung, 0, sizeof(rung));
    memset(entry_vector, 0, sizeof(entry_vector));
    memset(line_vector, 0, sizeof(line_vector));
    pci_functions[0] =
        (struct pci_function){.bdf = BDF, .msi_cap = 0x50, .msix_cap = 0x70, .gsi = 20};
    pci_functions[1] = (struct pci_function){.bdf = OTHER, .gsi = 20};
    driver.identity = true;
    assert_int_equal(device_assign(&driver, &pci_functions[0]), 0);
    for (unsigned i = 0; i < PORTS; i++)
        ports[i] = (struct port){.kind = i ? PORT_ALLOCATED : PORT_FREE};
    msi_on = true;
    return 0;
}

static void a_message_rings_its_port(void **state unused) {
    assert_int_equal(interrupt_bind(&driver, BDF, 3, 5), 0);
    assert_in_range(entry_vector[3], VECTOR_DEVICE_FIRST, VECTOR_DEVICE_LAST);
    interrupt_deliver(entry_vector[3]);
    assert_int_equal(rung[5], 1);
    interrupt_unbind(&driver, 5);
    assert_int_equal(entry_vector[3], 0);
    assert_int_equal(ports[5].kind, PORT_ALLOCATED);
}

static void bindings_that_are_refused(void **state unused) {
    assert_int_equal(interrupt_bind(&driver, OTHER, 0, 1), -BASALT_ENODEV);
    assert_int_equal(interrupt_bind(&stranger, BDF, 0, 1), -BASALT_ENODEV);
    assert_int_equal(interrupt_bind(&driver, 0x10000 + BDF, 0, 1), -BASALT_ENODEV);
    assert_int_equal(interrupt_bind(&driver, BDF, 2048, 1), -BASALT_EINVAL);
    assert_int_equal(interrupt_bind(&driver, BDF, ENTRIES, 1), -BASALT_EINVAL);
    assert_int_equal(interrupt_bind(&driver, BDF, 0, 0), -BASALT_EINVAL);
    assert_int_equal(interrupt_bind(&driver, BDF, 0, ~0ull), -BASALT_EINVAL);
    assert_int_equal(interrupt_bind(&driver, OTHER, BASALT_IRQ_LINE, 1), -BASALT_ENODEV);
    for (unsigned i = 0; i < PORTS; i++)
        assert_int_equal(ports[i].kind, i ? PORT_ALLOCATED : PORT_FREE);
}

// Else unbinding the first port would mask what the second waits for.
static void a_message_is_bound_once(void **state unused) {
    assert_int_equal(interrupt_bind(&driver, BDF, 3, 5), 0);
    unsigned vector = entry_vector[3];
    assert_int_equal(interrupt_bind(&driver, BDF, 3, 6), -BASALT_EBUSY);
    assert_int_equal(interrupt_bind(&driver, BDF, 4, 5), -BASALT_EBUSY);
    assert_int_equal(entry_vector[3], vector);
    assert_int_equal(interrupt_bind(&driver, BDF, 4, 6), 0);
    interrupt_unbind(&driver, 5);
    assert_int_equal(interrupt_bind(&driver, BDF, 3, 7), 0);
}

static void a_line_rings_one_port(void **state unused) {
    pci_functions[1].owner = &driver;
    assert_int_equal(interrupt_bind(&driver, BDF, BASALT_IRQ_LINE, 1), 0);
    assert_int_equal(interrupt_bind(&driver, OTHER, BASALT_IRQ_LINE, 2),
                     -BASALT_EBUSY); // the same line
    unsigned vector = line_vector[20];
    irq_quench(vector);
    assert_int_equal(line_vector[20], 0); // masked until it is acknowledged
    line_vector[20] = vector;
    interrupt_deliver(vector);
    assert_int_equal(rung[1], 1);
    assert_int_equal(rung[2], 0);
    assert_int_equal(interrupt_bind(&driver, BASALT_IRQ_ISA + 1, BASALT_IRQ_LINE, 1),
                     -BASALT_EBUSY); // the port
    assert_int_equal(interrupt_bind(&driver, BASALT_IRQ_ISA + 1, BASALT_IRQ_LINE, 3), 0);
    unsigned edge = line_vector[1];
    irq_quench(edge);
    assert_true(edge && line_vector[1] == edge);
    interrupt_unbind(&driver, 1);
    interrupt_deliver(vector);
    assert_int_equal(rung[1], 1);
    assert_int_equal(line_vector[20], 0);
    line_vector[20] = 99; // somebody else's
    irq_quench(vector);
    assert_int_equal(line_vector[20], 99);
    line_vector[20] = 0;
    assert_int_equal(interrupt_bind(&driver, OTHER, BASALT_IRQ_LINE, 2), 0);
}

static void a_released_domain_is_silent(void **state unused) {
    config[0][PCI_COMMAND] = 7;
    assert_int_equal(interrupt_bind(&driver, BDF, 0, 1), 0);
    assert_int_equal(interrupt_bind(&driver, BDF, BASALT_IRQ_LINE, 2), 0);
    interrupts_release(&driver);
    assert_int_equal(pci_read(BDF, PCI_COMMAND), 3 | PCI_COMMAND_INTX_OFF);
    assert_false(msi_on);
    assert_int_equal(entry_vector[0], 0);
    assert_int_equal(line_vector[20], 0);
    assert_null(pci_functions[0].owner);
    for (unsigned vector = 0; vector < 256; vector++)
        interrupt_deliver(vector);
    assert_int_equal(rung[1] + rung[2], 0);
}

static void what_an_owner_may_write(void **state unused) {
    assert_int_equal(device_command(&driver, BDF, 0x10000), -BASALT_EINVAL);
    assert_int_equal(device_command(&driver, OTHER, 0), -BASALT_ENODEV);
    assert_int_equal(device_command(&driver, BIT(16) | BDF, 0), -BASALT_ENODEV);
    assert_int_equal(pci_read(BDF, PCI_COMMAND), 0);
    assert_int_equal(device_command(&driver, BDF, 0xffff), 0);
    assert_int_equal(pci_read(BDF, PCI_COMMAND), 0x407);
    for (unsigned offset = 0; offset < 256; offset += 4)
        assert_int_equal(pci_read(BDF, offset), offset == PCI_COMMAND ? 0x407 : 0);
    assert_int_equal(device_config_read(&driver, BDF, 0x42), -BASALT_EINVAL);
    assert_int_equal(device_config_read(&driver, BDF, 0x41), -BASALT_EINVAL);
    assert_int_equal(device_config_read(&driver, BDF, 256), -BASALT_EINVAL);
    assert_int_equal(device_config_read(&driver, BDF, BIT(32)), -BASALT_EINVAL);
    assert_int_equal(device_config_read(&driver, OTHER, 0x40), 0xffffffff);
    assert_int_equal(device_config_read(&driver, BDF, PCI_COMMAND), 0x407);
}

// Pages that hold a part of the MSI-X table are mapped read-only, in whichever BAR.
static void the_table_is_read_only(void **state unused) {
    const u8 read = EPT_READ | EPT_UNCACHED, both = EPT_READ | EPT_WRITE | EPT_UNCACHED;

    pci_functions[1] =
        (struct pci_function){.bdf = OTHER,
                              .bars = {[0] = {BAR_BASE, 2 * PAGE_SIZE, false},
                                       [1] = {0xc000, 0x100, true},
                                       [2] = {BAR_BASE + 4 * PAGE_SIZE, 0x2800, false}},
                              .msix_cap = 0x70,
                              .msix_count = 33,
                              .msix_address = BAR_BASE + 5 * PAGE_SIZE - 0x200};
    assert_int_equal(device_assign(&driver, &pci_functions[1]), 0);
    const u8 want[16] = {both, both, 0, 0, read, read, both};
    assert_memory_equal(page_flags, want, sizeof(want));
    assert_int_equal(device_assign(&driver, &pci_functions[1]), -BASALT_EBUSY);
    pci_functions[1].owner = NULL;
    pci_functions[1].msix_count = 32; // ends where the page does
    assert_int_equal(device_assign(&driver, &pci_functions[1]), 0);
    assert_int_equal(page_flags[5], both);
    // A function whose small BAR shares the table's page, and is mapped first.
    memset(page_flags, 0, sizeof(page_flags));
    pci_functions[1].owner = pci_functions[0].owner = NULL;
    pci_functions[0].bars[0] = (struct pci_bar){BAR_BASE + 4 * PAGE_SIZE, 0x100, false};
    assert_int_equal(device_assign(&driver, &pci_functions[0]), 0);
    assert_int_equal(page_flags[4], read);
}

// One that says that its registers are where memory is.
static void a_bar_in_memory(void **state unused) {
    memset(page_flags, 0, sizeof(page_flags));
    pci_functions[1] = (struct pci_function){
        .bdf = OTHER,
        .bars = {[1] = {BAR_BASE, 0x100, false}, [3] = {BAR_BASE - PAGE_SIZE, 0x100, false}}};
    assert_int_equal(device_assign(&driver, &pci_functions[1]), -BASALT_EINVAL);
    assert_null(pci_functions[1].owner);
    assert_int_equal(page_flags[0], 0); // nor is anything of it to be reached
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_message_rings_its_port, fresh),
        cmocka_unit_test_setup(bindings_that_are_refused, fresh),
        cmocka_unit_test_setup(a_message_is_bound_once, fresh),
        cmocka_unit_test_setup(a_line_rings_one_port, fresh),
        cmocka_unit_test_setup(a_released_domain_is_silent, fresh),
        cmocka_unit_test_setup(what_an_owner_may_write, fresh),
        cmocka_unit_test_setup(the_table_is_read_only, fresh),
        cmocka_unit_test_setup(a_bar_in_memory, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
