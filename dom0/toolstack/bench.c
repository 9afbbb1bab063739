// SPDX-License-Identifier: Apache-2.0
//
// What dom0 measures of itself for `make bench`; asleep unless "bench=KIND" is on its command line:
//
//     events   gives the domain "bench" two doorbells that are answered with an interrupt, one at once, the other when the
//              guest has halted; the times at which dom0's handler runs and at which it injects are left in the guest's
//              memory (tests/guest/bench)
//     count    gives the domain "linux" the doorbell; at each ring its counters are printed
//     create   starts the domain "tiny", which ends at its first instruction, many times, and prints how long it took
//              from domain_start() until everything was given back
//     memory   starts all domains, which sit still, and prints what each took of the machine's memory and of dom0's
//
// Figures are printed as the guest prints its own: "bench: NAME MEDIAN MINIMUM MAXIMUM".

#include "toolstack/bench.h"

#include "devices/host.h"
#include "lib/boot.h"
#include "lib/hypercall.h"
#include "lib/timer.h"
#include "toolstack/shell.h"
#include "toolstack/source.h"
#include "toolstack/text.h"

#include <basalt/trace.h>

#include <stdlib.h>
#include <string.h>

#define EVENT_PORT    0xb0u // the doorbell
#define LATER_PORT    0xb2u // the doorbell that is answered later
#define LATER_NS      50000u
#define EVENT_PAGE    0x8000u
#define EVENT_MESSAGE 0xfee00000u
#define EVENT_VECTOR  0x40u
#define CREATIONS     100u

typedef unsigned long long ull;

static enum kind { OFF, EVENTS, COUNT, CREATE, MEMORY } kind;

static void print(const char *name, u64 median, u64 minimum, u64 maximum) {
    shell_print("bench: %s %llu %llu %llu\n", name, (ull)median, (ull)minimum, (ull)maximum);
}

// ---- events ----

static struct {
    u32 domain;
    volatile struct {
        u64 handled, injected; // TSC of the machine
        u64 tsc_offset;        // the guest's TSC is that much ahead
        u64 mark;              // the guest's
    } * page;
    struct timer later;
} events;

// A mark of the profiler's, as in tests/guest/bench/bench.c, when the guest wants it.
static void mark(void) {
    if (events.page->mark)
        __asm__ volatile("xchg %%bx, %%bx" : : : "memory");
}

static void inject(void *context) {
    (void)context;
    mark();
    events.page->injected = time_tsc();
    host_inject_msi(events.domain, EVENT_MESSAGE, EVENT_VECTOR);
}

static void rung(void *context) {
    u64 now = time_tsc();
    mark();
    events.page->handled = now;
    inject(context);
}

static void rung_for_later(void *context) {
    (void)context;
    timer_set(&events.later, time_ns() + LATER_NS);
}

static void begin_events(struct domain *d) {
    struct basalt_domain_info info = {0};
    size_t length = sizeof(*events.page);
    events.domain = d->handle;
    events.page = host_guest_pin(machine_memory(d->machine), EVENT_PAGE, &length, true);
    events.later.handler = inject;
    if (!events.page || hc_domain_info(d->handle, &info) < 0 ||
        host_doorbell_bind(d->handle, EVENT_PORT, 2, rung, NULL) < 0 ||
        host_doorbell_bind(d->handle, LATER_PORT, 2, rung_for_later, NULL) < 0)
        shell_error("bench: no doorbell");
    else
        events.page->tsc_offset = info.tsc_offset;
}

// ---- count ----

// Doorbells, injections and all exits of the domain's only vCPU.
static void rung_to_count(void *context) {
    const struct domain *d = context;
    struct basalt_vcpu_stats stats = {0};
    u64 exits = 0;
    hc_vcpu_stats(d->handle, 0, &stats);
    for (u32 i = 0; i < BASALT_EXIT_COUNT; i++)
        exits += stats.exits[i];
    print("counters", stats.doorbells, stats.injections, exits);
}

static void begin_count(struct domain *d) {
    if (host_doorbell_bind(d->handle, EVENT_PORT, 2, rung_to_count, d) < 0)
        shell_error("bench: no doorbell");
}

// ---- create ----

static struct {
    struct work work;
    struct domain *domain;
    u64 began, samples[CREATIONS];
    unsigned count;
} create;

static int order(const void *a, const void *b) {
    u64 x = *(const u64 *)a, y = *(const u64 *)b;
    return (x > y) - (x < y);
}

static void create_once(void *context) {
    char error[DOMAIN_ERROR_SIZE];
    (void)context;
    create.began = time_tsc();
    if (domain_start(create.domain, error) < 0)
        shell_error("bench: %s", error);
}

static void created(struct domain *d) {
    if (d != create.domain || d->state != DOMAIN_STOPPED)
        return;
    if (d->cause != DOMAIN_CAUSE_POWER_OFF) {
        shell_error("bench: %s did not run", d->config.name);
        return;
    }
    create.samples[create.count++] = time_tsc() - create.began;
    if (create.count < CREATIONS) {
        work_queue(&create.work);
        return;
    }
    qsort(create.samples, CREATIONS, sizeof(*create.samples), order);
    print("create_destroy_tiny", create.samples[CREATIONS / 2], create.samples[0],
          create.samples[CREATIONS - 1]);
    shell_print("bench: end\n");
}

static void begin_create(void) {
    create.work.handler = create_once;
    create.domain = domain_find("tiny");
    if (create.domain)
        work_queue(&create.work);
}

// ---- memory ----

// What dom0 holds: charged to it, and used of its own memory.
static u64 own_memory(void) {
    struct basalt_domain_info self = {0};
    hc_domain_info(BASALT_HANDLE_SELF, &self);
    return self.memory_bytes + (page_count_total() - page_count_free()) * PAGE_SIZE;
}

static void begin_memory(void) {
    char error[DOMAIN_ERROR_SIZE];
    u64 count = 0, others = 0, own = own_memory();
    for (struct domain *d = domain_first(); d; d = d->next) {
        struct basalt_domain_info info = {0};
        if (domain_start(d, error) < 0)
            shell_error("bench: %s", error);
        hc_domain_info(d->handle, &info);
        others += info.memory_bytes - d->config.memory;
        count++;
    }
    if (!count) {
        shell_error("bench: there is no domain");
        return;
    }
    others /= count;
    own = (own_memory() - own) / count;
    print("mem_per_domain", others, others, others);
    print("mem_per_domain_dom0", own, own, own);
    shell_print("bench: end\n");
}

// ---- all together ----

void bench_begin(void) {
    static const char *const names[] = {"off", "events", "count", "create", "memory"};
    char value[16] = "off";
    text_option(boot_info->cmdline, "bench", value, sizeof(value));
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        if (strcmp(value, names[i]) == 0)
            kind = (enum kind)i;
    if (kind == CREATE)
        begin_create();
    else if (kind == MEMORY)
        begin_memory();
}

void bench_domain_changed(struct domain *d) {
    if (kind == EVENTS && d->state == DOMAIN_RUNNING && strcmp(d->config.name, "bench") == 0)
        begin_events(d);
    else if (kind == COUNT && d->state == DOMAIN_RUNNING && strcmp(d->config.name, "linux") == 0)
        begin_count(d);
    else if (kind == CREATE)
        created(d);
}
