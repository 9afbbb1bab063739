// SPDX-License-Identifier: Apache-2.0
//
// The run loop with a guest that is a script of exits: halting and waking, injection and its windows, interrupted
// deliveries, requests whose server goes, control registers; and then a guest that exits for
// every reason with random facts and a random state, which the kernel must survive without losing a frame.
// EXITS=n in the environment sets another number.
// sources: tests/unit/host_machine.c tests/unit/host_kernel.c
// sources: kernel/domain.c kernel/memory.c kernel/handle.c kernel/event.c kernel/request.c kernel/share.c
// sources: kernel/interrupt.c kernel/hypercall.c kernel/policy.c kernel/timer.c kernel/schedule.c kernel/trace.c kernel/frames.c
// sources: kernel/console.c ept/ept.c ept/format.c guest/vcpu.c guest/interrupt.c guest/walk.c guest/emulate.c
// sources: guest/run.c guest/decode.c guest/event.c
// sources: guest/cpuid.c guest/msr.c guest/cr.c guest/vlapic.c guest/vlapic_register.c
// sources: guest/vlapic_timer.c guest/control.c
// libs: -Wl,--wrap=frame_alloc -Wl,--wrap=frame_alloc_chunk -Wl,--wrap=frame_kernel_alloc

#include "tests/unit/run_scene.h"

#include <basalt/error.h>

static void new_server(void) {
    u64 page;

    server = host_domain(2 * MIB);
    server->identity = true;
    assert_int_equal(events_init(server), 0);
    assert_non_null(handle_create(server, d, BASALT_RIGHTS_DOMAIN));
    i64 port = port_alloc(server);
    assert_int_equal(request_serve(d, server, (u32)port, &page), 0);
    assert_int_equal(request_route(d, server, 0, BASALT_SPACE_MEMORY, 0xd0000000, 0xd0000fff), 0);
}

static void test_every_kind_has_its_row(void **state unused) {
    for (unsigned kind = 0; kind < BASALT_EXIT_COUNT; kind++) {
        begin(NULL);
        script[0] = (struct exit){.kind = (u8)kind, .insn_length = 1, .port = 0x80};
        if (kind == BASALT_EXIT_EXCEPTION)
            script[0].vector = 6;
        else if (kind == BASALT_EXIT_IO)
            script[0].access |= 1 << EXIT_IO_BYTES;
        run(1);
        assert_int_equal(v->stats.exits[kind], 1);
        end(NULL);
    }
    begin(NULL);
}

static void test_halt_and_wake(void **state unused) {
    script[0] = (struct exit){.kind = BASALT_EXIT_HLT, .insn_length = 1};
    run(2); // the second exit is not reached
    assert_int_equal(runs, 1);
    assert_int_equal(v->blocked, BLOCK_HALT);
    assert_true(v->cpu.rip == 0x1001);
    assert_int_equal(guest_msi(d, 0xfee00000, 0x41), 0);
    assert_int_equal(v->blocked, 0);
    sched_remove(&this_queue()->queue, &v->sched);
    script[0] = (struct exit){.kind = BASALT_EXIT_WBINVD, .insn_length = 2};
    run(1);
    assert_true(injected[0].valid && injected[0].vector == 0x41 &&
                injected[0].type == EVENT_INTERRUPT);
    assert_false(v->halted);
    // With one waiting, HLT goes on at once.
    struct vlapic_effect eoi = vlapic_eoi(&v->lapic);
    vcpu_apic_effect(v, &eoi);
    v->cpu.rflags &= ~IF;
    assert_int_equal(guest_msi(d, 0xfee00000, 0x51), 0);
    v->cpu.rflags |= IF;
    script[0] = (struct exit){.kind = BASALT_EXIT_HLT, .insn_length = 1};
    script[1] = (struct exit){.kind = BASALT_EXIT_WBINVD, .insn_length = 2};
    vlapic_set_cr8(&v->lapic, 15); // masked: not for HLT
    run(2);
    assert_int_equal(runs, 1);
    assert_int_equal(v->blocked, BLOCK_HALT);
    vlapic_set_cr8(&v->lapic, 0);
    vcpu_unblock(v, BLOCK_HALT);
    sched_remove(&this_queue()->queue, &v->sched);
    script[0] = script[1];
    run(1);
    assert_true(injected[0].valid && injected[0].vector == 0x51);
}

static void test_interrupt_window(void **state unused) {
    v->cpu.rflags &= ~IF;
    assert_int_equal(guest_msi(d, 0xfee00000, 0x41), 0);
    script[0] = (struct exit){.kind = BASALT_EXIT_WBINVD, .insn_length = 2};
    run(1);
    assert_false(injected[0].valid);
    assert_true(cpu->irq_window);
    v->cpu.rflags |= IF;
    script[0] = (struct exit){.kind = BASALT_EXIT_IRQ_WINDOW};
    run(1);
    assert_true(injected[0].valid && injected[0].vector == 0x41);
    assert_false(cpu->irq_window);
    // Of two, the lower one has to wait for the end of the higher one; then it needs no window.
    assert_int_equal(guest_msi(d, 0xfee00000, 0x31), 0);
    script[0] = (struct exit){.kind = BASALT_EXIT_WBINVD, .insn_length = 2};
    run(1);
    assert_false(injected[0].valid);
    struct vlapic_effect eoi = vlapic_eoi(&v->lapic);
    vcpu_apic_effect(v, &eoi);
    run(1);
    assert_true(injected[0].valid && injected[0].vector == 0x31);
}

// With APIC virtualization nothing is injected and no window is opened: the processor is told what changed, once.
static void test_apicv(void **state unused) {
    v->cpu.virtual_apic = HPA(0x1000);
    v->cpu.rflags &= ~IF;
    script[0] = (struct exit){.kind = BASALT_EXIT_WBINVD, .insn_length = 2};
    run(1);
    unsigned before = cpu->apic_updates;
    v->cpu.rip = 0x1000;
    run(1);
    assert_int_equal(cpu->apic_updates, before);
    v->cpu.rip = 0x1000;
    assert_int_equal(guest_msi(d, 0xfee00000, 0x41), 0);
    assert_int_equal(guest_msi(d, 0xfee00000, 0xc043), 0); // level-triggered
    run(1);
    assert_false(injected[0].valid || cpu->irq_window || cpu->x2apic);
    assert_int_equal(cpu->apic_updates, before + 1);
    assert_int_equal(cpu->apic_status, 0x43);
    assert_int_equal(cpu->level_vectors, 1u << 3);
    // The processor delivers it, an exit interrupts that; a page fault goes first, and the interrupt is pending again.
    vlapic_ack(&v->lapic, 0x43);
    script[0] = (struct exit){.kind = BASALT_EXIT_EXCEPTION, .vector = 14};
    interrupted[0] = (struct event){.valid = true, .vector = 0x43};
    script[1] = (struct exit){.kind = BASALT_EXIT_WBINVD, .insn_length = 2};
    run(2);
    interrupted[0].valid = false;
    assert_true(injected[1].valid && injected[1].vector == 14);
    assert_int_equal(cpu->apic_status, 0x43);
    // An EOI that the processor carried out goes on to the IOAPIC; halting sees what the page says.
    v->cpu.rip = 0x1000;
    script[0] = (struct exit){.kind = BASALT_EXIT_APIC_EOI, .vector = 0x43};
    script[1] = (struct exit){.kind = BASALT_EXIT_HLT, .insn_length = 1};
    script[2] = (struct exit){.kind = BASALT_EXIT_WBINVD, .insn_length = 2};
    run(3);
    assert_int_equal(runs, 2);
    assert_int_equal(v->blocked, BLOCK_HALT); // IF is clear
    v->cpu.rflags |= IF;
    vcpu_unblock(v, BLOCK_HALT);
    sched_remove(&this_queue()->queue, &v->sched);
    script[0] = script[2];
    run(1);
    assert_false(v->halted);
    assert_int_equal(runs, 1);
}

static void test_nmi(void **state unused) {
    cpu->no_nmi = true;
    assert_int_equal(guest_msi(d, 0xfee00000, 0x400), 0);
    script[0] = (struct exit){.kind = BASALT_EXIT_WBINVD, .insn_length = 2};
    run(1);
    assert_false(injected[0].valid);
    assert_true(cpu->nmi_window);
    cpu->no_nmi = false;
    script[0] = (struct exit){.kind = BASALT_EXIT_NMI_WINDOW};
    script[1] = (struct exit){.kind = BASALT_EXIT_WBINVD, .insn_length = 2};
    run(2);
    assert_true(injected[0].valid && injected[0].type == EVENT_NMI && injected[0].vector == 2);
    assert_false(injected[1].valid); // once
    assert_false(v->nmi_pending);
}

// What an exit interrupted is delivered at the next entry; an exception that meets it is merged or goes first.
static void test_interrupted_delivery(void **state unused) {
    struct event soft = {
        .valid = true, .type = EVENT_SOFT_INTERRUPT, .vector = 0x80, .insn_length = 2};
    struct event irq = {.valid = true, .type = EVENT_INTERRUPT, .vector = 0x61};

    assert_int_equal(memory_populate(d, GPA(0x40000000), 1, BASALT_POPULATE_LAZY), 1);
    script[0] = (struct exit){.kind = BASALT_EXIT_MEMORY, .gpa = GPA(0x40000000)};
    interrupted[0] = soft;
    script[1] = (struct exit){.kind = BASALT_EXIT_WBINVD, .insn_length = 2};
    run(2);
    assert_true(injected[1].valid && injected[1].vector == 0x80 &&
                injected[1].type == EVENT_SOFT_INTERRUPT);
    // A page fault while an interrupt is delivered: the fault first, the interrupt is not lost.
    vlapic_accept(&v->lapic, 0x61, false);
    vlapic_ack(&v->lapic, 0x61);
    script[0] = (struct exit){.kind = BASALT_EXIT_EXCEPTION, .vector = 14, .detail = 2};
    interrupted[0] = irq;
    script[1] = (struct exit){.kind = BASALT_EXIT_WBINVD, .insn_length = 2};
    script[2] = script[1];
    run(3);
    assert_true(injected[1].valid && injected[1].vector == 14 && injected[1].error == 2);
    assert_true(injected[2].valid && injected[2].vector == 0x61);
    // A fault while a fault is delivered: #DF, and one more: the end.
    struct event fault = {.valid = true, .type = EVENT_EXCEPTION, .vector = 14, .has_error = true};
    interrupted[0] = fault;
    run(2);
    assert_true(injected[1].valid && injected[1].vector == 8);
    interrupted[0] = injected[1];
    run(2);
    assert_int_equal(runs, 1);
    assert_int_equal(d->info.status, BASALT_STATUS_ENDED);
    assert_int_equal(d->info.end_reason, BASALT_END_TRIPLE_FAULT);
}

// A device's interrupt that comes in while the kernel works for a guest rings its port before that guest goes on.
static void test_interrupt_while_the_kernel_works(void **state unused) {
    new_server();
    i64 port = port_alloc(server);
    assert_int_equal(interrupt_bind(server, BASALT_IRQ_ISA + 3, BASALT_IRQ_LINE, (u64)port), 0);
    assert_int_equal(memory_populate(d, GPA(0x40000000), 512, BASALT_POPULATE_LAZY), 512);
    script[0] = (struct exit){.kind = BASALT_EXIT_MEMORY, .gpa = GPA(0x40000000)};
    script[1] = (struct exit){.kind = BASALT_EXIT_CPUID, .insn_length = 2};
    device_irq = port_find(server, (u64)port)->vector;
    run(2);
    device_irq = 0;
    assert_false(server_rung[0]);
    assert_true(server_rung[1]);
}

// What an ended domain's periodic timers would do until it is destroyed would be others' time.
static void test_timers_end_with_the_domain(void **state unused) {
    struct timer *timer = &v->lapic_timer;
    struct vlapic_effect effect = {0};

    vlapic_write(&v->lapic, 0x320, 4, 0x20050, 0);
    effect = vlapic_write(&v->lapic, 0x380, 4, 100000000, guest_tsc(v));
    vcpu_apic_effect(v, &effect);
    assert_true(timer->armed);
    timer_run(&this_queue()->timers, timer->deadline, 1);
    assert_true(timer->armed); // for the next period
    assert_int_equal(domain_control(d, BASALT_OP_END), 0);
    timer_run(&this_queue()->timers, timer->deadline, 1);
    assert_false(timer->armed);
}

static void test_server_goes_while_waiting(void **state unused) {
    new_server();
    memcpy(host_memory(d, 0x1000), "\x8b\x03", 2); // MOV EAX, [EBX]
    script[0] = (struct exit){.kind = BASALT_EXIT_MEMORY, .gpa = GPA(0xd0000010)};
    run(2);
    assert_int_equal(runs, 1);
    assert_int_equal(v->blocked, BLOCK_REQUEST);
    host_destroy(server);
    assert_int_equal(v->blocked, 0);
    sched_remove(&this_queue()->queue, &v->sched);
    new_server(); // the same place, after a restart
    run(2);       // the new one is asked, before the guest runs
    assert_int_equal(runs, 0);
    assert_int_equal(v->blocked, BLOCK_REQUEST);
    u64 number = d->servers[0].page->slots[0].number;
    assert_int_equal(d->servers[0].page->slots[0].address, 0xd0000010);
    assert_int_equal(request_answer(d, server, 0, number, 0x12345678), 0);
    sched_remove(&this_queue()->queue, &v->sched);
    script[0] = (struct exit){.kind = BASALT_EXIT_WBINVD, .insn_length = 2};
    run(1);
    assert_true(v->cpu.gprs[BASALT_RAX] == 0x12345678);
    assert_true(v->cpu.rip == 0x1002 + 2);
}

// INIT while a request is out: its answer comes too late and changes nothing.
static void test_init_while_waiting(void **state unused) {
    new_server();
    memcpy(host_memory(d, 0x1000), "\x8b\x03", 2);
    script[0] = (struct exit){.kind = BASALT_EXIT_MEMORY, .gpa = GPA(0xd0000010)};
    run(2);
    u64 number = d->servers[0].page->slots[0].number;
    vcpu_init_ipi(v);
    assert_int_equal(v->blocked, BLOCK_SIPI);
    assert_int_equal(request_answer(d, server, 0, number, 1), -BASALT_ENOENT);
    vcpu_startup_ipi(v, 1);
    assert_int_equal(v->blocked, 0);
    sched_remove(&this_queue()->queue, &v->sched);
    assert_int_equal(v->io.stage, IO_IDLE);
    script[0] = (struct exit){.kind = BASALT_EXIT_WBINVD, .insn_length = 2};
    run(1);
    assert_int_equal(v->cpu.rip, 2);
}

static void test_control_registers(void **state unused) {
    v->cpu.gprs[BASALT_RCX] = 0x11 | CR0_TS;
    script[0] = (struct exit){
        .kind = BASALT_EXIT_CR_ACCESS, .cr = 0, .gpr = BASALT_RCX, .write = true, .insn_length = 3};
    script[1] =
        (struct exit){.kind = BASALT_EXIT_CR_ACCESS, .cr = 0, .gpr = BASALT_RAX, .insn_length = 3};
    v->cpu.gprs[BASALT_RBX] = 0x11;
    script[2] = (struct exit){
        .kind = BASALT_EXIT_CR_ACCESS, .cr = 0, .gpr = BASALT_RBX, .write = true, .insn_length = 2};
    script[3] =
        (struct exit){.kind = BASALT_EXIT_CR_ACCESS, .cr = 0, .gpr = BASALT_RDX, .insn_length = 3};
    run(4);
    assert_int_equal(v->cpu.gprs[BASALT_RAX], 0x11 | CR0_TS);
    assert_int_equal(v->cpu.gprs[BASALT_RDX], 0x11);
    assert_true(v->cpu.rip == 0x1000 + 11);
    v->cpu.gprs[BASALT_RCX] = CR0_PG; // without protection
    run(1);
    assert_true(v->cpu.queued.valid && v->cpu.queued.vector == 13);
    assert_true(v->cpu.rip == 0x1000 + 11); // a fault: RIP stays
    v->cpu.queued.valid = false;
    // Decoded, where the processor does not tell.
    memcpy(host_memory(d, 0x1000), "\x0f\x22\xe1", 3); // MOV CR4, ECX
    v->cpu.rip = 0x1000;
    v->cpu.gprs[BASALT_RCX] = CR4_DE | CR4_PGE;
    script[0] =
        (struct exit){.kind = BASALT_EXIT_CR_ACCESS, .cr = 0xff, .gpr = 0xff, .write = true};
    run(1);
    assert_int_equal(v->cpu.cr4_guest, CR4_DE | CR4_PGE);
    assert_true(v->cpu.rip == 0x1003);
    // A write where the exit was of a read, and so perhaps of CPL 3: for the instruction server, which the domain does
    // not have.
    memcpy(host_memory(d, 0x1003), "\x0f\x22\xe2", 3); // MOV CR4, EDX
    script[0] = (struct exit){.kind = BASALT_EXIT_CR_ACCESS, .gpr = 0xff};
    run(1);
    assert_int_equal(v->cpu.cr4_guest, CR4_DE | CR4_PGE);
    assert_true(v->cpu.rip == 0x1003);
    assert_int_equal(d->info.status, BASALT_STATUS_ENDED);
    assert_int_equal(d->info.end_reason, BASALT_END_EMULATION);
}

static void test_msrs_and_cpuid(void **state unused) {
    v->cpu.gprs[BASALT_RCX] = MSR_APIC_BASE;
    script[0] = (struct exit){.kind = BASALT_EXIT_RDMSR, .insn_length = 2};
    run(1);
    assert_true((u32)v->cpu.gprs[BASALT_RAX] == 0xfee00900 && v->cpu.rip == 0x1002);
    v->cpu.gprs[BASALT_RAX] = 0x40000000;
    script[0] = (struct exit){.kind = BASALT_EXIT_CPUID, .insn_length = 2};
    run(1);
    assert_true(v->cpu.gprs[BASALT_RAX] >= 0x40000001);
    script[0] = (struct exit){.kind = BASALT_EXIT_XSETBV, .insn_length = 3};
    run(1);
    assert_true(v->cpu.queued.valid && v->cpu.queued.vector == 6); // CR4.OSXSAVE is off
    // What the kernel does not hold is for the instruction server, which the domain does not have: #GP.
    v->cpu.queued.valid = false;
    v->cpu.gprs[BASALT_RCX] = 0x12345678;
    script[0] = (struct exit){.kind = BASALT_EXIT_RDMSR, .insn_length = 2};
    run(1);
    assert_true(v->cpu.queued.valid && v->cpu.queued.vector == 13);
    assert_int_equal(d->info.status, BASALT_STATUS_RUNNING);
}

static void test_hypercall_by_a_guest(void **state unused) {
    v->cpu.gprs[BASALT_RAX] = BASALT_HC_VERSION;
    script[0] = (struct exit){.kind = BASALT_EXIT_HYPERCALL, .insn_length = 3};
    run(1);
    assert_true((u32)v->cpu.gprs[BASALT_RAX] == (u32)(BASALT_VERSION_MAGIC | BASALT_ABI_VERSION));
    assert_true(v->cpu.rip == 0x1003);
}

// ---- Anything ----

static bool ends_domain(u8 kind) {
    static const u8 kinds[] = {BASALT_EXIT_TASK_SWITCH,   BASALT_EXIT_APIC_EOI,
                               BASALT_EXIT_UNKNOWN,       BASALT_EXIT_BAD_STATE,
                               BASALT_EXIT_MACHINE_CHECK, BASALT_EXIT_TRIPLE_FAULT};

    return memchr(kinds, kind, sizeof(kinds));
}

static struct exit random_exit(struct cpu_state *c) {
    static const u32 msrs[] = {MSR_APIC_BASE, MSR_EFER, 0x10,  MSR_TSC_DEADLINE, 0x800,      0x80b,
                               0x830,         0x832,    0x838, 0x4b564d00,       0x4b564d01, 0x200,
                               0x277,         0x48,     0x1a0, 0xc0000100,       0x3b};
    static const u8 lively[] = {BASALT_EXIT_CR_ACCESS, BASALT_EXIT_IO,        BASALT_EXIT_RDMSR,
                                BASALT_EXIT_WRMSR,     BASALT_EXIT_HLT,       BASALT_EXIT_MEMORY,
                                BASALT_EXIT_EXCEPTION, BASALT_EXIT_HYPERCALL, BASALT_EXIT_CPUID};
    u64 r = host_random();
    struct exit e = {
        .kind = (u8)(r % BASALT_EXIT_COUNT),
        .insn_length = (r >> 8) % 4 ? (u8)((r >> 10) % 16) : 0,
        .vector = (u8)(r >> 16),
        .write = r & BIT(28),
        .detail = host_random(),
    };
    struct event *event = &c->queued;

    *event = (struct event){
        .valid = (r >> 60) == 0, .type = (u8)(host_random() % 7), .vector = (u8)host_random()};
    if (event->type == 1)
        event->type = EVENT_INTERRUPT;
    if (event->valid && event->type == EVENT_INTERRUPT && event->vector < 16)
        event->vector += 16;
    if (ends_domain(e.kind) && host_random() % 64)
        e.kind = lively[host_random() % ARRAY_SIZE(lively)];
    if (e.kind == BASALT_EXIT_IO) {
        e.access = (u16)(1 << (EXIT_IO_BYTES + (r >> 24) % 3) | (r & BIT(28) ? 0 : EXIT_IO_IN) |
                         (r & BIT(33) ? EXIT_IO_STRING : 0));
        e.port = (u16)(r >> 44);
    } else if (e.kind == BASALT_EXIT_MEMORY) {
        e.fetch = (r >> 29) % 64 == 0;
        e.in_walk = (r >> 36) % 64 == 0;
    } else {
        e.gpr = (r >> 46) % 4 ? (u8)((r >> 48) % 16) : 0xff;
    }
    if (e.kind == BASALT_EXIT_EXCEPTION)
        e.vector &= 31;
    if (e.kind == BASALT_EXIT_EXCEPTION && e.vector == EXC_MC && host_random() % 16)
        e.vector = EXC_UD;
    if (e.kind == BASALT_EXIT_CR_ACCESS || e.kind == BASALT_EXIT_DR_ACCESS)
        e.cr = (r >> 40) % 4 ? (u8)((r >> 42) % 16) : 0xff;
    if (e.kind == BASALT_EXIT_MEMORY)
        e.gpa = GPA((r >> 56) % 4 == 0   ? 0xfee00000 + host_random() % PAGE_SIZE
                    : (r >> 56) % 4 == 1 ? 0xfec00000 + host_random() % 64
                    : (r >> 56) % 4 == 2 ? 0xd0000000 + host_random() % PAGE_SIZE
                                         : host_random() % (BIT(host_random() % 48)));
    if (e.kind == BASALT_EXIT_MEMORY && host_random() % 16)
        event->valid = false;
    if (host_random() % 2)
        c->gprs[BASALT_RCX] = msrs[host_random() % ARRAY_SIZE(msrs)];
    if (host_random() % 8 == 0)
        c->gprs[BASALT_RAX] = BASALT_HC_BASE + host_random() % (BASALT_HC_END - BASALT_HC_BASE);
    if (++runs % 4 == 0)
        schedule_yield();
    return e;
}

// Code, registers and mode as no one would choose them; memory is where the page tables say, or not.
static void random_state(void) {
    static const char code[][5] = {"\x8b\x03",     "\x89\x03", "\xf3\xa5",         "\xf3\x48\xab",
                                   "\x6d",         "\xf3\x6e", "\x48\x0f\xb1\x0b", "\x0f\x22\xc0",
                                   "\x0f\x01\x33", "\x86\x27", "\x66\xa5",         "\xac",
                                   "\x0f\x06",     "\xe4\x70"};
    enum cpu_mode mode = (enum cpu_mode)(host_random() % 3);
    u8 *page = host_memory(d, 0x1000);

    host_set_mode(v, mode);
    cpu->cpl = host_random() % 4 ? 0 : 3;
    v->cpu.rip = 0x1000 + host_random() % 64;
    v->cpu.rflags = 2 | (host_random() & 0x40fd5) | (host_random() % 16 ? 0 : BIT(8));
    for (unsigned i = 0; i < 16; i++)
        v->cpu.gprs[i] = host_random() % 3 ? host_random() % 0x10000
                                           : host_random() >> host_random() % 64;
    for (unsigned i = 0; i < 128; i++)
        page[i] = (u8)host_random();
    if (host_random() % 32)
        memcpy(page + (v->cpu.rip - 0x1000), code[host_random() % ARRAY_SIZE(code)], 5);
    u64 *tables =
        host_memory(d, 0x2000); // all levels in one page, which maps itself and its neighbours
    for (unsigned i = 0; i < 512; i++)
        tables[i] = (host_random() % 4 ? 2 : host_random() % 0x10) << 12 |
                    (host_random() % 16 ? 7 : host_random() % 512);
    if (mode == MODE_64) {
        cpu->registers[REG_CR3] = 0x2000;
        tables[0] = 0x2007;
        tables[1] = 0x1007; // where RIP is
    }
}

static void test_random_exits(void **state unused) {
    const char *given = getenv("EXITS");
    u64 wanted = given ? strtoull(given, NULL, 0) : 100000, total = 0, domains = 0, idle = 0;

    new_server();
    while (total < wanted) {
        if (d->info.status == BASALT_STATUS_ENDED) {
            host_load(NULL);
            host_destroy(d);
            host_destroy(server);
            host_assert_same(empty);
            new_guest();
            new_server();
            assert_int_equal(memory_populate(d, GPA(0x40000000), 512, BASALT_POPULATE_LAZY), 512);
            domains++;
        }
        random_state();
        runs = 0;
        this_queue()->resched = false;
        this_queue()->slice_end = ~0ull;
        this_queue()->current = v;
        host_run = random_exit;
        vcpu_run(v);
        this_queue()->current = NULL;
        total += runs;
        idle += !runs;
        assert_true(idle < 4 * wanted);
        if (v->blocked & BLOCK_REQUEST && host_random() % 2)
            (void)!request_answer(d, server, 0, v->io.number, host_random());
        if (d->info.status == BASALT_STATUS_ENDED)
            continue;
        if (v->blocked & BLOCK_SIPI)
            vcpu_startup_ipi(v, 1);
        if (v->halted) { // nothing but an NMI wakes everyone
            v->nmi_pending = true;
            vcpu_unblock(v, BLOCK_HALT);
        }
        sched_remove(&this_queue()->queue, &v->sched);
        schedule_poll();
    }
    print_message("%llu exits, %llu turns without, %llu domains\n", (unsigned long long)total,
                  (unsigned long long)idle, (unsigned long long)domains);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_every_kind_has_its_row, end),
        TEST(test_halt_and_wake),
        TEST(test_apicv),
        TEST(test_interrupt_window),
        TEST(test_nmi),
        TEST(test_interrupted_delivery),
        TEST(test_interrupt_while_the_kernel_works),
        TEST(test_timers_end_with_the_domain),
        TEST(test_server_goes_while_waiting),
        TEST(test_init_while_waiting),
        TEST(test_control_registers),
        TEST(test_msrs_and_cpuid),
        TEST(test_hypercall_by_a_guest),
        TEST(test_random_exits),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
