// SPDX-License-Identifier: Apache-2.0
//
// The hypercall table and its handlers: thin translations from the ABI of include/basalt/hypercall.h to the kernel's
// own functions. A row says what the arguments are: the dispatcher finds the objects that they name and reads the
// structures that they point to before it calls the handler, so that nothing has changed if one is wrong. KVM's
// paravirtual numbers get KVM's answer for "no such call".

#include "kernel/hypercall.h"

#include "kernel/console.h"
#include "kernel/event.h"
#include "kernel/interrupt.h"
#include "kernel/log.h"
#include "kernel/request.h"
#include "kernel/schedule.h"
#include "kernel/trace.h"

#define KVM_ENOSYS   1000
#define KVM_NUMBERS  0x1000u // KVM's own hypercalls are below
#define SHARE_BUDGET 256u
#define CAP_MAX      6400u

struct call {
    struct vcpu *v;
    struct domain *caller;
    u64 a[6];
    struct handle *handle; // of the first argument, and its domain (NULL for the machine's)
    struct domain *target;
    struct domain *other; // of the row's second handle
    struct vcpu *vcpu;    // of the target
    struct share *share;
    u64 second; // goes to RDX if the row says so
    union {
        struct basalt_domain_info info;
        struct basalt_vcpu_state state;
        struct basalt_vcpu_stats stats;
        struct basalt_completion completion;
    } data; // the structure that the row's `in` or `out` is the address of
};

#define HANDLER(name) static i64 name(struct call *c unused)

// The handler of a call without arguments sees the vCPU alone; the others begin with HANDLER.
static i64 version(struct vcpu *v unused) { return BASALT_VERSION_MAGIC | BASALT_ABI_VERSION; }

static bool can_wait(const struct vcpu *v) { return v->domain->events && !v->index; }

static i64 block(struct vcpu *v) {
    if (!can_wait(v))
        return -BASALT_EINVAL;
    if (!events_pending(v->domain))
        vcpu_block(v, BLOCK_EVENT);
    return 0;
}

static i64 yield(struct vcpu *v unused) {
    schedule_yield();
    return 0;
}

HANDLER(bind_console) { return console_bind(c->caller, (u32)c->a[1], c->a[2]); }

HANDLER(memory_info) {
    c->second = domains_charged();
    return (i64)frames_free();
}

HANDLER(choose_trace) {
    u32 old = trace_events;

    if (c->a[1] > BASALT_TRACE_ALL)
        return -BASALT_EINVAL;
    trace_events = (u32)c->a[1];
    return old;
}

HANDLER(reset) {
    if (c->a[1] > BASALT_RESET_WARM)
        return -BASALT_EINVAL;
    log_info("machine: reset asked for by domain %u", c->caller->info.id);
    console_take();
    machine_reset(c->a[1] == BASALT_RESET_WARM);
}

HANDLER(create) {
    struct domain *d;
    int error = domain_create(c->a[1], &d);

    if (error)
        return error;
    struct handle *h = handle_create(c->caller, d, BASALT_RIGHTS_DOMAIN);
    if (h)
        return h->index;
    while (domain_destroy(d)) // empty: a step or two
        ;
    return -BASALT_ENOSPC;
}

HANDLER(destroy) { return c->target == c->caller ? -BASALT_EINVAL : domain_destroy(c->target); }

HANDLER(control) {
    return c->target == c->caller ? -BASALT_EINVAL : domain_control(c->target, c->a[1]);
}

HANDLER(info) {
    c->data.info = c->target->info;
    return 0;
}

HANDLER(watch) {
    c->target->end_watcher = (struct watcher){c->caller, (u32)c->a[1]};
    if (c->target->info.status == BASALT_STATUS_ENDED)
        event_ring(c->caller, (u32)c->a[1]);
    return 0;
}

HANDLER(schedule) {
    if (!c->a[1] || c->a[1] > SCHED_WEIGHT_MAX || c->a[2] > CAP_MAX)
        return -BASALT_EINVAL;
    domain_schedule(c->target, (u32)c->a[1], (u32)c->a[2]);
    return 0;
}

HANDLER(populate) { return memory_populate(c->target, GPA(c->a[1]), c->a[2], c->a[3]); }

HANDLER(release) { return memory_release(c->target, GPA(c->a[1]), c->a[2]); }

HANDLER(grant) {
    return share_grant(c->target, GPA(c->a[1]), c->a[2], c->a[3], c->other, c->caller);
}

HANDLER(map_share) {
    return c->share->grantee == c->caller ? share_map(c->share, c->a[2], &c->second)
                                          : -BASALT_ENOENT;
}

HANDLER(end_share) {
    unsigned budget = SHARE_BUDGET;

    return share_end(c->share, &budget);
}

HANDLER(create_vcpu) { return vcpu_create(c->target, c->a[1]); }

HANDLER(set_vcpu) {
    return c->target->info.status == BASALT_STATUS_PAUSED ? vcpu_set_state(c->vcpu, &c->data.state)
                                                          : -BASALT_EBUSY;
}

HANDLER(get_vcpu) {
    if (c->target->info.status == BASALT_STATUS_RUNNING && !(c->vcpu->blocked & BLOCK_REQUEST))
        return -BASALT_EBUSY;
    vcpu_get_state(c->vcpu, &c->data.state);
    return 0;
}

HANDLER(stats) {
    c->data.stats = c->vcpu->stats;
    return 0;
}

HANDLER(control_field) {
    if (c->target->info.status == BASALT_STATUS_RUNNING)
        return -BASALT_EBUSY;
    return vcpu_control_field(c->vcpu, c->a[2], &c->second) ? 0 : -BASALT_EINVAL;
}

static i64 alloc_port(struct vcpu *v) { return port_alloc(v->domain); }

HANDLER(free_port) {
    port_free(c->caller, (u32)c->a[0]);
    return 0;
}

HANDLER(set_timer) {
    if (c->v->index)
        return -BASALT_EINVAL;
    event_timer(c->caller, c->a[0], (u32)c->a[1]);
    return 0;
}

HANDLER(serve) { return request_serve(c->target, c->caller, c->a[1], &c->second); }

HANDLER(route) { return request_route(c->target, c->caller, c->a[1], c->a[2], c->a[3], c->a[4]); }

HANDLER(answer) { return request_answer(c->target, c->caller, c->a[1], c->a[2], c->a[3]); }

// The vCPU whose instruction the caller carries out; NULL: there is none that waits.
static struct vcpu *instruction_of(const struct call *c) {
    struct vcpu *v = request_find(c->target, c->caller, c->a[1], c->a[2]);

    return v && v->io.stage == IO_INSTRUCTION ? v : NULL;
}

HANDLER(complete) {
    struct vcpu *v = instruction_of(c);

    return v ? vcpu_complete(v, &c->data.completion) : -BASALT_ENOENT;
}

HANDLER(access_apic) {
    struct vcpu *v = instruction_of(c);

    c->second = c->a[5];
    return v ? vcpu_apic_access(v, c->a[3], c->a[4] & ~(u64)BASALT_APIC_WRITE,
                                c->a[4] & BASALT_APIC_WRITE, &c->second)
             : -BASALT_ENOENT;
}

HANDLER(inject) { return guest_msi(c->target, c->a[1], c->a[2]); }

HANDLER(read_pci) { return device_config_read(c->caller, c->a[1], c->a[2]); }

HANDLER(command_pci) { return device_command(c->caller, c->a[1], c->a[2]); }

HANDLER(bind_irq) { return interrupt_bind(c->caller, c->a[1], c->a[2], c->a[3]); }
HANDLER(ack) { return interrupt_ack(c->caller, c->a[0]); }
HANDLER(delegate) { return handle_delegate(c->handle, c->a[1], c->other); }

HANDLER(revoke) {
    unsigned budget = SHARE_BUDGET;

    return handle_revoke(c->handle, &budget);
}

HANDLER(set_cpuid) { return cpuid_set(c->target, c->caller, GPA(c->a[1]), c->a[2]); }

HANDLER(handle_info) {
    const struct handle *h = handle_find(c->caller, c->a[0]);

    if (!h)
        return c->a[0] < c->caller->handles_used ? -BASALT_ENOENT : -BASALT_EINVAL;
    return h->rights | (h->target ? 1ll << 32 : 0);
}

#define SELF    0x01u // the handle of the caller on itself will do
#define ENDED   0x02u // also on a domain that has ended
#define VCPU    0x04u // the second argument is a vCPU of the target
#define SHARE   0x08u // the second argument is a share of `other` that the caller has to do with
#define SECOND  0x10u // RDX has a second result
#define ALONE   0x20u // there are no arguments
#define PORT(n) .port = 1 + (n) // argument n is a port of the caller
// Argument n is a handle, whatever its rights, on the domain `other`; the address of data.field.
#define DOMAIN(n)     .other = 1 + (n)
#define WORDS(field)  (sizeof(((struct call *)0)->data.field) / sizeof(u64))
#define IN(n, field)  .in = 1 + (n), .words = WORDS(field)
#define OUT(n, field) .out = 1 + (n), .words = WORDS(field)

struct row {
    union {
        i64 (*handler)(struct call *);
        i64 (*alone)(struct vcpu *);
    };
    u16 rights; // BASALT_RIGHT_* that the first argument's handle must carry; 0: it is none
    u8 flags;
    u8 port, other, in, out; // 0: there is none
    u8 words;                // 64-bit words of the structure
};
SIZE_ASSERT(struct row, 16); // a power of two finds its row sooner

#define ROW(number, function, ...) \
    [BASALT_HC_##number - BASALT_HC_BASE] = {.handler = function, __VA_ARGS__}
#define ALONE_ROW(number, function) \
    [BASALT_HC_##number - BASALT_HC_BASE] = {.alone = function, .flags = ALONE}

static const struct row rows[] = {
    ALONE_ROW(VERSION, version),
    ALONE_ROW(BLOCK, block),
    ALONE_ROW(YIELD, yield),
    ROW(CONSOLE_BIND, bind_console, BASALT_RIGHT_CONSOLE, PORT(1)),
    ROW(TRACE, choose_trace, BASALT_RIGHT_CONSOLE),
    ROW(MEMORY_INFO, memory_info, BASALT_RIGHT_CONSOLE, SECOND),
    ROW(RESET, reset, BASALT_RIGHT_POWER),
    ROW(DOMAIN_CREATE, create, BASALT_RIGHT_CREATE),
    ROW(DOMAIN_DESTROY, destroy, BASALT_RIGHT_LIFE, ENDED),
    ROW(DOMAIN_CONTROL, control, BASALT_RIGHT_LIFE),
    ROW(DOMAIN_INFO, info, BASALT_RIGHT_LIFE, SELF | ENDED, OUT(1, info)),
    ROW(DOMAIN_BIND, watch, BASALT_RIGHT_LIFE, ENDED, PORT(1)),
    ROW(DOMAIN_SCHEDULE, schedule, BASALT_RIGHT_QUOTA),
    ROW(MEMORY_POPULATE, populate, BASALT_RIGHT_MEMORY),
    ROW(MEMORY_RELEASE, release, BASALT_RIGHT_MEMORY, SELF),
    ROW(SHARE_GRANT, grant, BASALT_RIGHT_MEMORY, SELF, DOMAIN(4)),
    ROW(SHARE_MAP, map_share, 0, SHARE | SECOND, DOMAIN(0)),
    ROW(SHARE_END, end_share, 0, SHARE, DOMAIN(0)),
    ROW(VCPU_CREATE, create_vcpu, BASALT_RIGHT_LIFE),
    ROW(VCPU_SET, set_vcpu, BASALT_RIGHT_LIFE, VCPU, IN(2, state)),
    ROW(VCPU_GET, get_vcpu, BASALT_RIGHT_LIFE, VCPU | ENDED, OUT(2, state)),
    ROW(VCPU_STATS, stats, BASALT_RIGHT_LIFE, VCPU | SELF | ENDED, OUT(2, stats)),
    ROW(VCPU_FIELD, control_field, BASALT_RIGHT_LIFE, VCPU | ENDED | SECOND),
    ALONE_ROW(PORT_ALLOC, alloc_port),
    ROW(PORT_FREE, free_port, PORT(0)),
    ROW(TIMER_SET, set_timer, PORT(1)),
    ROW(REQUEST_SERVE, serve, BASALT_RIGHT_IO, SECOND, PORT(1)),
    ROW(REQUEST_ROUTE, route, BASALT_RIGHT_IO, ENDED),
    ROW(REQUEST_ANSWER, answer, BASALT_RIGHT_IO, ENDED),
    ROW(INJECT_MSI, inject, BASALT_RIGHT_IO),
    ROW(PCI_READ, read_pci, BASALT_RIGHT_PCI),
    ROW(PCI_COMMAND, command_pci, BASALT_RIGHT_PCI),
    ROW(IRQ_BIND, bind_irq, BASALT_RIGHT_PCI),
    ROW(IRQ_ACK, ack),
    ROW(HANDLE_DELEGATE, delegate, BASALT_RIGHT_DELEGATE, DOMAIN(2)),
    ROW(HANDLE_REVOKE, revoke, BASALT_RIGHT_DELEGATE, ENDED),
    ROW(HANDLE_INFO, handle_info),
    ROW(REQUEST_COMPLETE, complete, BASALT_RIGHT_IO, IN(3, completion)),
    ROW(REQUEST_APIC, access_apic, BASALT_RIGHT_IO, SECOND),
    ROW(CPUID_SET, set_cpuid, BASALT_RIGHT_LIFE),
};
_Static_assert((BASALT_RIGHTS_DOMAIN & BASALT_RIGHTS_MACHINE) == BASALT_RIGHT_DELEGATE,
               "a handle that carries a domain's rights has a target");
_Static_assert(ARRAY_SIZE(rows) == BASALT_HC_END - BASALT_HC_BASE, "every hypercall has its row");

// Finds the target of a handle that carries the row's rights.
static int find_target(struct call *c, const struct row *row) {
    struct handle *h = handle_find(c->caller, c->a[0]);

    if (!h)
        return -BASALT_EBADF;
    c->handle = h;
    c->target = h->target;
    if ((h->rights & row->rights) != row->rights && !(row->flags & SELF && c->target == c->caller))
        return -BASALT_EPERM;
    if (c->target && c->target->info.status == BASALT_STATUS_ENDED && !(row->flags & ENDED))
        return -BASALT_EINVAL;
    return 0;
}

// Finds and reads what the other arguments name.
static int find_others(struct call *c, const struct row *row) {
    if (!row->flags && !row->port && !row->other && !row->in)
        return 0;
    if (row->flags & VCPU &&
        (c->a[1] >= BASALT_VCPUS_MAX || !(c->vcpu = c->target->vcpus[c->a[1]])))
        return -BASALT_ENOENT;
    if (row->port && !port_find(c->caller, c->a[row->port - 1]))
        return -BASALT_EINVAL;
    if (row->other) {
        const struct handle *h = handle_find(c->caller, c->a[row->other - 1]);
        if (!h || !h->target)
            return -BASALT_EBADF;
        c->other = h->target;
    }
    if (row->flags & SHARE && !(c->share = share_find(c->other, c->a[1], c->caller)))
        return -BASALT_ENOENT;
    return row->in
               ? memory_read(c->caller, GPA(c->a[row->in - 1]), &c->data, row->words * sizeof(u64))
               : 0;
}

static void read_arguments(struct call *c, const u64 *gprs) {
    static const u8 registers[2][6] = {
        {BASALT_RBX, BASALT_RCX, BASALT_RDX, BASALT_RSI, BASALT_RDI, BASALT_RBP},
        {BASALT_RDI, BASALT_RSI, BASALT_RDX, BASALT_R10, BASALT_R8, BASALT_R9}};
    bool wide = guest_wide(c->v);

#pragma GCC unroll 6
    for (unsigned i = 0; wide && i < ARRAY_SIZE(c->a); i++)
        c->a[i] = gprs[registers[1][i]];
#pragma GCC unroll 6
    for (unsigned i = 0; !wide && i < ARRAY_SIZE(c->a); i++)
        c->a[i] = (u32)gprs[registers[0][i]];
}

static __attribute__((noinline)) i64 carry_out(struct vcpu *v, const struct row *row) {
    struct call c;

    c.v = v;
    c.caller = v->domain;
    read_arguments(&c, v->cpu.gprs);
    int error = row->rights ? find_target(&c, row) : 0;
    if (error || (error = find_others(&c, row)))
        return error;
    i64 result = row->handler(&c);
    if (unlikely(row->out) && result >= 0)
        error = memory_write(c.caller, GPA(c.a[row->out - 1]), &c.data, row->words * sizeof(u64));
    if (row->flags & SECOND && result >= 0)
        v->cpu.gprs[BASALT_RDX] = c.second;
    return error ? error : result;
}

static __attribute__((noinline)) i64 carry_out_and_block(struct vcpu *v, const struct row *row) {
    if (!can_wait(v))
        return -BASALT_EINVAL;
    vcpu_block(v, BLOCK_EVENT); // first: whom the call wakes has the CPU for itself
    i64 result = row->flags & ALONE ? row->alone(v) : carry_out(v, row);
    if (result < 0 || events_pending(v->domain))
        vcpu_unblock(v, BLOCK_EVENT);
    return result;
}

static const struct row *find_row(u32 number) {
    u32 index = (number & ~BASALT_HC_THEN_BLOCK) - BASALT_HC_BASE;

    return index < ARRAY_SIZE(rows) ? &rows[index] : NULL;
}

static __attribute__((cold, noinline)) i64 refusal(u32 number) {
    if (find_row(number))
        return -BASALT_EPERM; // of all but privilege level 0
    return number < KVM_NUMBERS ? -KVM_ENOSYS : -BASALT_ENOSYS;
}

// Of RAX 32-bit code sees the lower half; that is the number.
void hypercall(struct vcpu *v, struct exit e) {
    u64 *rax = &v->cpu.gprs[BASALT_RAX];
    u32 number = (u32)*rax;

    v->cpu.rip += e.insn_length; // before the call: that may be an INIT of this vCPU
    const struct row *row = e.detail ? NULL : find_row(number);
    if (unlikely(!row))
        *rax = (u64)refusal(number);
    else if (number & BASALT_HC_THEN_BLOCK)
        *rax = (u64)carry_out_and_block(v, row);
    else
        *rax = (u64)(row->flags & ALONE ? row->alone(v) : carry_out(v, row));
    vcpu_after_insn(v);
}
