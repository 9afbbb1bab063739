// SPDX-License-Identifier: Apache-2.0
//
// The instruction server of a whole machine: any instruction, in any mode, with any registers, segments and, in half of the
// inputs, page tables; for any exit. Each request gets one answer, one that the kernel takes; no pin is left. Where the
// tables are as they were made, user code writes nothing that it may not.
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

#include "tests/fuzz/virtio.h"

#include <basalt/hypercall.h>
#include <basalt/trace.h>

#include "dom0/emulator/emulator.h"
#include "dom0/emulator/x86.h"

#define PML4 \
    0x1000u // also the page directory of tables with 4-byte entries, behind it their page table
#define PDPT       0x4000u
#define PD         0x5000u
#define PT         0x6000u
#define PD_DEVICES 0x7000u
#define SUPERVISOR 0x80000u // a page that is the supervisor's; behind it one that is read-only
#define READ_ONLY  0x81000u
#define CODE       0x90000u
#define PATTERN    0x5eull
#define TABLE_BITS (PTE_PRESENT | PTE_WRITE | PTE_USER)

enum mode { REAL, VIRTUAL_8086, FLAT, PAGES_2, PAGES_3, COMPATIBILITY, LONG, MODES };

// Of what lies in the first 2 MiB.
static uint64_t leaf(uint64_t page) {
    uint64_t address = page * 4096, bits = TABLE_BITS;
    if (page < CODE >> 12)
        bits &= ~(uint64_t)(address == READ_ONLY ? PTE_WRITE : PTE_USER);
    return address | bits;
}

static void make_tables(enum mode mode) {
    bool narrow = mode == PAGES_2;
    uint64_t pages[512], devices[512];
    uint32_t directory[1024] = {(PML4 + 0x1000) | TABLE_BITS}, table[512];
    for (uint64_t i = 0; i < 512; i++) {
        pages[i] = leaf(i);
        table[i] = (uint32_t)leaf(i);
        devices[i] = 0xc0000000 | i << 21 | TABLE_BITS | PTE_LARGE;
        directory[512 + i] = (uint32_t)i << 22 | 0x80000000 | TABLE_BITS | PTE_LARGE;
    }
    fake_write(narrow ? PML4 : PT, narrow ? (void *)directory : pages, 4096);
    fake_write(narrow ? PML4 + 0x1000 : PD_DEVICES, narrow ? (void *)table : devices,
               narrow ? sizeof(table) : 4096);
    if (narrow)
        return;
    fake_put(PML4, 8, PDPT | TABLE_BITS);
    fake_put(PDPT, 8, PD | TABLE_BITS);
    fake_put(PDPT + 24, 8, PD_DEVICES | TABLE_BITS);
    fake_put(PD, 8, PT | TABLE_BITS);
}

static void make_state(enum mode mode, bool user) {
    struct basalt_vcpu_state *s = &fake_vcpu;
    uint32_t dpl = user ? 0x60 : 0, wide = mode == LONG ? SEGMENT_LONG : SEGMENT_DB;
    *s = (struct basalt_vcpu_state){.rip = CODE, .rflags = 2, .cr4 = CR4_PSE};
    if (mode >= FLAT)
        s->cr0 = CR0_PE | CR0_WP;
    if (mode >= PAGES_2)
        s->cr0 |= CR0_PG;
    if (mode >= PAGES_3)
        s->cr4 |= CR4_PAE;
    if (mode >= COMPATIBILITY)
        s->efer = EFER_LMA | EFER_NXE;
    s->cr3 = mode == PAGES_3 ? PDPT : PML4;
    for (unsigned i = 0; i < BASALT_SEGMENTS; i++)
        s->segments[i] = (struct basalt_segment){
            .limit = 0xffffffff,
            .attributes = 0x93 | dpl | (mode >= FLAT && i != BASALT_CS ? SEGMENT_DB : 0)};
    s->segments[BASALT_CS].attributes = 0x9b | dpl | (mode >= FLAT ? wide : 0);
    if (mode == VIRTUAL_8086) {
        s->cr0 = CR0_PE;
        s->rflags |= RFLAGS_VM;
    }
}

// Something near what there is.
static uint64_t address(struct input *in) {
    static const uint64_t places[] = {MACHINE_ECAM,
                                      MACHINE_PCI_MEMORY,
                                      IOAPIC_ADDRESS,
                                      0xfee00000,
                                      SUPERVISOR,
                                      READ_ONLY,
                                      CODE,
                                      (1u << 20) - 4,
                                      0xa0000,
                                      0xfffffff8,
                                      0x7ffffffffff8u,
                                      0x800000000000u,
                                      0xffff800000000000ull};
    unsigned choice = (unsigned)take(in, 1);
    uint64_t offset = take(in, choice & 128 ? 1 : 2);
    return choice % 16 < 13 ? places[choice % 16] + offset : offset;
}

static void run(struct guest_machine *machine, struct input *in) {
    static const uint8_t kinds[] = {BASALT_EXIT_MEMORY, BASALT_EXIT_IO, BASALT_EXIT_CR_ACCESS,
                                    BASALT_EXIT_RDMSR, BASALT_EXIT_WRMSR};
    unsigned choice = (unsigned)take(in, 1);
    struct basalt_request request = {.number = 1,
                                     .address = take(in, 2),
                                     .data = kinds[choice % 5],
                                     .space = BASALT_SPACE_INSTRUCTION,
                                     .write = choice >= 128,
                                     .bytes = (uint8_t)(1u << (choice >> 5 & 3) & 7)};
    unsigned before = fake_completions + fake_answers;
    machine_instruction(machine, 0, &request);
    require(machine->state->end || fake_completions + fake_answers == before + 1);
    if (fake_completions + fake_answers == before)
        return;
    const struct basalt_completion *c = &fake_completion;
    require(c->length <= INSN_MAX_LENGTH && c->action <= BASALT_COMPLETE_LMSW);
    require(c->action != BASALT_COMPLETE_EXCEPTION || c->vector == EXC_UD || c->vector == EXC_SS ||
            c->vector == EXC_GP || c->vector == EXC_PF);
    require(c->action != BASALT_COMPLETE_EXCEPTION || !c->length);
}

static uint8_t kept[2 * 4096]; // what SUPERVISOR and READ_ONLY hold

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct block_device disk;
    struct guest_machine *machine = fuzz_machine(&disk);
    struct input in = {data, size};
    unsigned choice = (unsigned)take(&in, 1);
    enum mode mode = (enum mode)(choice % MODES);
    bool user = choice & 64, given = choice & 128; // tables
    uint64_t at;
    make_tables(mode);
    make_state(mode, user);
    memset(kept, PATTERN, sizeof(kept));
    fake_write(SUPERVISOR, kept, sizeof(kept));
    while (in.size) {
        unsigned op = (unsigned)take(&in, 1);
        switch (op & 7) {
        case 0:
        case 1: fake_vcpu.gprs[op >> 4] = address(&in); break;
        case 2: fake_vcpu.gprs[BASALT_RCX] = take(&in, 1); break;
        case 3:
            at = CODE + (op & 8 ? 0xff8 : 0);
            fake_vcpu.rip = mode == REAL || mode == VIRTUAL_8086 ? at & 0xffff : at;
            fake_vcpu.segments[BASALT_CS].base = at - fake_vcpu.rip;
            fake_put(at, 8, take(&in, 8));
            fake_put(at + 8, 8, take(&in, op >> 4 & 7));
            break;
        case 4:
            fake_vcpu.segments[op >> 3 & 7] = (struct basalt_segment){
                .base = address(&in),
                .limit = (uint32_t)take(&in, 3),
                .attributes = (fake_vcpu.segments[op >> 3 & 7].attributes & ~0xfu) |
                              (uint32_t)take(&in, 1) % 16};
            break;
        case 5:
            if (given)
                fake_put(PML4 + take(&in, 2) % 0x7000, 8, take(&in, 8));
            break;
        default:
            run(machine, &in);
            given |= fake_memory.pins != 0; // a device with a ring writes, too
            break;
        }
    }
    for (unsigned i = 0; i < sizeof(kept) && mode >= PAGES_2 && user && !given; i += 8)
        require(fake_get(SUPERVISOR + i, 8) == PATTERN * 0x0101010101010101u);
    fuzz_machine_end(machine, &disk);
    return 0;
}
