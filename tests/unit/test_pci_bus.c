// SPDX-License-Identifier: Apache-2.0
//
// The guest's PCI bus through ECAM and through ports 0xCF8/0xCFC: enumeration as an operating
// system does it, sizing and moving BARs with routes and doorbells following, MSI-X masks and
// pending bits, INTx, and accesses of every width.
//
// sources: dom0/devices/virtqueue.c dom0/devices/virtqueue_walk.c dom0/devices/chain.c
// sources: dom0/devices/virtio.c dom0/devices/virtio_pci.c dom0/devices/virtio_common.c
// sources: dom0/devices/virtio_blk.c dom0/devices/virtio_blk_request.c
// sources: dom0/devices/virtio_console.c dom0/devices/virtio_rng.c dom0/devices/entropy.c
// sources: dom0/devices/vpci.c dom0/devices/vpci_msix.c dom0/devices/ioapic.c dom0/devices/machine.c
// sources: dom0/devices/machine_devices.c dom0/devices/ports.c dom0/devices/dispatch.c
// sources: dom0/devices/console.c dom0/devices/uart.c dom0/devices/rtc.c dom0/devices/pm.c
// sources: dom0/devices/acpi.c dom0/devices/acpi_dsdt.c dom0/devices/aml.c
// sources: dom0/devices/msr.c dom0/devices/pvclock.c dom0/devices/cpuid.c
// sources: dom0/devices/instruction.c dom0/emulator/emulate.c dom0/emulator/decode.c
// sources: dom0/emulator/alu.c dom0/emulator/walk.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/fake_host.h"

#include "tests/unit/fake_driver.h"

static struct block_device disk;
static struct guest_machine *machine;
static struct fake_driver d;

static void output(void *context, const char *bytes, size_t length) {
    (void)context, (void)bytes, (void)length;
}

static void done(void *context) { (void)context; }

static int setup(void **unused) {
    (void)unused;
    struct machine_config config = {
        .domain = 1, .vcpus = 1, .memory = 2u << 20, .disk_count = 9, .console_output = output};
    disk.sectors = 100;
    for (unsigned i = 0; i < config.disk_count; i++)
        config.disks[i].device = &disk;
    assert_int_equal(machine_create(&machine, &config), 0);
    memset(&d, 0, sizeof(d));
    d.machine = machine;
    fake_msi_count = 0;
    return 0;
}

static int teardown(void **unused) {
    (void)unused;
    machine_destroy(machine, done, NULL);
    assert_int_equal(fake_bell_count(), 0);
    fake_state_end();
    fake_memory_end();
    return 0;
}

static uint64_t in(uint16_t port, unsigned bytes) {
    return machine_read(machine, false, port, bytes);
}

static void out(uint16_t port, unsigned bytes, uint64_t value) {
    machine_write(machine, false, port, bytes, value);
}

static void finds_its_functions(void **unused) {
    (void)unused;
    unsigned virtio = 0;
    d.slot = 0;
    assert_int_equal(cfg(&d, 0x0a, 2), 0x0600); // host bridge
    assert_int_equal(cfg(&d, 0x0e, 1), 0);
    for (d.slot = 0; d.slot < 32; d.slot++) {
        if (cfg(&d, 0, 4) == 0xffffffff)
            continue;
        virtio += cfg(&d, 0, 2) == 0x1af4;
        if (cfg(&d, 0, 2) == 0x1af4)
            assert_int_equal(cfg(&d, 0x3c, 2), 0x0100 | (16 + (d.slot & 7)));
    }
    assert_int_equal(virtio, 11);
    assert_int_equal(machine_read(machine, true, MACHINE_ECAM + 0x1000, 4),
                     0xffffffff); // function 1
    assert_int_equal(machine_read(machine, true, MACHINE_ECAM + 0x100, 4),
                     0); // no extended capabilities
}

static void config_by_ports(void **unused) {
    (void)unused;
    d.slot = 3;
    out(0xcf8, 4, 0x80000000 | 3 << 11);
    assert_int_equal(in(0xcf8, 4), 0x80000000 | 3 << 11);
    assert_int_equal(in(0xcfc, 4), cfg(&d, 0, 4));
    assert_int_equal(in(0xcfe, 2), cfg(&d, 2, 2));
    assert_int_equal(in(0xcfd, 1), cfg(&d, 1, 1));
    assert_int_equal(in(0xcfd, 2), cfg(&d, 1, 2)); // misaligned: two bytes
    out(0xcf8, 4, 0x80000000 | 3 << 11 | 0x3c);
    out(0xcfc, 1, 0x55);
    assert_int_equal(cfg(&d, 0x3c, 1), 0x55);
    out(0xcf8, 4, 0x80010000 | 3 << 11); // bus 1
    assert_int_equal(in(0xcfc, 4), 0xffffffff);
    out(0xcf8, 4, 3 << 11); // not enabled
    assert_int_equal(in(0xcfc, 4), 0xffffffff);
    out(0xcf8, 2, 0x1234); // only a 32-bit write counts
    assert_int_equal(in(0xcf8, 4), 3 << 11);
}

static void sizes_bars(void **unused) {
    (void)unused;
    static const uint32_t sizes[6] = {0xffffe000, 0, 0xfffffff1, 0, 0, 0};
    for (d.slot = 1; d.slot < 12; d.slot++)
        for (unsigned bar = 0; bar < 6; bar++) {
            uint64_t before = cfg(&d, PCI_BAR0 + 4 * bar, 4);
            cfg_write(&d, PCI_BAR0 + 4 * bar, 4, 0xffffffff);
            assert_int_equal(cfg(&d, PCI_BAR0 + 4 * bar, 4), sizes[bar]);
            cfg_write(&d, PCI_BAR0 + 4 * bar, 4, before);
            assert_int_equal(cfg(&d, PCI_BAR0 + 4 * bar, 4), before);
        }
    d.slot = 3;
    cfg_write(&d, 0x30, 4, 0xffffffff);
    assert_int_equal(cfg(&d, 0x30, 4), 0); // no ROM
}

static void places_bars_apart(void **unused) {
    (void)unused;
    uint64_t last[2] = {0, 0};
    for (d.slot = 1; d.slot < 12; d.slot++) {
        uint64_t memory = fake_bar(&d, 0), port = fake_bar(&d, 2);
        assert_true(memory >= MACHINE_PCI_MEMORY && memory + 0x2000 <= MACHINE_PCI_MEMORY_END);
        assert_true(port >= 0x1000 && port + 16 <= 0x10000);
        assert_int_equal(memory % 0x2000, 0);
        assert_true(last[0] == 0 || memory >= last[0] + 0x2000 || memory + 0x2000 <= last[0]);
        last[0] = memory, last[1] = port;
    }
}

static void decodes_when_enabled(void **unused) {
    (void)unused;
    d.slot = 3;
    uint64_t bar = fake_bar(&d, 0);
    assert_int_equal(mmio(&d, bar + 18, 2), 0xffff);
    cfg_write(&d, PCI_COMMAND, 1, PCI_COMMAND_MEMORY);
    assert_int_equal(mmio(&d, bar + 18, 2), 1);
    assert_int_equal(fake_bell_count(), 0);
    cfg_write(&d, PCI_COMMAND, 1, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
    assert_int_equal(fake_bell_count(), 1);
    assert_int_equal(fake_bells[0].address, fake_bar(&d, 2));
    cfg_write(&d, PCI_COMMAND, 1, 0);
    assert_int_equal(fake_bell_count(), 0);
    assert_int_equal(mmio(&d, bar + 18, 2), 0xffff);
    cfg_write(&d, PCI_COMMAND, 2, 0xffff);
    assert_int_equal(cfg(&d, PCI_COMMAND, 2), 0x0547);
    cfg_write(&d, PCI_COMMAND, 2, 0);
}

static void bars_move(void **unused) {
    (void)unused;
    d.slot = 3;
    cfg_write(&d, PCI_COMMAND, 1, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
    uint64_t bar = fake_bar(&d, 0);
    cfg_write(&d, PCI_BAR0, 4, 0xd0000000);
    assert_int_equal(mmio(&d, bar + 18, 2), 0xffff);
    assert_int_equal(mmio(&d, 0xd0000000 + 18, 2), 1);
    cfg_write(&d, PCI_BAR0 + 8, 4, 0xc100);
    assert_int_equal(fake_bell_count(), 1);
    assert_int_equal(fake_bells[0].address, 0xc100);
    cfg_write(&d, PCI_BAR0 + 8, 2, 0x3f0); // over a fixed device: it is not there
    assert_int_equal(fake_bell_count(), 0);
    cfg_write(&d, PCI_BAR0 + 8, 4, 0xfffffff0); // beyond all ports
    assert_int_equal(fake_bell_count(), 0);
    cfg_write(&d, PCI_BAR0 + 10, 2, 0);
    cfg_write(&d, PCI_BAR0 + 8, 2, 0xfff0);
    assert_int_equal(fake_bell_count(), 1);
    // Two functions at one place: one of them answers, nothing else happens.
    d.slot = 4;
    cfg_write(&d, PCI_BAR0, 4, 0xd0000000);
    cfg_write(&d, PCI_BAR0 + 8, 4, 0xfff0);
    cfg_write(&d, PCI_COMMAND, 1, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
    assert_int_equal(mmio(&d, 0xd0000000 + 18, 2), 1);
    assert_int_equal(fake_bell_count(), 1);
}

static void capabilities_are_in_order(void **unused) {
    (void)unused;
    unsigned seen = 0, types = 0;
    d.slot = 3;
    for (unsigned cap = (unsigned)cfg(&d, 0x34, 1); cap; cap = (unsigned)cfg(&d, cap + 1, 1)) {
        assert_true(cap >= 0x40 && cap % 4 == 0 && ++seen < 10);
        if (cfg(&d, cap, 1) == 9)
            types |= 1u << cfg(&d, cap + 3, 1);
    }
    assert_int_equal(seen, 6);
    assert_int_equal(types, 0x3e); // common, notify, ISR, device, PCI
}

static void registers_at_any_width(void **unused) {
    (void)unused;
    assert_true(fake_probe(&d, machine, 3));
    uint64_t desc = d.common + 32;
    mmio_write(&d, d.common + 22, 2, 1);
    mmio_write(&d, desc, 8, 0x1122334455667788);
    assert_int_equal(mmio(&d, desc, 8), 0x1122334455667788);
    assert_int_equal(mmio(&d, desc + 4, 4), 0x11223344);
    assert_int_equal(mmio(&d, desc + 3, 2), 0x4455);
    for (unsigned i = 0; i < 8; i++)
        mmio_write(&d, desc + i, 1, 0xa0 + i);
    assert_int_equal(mmio(&d, desc, 8), 0xa7a6a5a4a3a2a1a0);
    mmio_write(&d, desc + 6, 4, 0xccddeeff); // misaligned, into the next field
    assert_int_equal(mmio(&d, desc, 8), 0xeeffa5a4a3a2a1a0);
    assert_int_equal(mmio(&d, desc + 8, 4) & 0xffff, 0xccdd);
    assert_int_equal(mmio(&d, d.common + 20, 4), 0x00010000); // status, generation, queue select
    assert_int_equal(mmio(&d, d.common + 24, 8),
                     mmio(&d, d.common + 24, 4) | mmio(&d, d.common + 28, 4) << 32);
}

static void msix_masks_and_pends(void **unused) {
    (void)unused;
    assert_true(fake_probe(&d, machine, 3));
    struct vpci_function *f = &machine->console.device.function;
    unsigned cap = f->msix;
    assert_int_equal(cfg(&d, cap + 2, 2) & 0x7ff, 2); // three vectors
    uint64_t table = d.table,
             pba = fake_bar(&d, cfg(&d, cap + 8, 4) & 7) + (cfg(&d, cap + 8, 4) & ~7u);
    assert_int_equal(mmio(&d, table + 12, 4), 1); // masked after reset
    mmio_write(&d, table, 4, 0xfee01003);
    mmio_write(&d, table + 4, 4, 0);
    mmio_write(&d, table + 8, 4, 0x4041);
    mmio_write(&d, table + 12, 4, 0xffffffff);
    assert_int_equal(mmio(&d, table, 8), 0xfee01000);
    assert_int_equal(mmio(&d, table + 12, 4), 1);
    vpci_msix_send(f, 0);
    assert_int_equal(fake_msi_count, 0);
    assert_int_equal(mmio(&d, pba, 8), 1);
    mmio_write(&d, pba, 8, 0); // read-only
    assert_int_equal(mmio(&d, pba, 1), 1);
    mmio_write(&d, table + 12, 4, 0);
    assert_int_equal(fake_msi_count, 1);
    assert_int_equal(fake_msis[0].address, 0xfee01000);
    assert_int_equal(fake_msis[0].data, 0x4041);
    assert_int_equal(mmio(&d, pba, 8), 0);
    cfg_write(&d, cap + 2, 2, 0xc000); // function mask
    vpci_msix_send(f, 0);
    vpci_msix_send(f, 0);
    vpci_msix_send(f, 2); // its own mask
    vpci_msix_send(f, 3); // does not exist
    vpci_msix_send(f, 0xffff);
    assert_int_equal(mmio(&d, pba, 4), 5);
    cfg_write(&d, cap + 3, 1, 0x80);
    assert_int_equal(fake_msi_count, 2);
    assert_int_equal(mmio(&d, pba, 4), 4);
    cfg_write(&d, PCI_COMMAND, 2, PCI_COMMAND_MEMORY); // no bus mastering: no messages
    vpci_msix_send(f, 0);
    assert_int_equal(fake_msi_count, 2);
    cfg_write(&d, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    assert_int_equal(fake_msi_count, 3);
    cfg_write(&d, cap + 2, 2, 0); // off: nothing is left
    cfg_write(&d, cap + 2, 2, 0x8000);
    assert_int_equal(mmio(&d, pba, 8), 0);
}

static void wires_are_shared(void **unused) {
    (void)unused;
    struct vpci_function *a = machine->pci.functions[3], *b = machine->pci.functions[11];
    vpci_set_line(a, true);
    assert_true(fake_line(machine, 19));
    vpci_set_line(b, true);
    vpci_set_line(a, false);
    assert_true(fake_line(machine, 19));
    vpci_set_line(b, false);
    assert_false(fake_line(machine, 19));
    vpci_set_line(a, true);
    d.slot = 3;
    cfg_write(&d, PCI_COMMAND, 2, PCI_COMMAND_NO_INTX);
    assert_false(fake_line(machine, 19));
    assert_int_equal(cfg(&d, PCI_STATUS, 1) & PCI_STATUS_INTX, PCI_STATUS_INTX);
    cfg_write(&d, PCI_COMMAND, 2, 0);
    assert_true(fake_line(machine, 19));
    cfg_write(&d, a->msix + 2, 2, 0x8000);
    assert_false(fake_line(machine, 19));
    vpci_set_line(a, false);
    cfg_write(&d, a->msix + 2, 2, 0);
    assert_false(fake_line(machine, 19));
}

static void window_through_configuration_space(void **unused) {
    (void)unused;
    assert_true(fake_probe(&d, machine, 2));
    unsigned cap = machine->disks[0].device.window;
    cfg_write(&d, cap + 4, 1, 0);
    cfg_write(&d, cap + 8, 4, 18); // number of queues
    cfg_write(&d, cap + 12, 4, 2);
    assert_int_equal(cfg(&d, cap + 16, 2), 1);
    cfg_write(&d, cap + 8, 4, 22); // queue select
    cfg_write(&d, cap + 16, 2, 0x1234);
    assert_int_equal(mmio(&d, d.common + 22, 2), 0x1234);
    static const uint32_t bad[][3] = {{0, 0x2000, 4}, {0, ~0u, 1}, {0, 1, 2},
                                      {0, 0, 3},      {0, 0, 8},   {1, 0, 4},
                                      {6, 0, 4},      {255, 0, 4}, {0, 0, 0}};
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cfg_write(&d, cap + 4, 1, bad[i][0]);
        cfg_write(&d, cap + 8, 4, bad[i][1]);
        cfg_write(&d, cap + 12, 4, bad[i][2]);
        cfg_write(&d, cap + 16, 4, 0x77777777);
        assert_int_equal(cfg(&d, cap + 16, 4), 0x77777777); // just bytes
    }
    cfg_write(&d, cap + 4, 1, 2); // the notification port
    cfg_write(&d, cap + 8, 4, 0);
    cfg_write(&d, cap + 12, 4, 2);
    cfg_write(&d, cap + 16, 2, 0);
}

// Reads and writes of random widths everywhere: nothing breaks, and a read by bytes equals a read
// as a whole.
static void random_accesses(void **unused) {
    (void)unused;
    srand(1);
    for (d.slot = 1; d.slot < 12; d.slot++)
        cfg_write(&d, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_IO);
    for (unsigned i = 0; i < 300000; i++) {
        unsigned bytes = 1u << rand() % 4;
        bool memory = rand() % 4;
        uint64_t base = memory       ? rand() % 2 ? MACHINE_ECAM + (uint64_t)(rand() % 12 << 15)
                                                  : MACHINE_PCI_MEMORY
                        : rand() % 2 ? 0xcf0
                                     : 0x1000;
        uint64_t at = base + (uint64_t)rand() %
                                 (memory ? base == MACHINE_PCI_MEMORY ? 0x18000 : 0x110 : 0x100);
        uint64_t mask = bytes == 8 ? ~0ull : (1ull << 8 * bytes) - 1;
        if (rand() % 2)
            machine_write(machine, memory, at, bytes, (uint64_t)rand() << 32 ^ (uint64_t)rand());
        assert_int_equal(machine_read(machine, memory, at, bytes) & ~mask, 0);
        machine->state->end = 0;
        fake_run(10);
    }
    // Static bytes agree, however they are read.
    for (d.slot = 0; d.slot < 12; d.slot++)
        for (unsigned offset = 0; offset < 0x30; offset += 8) {
            uint64_t value = 0;
            for (unsigned i = 0; i < 8; i++)
                value |= cfg(&d, offset + i, 1) << 8 * i;
            assert_int_equal(value, cfg(&d, offset, 8));
        }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(finds_its_functions),
        TEST(config_by_ports),
        TEST(sizes_bars),
        TEST(places_bars_apart),
        TEST(decodes_when_enabled),
        TEST(bars_move),
        TEST(capabilities_are_in_order),
        TEST(registers_at_any_width),
        TEST(msix_masks_and_pends),
        TEST(wires_are_shared),
        TEST(window_through_configuration_space),
        TEST(random_accesses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
