// SPDX-License-Identifier: Apache-2.0
//
// A machine's platform: memory map, request server, clock, power management, the ways to end, and
// what happens when there is no memory for it.
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

#include <basalt/hypercall.h>
#include <basalt/trace.h>

static struct guest_machine *machine;
static unsigned offs, resets, dones;

static void output(void *context, const char *bytes, size_t length) {
    (void)context, (void)bytes, (void)length;
}

static void off(void *context) {
    assert_ptr_equal(context, &offs);
    offs++;
}

static void reset(void *context) {
    (void)context;
    resets++;
}

static void done(void *context) {
    (void)context;
    dones++;
}

static struct machine_config configuration(void) {
    return (struct machine_config){
        .name = "a name that is longer than thirty-two characters",
        .domain = 1,
        .vcpus = 3,
        .memory = 3u << 20,
        .context = &offs,
        .console_output = output,
        .on_power_off = off,
        .on_reset = reset,
    };
}

static int setup(void **unused) {
    (void)unused;
    struct machine_config config = configuration();
    offs = resets = dones = fake_answers = 0;
    memset(&fake_requests, 0, sizeof(fake_requests));
    assert_int_equal(machine_create(&machine, &config), 0);
    return 0;
}

static int teardown(void **unused) {
    (void)unused;
    machine_destroy(machine, done, NULL);
    assert_int_equal(dones, 1);
    fake_state_end();
    fake_memory_end();
    for (unsigned i = 0; i < 64; i++)
        assert_null(fake_timers[i]);
    assert_int_equal(fake_work_count, 0);
    return 0;
}

static uint64_t in(uint16_t port, unsigned bytes) {
    return machine_read(machine, false, port, bytes);
}

static void out(uint16_t port, unsigned bytes, uint64_t value) {
    machine_write(machine, false, port, bytes, value);
}

static void memory_map(void **unused) {
    (void)unused;
    struct machine_memory_range map[MACHINE_MEMORY_RANGES];
    static const uint64_t sizes[] = {1ull << 20, 3ull << 20, 3ull << 30, (3ull << 30) + 4096,
                                     20ull << 30};
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint64_t end = 0, ram = 0;
        struct guest_machine fake = {.config = {.memory = sizes[i]}};
        unsigned count = machine_memory_map(&fake, map);
        assert_true(count <= MACHINE_MEMORY_RANGES);
        for (unsigned k = 0; k < count; k++) {
            assert_true(map[k].base >= end && map[k].size > 0);
            assert_int_equal(map[k].base % 1024, 0);
            end = map[k].base + map[k].size;
            if (map[k].type == MACHINE_RAM)
                ram += map[k].size;
        }
        assert_int_equal(ram, sizes[i] - (0x100000 - MACHINE_EBDA));
    }
    assert_int_equal(machine_acpi_root(machine), MACHINE_TABLES);
    assert_int_equal(fake_get(MACHINE_TABLES, 8), 0x2052545020445352); // "RSD PTR "
    assert_ptr_equal(machine_memory(machine), &fake_memory);
}

static void refuses_bad_configurations(void **unused) {
    (void)unused;
    struct guest_machine *none = NULL;
    struct machine_config bad[8];
    for (unsigned i = 0; i < 8; i++)
        bad[i] = configuration();
    bad[0].memory = 4096;
    bad[1].memory += 100;
    bad[2].memory = 1ull << 50;
    bad[3].vcpus = 0;
    bad[4].vcpus = 64;
    bad[5].disk_count = MACHINE_DISKS_MAX + 1;
    bad[6].disk_count = 1; // without a device
    bad[7].console_output = NULL;
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(machine_create(&none, &bad[i]), -BASALT_EINVAL);
    assert_null(none);
    struct machine_config good = configuration();
    assert_int_equal(machine_overhead(&good), 4 * 4096);
}

static void survives_want_of_memory(void **unused) {
    (void)unused;
    struct machine_config config = configuration();
    struct guest_machine *none = NULL;
    struct block_device disk = {.sectors = 1};
    config.disk_count = 2;
    config.disks[0].device = config.disks[1].device = &disk;
    for (unsigned i = 0;; i++) {
        fake_alloc_after = i;
        fake_alloc_fails = 1;
        int error = machine_create(&none, &config);
        fake_alloc_fails = fake_alloc_after = 0;
        if (error == 0)
            break;
        assert_int_equal(error, -BASALT_ENOMEM);
        assert_true(i < 10);
    }
    machine_destroy(none, done, NULL);
    dones = 0;
}

static void request(uint32_t vcpu, uint64_t number, bool write, uint64_t address, uint8_t bytes,
                    uint64_t data) {
    fake_requests.slots[vcpu] = (struct basalt_request){.number = number,
                                                        .address = address,
                                                        .data = data,
                                                        .write = write,
                                                        .bytes = bytes,
                                                        .vcpu = vcpu};
    fake_requests.pending |= 1ull << vcpu;
}

static void serves_requests_once(void **unused) {
    (void)unused;
    request(1, 1, true, 0x3ff, 1, 0x5a);
    request(2, 1, false, 0x604, 2, 0);
    fake_server(fake_server_context);
    assert_int_equal(fake_answers, 2);
    assert_int_equal(fake_answer, 1); // SCI_EN
    assert_int_equal(fake_requests.pending, 0);
    assert_int_equal(fake_requests.registers[0x3fd % 8], BASALT_REGISTER_VALID | 0x6003fd);
    request(1, 2, false, 0x3ff, 1, 0);
    fake_server(fake_server_context);
    assert_int_equal(fake_answer, 0x5a);
    assert_int_equal(machine->state->answered[1], 2);
    // The same number again, as after dom0's restart: answered, not carried out.
    out(0x3ff, 1, 0x77);
    request(1, 2, false, 0x3ff, 1, 0);
    fake_server(fake_server_context);
    assert_int_equal(fake_answer, 0x5a);
    assert_int_equal(fake_answers, 4);
    fake_requests.pending = 1ull << 63; // there is no such slot
    fake_server(fake_server_context);
    assert_int_equal(fake_answers, 4);
}

// A request for an instruction of flat 32-bit code without paging.
static void instruction(const char *bytes, unsigned length, uint64_t address, uint8_t kind) {
    fake_vcpu = (struct basalt_vcpu_state){.cr0 = 1, .rip = 0x3000, .rflags = 2};
    for (unsigned i = 0; i < 6; i++)
        fake_vcpu.segments[i] = (struct basalt_segment){
            .limit = 0xffffffff, .attributes = i == BASALT_CS ? 0xc09b : 0xc093};
    assert_true(fake_write(0x3000, bytes, length));
    request(0, 1, true, address, 0, kind);
    fake_requests.slots[0].space = BASALT_SPACE_INSTRUCTION;
}

// The device models and the local APIC, by instructions that the kernel leaves to dom0.
static void carries_out_instructions(void **unused) {
    (void)unused;
    fake_completions = 0;
    fake_apic_address = 0xfee00000;
    instruction("\x87\x03", 2, 0xfee00080, BASALT_EXIT_MEMORY); // XCHG [EBX], EAX
    fake_vcpu.gprs[BASALT_RBX] = 0xfee00080;
    fake_vcpu.gprs[BASALT_RAX] = 0x20;
    fake_apic[0x20] = 0x10;
    fake_server(fake_server_context);
    assert_int_equal(fake_completions, 1);
    assert_int_equal(fake_completion.length, 2);
    assert_int_equal(fake_completion.gprs[BASALT_RAX], 0x10);
    assert_int_equal(fake_apic[0x20], 0x20);
    instruction("\x83\x0b\x05", 3, 0xfec00000, BASALT_EXIT_MEMORY); // OR [EBX], 5: IOAPIC
    fake_vcpu.gprs[BASALT_RBX] = 0xfec00000;
    fake_server(fake_server_context);
    assert_int_equal(fake_completions, 2);
    assert_int_equal(machine_read(machine, true, 0xfec00000, 4), 5);
    instruction("\x0f\x29\x03", 3, 0xfec00000, BASALT_EXIT_MEMORY); // MOVAPS
    fake_server(fake_server_context);
    assert_int_equal(fake_completions, 2);
    assert_int_equal(fake_answer, BASALT_INSTRUCTION_CANNOT);
    instruction("\x90", 1, 0xfec00000, BASALT_EXIT_MEMORY);
    fake_server(fake_server_context);
    assert_int_equal(fake_answer, BASALT_INSTRUCTION_AGAIN);
    fake_apic_address = 0;
}

static void msr_request(bool write, uint32_t msr, uint64_t value, uint64_t number) {
    fake_vcpu = (struct basalt_vcpu_state){.rip = 0x3000, .rflags = 0x42};
    for (unsigned i = 0; i < 16; i++)
        fake_vcpu.gprs[i] = 0x1111111111111111u * i;
    fake_vcpu.gprs[BASALT_RCX] = 0xffffffff00000000 | msr;
    fake_vcpu.gprs[BASALT_RAX] = 0xffffffff00000000 | (uint32_t)value;
    fake_vcpu.gprs[BASALT_RDX] = 0xffffffff00000000 | value >> 32;
    request(0, number, write, msr, 3, write ? BASALT_EXIT_WRMSR : BASALT_EXIT_RDMSR);
    fake_requests.slots[0].space = BASALT_SPACE_INSTRUCTION;
    fake_server(fake_server_context);
}

// Nothing of the instruction is looked at: it may be no longer there.
static void carries_out_msr_accesses(void **unused) {
    struct basalt_vcpu_state before;
    (void)unused;
    fake_completions = 0;
    msr_request(true, 0x4b564d00, 0x12345678000, 1); // beyond RAM
    assert_int_equal(fake_completions, 1);
    assert_int_equal(fake_completion.action, BASALT_COMPLETE_DONE);
    assert_int_equal(fake_completion.length, 3);
    assert_int_equal(fake_completion.rflags, 0x42);
    assert_memory_equal(fake_completion.gprs, fake_vcpu.gprs, sizeof(fake_vcpu.gprs));
    msr_request(false, 0x4b564d00, ~0ull, 2);
    assert_int_equal(fake_completions, 2);
    assert_int_equal(fake_completion.length, 3);
    assert_int_equal(fake_completion.gprs[BASALT_RAX], 0x45678000);
    assert_int_equal(fake_completion.gprs[BASALT_RDX], 0x123);
    before = fake_vcpu;
    before.gprs[BASALT_RAX] = 0x45678000;
    before.gprs[BASALT_RDX] = 0x123;
    assert_memory_equal(fake_completion.gprs, before.gprs, sizeof(before.gprs));
    for (unsigned write = 0; write < 2; write++) {
        msr_request(write, 0x600, 5, 3 + write);
        assert_int_equal(fake_completions, 3 + write);
        assert_int_equal(fake_completion.action, BASALT_COMPLETE_EXCEPTION);
        assert_int_equal(fake_completion.vector, 13);
        assert_true(!fake_completion.error && !fake_completion.length);
        assert_memory_equal(fake_completion.gprs, fake_vcpu.gprs, sizeof(fake_vcpu.gprs));
    }
}

static void routes_what_it_serves(void **unused) {
    (void)unused;
    uint64_t total = 0;
    for (unsigned i = 0; i < fake_route_count; i++) {
        assert_true(fake_routes[i][1] <= fake_routes[i][2]);
        total += fake_routes[i][0] == 0;
        for (unsigned k = 0; k < i; k++)
            assert_true(fake_routes[k][0] != fake_routes[i][0] ||
                        fake_routes[k][2] < fake_routes[i][1]);
    }
    assert_int_equal(total, 7);
    assert_int_equal(fake_route_count, 10);
}

static void ends(uint16_t port, unsigned bytes, uint64_t value) {
    request(0, machine->state->answered[0] + 1, true, port, (uint8_t)bytes, value);
    fake_server(fake_server_context);
    assert_int_equal(fake_answers, 0); // the guest does not go on
    assert_int_equal(offs + resets, 0);
    assert_int_equal(fake_run(10), 1); // not from within its own request
    out(port, bytes, value);           // once is enough
    assert_int_equal(fake_run(10), 0);
    assert_int_equal(offs + resets, 1);
}

static void switches_off(void **unused) {
    (void)unused;
    out(0x604, 2, 5 << 10); // without SLP_EN
    assert_int_equal(in(0x604, 2), 5 << 10 | 1);
    out(0x604, 2, 3 << 10 | 1 << 13); // another state
    assert_int_equal(fake_run(10), 0);
    ends(0x604, 2, 5 << 10 | 1 << 13);
    assert_int_equal(offs, 1);
}

static void resets_by_port_cf9(void **unused) {
    (void)unused;
    out(0xcf9, 1, 2);
    assert_int_equal(fake_run(10), 0);
    ends(0xcf9, 1, 6);
    assert_int_equal(resets, 1);
}

static void resets_by_keyboard_controller(void **unused) {
    (void)unused;
    assert_int_equal(in(0x64, 1), 0xff);
    out(0x64, 1, 0xd1);
    ends(0x64, 1, 0xfe);
    assert_int_equal(resets, 1);
}

static void power_button(void **unused) {
    (void)unused;
    assert_false(machine_power_button(machine));
    assert_false(fake_line(machine, 9));
    out(0x600, 2, 0xffff); // forget it
    assert_int_equal(in(0x600, 2), 0);
    out(0x602, 2, 0x100);
    assert_true(machine_power_button(machine));
    assert_true(fake_line(machine, 9));
    assert_int_equal(in(0x600, 4), 0x01000100);
    out(0x601, 1, 1); // its byte alone
    assert_false(fake_line(machine, 9));
    assert_int_equal(in(0x600, 4), 0x01000000);
}

static void pm_timer(void **unused) {
    (void)unused;
    uint64_t before = in(0x608, 4);
    fake_pass(1000000000);
    uint64_t after = in(0x608, 4);
    assert_true(after - before >= 3579544 && after - before <= 3579546);
    assert_int_equal(in(0x609, 1), after >> 8 & 0xff);
    out(0x602, 2, 1); // overflow interrupt: after 600 s at most
    assert_false(fake_line(machine, 9));
    fake_pass(600000000000);
    assert_true(fake_line(machine, 9));
    assert_int_equal(in(0x600, 2), 1);
    out(0x600, 2, 1);
    assert_false(fake_line(machine, 9));
    fake_pass(600000000000);
    assert_true(fake_line(machine, 9));
    out(0x602, 2, 0);
    assert_false(fake_line(machine, 9));
}

static uint8_t cmos(uint8_t index) {
    out(0x70, 1, index | 0x80u); // the NMI bit does not matter
    return (uint8_t)in(0x71, 1);
}

static void cmos_write(uint8_t index, uint8_t value) {
    out(0x70, 2, (uint64_t)value << 8 | index); // one word for both ports
}

static void clock_shows_the_time(void **unused) {
    (void)unused;
    // 2024-02-29 23:59:58 UTC, a Thursday.
    fake_wall = 1709251198ull * 1000000000 - fake_now;
    assert_int_equal(cmos(0), 0x58);
    assert_int_equal(cmos(2), 0x59);
    assert_int_equal(cmos(4), 0x23);
    assert_int_equal(cmos(6), 5);
    assert_int_equal(cmos(7), 0x29);
    assert_int_equal(cmos(8), 0x02);
    assert_int_equal(cmos(9), 0x24);
    assert_int_equal(cmos(0x32), 0x20);
    assert_int_equal(cmos(0x0a), 0x26);
    assert_int_equal(cmos(0x0d), 0x80);
    fake_pass(2000000000);
    assert_int_equal(cmos(7), 0x01);
    assert_int_equal(cmos(8), 0x03);
    assert_int_equal(cmos(4), 0x00);
    cmos_write(0x0b, 0x04); // binary, 12 hours
    assert_int_equal(cmos(4), 12);
    assert_int_equal(cmos(9), 24);
    fake_pass(13ull * 3600 * 1000000000);
    assert_int_equal(cmos(4), 0x81);
}

static void clock_can_be_set(void **unused) {
    (void)unused;
    cmos_write(0x0b, 0x82); // stop
    static const uint8_t time[][2] = {{0, 0x59}, {2, 0x59}, {4, 0x23},   {7, 0x31},
                                      {8, 0x12}, {9, 0x99}, {0x32, 0x20}};
    for (unsigned i = 0; i < 7; i++)
        cmos_write(time[i][0], time[i][1]);
    fake_pass(5000000000);
    assert_int_equal(cmos(0), 0x59); // stands still
    cmos_write(0x0b, 0x02);
    fake_pass(1000000000);
    assert_int_equal(cmos(0x32), 0x21);
    assert_int_equal(cmos(9), 0x00);
    assert_int_equal(cmos(8), 0x01);
    assert_int_equal(cmos(6), 6); // 2100-01-01 is a Friday
    cmos_write(2, 0x30);          // while it runs
    assert_int_equal(cmos(2), 0x30);
    cmos_write(0x40, 0xab); // memory
    assert_int_equal(cmos(0x40), 0xab);
    cmos_write(0x0d, 0);
    assert_int_equal(cmos(0x0d), 0x80);
}

static void clock_survives_nonsense(void **unused) {
    (void)unused;
    srand(4);
    for (unsigned i = 0; i < 100000; i++) {
        cmos_write((uint8_t)(rand() % 16 == 15 ? 0x32 : rand() % 14), (uint8_t)rand());
        cmos((uint8_t)(rand() % 128));
        if (i % 16 == 0)
            fake_pass((uint64_t)(rand() % 2000000000));
    }
}

static void clock_interrupts(void **unused) {
    (void)unused;
    cmos(0x0c);
    cmos_write(0x0b, 0x12); // every second
    for (unsigned i = 0; i < 5; i++) {
        fake_pass(1000000000);
        assert_true(fake_line(machine, 8));
        assert_int_equal(cmos(0x0c) & 0x90, 0x90);
        assert_false(fake_line(machine, 8));
        assert_int_equal(cmos(0x0c), 0);
    }
    cmos_write(0x0b, 0x82);
    fake_pass(3000000000);
    assert_false(fake_line(machine, 8));
    cmos_write(0, 0);
    cmos_write(2, 0);
    cmos_write(1, 0x10); // alarm: at second 10 of any minute and hour
    cmos_write(3, 0xff);
    cmos_write(5, 0xff);
    cmos_write(0x0b, 0x22);
    fake_pass(9500000000);
    assert_false(fake_line(machine, 8));
    fake_pass(1000000000);
    assert_true(fake_line(machine, 8));
    assert_int_equal(cmos(0x0c) & 0xa0, 0xa0);
    assert_false(fake_line(machine, 8));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(memory_map),
        TEST(refuses_bad_configurations),
        TEST(survives_want_of_memory),
        TEST(serves_requests_once),
        TEST(carries_out_instructions),
        TEST(carries_out_msr_accesses),
        TEST(routes_what_it_serves),
        TEST(switches_off),
        TEST(resets_by_port_cf9),
        TEST(resets_by_keyboard_controller),
        TEST(power_button),
        TEST(pm_timer),
        TEST(clock_shows_the_time),
        TEST(clock_can_be_set),
        TEST(clock_survives_nonsense),
        TEST(clock_interrupts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
