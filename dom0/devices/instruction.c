// SPDX-License-Identifier: Apache-2.0
//
// The machine's devices and its vCPUs' local APICs, as the emulator of instructions sees them. The
// kernel is asked first whether an address is the local APIC's, which lies above whatever else may be
// there. A kick by such an instruction needs no doorbell: the device model's own register takes it. RDMSR and WRMSR come
// here too, where the kernel has no such register.

#include <string.h>

#include <basalt/domain.h>
#include <basalt/hypercall.h>
#include <basalt/trace.h>

#include "emulator/emulator.h"
#include "emulator/x86.h"
#include "guest_machine.h"

#define IOAPIC_EOI (IOAPIC_ADDRESS + 0x40)

struct instruction {
    struct guest_machine *machine;
    uint32_t vcpu;
    uint64_t number;
};

static int apic(const struct instruction *i, uint64_t address, unsigned bytes, bool write,
                uint64_t *value) {
    return host_server_apic(&i->machine->server, i->vcpu, i->number, address, bytes, write, value);
}

static uint64_t bus_read(void *context, bool memory, uint64_t address, unsigned bytes) {
    const struct instruction *i = context;
    uint64_t value = 0;
    if (memory && apic(i, address, bytes, false, &value) >= 0)
        return value;
    return machine_read(i->machine, memory, address, bytes);
}

static void bus_write(void *context, bool memory, uint64_t address, unsigned bytes, uint64_t data) {
    const struct instruction *i = context;
    int ended = memory ? apic(i, address, bytes, true, &data) : -1;
    if (ended < 0)
        machine_write(i->machine, memory, address, bytes, data);
    else if (ended > 0)
        machine_write(i->machine, true, IOAPIC_EOI, 4, (unsigned)ended);
}

static const struct emulator_bus bus = {bus_read, bus_write};

// RDMSR and WRMSR: the kernel tells the register and the length.
static enum emulator_result access_msr(struct guest_machine *m, uint32_t vcpu, struct emulator *e) {
    const struct basalt_request *r = &e->request;
    uint64_t *gprs = e->completion.gprs, value = 0;
    bool write = r->data == BASALT_EXIT_WRMSR, done;

    e->completion = (struct basalt_completion){.rflags = e->state.rflags, .length = r->bytes};
    memcpy(gprs, e->state.gprs, sizeof(e->completion.gprs));
    if (write)
        done = machine_msr_write(m, vcpu, (uint32_t)r->address,
                                 (uint32_t)gprs[BASALT_RAX] | gprs[BASALT_RDX] << 32);
    else
        done = machine_msr_read(m, vcpu, (uint32_t)r->address, &value);
    if (!done) {
        e->completion.action = BASALT_COMPLETE_EXCEPTION;
        e->completion.vector = EXC_GP;
        e->completion.length = 0;
    } else if (!write) {
        gprs[BASALT_RAX] = (uint32_t)value;
        gprs[BASALT_RDX] = value >> 32;
    }
    return EMULATOR_COMPLETE;
}

void machine_instruction(struct guest_machine *m, uint32_t vcpu,
                         const struct basalt_request *request) {
    struct instruction i = {m, vcpu, request->number};
    struct emulator e = {.memory = m->memory, .bus = &bus, .context = &i, .request = *request};
    if (!host_vcpu_state(m->config.domain, vcpu, &e.state))
        return;
    bool msr = request->data == BASALT_EXIT_RDMSR || request->data == BASALT_EXIT_WRMSR;
    enum emulator_result result = msr ? access_msr(m, vcpu, &e) : emulator_run(&e);
    // A guest that switches itself off does not go on after the instruction that did it.
    if (m->state->end != MACHINE_GOES_ON)
        return;
    if (result == EMULATOR_COMPLETE)
        host_server_complete(&m->server, vcpu, request->number, &e.completion);
    else
        host_server_answer(&m->server, vcpu, request->number,
                           result == EMULATOR_AGAIN ? BASALT_INSTRUCTION_AGAIN
                                                    : BASALT_INSTRUCTION_CANNOT);
}
