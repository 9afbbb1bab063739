// SPDX-License-Identifier: Apache-2.0
//
// The map of a machine's ports and memory-mapped registers, and the server of the requests that
// come for them. A request is carried out once: its number is committed to the state pages with its
// answer before the kernel gets it, and a number seen before is only answered again. Instructions are
// for instruction.c. Follows <basalt/request.h>.

#include <basalt/hypercall.h>

#include "access.h"
#include "dispatch.h"
#include "guest_machine.h"

#define I8042_COMMAND     0x64u
#define I8042_PULSE_RESET 0xfeu
#define PCI_PORT          0xcf8u
#define PCI_PORT_ENABLE   0x80000000u
#define RESET_PULSE       0x04u

static uint64_t read_uart(void *m, uint64_t offset, unsigned bytes) {
    (void)bytes;
    return uart_read(&((struct guest_machine *)m)->uart, (unsigned)offset);
}

static void write_uart(void *m, uint64_t offset, unsigned bytes, uint64_t data) {
    (void)bytes;
    uart_write(&((struct guest_machine *)m)->uart, (unsigned)offset, (uint8_t)data);
}

static uint64_t read_rtc(void *m, uint64_t offset, unsigned bytes) {
    (void)bytes;
    return rtc_read(&((struct guest_machine *)m)->rtc, (unsigned)offset);
}

static void write_rtc(void *m, uint64_t offset, unsigned bytes, uint64_t data) {
    (void)bytes;
    rtc_write(&((struct guest_machine *)m)->rtc, (unsigned)offset, (uint8_t)data);
}

// There is no keyboard controller: its status reads as ones. The reset command works, since it is
// asked for everywhere.
static void write_i8042(void *m, uint64_t offset, unsigned bytes, uint64_t data) {
    (void)offset;
    (void)bytes;
    if (data == I8042_PULSE_RESET)
        machine_ends(m, MACHINE_RESET);
}

static uint64_t read_pm(void *m, uint64_t offset, unsigned bytes) {
    return pm_read(&((struct guest_machine *)m)->pm, (unsigned)offset, bytes);
}

static void write_pm(void *m, uint64_t offset, unsigned bytes, uint64_t data) {
    pm_write(&((struct guest_machine *)m)->pm, (unsigned)offset, bytes, data);
}

// Ports 0xcf8 to 0xcfb: the address as a whole, or the reset register in its second byte.
static uint64_t read_pci_address(void *m, uint64_t offset, unsigned bytes) {
    return bytes == 4 ? ((struct guest_machine *)m)->state->pci_address
                      : access_mask(bytes) & (offset == 1 ? 0 : ~0ull);
}

static void write_pci_address(void *m, uint64_t offset, unsigned bytes, uint64_t data) {
    struct guest_machine *machine = m;
    if (bytes == 4)
        machine->state->pci_address = (uint32_t)data & ~3u;
    else if (PCI_PORT + offset == MACHINE_RESET_PORT && bytes == 1 && (data & RESET_PULSE))
        machine_ends(machine, MACHINE_RESET);
}

// Bus 0 only; function 0 only. `address` as in ECAM and, shifted, in port 0xcf8: bus, device,
// function, offset.
static bool config_slot(uint32_t bus, uint32_t device_function, unsigned *slot) {
    *slot = device_function >> 3;
    return bus == 0 && (device_function & 7) == 0;
}

static bool config_port(const struct guest_machine *m, uint64_t offset, unsigned *slot,
                        unsigned *at) {
    uint32_t address = m->state->pci_address;
    *at = (address & 0xfc) + (unsigned)offset;
    return (address & PCI_PORT_ENABLE) &&
           config_slot(address >> 16 & 0xff, address >> 8 & 0xff, slot);
}

static uint64_t read_pci_data(void *m, uint64_t offset, unsigned bytes) {
    struct guest_machine *machine = m;
    unsigned slot, at;
    return config_port(machine, offset, &slot, &at)
               ? vpci_config_read(&machine->pci, slot, at, bytes)
               : ~0ull;
}

static void write_pci_data(void *m, uint64_t offset, unsigned bytes, uint64_t data) {
    struct guest_machine *machine = m;
    unsigned slot, at;
    if (config_port(machine, offset, &slot, &at))
        vpci_config_write(&machine->pci, slot, at, bytes, data);
}

static uint64_t read_ecam(void *m, uint64_t offset, unsigned bytes) {
    unsigned slot;
    if (!config_slot((uint32_t)offset >> 20, (uint32_t)offset >> 12 & 0xff, &slot))
        return ~0ull;
    return vpci_config_read(&((struct guest_machine *)m)->pci, slot, (unsigned)offset & 0xfff,
                            bytes);
}

static void write_ecam(void *m, uint64_t offset, unsigned bytes, uint64_t data) {
    unsigned slot;
    if (config_slot((uint32_t)offset >> 20, (uint32_t)offset >> 12 & 0xff, &slot))
        vpci_config_write(&((struct guest_machine *)m)->pci, slot, (unsigned)offset & 0xfff, bytes,
                          data);
}

static uint64_t read_bar_io(void *m, uint64_t offset, unsigned bytes) {
    return vpci_bar_read(&((struct guest_machine *)m)->pci, true, MACHINE_PCI_IO + offset, bytes);
}

static void write_bar_io(void *m, uint64_t offset, unsigned bytes, uint64_t data) {
    vpci_bar_write(&((struct guest_machine *)m)->pci, true, MACHINE_PCI_IO + offset, bytes, data);
}

static uint64_t read_bar_memory(void *m, uint64_t offset, unsigned bytes) {
    return vpci_bar_read(&((struct guest_machine *)m)->pci, false, MACHINE_PCI_MEMORY + offset,
                         bytes);
}

static void write_bar_memory(void *m, uint64_t offset, unsigned bytes, uint64_t data) {
    vpci_bar_write(&((struct guest_machine *)m)->pci, false, MACHINE_PCI_MEMORY + offset, bytes,
                   data);
}

static uint64_t read_ioapic(void *m, uint64_t offset, unsigned bytes) {
    return offset % 4 ? 0
                      : ioapic_read(((struct guest_machine *)m)->state, (unsigned)offset) &
                            access_mask(bytes);
}

static void write_ioapic(void *m, uint64_t offset, unsigned bytes, uint64_t data) {
    (void)bytes;
    const struct guest_machine *machine = m;
    ioapic_write(machine->state, machine->config.domain, (unsigned)offset, (uint32_t)data);
}

static const struct dispatch_range ranges[] = {
    {I8042_COMMAND, I8042_COMMAND, 0, 1, NULL, write_i8042},
    {RTC_PORT, RTC_PORT + 1, 0, 1, read_rtc, write_rtc},
    {UART_PORT, UART_PORT + UART_PORTS - 1, 0, 1, read_uart, write_uart},
    {PM_PORT, PM_PORT + PM_PORTS - 1, 0, 4, read_pm, write_pm},
    {PCI_PORT, PCI_PORT + 3, 0, 4, read_pci_address, write_pci_address},
    {PCI_PORT + 4, PCI_PORT + 7, 0, 4, read_pci_data, write_pci_data},
    {MACHINE_PCI_IO, 0xffff, 0, 4, read_bar_io, write_bar_io},
    {MACHINE_PCI_MEMORY, MACHINE_PCI_MEMORY_END - 1, 1, 8, read_bar_memory, write_bar_memory},
    {MACHINE_ECAM, MACHINE_ECAM + MACHINE_ECAM_SIZE - 1, 1, 8, read_ecam, write_ecam},
    {IOAPIC_ADDRESS, IOAPIC_ADDRESS + IOAPIC_SIZE - 1, 1, 4, read_ioapic, write_ioapic},
};
#define RANGES (sizeof(ranges) / sizeof(ranges[0]))

int machine_ports_route(struct guest_machine *machine) {
    for (unsigned i = 0; i < RANGES; i++) {
        int error =
            host_server_route(&machine->server, ranges[i].memory, ranges[i].first, ranges[i].last);
        if (error < 0)
            return error;
    }
    return host_server_instructions(&machine->server);
}

uint64_t machine_read(struct guest_machine *machine, bool memory, uint64_t address,
                      unsigned bytes) {
    return dispatch_read(ranges, RANGES, machine, memory, address, bytes);
}

void machine_write(struct guest_machine *machine, bool memory, uint64_t address, unsigned bytes,
                   uint64_t data) {
    dispatch_write(ranges, RANGES, machine, memory, address, bytes, data);
}

static void serve(struct guest_machine *machine, uint32_t vcpu,
                  const struct basalt_request *request) {
    struct machine_state *s = machine->state;
    uint64_t number = request->number;
    if (number != s->answered[vcpu]) {
        uint64_t answer = 0;
        bool memory = request->space == BASALT_SPACE_MEMORY;
        unsigned bytes = request->bytes <= 8 ? request->bytes : 8;
        if (request->write)
            machine_write(machine, memory, request->address, bytes, request->data);
        else
            answer = machine_read(machine, memory, request->address, bytes);
        s->answers[vcpu] = answer;
        __atomic_store_n(&s->answered[vcpu], number, __ATOMIC_RELEASE);
    }
    // A guest that switches itself off does not go on after the instruction that did it.
    if (s->end == MACHINE_GOES_ON)
        host_server_answer(&machine->server, vcpu, number, s->answers[vcpu]);
}

void machine_serve(void *context) {
    struct guest_machine *machine = context;
    struct basalt_request_page *page = machine->server.page;
    uint64_t pending = __atomic_exchange_n(&page->pending, 0, __ATOMIC_ACQ_REL);
    for (; pending; pending &= pending - 1) {
        uint32_t vcpu = (uint32_t)__builtin_ctzll(pending);
        if (vcpu >= BASALT_REQUEST_SLOTS)
            break;
        const struct basalt_request *request = &page->slots[vcpu]; // it stays until it is answered
        if (request->space == BASALT_SPACE_INSTRUCTION)
            machine_instruction(machine, vcpu, request);
        else
            serve(machine, vcpu, request);
    }
}
