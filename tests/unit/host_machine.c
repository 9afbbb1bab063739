// SPDX-License-Identifier: Apache-2.0
//
// See host_machine.h. Devices are two PCI functions and an I/O APIC that remember nothing; the UART and the log take
// everything.

#include "tests/unit/host_machine.h"

#include "arch/paging.h"
#include "arch/spec.h"
#include "boot/boot.h"
#include "drivers/ioapic.h"
#include "drivers/pci.h"
#include "drivers/uart16550.h"
#include "kernel/cmdline.h"
#include "kernel/console.h"
#include "kernel/event.h"
#include "kernel/hypercall.h"
#include "kernel/interrupt.h"
#include "kernel/log.h"

#include <basalt/error.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

u64 host_fail_at, host_allocations, host_tsc, host_timer = ~0ull;
bool host_fail_rest;
jmp_buf *host_reset;
struct exit (*host_run)(struct cpu_state *cpu);
struct spec spec;
u64 tsc_khz = 2000000, wall_clock_ns;
u64 xstate_mask = 7, host_cr4 = CR4_OSXSAVE | CR4_FSGSBASE | CR4_SMEP | CR4_SMAP | CR4_UMIP;
struct cpu_features cpu_features = {.physical_bits = 40, .pcid = true};
u32 xstate_area_size = 832;

// ---- Randomness and failures ----

static u64 random_state;
u64 (*host_random_source)(void);

u64 host_random(void) { // splitmix64
    if (host_random_source)
        return host_random_source();

    u64 z = random_state += 0x9e3779b97f4a7c15ull;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

void host_seed(void) {
    const char *given = getenv("SEED");

    random_state = given ? strtoull(given, NULL, 0) : (u64)time(NULL);
    print_message("seed %llu (SEED=... repeats)\n", (unsigned long long)random_state);
}

static bool fails(void) {
    host_allocations++;
    if (!host_fail_at || --host_fail_at)
        return false;
    host_fail_at = host_fail_rest;
    return true;
}

hpa_t __real_frame_alloc(u16 owner);
hpa_t __real_frame_alloc_chunk(u16 owner);
void *__real_frame_kernel_alloc(void);
hpa_t __wrap_frame_alloc(u16 owner);
hpa_t __wrap_frame_alloc_chunk(u16 owner);
void *__wrap_frame_kernel_alloc(void);
hpa_t __wrap_frame_alloc(u16 owner) { return fails() ? HPA_NONE : __real_frame_alloc(owner); }
hpa_t __wrap_frame_alloc_chunk(u16 owner) {
    return fails() ? HPA_NONE : __real_frame_alloc_chunk(owner);
}
void *__wrap_frame_kernel_alloc(void) { return fails() ? NULL : __real_frame_kernel_alloc(); }

// ---- The processor ----

void fpu_init(void) {}
void xstate_init(void *area) { memset(area, 0, xstate_area_size); }
static u64 xcr0 = 7;
u64 xstate_save(void *area) {
    memset(area, 0x55, xstate_area_size);
    return xcr0;
}
void xstate_restore(const void *area unused, u64 guest_xcr0) { xcr0 = guest_xcr0; }
void irq_record(unsigned vector unused) {}
static int to_come = -1, recorded = -1; // vectors
static void let_interrupt_in(void) {
    recorded = to_come;
    host_window = NULL;
    host_cpu.news = true;
    irq_notice();
}
void host_interrupt(unsigned vector) {
    to_come = (int)vector;
    host_window = let_interrupt_in;
}
static bool timer_rings(void) { return host_tsc && host_timer <= host_tsc; }
int cpu_take_vector(void) {
    int vector = recorded;

    recorded = -1;
    if (vector >= 0 || !timer_rings())
        return vector;
    host_timer = ~0ull;
    return (int)VECTOR_TIMER;
}
void apic_timer_set(u64 deadline) { host_timer = deadline; }
u64 host_idle_tsc;
// Sleeps until the timer comes; there is nothing else.
void host_idle(void) {
    assert_true(host_tsc && host_timer != ~0ull);
    u64 begun = host_tsc;
    host_tsc = MAX(host_tsc, host_timer);
    host_idle_tsc += host_tsc - begun;
}
noreturn void machine_reset(bool warm unused) {
    if (host_reset)
        longjmp(*host_reset, 1);
    abort();
}

u64 tsc_to_ns(u64 ticks) { return (u64)((unsigned __int128)ticks * 1000000 / tsc_khz); }

// ---- Devices ----

struct pci_function pci_functions[PCI_FUNCTIONS_MAX] = {
    {.bdf = 0x10, .msix_cap = 0x80, .msix_count = 4, .gsi = ~0u},
    {.bdf = 0x18, .msi_cap = 0x50, .gsi = 10},
};
unsigned pci_function_count = 2;
static u32 config_space[2][1024];

struct pci_function *pci_find(u16 bdf) {
    for (unsigned i = 0; i < pci_function_count; i++)
        if (pci_functions[i].bdf == bdf)
            return &pci_functions[i];
    return NULL;
}
unsigned pci_config_size(u16 bdf unused) { return 4096; }
static u32 *config(u16 bdf, unsigned offset) {
    struct pci_function *fn = pci_find(bdf);

    assert_non_null(fn);
    assert_true(offset % 4 == 0 && offset < 4096);
    return &config_space[fn - pci_functions][offset / 4];
}
u32 pci_read(u16 bdf, unsigned offset) { return *config(bdf, offset); }
void pci_change(u16 bdf, unsigned offset, u32 clear, u32 set) {
    u32 *value = config(bdf, offset);

    *value = (*value & ~clear) | set;
}
int pci_msi_set(const struct pci_function *fn, unsigned entry, u32 apic_id unused,
                unsigned vector unused) {
    return entry < MAX(fn->msix_count, 1u) ? 0 : -1;
}
void pci_msi_mask(const struct pci_function *fn, unsigned entry) {
    assert_true(entry < MAX(fn->msix_count, 1u));
}
void pci_msi_disable(const struct pci_function *fn unused) {}
int ioapic_route(u32 gsi, unsigned vector unused, u32 destination unused, bool level unused,
                 bool low unused) {
    return gsi < 24 ? 0 : -1;
}
void ioapic_mask(u32 gsi, bool masked unused) { assert_true(gsi < 24); }

struct acpi_override ioapic_isa(u8 irq) {
    return (struct acpi_override){.irq = irq, .gsi = irq == 9 ? 24 : irq};
}

struct acpi_info acpi;
struct options options;
bool uart_init(u16 port unused, u32 baud unused) { return true; }
void uart_write(u16 port unused, const char *text unused, size_t length unused) {}
void log_write(const char *text unused, size_t length unused) { console_news(); }
struct basalt_log *log_ring(void) {
    static struct basalt_log log = {.bytes = 4096};
    return &log;
}

// ---- The backend ----

static struct cpu_state *loaded;

static struct host_vcpu *state_of(const struct cpu_state *cpu) { return cpu->page; }

static struct host_vcpu *only_loaded(const struct cpu_state *cpu) {
    if (cpu != loaded)
        fail_msg("a virtual processor's control block is touched while it is not loaded");
    return state_of(cpu);
}

static void fake_state_init(struct cpu_state *cpu) {
    assert_non_null(cpu->page);
    *only_loaded(cpu) = (struct host_vcpu){0};
}
static void fake_load(struct cpu_state *cpu) {
    assert_null(loaded);
    loaded = cpu;
}
static void fake_unload(struct cpu_state *cpu) {
    assert_ptr_equal(loaded, cpu);
    loaded = NULL;
}
static void fake_prepare(struct cpu_state *cpu unused) {}
static struct exit fake_enter(struct cpu_state *cpu) {
    only_loaded(cpu);
    if (timer_rings()) // its interrupt ends the run before it begins
        return (struct exit){.kind = BASALT_EXIT_INTERRUPT};
    assert_non_null(host_run);
    return host_run(cpu);
}
static u64 *register_of(struct cpu_state *cpu, enum backend_register reg) {
    return reg == REG_CR0    ? &cpu->cr0_guest
           : reg == REG_CR4  ? &cpu->cr4_guest
           : reg == REG_EFER ? &cpu->efer_guest
                             : &only_loaded(cpu)->registers[reg];
}
static u64 fake_read(struct cpu_state *cpu, enum backend_register reg) {
    const struct host_vcpu *s = only_loaded(cpu);

    switch (reg) {
    case REG_CPL: return s->cpl;
    case REG_CS_BASE: return s->segments[BASALT_CS].base;
    case REG_CS_ATTRIBUTES: return s->segments[BASALT_CS].attributes;
    default: return *register_of(cpu, reg);
    }
}
static void fake_write(struct cpu_state *cpu, enum backend_register reg, u64 value) {
    only_loaded(cpu);
    *register_of(cpu, reg) = value;
}
static struct basalt_segment fake_read_segment(struct cpu_state *cpu, unsigned index) {
    assert_true(index <= BASALT_IDTR);
    return only_loaded(cpu)->segments[index];
}
static void fake_write_segment(struct cpu_state *cpu, unsigned index,
                               const struct basalt_segment *segment) {
    assert_true(index <= BASALT_IDTR);
    only_loaded(cpu)->segments[index] = *segment;
}
static bool fake_access_msr(struct cpu_state *cpu, u32 msr, bool write, u64 *value) {
    only_loaded(cpu);
    if (msr != MSR_PAT && (msr < MSR_STAR || msr > MSR_KERNEL_GS_BASE))
        return false;
    if (msr != MSR_PAT)
        *value = 0;
    else if (write)
        only_loaded(cpu)->pat = *value;
    else
        *value = only_loaded(cpu)->pat;
    return true;
}
static bool fake_can_take(struct cpu_state *cpu, bool nmi) {
    if (nmi)
        return !only_loaded(cpu)->no_nmi;
    return !only_loaded(cpu)->no_interrupt && cpu->rflags & BIT(9);
}
static void fake_window(struct cpu_state *cpu, bool nmi, bool on) {
    *(nmi ? &only_loaded(cpu)->nmi_window : &only_loaded(cpu)->irq_window) = on;
}
static void fake_apic_mode(struct cpu_state *cpu, bool x2apic, const u32 *tmr) {
    only_loaded(cpu)->x2apic = x2apic;
    only_loaded(cpu)->level_vectors = tmr[4 * 2]; // 64 to 95
}
static u16 fake_apic_status(struct cpu_state *cpu, u16 status, bool all) {
    u16 *now = &only_loaded(cpu)->apic_status;

    *now = all ? status : (u16)((*now & 0xff00) | MAX(*now & 0xff, status & 0xff));
    only_loaded(cpu)->apic_updates++;
    return *now;
}
static void fake_clear_shadow(struct cpu_state *cpu) { only_loaded(cpu)->no_interrupt = false; }
static void fake_allow_dr(struct cpu_state *cpu) { only_loaded(cpu)->intercept_dr = false; }
static void fake_flush(struct cpu_state *cpu) { only_loaded(cpu)->flushes++; }
static bool fake_control_field(struct cpu_state *cpu, u64 field, u64 *value) {
    *value = only_loaded(cpu)->cpl;
    return field == 1;
}

static const struct backend fake_backend = {
    .name = "fake",
    .vmx = true,
    .state_init = fake_state_init,
    .load = fake_load,
    .unload = fake_unload,
    .prepare = fake_prepare,
    .enter = fake_enter,
    .enter_guarded = fake_enter,
    .read = fake_read,
    .write = fake_write,
    .read_segment = fake_read_segment,
    .write_segment = fake_write_segment,
    .access_msr = fake_access_msr,
    .can_take = fake_can_take,
    .window = fake_window,
    .apic_mode = fake_apic_mode,
    .apic_status = fake_apic_status,
    .clear_shadow = fake_clear_shadow,
    .allow_dr = fake_allow_dr,
    .flush_second_level = fake_flush,
    .flush_linear = fake_flush,
    .control_field = fake_control_field,
};

const struct backend *backend = &fake_backend;
struct backend_features backend_features = {.vpid = true, .second_level_2m = true};

// ---- The machine ----

void host_machine_init(void) {
    static struct boot_params boot = {
        .memory_count = 2,
        .memory = {{0, 1 * MIB, MEMORY_TAKEN}, {1 * MIB, HOST_RAM, MEMORY_RAM}},
        .ram_end = HOST_RAM,
        .ram_bytes = HOST_RAM,
    };

    frames_init(&boot);
    assert_int_equal(schedule_init(), 0);
    cpuid_setup();
}

struct host_vcpu *host_vcpu(const struct vcpu *v) {
    return state_of(&v->cpu);
}

void host_load(struct vcpu *v) {
    struct runqueue *q = this_queue();

    if (q->loaded)
        backend->unload(&q->loaded->cpu);
    q->loaded = q->current = v;
    if (v)
        backend->load(&v->cpu);
}

void host_set_mode(struct vcpu *v, enum cpu_mode mode) {
    struct host_vcpu *s = host_vcpu(v);
    struct basalt_segment data = {.limit = mode == MODE_16 ? 0xffff : 0xffffffff,
                                  .attributes = 0x93};

    data.attributes |= mode == MODE_16 ? 0 : 0xc000;
    for (unsigned i = 0; i < 6; i++)
        s->segments[i] = data;
    s->segments[BASALT_CS].attributes = mode == MODE_64 ? 0xa09b : mode == MODE_32 ? 0xc09b : 0x9b;
    v->cpu.cr0_guest = mode == MODE_16 ? 0x10 : mode == MODE_32 ? 0x11 : CR0_PG | CR0_WP | 0x11;
    v->cpu.cr4_guest = mode == MODE_64 ? CR4_PAE : 0;
    v->cpu.efer_guest = mode == MODE_64 ? EFER_LME | EFER_LMA | EFER_NXE : 0;
}

struct domain *host_domain(u64 quota) {
    struct domain *d = NULL;

    assert_int_equal(domain_create(quota, &d), 0);
    assert_non_null(d);
    return d;
}

struct domain *host_dom0(u64 bytes, u64 *ram) {
    struct domain *d = host_domain(HOST_RAM);
    hpa_t base = frame_alloc_run(d->owner, bytes, HOST_RAM);

    assert_true(base.v != HPA_NONE.v);
    d->identity = true;
    for (u64 at = base.v; at < base.v + bytes; at += SUPERPAGE_SIZE) {
        assert_true(domain_charge(d, SUPERPAGE_SIZE));
        assert_int_equal(ept_map(&d->ept, GPA(at), HPA(at), SUPERPAGE_SHIFT, EPT_RWX), 0);
    }
    assert_int_equal(events_init(d), 0);
    assert_int_equal(handle_create(d, NULL, BASALT_RIGHTS_MACHINE)->index, BASALT_HANDLE_MACHINE);
    assert_int_equal(vcpu_create(d, 0), 0);
    host_set_mode(d->vcpus[0], MODE_64);
    vcpu_unblock(d->vcpus[0], BLOCK_NEW);
    assert_int_equal(domain_control(d, BASALT_OP_RESUME), 0);
    *ram = base.v;
    return d;
}

unsigned host_destroy(struct domain *d) {
    unsigned steps = 1;

    for (int error; (error = domain_destroy(d)); steps++) {
        assert_int_equal(error, -BASALT_EINTR);
        assert_true(steps < 100000);
    }
    return steps;
}

void host_exit_for_call(struct vcpu *v) {
    hypercall(v, (struct exit){
                     .kind = BASALT_EXIT_HYPERCALL, .insn_length = 3, .detail = host_vcpu(v)->cpl});
}

// The caller must be the loaded one, as it is when it makes a hypercall.
i64 host_call(struct vcpu *v, u64 number, const u64 args[6], u64 *second) {
    static const u8 registers[6] = {BASALT_RDI, BASALT_RSI, BASALT_RDX,
                                    BASALT_R10, BASALT_R8,  BASALT_R9};

    for (unsigned i = 0; i < 6; i++)
        v->cpu.gprs[registers[i]] = args[i];
    v->cpu.gprs[BASALT_RAX] = number;
    host_exit_for_call(v);
    if (second)
        *second = v->cpu.gprs[BASALT_RDX];
    return (i64)v->cpu.gprs[BASALT_RAX];
}

void *host_memory(struct domain *d, u64 gpa) {
    struct ept_leaf leaf = ept_walk(&d->ept, GPA(gpa));

    assert_true(leaf.present);
    return pool_ptr(HPA(leaf.hpa.v + (gpa - leaf.gpa)));
}

struct host_account host_account(void) {
    struct host_account a = {.charged = domains_charged()};

    for (u64 pa = 1 * MIB; pa < HOST_RAM; pa += PAGE_SIZE) {
        u16 owner = host_frame_owner(pa);
        assert_int_equal(owner <= FRAME_OWNER_NONE, !frame_references(HPA(pa)));
        a.kernel_frames += owner == FRAME_OWNER_KERNEL;
        a.domain_frames += owner >= FRAME_OWNER_DOMAIN;
    }
    return a;
}

void host_assert_same(struct host_account before) {
    struct host_account now = host_account();

    assert_int_equal(now.domain_frames, before.domain_frames);
    assert_int_equal(now.kernel_frames, before.kernel_frames);
    assert_int_equal(now.charged, before.charged);
}
