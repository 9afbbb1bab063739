// SPDX-License-Identifier: Apache-2.0
//
// Commands about the machine: memory, logs, trace, power.

#include "toolstack/commands.h"

#include "lib/boot.h"
#include "lib/hypercall.h"
#include "lib/log.h"
#include "toolstack/domain.h"
#include "toolstack/power.h"
#include "toolstack/table.h"
#include "toolstack/text.h"

#include <basalt/trace.h>

#include <stdio.h>
#include <string.h>

typedef unsigned long long ull;

// ---- mem ----

static void mem_row(struct table *t, const char *name, u64 bytes) {
    char text[TEXT_SIZE_MAX];
    table_text(t, name);
    table_number(t, bytes);
    table_value(t, (double)bytes, text_of_size(text, bytes));
}

enum shell_result command_mem(const struct shell_call *call) {
    static const struct table_column columns[] = {
        {"what", "WHAT", false}, {"bytes", "BYTES", true}, {NULL, "ABOUT", true}};
    struct basalt_domain_info self = {0};
    struct table t;
    i64 r = hc_memory_free();
    if (r < 0)
        return shell_error("the kernel does not tell: %s", error_text(r));
    u64 total = boot_info->memory_total, charged = hc_memory_charged();
    hc_domain_info(BASALT_HANDLE_SELF, &self);
    table_begin(&t, columns, ARRAY_SIZE(columns), call->json);
    mem_row(&t, "total", total);
    mem_row(&t, "free", (u64)r);
    mem_row(&t, "kernel", total - (u64)r - charged);
    mem_row(&t, "dom0", self.memory_bytes);
    mem_row(&t, "domains", charged - MIN(charged, self.memory_bytes));
    for (struct domain *d = domain_first(); d; d = d->next) {
        struct basalt_domain_info of = {0};
        if (d->handle && hc_domain_info(d->handle, &of) == 0)
            mem_row(&t, d->config.name, of.memory_bytes);
    }
    table_end(&t, shell_print_line);
    return SHELL_DONE;
}

// ---- log ----

#define LOG_LINES_MAX 1000u
#define LOG_COPY      65536u

// Prints the last `lines` lines of `text`, without control characters.
static void print_tail(char *text, size_t bytes, u64 lines) {
    size_t at = bytes;
    if (at > 0 && text[at - 1] == '\n')
        at--;
    text[at] = 0;
    size_t end = at;
    for (; at > 0; at--)
        if (text[at - 1] == '\n' && --lines == 0)
            break;
    for (size_t i = at; i < end; i++)
        if (((unsigned char)text[i] < 0x20 && text[i] != '\n') || text[i] == 0x7f)
            text[i] = ' ';
    for (char *line = text + at; line;) {
        char *next = strchr(line, '\n');
        if (next)
            *next++ = 0;
        shell_print_line(line);
        line = next;
    }
}

// Copies what the kernel's ring holds to `text`; returns the count. The kernel may write meanwhile.
static size_t kernel_log(char *text, size_t size) {
    const struct basalt_log *log = (const struct basalt_log *)(uintptr_t)boot_info->log_base;
    u64 head = __atomic_load_n(&log->head, __ATOMIC_ACQUIRE), bytes = log->bytes;
    if (!boot_info->log_base || bytes == 0 || bytes & (bytes - 1) || bytes > boot_info->log_size)
        return 0;
    u64 from = head > MIN(bytes, size) ? head - MIN(bytes, size) : 0;
    size_t used = 0;
    for (u64 at = from; at < head; at++)
        if (log->data[at % bytes])
            text[used++] = log->data[at % bytes];
    return used;
}

static size_t dom0_log(char *text, size_t size) {
    u64 cursor = 0;
    size_t used = 0, n;
    while (used < size && (n = log_read(&cursor, text + used, size - used)) > 0)
        used += n;
    return used;
}

enum shell_result command_log(const struct shell_call *call) {
    static char text[LOG_COPY + 1];
    u64 lines = 20;
    bool dom0 = call->count && strcmp(call->words[0], "dom0") == 0;
    if (call->count && !dom0 && (!text_number(call->words[0], LOG_LINES_MAX, &lines) || lines == 0))
        return shell_error("expected a count of lines (1 to %u) or dom0, found \"%s\"",
                           LOG_LINES_MAX, call->words[0]);
    size_t bytes = dom0 ? dom0_log(text, LOG_COPY) : kernel_log(text, LOG_COPY);
    print_tail(text, bytes, lines);
    return SHELL_DONE;
}

// ---- trace ----

#define TRACE_MAX 500u

static const char *event_name(u16 event) {
    static const char *const events[] = {
        [BASALT_TRACE_EXITS] = "exit",      [BASALT_TRACE_SWITCH] = "switch",
        [BASALT_TRACE_WAKE] = "wake",       [BASALT_TRACE_INJECT] = "inject",
        [BASALT_TRACE_REQUEST] = "request", [BASALT_TRACE_DOORBELL] = "doorbell",
        [BASALT_TRACE_IRQ] = "irq",         [BASALT_TRACE_TIMER] = "timer",
        [BASALT_TRACE_DOMAIN] = "domain",
    };
#define EXIT_NAME(kind, name) name,
    static const char *const exits[] = {BASALT_EXITS(EXIT_NAME)};
#undef EXIT_NAME
    if (event >= BASALT_TRACE_EXIT && event - BASALT_TRACE_EXIT < (int)ARRAY_SIZE(exits))
        return exits[event - BASALT_TRACE_EXIT];
    return event < ARRAY_SIZE(events) ? events[event] : "?";
}

static void number16_cell(struct table *t, u64 value) {
    char text[24];
    snprintf(text, sizeof(text), "%llx", (ull)value);
    table_text(t, text);
}

static void trace_row(struct table *t, const struct basalt_trace_record *r) {
    u64 ns = time_ns_of_ticks(r->tsc);
    char text[TEXT_SIZE_MAX];
    snprintf(text, sizeof(text), "%llu.%06llu", (ull)(ns / NS_PER_S), (ull)(ns % NS_PER_S / 1000));
    table_value(t, (double)ns / 1e9, text);
    table_text(t, r->event >= BASALT_TRACE_EXIT ? "exit" : "event");
    table_text(t, event_name(r->event));
    table_number(t, r->domain);
    table_number(t, r->vcpu);
    number16_cell(t, r->args[0]);
    number16_cell(t, r->args[1]);
}

// Lets the kernel record the events that the words name.
static enum shell_result choose_events(const struct shell_call *call) {
    u64 events = 0;
    for (unsigned i = 0; i < call->count; i++) {
        u16 event = 0;
        while (BIT(event) <= BASALT_TRACE_ALL && strcmp(call->words[i], event_name(event)) != 0)
            event++;
        if (BIT(event) <= BASALT_TRACE_ALL)
            events |= BIT(event);
        else if (strcmp(call->words[i], "on") == 0)
            events = BASALT_TRACE_ALL;
        else if (strcmp(call->words[i], "off") != 0)
            return shell_error("expected a count of records (1 to %u), on, off or events (\"help "
                               "trace\" names them), found \"%s\"",
                               TRACE_MAX, call->words[i]);
    }
    i64 error = hc_trace(events);
    return error < 0 ? shell_error("the kernel refuses: %s", error_text(error)) : SHELL_DONE;
}

enum shell_result command_trace(const struct shell_call *call) {
    static const struct table_column columns[] = {
        {"seconds", "SECONDS", true}, {"kind", "KIND", false}, {"name", "NAME", false},
        {"domain", "DOM", true},      {"vcpu", "VCPU", true},  {"arg0", "ARG 0", true},
        {"arg1", "ARG 1", true}};
    const struct basalt_trace *trace =
        (const struct basalt_trace *)(uintptr_t)boot_info->trace_base;
    u64 wanted = 20;
    struct table t;
    if (call->count && (!text_number(call->words[0], TRACE_MAX, &wanted) || wanted == 0))
        return choose_events(call);
    if (!trace || trace->count == 0 || trace->count & (trace->count - 1) ||
        trace->count * sizeof(trace->records[0]) > boot_info->trace_size)
        return shell_error("this kernel keeps no trace");
    u64 head = __atomic_load_n(&trace->head, __ATOMIC_ACQUIRE);
    if (head == 0)
        return shell_error("nothing was recorded yet: \"trace on\" begins");
    u64 count = MIN(MIN(wanted, head), trace->count);
    table_begin(&t, columns, ARRAY_SIZE(columns), call->json);
    for (u64 n = head - count; n < head; n++) {
        struct basalt_trace_record record = trace->records[n % trace->count];
        if (record.sequence == (u16)n)
            trace_row(&t, &record);
    }
    table_end(&t, shell_print_line);
    return SHELL_DONE;
}

// ---- version, power ----

enum shell_result command_version(const struct shell_call *call) {
    u64 version = hc_version();
    if (call->json)
        shell_print("{\"abi\":%u,\"kernel_abi\":%llu,\"restarts\":%u}\n", BASALT_ABI_VERSION,
                    (ull)(version & 0xffff), boot_info->restarts);
    else
        shell_print("dom0: interface version %u; kernel: %llu; %s\n", BASALT_ABI_VERSION,
                    (ull)(version & 0xffff), boot_info->call_insn == BASALT_VMCALL ? "VMX" : "SVM");
    return SHELL_DONE;
}

enum shell_result command_reboot(const struct shell_call *call) {
    (void)call;
    power_down(true);
    return SHELL_DONE;
}

enum shell_result command_poweroff(const struct shell_call *call) {
    (void)call;
    power_down(false);
    return SHELL_DONE;
}
