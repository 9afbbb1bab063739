// SPDX-License-Identifier: Apache-2.0
//
// The scene of the toolstack's tests: a kernel, machines, disks and a log that the test plays, with every call counted so
// that any one can be let fail, and domains to put into it.

#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "loader_image.h"

#include "lib/boot.h"
#include "lib/console.h"
#include "lib/hypercall.h"
#include "lib/log.h"
#include "lib/timer.h"
#include "toolstack/domain.h"

#include <basalt/event.h>

#include <stdio.h>

// ---- what fails ----

static unsigned calls, fail_at; // the number of the call that fails; 0: none
static bool failed;

static bool fails(void) {
    if (++calls != fail_at)
        return false;
    failed = true;
    return true;
}

// ---- the kernel ----

#define HANDLES 16u

static struct {
    bool used;
    u32 status, reason, port;
    unsigned destroy_steps; // that DOMAIN_DESTROY takes
    u32 vcpus;
} domains[HANDLES];
static bool ports[64];
static u64 free_bytes, now_ticks = 1000000, timer_deadline;
static u32 timer_port;
static struct basalt_event_page event_page;
static struct basalt_boot_info info;

u64 host_tsc(void);
u64 host_tsc(void) { return now_ticks; }

u64 phys_of(const void *p) { return (u64)(uintptr_t)p; }

static void *pointer(u64 address) { return (void *)(uintptr_t)address; }

static void ring(u32 port) {
    event_page.pending[port / 64] |= BIT(port % 64);
    event_page.summary |= BIT(port / 64);
}

static i64 create(u64 quota) {
    for (u32 h = 2; h < HANDLES; h++) {
        if (domains[h].used)
            continue;
        memset(&domains[h], 0, sizeof(domains[h]));
        domains[h].used = true;
        domains[h].destroy_steps = 3;
        free_bytes -= quota;
        return h;
    }
    return -BASALT_ENOSPC;
}

static i64 control(u32 h, u32 op) {
    if (domains[h].status == BASALT_STATUS_ENDED)
        return -BASALT_EINVAL;
    domains[h].status = op == BASALT_OP_RESUME  ? BASALT_STATUS_RUNNING
                        : op == BASALT_OP_PAUSE ? BASALT_STATUS_PAUSED
                                                : BASALT_STATUS_ENDED;
    if (op == BASALT_OP_END && domains[h].port)
        ring(domains[h].port);
    return 0;
}

static i64 destroy(u32 h) {
    if (domains[h].destroy_steps-- > 1)
        return -BASALT_EINTR;
    domains[h].used = false;
    return 0;
}

static i64 port_alloc(void) {
    for (u32 p = 1; p < ARRAY_SIZE(ports); p++) {
        if (!ports[p]) {
            ports[p] = true;
            return p;
        }
    }
    return -BASALT_ENOSPC;
}

static void give_info(u32 h, struct basalt_domain_info *to) {
    memset(to, 0, sizeof(*to));
    to->status = domains[h].status;
    to->end_reason = domains[h].reason;
    to->end_insn_length = 2;
    to->end_insn[0] = 0x0f;
    to->end_insn[1] = 0xb9;
    to->end_detail = 0xfee1dead;
}

static i64 vcpu_get(struct basalt_vcpu_state *s) {
    memset(s, 0, sizeof(*s));
    s->rip = 0xffffffff81234567;
    s->gprs[BASALT_R15] = 0x1515;
    return 0;
}

static bool handle_ok(u64 h) { return h < HANDLES && domains[h].used; }

struct hypercall_result hypercall_raw(u64 number, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f) {
    struct hypercall_result r = {0, 0};
    (void)d, (void)e, (void)f;
    switch (number) {
    case BASALT_HC_TIMER_SET: timer_deadline = a, timer_port = (u32)b; return r;
    case BASALT_HC_PORT_FREE: ports[a] = false; return r;
    case BASALT_HC_DOMAIN_DESTROY:
        assert_true(handle_ok(a));
        r.value = destroy((u32)a);
        return r;
    case BASALT_HC_BLOCK: return r;
    }
    if (fails()) {
        r.value = number == BASALT_HC_DOMAIN_CREATE ? -BASALT_ENOSPC : -BASALT_ENOMEM;
        return r;
    }
    switch (number) {
    case BASALT_HC_PORT_ALLOC: r.value = port_alloc(); break;
    case BASALT_HC_MEMORY_INFO: r.value = (i64)free_bytes; break;
    case BASALT_HC_DOMAIN_CREATE: r.value = create(b); break;
    case BASALT_HC_DOMAIN_SCHEDULE: assert_true(handle_ok(a) && b && b <= 10000); break;
    case BASALT_HC_DOMAIN_BIND:
        assert_true(handle_ok(a));
        domains[a].port = (u32)b;
        break;
    case BASALT_HC_DOMAIN_CONTROL:
        assert_true(handle_ok(a));
        r.value = control((u32)a, (u32)b);
        break;
    case BASALT_HC_DOMAIN_INFO:
        assert_true(handle_ok(a));
        give_info((u32)a, pointer(b));
        break;
    case BASALT_HC_VCPU_CREATE:
        assert_true(handle_ok(a));
        domains[a].vcpus++;
        break;
    case BASALT_HC_VCPU_SET:
        assert_true(handle_ok(a));
        assert_int_equal(domains[a].status, BASALT_STATUS_PAUSED);
        break;
    case BASALT_HC_VCPU_GET:
        assert_true(handle_ok(a));
        r.value = vcpu_get(pointer(c));
        break;
    default: fail_msg("an unexpected hypercall: %llx", (unsigned long long)number);
    }
    return r;
}

// ---- machines ----

struct guest_machine {
    struct machine_config config;
    u64 map_count;
    void (*done)(void *);
    void *done_context;
    struct work work;
    bool button;
};
static unsigned machines;
static struct guest_machine *newest;
static bool late_destroy; // machine_destroy() calls back later

int machine_create(struct guest_machine **machine, const struct machine_config *config) {
    if (fails())
        return -BASALT_ENOMEM;
    *machine = newest = calloc(1, sizeof(**machine));
    newest->config = *config;
    newest->button = true;
    machines++;
    return 0;
}

static void machine_ended(void *context) {
    struct guest_machine *m = context;
    void (*done)(void *) = m->done;
    void *done_context = m->done_context;
    machines--;
    free(m);
    done(done_context);
}

void machine_destroy(struct guest_machine *m, void (*done)(void *), void *context) {
    m->done = done;
    m->done_context = context;
    m->work = (struct work){.handler = machine_ended, .context = m};
    if (late_destroy)
        work_queue(&m->work);
    else
        machine_ended(m);
}

struct guest_memory *machine_memory(struct guest_machine *m) {
    (void)m;
    return NULL;
}
u64 machine_acpi_root(const struct guest_machine *m) {
    (void)m;
    return 0xe0000;
}
unsigned machine_memory_map(const struct guest_machine *m,
                            struct machine_memory_range ranges[MACHINE_MEMORY_RANGES]) {
    return image_memory_map(ranges, m->config.memory);
}
bool machine_power_button(struct guest_machine *m) { return m->button; }
size_t machine_console_input(struct guest_machine *m, const char *bytes, size_t length) {
    (void)m, (void)bytes;
    return length;
}

bool guest_write(struct guest_memory *m, u64 gpa, const void *from, u64 bytes) {
    (void)m, (void)gpa, (void)from, (void)bytes;
    return !fails();
}
bool guest_fill(struct guest_memory *m, u64 gpa, u8 value, u64 bytes) {
    (void)m, (void)gpa, (void)value, (void)bytes;
    return !fails();
}
bool guest_read(struct guest_memory *m, u64 gpa, void *to, u64 bytes) {
    (void)m, (void)gpa;
    memset(to, 0, bytes);
    return true;
}

// ---- disks ----

static struct block_device parts[3] = {
    {.name = "vda", .sectors = 2000},
    {.name = "vda1", .label = "root1", .first_sector = 100, .sectors = 100},
    {.name = "vda2", .label = "root2", .first_sector = 200, .sectors = 100}};

struct block_device *block_first(void) {
    return fails() ? NULL : &parts[0];
}
struct block_device *block_next(struct block_device *device) {
    return device->next;
}

static unsigned claims(void) {
    unsigned n = 0;
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
        for (struct block_claim *c = parts[i].claims; c; c = c->next)
            n++;
    return n;
}

// ---- the console and the log ----

static char said[65536];

size_t console_write(const void *data, size_t bytes) {
    (void)data;
    return bytes;
}

void console_drop(void) {}
void console_drain(void) {}

static void sink(const char *text, size_t bytes) {
    size_t used = strlen(said);
    snprintf(said + used, sizeof(said) - used, "%.*s", (int)bytes, text);
}

// ---- the scene ----

static u8 kernel[IMAGE_LINUX_BYTES];
static char dom0_ring[256];
static u32 own_ports; // of the event loop itself

static size_t no_input(void *context, const char *bytes, size_t length) {
    (void)context, (void)bytes;
    return length;
}
static struct screen dom0_screen = {
    .name = "dom0", .ring = dom0_ring, .size = sizeof(dom0_ring), .input = no_input};

static void settle(void) {
    for (unsigned i = 0; i < 30; i++)
        event_pass(false);
}

static void advance(u64 seconds) {
    now_ticks += seconds * 1000000000; // 1 GHz
    if (timer_deadline && timer_deadline <= now_ticks)
        ring(timer_port);
    settle();
}

static int setup(void **state) {
    static bool begun;
    (void)state;
    fail_at = 0;
    failed = late_destroy = false;
    said[0] = 0;
    free_bytes = GIB;
    if (begun)
        return 0;
    begun = true;
    info = (struct basalt_boot_info){
        .tsc_khz = 1000000, .event_page = phys_of(&event_page), .module_count = 1};
    info.modules[0] = (struct basalt_boot_module){
        .base = phys_of(kernel), .size = sizeof(kernel), .name = "vmlinuz"};
    image_make_linux(kernel);
    boot_info = &info;
    for (size_t i = 0; i + 1 < ARRAY_SIZE(parts); i++) {
        parts[i].next = &parts[i + 1];
        parts[i + 1].disk = &parts[0];
    }
    event_init();
    while (ports[own_ports + 1])
        own_ports++;
    screen_add(&dom0_screen);
    log_set_sink(sink);
    return 0;
}

static void nothing_is_held(void) {
    unsigned used = 0;
    for (u32 h = 0; h < HANDLES; h++)
        used += domains[h].used;
    assert_int_equal(used, 0);
    assert_int_equal(machines, 0);
    assert_int_equal(claims(), 0);
    for (u32 p = 0; p < ARRAY_SIZE(ports); p++)
        assert_true(!ports[p] || p <= own_ports);
}

static struct domain *define(const char *name, const char *disk) {
    struct domain_config c = {.memory = 64 * MIB,
                              .vcpus = 2,
                              .weight = 256,
                              .console = true,
                              .on_crash = CONFIG_DESTROY,
                              .on_reboot = CONFIG_RESTART};
    char error[DOMAIN_ERROR_SIZE], file[40];
    snprintf(c.name, sizeof(c.name), "%s", name);
    snprintf(c.kernel, sizeof(c.kernel), "vmlinuz");
    snprintf(file, sizeof(file), "%s.conf", name);
    if (disk) {
        c.disk_count = 1;
        c.disks[0].source = CONFIG_DISK_LABEL;
        snprintf(c.disks[0].name, sizeof(c.disks[0].name), "%s", disk);
    }
    struct domain *d = domain_define(&c, file, error);
    assert_non_null(d);
    d->quick_ends = 0;
    return d;
}

static void start(struct domain *d) {
    char error[DOMAIN_ERROR_SIZE];
    if (domain_start(d, error) < 0)
        fail_msg("%s", error);
    assert_int_equal(d->state, DOMAIN_RUNNING);
}

static void end(struct domain *d) {
    char error[DOMAIN_ERROR_SIZE];
    assert_int_equal(domain_destroy(d, error), 0);
    settle();
    assert_int_equal(d->state, DOMAIN_STOPPED);
    nothing_is_held();
}

static void crash(struct domain *d, enum basalt_end_reason reason) {
    domains[d->handle].status = BASALT_STATUS_ENDED;
    domains[d->handle].reason = reason;
    ring(domains[d->handle].port);
    settle();
}
