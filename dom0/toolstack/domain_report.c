// SPDX-License-Identifier: Apache-2.0
//
// What is said about a domain's end: the reason, for a fault the registers and the instruction, and
// the last lines of its console.

#include "toolstack/domain.h"

#include "lib/boot.h"
#include "lib/hypercall.h"
#include "lib/log.h"
#include "toolstack/check.h"
#include "toolstack/text.h"

#include <cpuid.h>
#include <stdio.h>

#define LAST_LINES 8u

typedef unsigned long long ull;

const char *domain_end_reason_name(enum basalt_end_reason reason) {
    switch (reason) {
    case BASALT_END_NONE: return "none";
    case BASALT_END_CONTROL: return "ended by dom0";
    case BASALT_END_TRIPLE_FAULT: return "triple fault";
    case BASALT_END_BAD_STATE: return "the processor refused its state";
    case BASALT_END_EMULATION: return "an instruction that can't be emulated";
    case BASALT_END_MEMORY: return "out of memory";
    case BASALT_END_MACHINE_CHECK: return "machine check";
    }
    return "unknown";
}

static void say_line(void *context, const char *text) {
    const struct domain *d = context;
    log_info(d->config.name, "| %s", text);
}

static void say_registers(const struct domain *d, const struct basalt_vcpu_state *s) {
    static const char *const names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                        "r8 ", "r9 ", "r10", "r11", "r12", "r13", "r14", "r15"};
    log_info(d->config.name, "  rip %016llx  rflags %08llx  cs %04x  cr0 %08llx  cr2 %016llx",
             (ull)s->rip, (ull)s->rflags, s->segments[BASALT_CS].selector, (ull)s->cr0,
             (ull)s->cr2);
    log_info(d->config.name, "  cr3 %016llx  cr4 %08llx  efer %04llx", (ull)s->cr3, (ull)s->cr4,
             (ull)s->efer);
    for (unsigned i = 0; i < 16; i += 4)
        log_info(d->config.name, "  %s %016llx  %s %016llx  %s %016llx  %s %016llx", names[i],
                 (ull)s->gprs[i], names[i + 1], (ull)s->gprs[i + 1], names[i + 2],
                 (ull)s->gprs[i + 2], names[i + 3], (ull)s->gprs[i + 3]);
}

static void say_instruction(const struct domain *d) {
    char text[3 * sizeof(d->end.end_insn) + 1] = "";
    u32 length = (u32)MIN(d->end.end_insn_length, sizeof(d->end.end_insn));
    for (u32 i = 0; i < length; i++)
        snprintf(text + 3 * i, 4, " %02x", d->end.end_insn[i]);
    log_info(d->config.name, "  instruction%s", length ? text : ": can't be read");
}

static void say_fault(const struct domain *d) {
    static struct basalt_vcpu_state state;
    i64 r = hc_vcpu_get(d->handle, d->end.end_vcpu, &state);
    if (r < 0)
        log_info(d->config.name, "  its registers can't be read: %s", error_text(r));
    else
        say_registers(d, &state);
    say_instruction(d);
}

static u64 read_field(void *context, u32 field) {
    const struct domain *d = context;
    u64 value = 0;
    i64 r = hc_vcpu_field(d->handle, d->end.end_vcpu, field, &value);
    return r < 0 ? 0 : value;
}

static void say_rule(struct domain *d) {
    u32 a = 0, b = 0, c = 0, edx = 0;
    __cpuid(0x80000008, a, b, c, edx);
    struct check check = {
        .read = read_field, .context = d, .physical_bits = a & 0xff, .linear_bits = a >> 8 & 0xff};
    const char *rule = boot_info->call_insn == BASALT_VMCALL ? check_vmx(&check)
                                                             : check_svm(&check);
    if (rule)
        log_info(d->config.name, "  the rule: %s; field 0x%x is 0x%llx", rule, check.field,
                 (ull)check.value);
    else
        log_info(d->config.name, "  it keeps every rule that the check knows");
}

void domain_report_end(struct domain *d) {
    char ran[TEXT_SIZE_MAX];
    text_of_duration(ran, d->ended - d->started);
    if (d->cause != DOMAIN_CAUSE_CRASH) {
        log_info(d->config.name, "%s after %s", domain_cause_name(d), ran);
        return;
    }
    log_warning(d->config.name, "crashed after %s: %s on vCPU %u%s", ran,
                domain_end_reason_name(d->end.end_reason), d->end.end_vcpu,
                d->end.end_reason == BASALT_END_EMULATION ? ", see the address:" : "");
    if (d->end.end_reason == BASALT_END_EMULATION)
        log_info(d->config.name, "  at guest-physical address 0x%llx", (ull)d->end.end_detail);
    if (d->end.end_reason == BASALT_END_BAD_STATE)
        say_rule(d);
    say_fault(d);
    log_info(d->config.name, "the last lines of its console:");
    screen_tail(&d->screen, LAST_LINES, say_line, d);
}
