// SPDX-License-Identifier: Apache-2.0
//
// Commands that show what domains are and do.

#include "toolstack/commands.h"

#include "lib/hypercall.h"
#include "lib/timer.h"
#include "toolstack/domain.h"
#include "toolstack/table.h"
#include "toolstack/text.h"

#include <basalt/trace.h>

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef unsigned long long ull;

// The kernel's view of a domain; zeros if it has none.
static struct basalt_domain_info info_of(const struct domain *d) {
    struct basalt_domain_info info = {0};
    if (d->handle)
        hc_domain_info(d->handle, &info);
    return info;
}

// What its vCPUs did, all together.
static struct basalt_vcpu_stats stats_of(u32 handle, u32 vcpus) {
    struct basalt_vcpu_stats all = {0}, stats = {0};
    for (u32 v = 0; v < vcpus; v++) {
        if (hc_vcpu_stats(handle, v, &stats) < 0)
            continue;
        all.run_tsc += stats.run_tsc;
        for (u32 i = 0; i < BASALT_EXIT_COUNT; i++)
            all.exits[i] += stats.exits[i];
    }
    return all;
}

static u64 exits_of(const struct basalt_vcpu_stats *stats) {
    u64 exits = 0;
    for (u32 i = 0; i < BASALT_EXIT_COUNT; i++)
        exits += stats->exits[i];
    return exits;
}

static void size_cell(struct table *t, u64 bytes) {
    char text[TEXT_SIZE_MAX];
    table_value(t, (double)bytes, text_of_size(text, bytes));
}

static void seconds_cell(struct table *t, u64 ns) {
    char text[TEXT_SIZE_MAX];
    snprintf(text, sizeof(text), "%llu.%llu s", (ull)(ns / NS_PER_S),
             (ull)(ns % NS_PER_S / (NS_PER_S / 10)));
    table_value(t, (double)ns / 1e9, text);
}

// From its start to now, or to its end.
static void uptime_cell(struct table *t, const struct domain *d) {
    bool lives = d->state == DOMAIN_RUNNING || d->state == DOMAIN_PAUSED;
    if (lives || d->ended > d->started)
        seconds_cell(t, (lives ? time_ns() : d->ended) - d->started);
    else
        table_empty(t);
}

enum shell_result command_list(const struct shell_call *call) {
    static const struct table_column columns[] = {
        {"number", "#", true},          {"name", "NAME", false},
        {"state", "STATE", false},      {"vcpus", "VCPUS", true},
        {"memory", "MEMORY", true},     {"cpu_seconds", "CPU TIME", true},
        {"uptime_seconds", "UP", true}, {"last_end", "LAST END", false},
    };
    struct table t;
    table_begin(&t, columns, ARRAY_SIZE(columns), call->json);
    for (struct domain *d = domain_first(); d; d = d->next) {
        table_number(&t, d->number);
        table_text(&t, d->config.name);
        table_text(&t, domain_state_name(d));
        table_number(&t, d->config.vcpus);
        size_cell(&t, d->config.memory);
        if (d->handle) {
            seconds_cell(&t, time_ns_of_ticks(stats_of(d->handle, d->config.vcpus).run_tsc));
            uptime_cell(&t, d);
        } else {
            table_empty(&t);
            table_empty(&t);
        }
        if (d->cause)
            table_text(&t, domain_cause_name(d));
        else
            table_empty(&t);
    }
    table_end(&t, shell_print_line);
    return SHELL_DONE;
}

// ---- info: one key and value per line, or one object ----

static cJSON *object; // NULL: text

__attribute__((format(printf, 3, 4))) static void line(const char *key, const char *title,
                                                       const char *format, ...) {
    char text[CONFIG_CMDLINE_SIZE + 32];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (object)
        cJSON_AddStringToObject(object, key, text);
    else
        shell_print("  %-18s %s\n", title, text);
}

static void size_line(const char *key, const char *title, u64 bytes) {
    char text[TEXT_SIZE_MAX];
    if (object)
        cJSON_AddNumberToObject(object, key, (double)bytes);
    else
        line(key, title, "%s (%llu bytes)", text_of_size(text, bytes), (ull)bytes);
}

static void number_line(const char *key, const char *title, u64 value) {
    if (object)
        cJSON_AddNumberToObject(object, key, (double)value);
    else
        line(key, title, "%llu", (ull)value);
}

static void config_lines(const struct domain *d) {
    const struct domain_config *c = &d->config;
    line("name", "name", "%s", c->name);
    line("state", "state", "%s", domain_state_name(d));
    line("file", "file", "%s", d->source);
    size_line("memory", "memory", c->memory);
    number_line("vcpus", "vCPUs", c->vcpus);
    line("kernel", "kernel", "%s", c->kernel);
    if (c->initrd[0])
        line("initrd", "initrd", "%s", c->initrd);
    line("cmdline", "cmdline", "%s", c->cmdline);
    line("on_crash", "on_crash", "%s", config_action_name(c->on_crash));
    line("on_reboot", "on_reboot", "%s", config_action_name(c->on_reboot));
    number_line("weight", "weight", c->weight);
    number_line("cap", "cap", c->cap);
    number_line("starts", "starts", d->starts);
    if (d->cause)
        line("last_end", "last end", "%s", domain_cause_name(d));
    if (d->cause == DOMAIN_CAUSE_CRASH)
        line("end_reason", "reason", "%s", domain_end_reason_name(d->end.end_reason));
}

static void disk_line(const struct domain *d, u32 index) {
    const struct config_disk *disk = &d->config.disks[index];
    const struct block_device *device = d->claims[index].device;
    struct machine_disk_stats s = {0};
    char key[16], title[16];
    snprintf(key, sizeof(key), "disk%u", index);
    snprintf(title, sizeof(title), "disk %u", index);
    if (!d->machine || machine_disk_stats(d->machine, index, &s) < 0) {
        line(key, title, "%s%s", disk->name, disk->read_only ? ", read-only" : "");
        return;
    }
    line(key, title,
         "%s (%s)%s: %llu reads (%llu KiB), %llu writes (%llu KiB), %llu flushes, %llu errors%s",
         disk->name, device ? device->name : "?", disk->read_only ? ", read-only" : "",
         (ull)s.reads, (ull)(s.read_bytes / KIB), (ull)s.writes, (ull)(s.written_bytes / KIB),
         (ull)s.flushes, (ull)s.errors, s.broken ? ", stopped: its ring was malformed" : "");
}

// Exits by kind, those that happened.
static void exit_lines(const struct basalt_vcpu_stats *stats) {
#define EXIT_NAME(kind, name) name,
    static const char *const names[] = {BASALT_EXITS(EXIT_NAME)};
#undef EXIT_NAME
    for (u32 i = 0; i < ARRAY_SIZE(names); i++) {
        char key[40], title[40];
        if (!stats->exits[i])
            continue;
        snprintf(key, sizeof(key), "exits_%s", names[i]);
        snprintf(title, sizeof(title), "  %s", names[i]);
        number_line(key, title, stats->exits[i]);
    }
}

static void kernel_lines(const struct domain *d) {
    struct basalt_domain_info info = info_of(d);
    if (!d->handle)
        return;
    struct basalt_vcpu_stats stats = stats_of(d->handle, d->config.vcpus);
    number_line("id", "id", info.id);
    size_line("memory_charged", "charged", info.memory_bytes);
    size_line("memory_quota", "quota", info.memory_quota);
    number_line("run_ms", "ran (ms)", time_ns_of_ticks(stats.run_tsc) / NS_PER_MS);
    number_line("exits", "exits", exits_of(&stats));
    exit_lines(&stats);
}

enum shell_result command_info(const struct shell_call *call) {
    struct domain *d = command_domain(call);
    if (!d)
        return SHELL_FAILED;
    object = call->json ? cJSON_CreateObject() : NULL;
    config_lines(d);
    for (u32 i = 0; i < d->config.disk_count; i++)
        disk_line(d, i);
    kernel_lines(d);
    char *text = object ? cJSON_PrintUnformatted(object) : NULL;
    if (text)
        shell_print_line(text);
    cJSON_free(text);
    cJSON_Delete(object);
    object = NULL;
    return SHELL_DONE;
}

// ---- top ----

static struct timer top_timer;
static u64 top_begun;
static bool top_json;
static struct top_sample dom0_sample;

static struct top_sample sample(u32 handle, u32 vcpus) {
    struct basalt_vcpu_stats stats = stats_of(handle, vcpus);
    return (struct top_sample){stats.run_tsc, exits_of(&stats)};
}

static void top_row(struct table *t, const char *name, const char *state, u32 handle, u32 vcpus,
                    const struct top_sample *before, u64 ns) {
    char text[TEXT_SIZE_MAX];
    struct basalt_domain_info info = {0};
    struct top_sample now = sample(handle, vcpus);
    u64 ran = time_ns_of_ticks(now.run_tsc - MIN(now.run_tsc, before->run_tsc));
    u64 exits = now.exits - MIN(now.exits, before->exits);
    hc_domain_info(handle, &info);
    u64 permille = ran * 1000 / ns;
    table_text(t, name);
    table_text(t, state);
    snprintf(text, sizeof(text), "%llu.%llu%%", (ull)(permille / 10), (ull)(permille % 10));
    table_value(t, (double)permille / 10, text);
    table_number(t, exits * NS_PER_S / ns);
    size_cell(t, info.memory_bytes);
}

static void top_print(void *context) {
    static const struct table_column columns[] = {
        {"name", "NAME", false},      {"state", "STATE", false},
        {"cpu_percent", "CPU", true}, {"exits_per_second", "EXITS/S", true},
        {"memory", "MEMORY", true},
    };
    struct table t;
    u64 ns = MAX(time_ns() - top_begun, 1);
    (void)context;
    table_begin(&t, columns, ARRAY_SIZE(columns), top_json);
    top_row(&t, "dom0", "running", BASALT_HANDLE_SELF, 1, &dom0_sample, ns);
    for (struct domain *d = domain_first(); d; d = d->next)
        if (d->handle)
            top_row(&t, d->config.name, domain_state_name(d), d->handle, d->config.vcpus, &d->top,
                    ns);
    table_end(&t, shell_print_line);
    shell_done();
}

static void top_cancel(void) { timer_cancel(&top_timer); }

enum shell_result command_top(const struct shell_call *call) {
    u64 seconds = 1;
    if (call->count && (!text_number(call->words[0], 3600, &seconds) || seconds == 0))
        return shell_error("expected seconds (1 to 3600), found \"%s\"", call->words[0]);
    dom0_sample = sample(BASALT_HANDLE_SELF, 1);
    for (struct domain *d = domain_first(); d; d = d->next)
        d->top = d->handle ? sample(d->handle, d->config.vcpus) : (struct top_sample){0};
    top_json = call->json;
    top_begun = time_ns();
    top_timer.handler = top_print;
    timer_set(&top_timer, top_begun + seconds * NS_PER_S);
    shell_set_cancel(top_cancel);
    return SHELL_PENDING;
}
