// SPDX-License-Identifier: Apache-2.0
//
// The hypercall table and its handlers: thin translations from the ABI of include/basalt/hypercall.h to the kernel's
// own functions. A row's `rights` other than 0 say that the first argument is a handle, which must carry all of them;
// `target` is then its domain (NULL for the machine's). KVM's paravirtual numbers get KVM's answer for "no such call".

#include "kernel/hypercall.h"

#include "arch/string.h"
#include "arch/tsc.h"
#include "drivers/reset.h"
#include "kernel/console.h"
#include "kernel/event.h"
#include "kernel/handle.h"
#include "kernel/interrupt.h"
#include "kernel/log.h"
#include "kernel/request.h"
#include "kernel/schedule.h"
#include "kernel/share.h"
#include "kernel/trace.h"

#include <basalt/error.h>

#define KVM_ENOSYS       1000
#define KVM_NUMBERS      0x1000u // KVM's own hypercalls are below
#define TEARDOWN_BUDGET  1024u
#define EXTENTS_PER_CALL 16u

struct call {
    struct vcpu *v;
    struct domain *caller;
    struct handle *handle; // of the first argument, where the row asks for one
    struct domain *target;
    struct vcpu *vcpu; // of the second argument, where the row asks for one
    u64 args[6];
    u64 second; // goes to RDX when set_second
    bool set_second;
};

static i64 put(const struct call *c, u64 gpa, const void *data, u64 bytes) {
    return memory_write(c->caller, GPA(gpa), data, bytes);
}

static int watch(const struct call *c, struct watcher *watcher, u64 port) {
    if (!port_find(c->caller, port))
        return -BASALT_EINVAL;
    *watcher = (struct watcher){c->caller, (u32)port};
    return 0;
}

// The domain that a handle of the caller stands for; NULL: none.
static struct domain *domain_arg(const struct call *c, u64 index) {
    struct handle *h = handle_find(c->caller, index);

    return h ? h->target : NULL;
}

static i64 hc_version(struct call *c unused) {
    return (i64)(BASALT_VERSION_MAGIC | BASALT_ABI_VERSION);
}

static i64 hc_block(struct call *c) {
    if (!c->caller->events || c->v->index)
        return -BASALT_EINVAL;
    if (!events_pending(c->caller)) {
        vcpu_block(c->v, BLOCK_EVENT);
        if (events_pending(c->caller)) // rung by another CPU meanwhile
            vcpu_unblock(c->v, BLOCK_EVENT);
    }
    return 0;
}

static i64 hc_yield(struct call *c unused) {
    schedule_yield();
    return 0;
}

static i64 hc_console_bind(struct call *c) {
    return port_find(c->caller, c->args[1]) ? console_bind(c->caller, (u32)c->args[1], c->args[2])
                                            : -BASALT_EINVAL;
}

static i64 hc_clock_set(struct call *c) {
    wall_clock_ns = c->args[1];
    return 0;
}

static i64 hc_memory_info(struct call *c) {
    struct frames_count f = frames_count();
    struct basalt_memory_info info = {.total = f.total,
                                      .free = f.free,
                                      .domains = domains_charged(),
                                      .domain_count = domain_count()};
    info.kernel = info.total - info.free - info.domains;
    return put(c, c->args[1], &info, sizeof(info));
}

static i64 hc_reset(struct call *c) {
    if (c->args[1] > BASALT_RESET_WARM)
        return -BASALT_EINVAL;
    log_info("machine: reset asked for by '%s'", c->caller->name);
    console_take();
    machine_reset(c->args[1] == BASALT_RESET_WARM);
}

static bool config_ok(const struct basalt_domain_config *config) {
    if (config->name[sizeof(config->name) - 1] || !config->name[0] || config->flags ||
        !config->weight || config->weight > SCHED_WEIGHT_MAX || config->cap > 6400)
        return false;
    for (const char *p = config->name; *p; p++)
        if (*p <= ' ' || *p > '~')
            return false;
    return true;
}

static i64 hc_domain_create(struct call *c) {
    struct basalt_domain_config config;
    struct domain *d;
    int error = memory_read(c->caller, GPA(c->args[1]), &config, sizeof(config));

    if (error)
        return error;
    if (!config_ok(&config))
        return -BASALT_EINVAL;
    error = domain_create(&config, &d);
    if (error)
        return error;
    struct handle *h = handle_create(c->caller, d, BASALT_RIGHTS_DOMAIN);
    if (h)
        return h->index;
    while (domain_destroy(d)) // empty: a step or two
        ;
    return -BASALT_ENOSPC;
}

static i64 hc_domain_destroy(struct call *c) {
    return c->target == c->caller ? -BASALT_EINVAL : domain_destroy(c->target);
}

static i64 hc_domain_control(struct call *c) {
    return c->args[1] > BASALT_OP_END || c->target == c->caller
               ? -BASALT_EINVAL
               : domain_control(c->target, (enum basalt_domain_op)c->args[1]);
}

static i64 hc_domain_info(struct call *c) {
    struct basalt_domain_info info;

    domain_info(c->target, &info);
    return put(c, c->args[1], &info, sizeof(info));
}

static i64 hc_domain_bind(struct call *c) {
    i64 error = watch(c, &c->target->end_watcher, c->args[1]);
    if (!error && c->target->status == BASALT_STATUS_ENDED)
        event_ring(c->caller, (u32)c->args[1]);
    return error;
}

static i64 hc_domain_schedule(struct call *c) {
    if (!c->args[1] || c->args[1] > SCHED_WEIGHT_MAX || c->args[2] > 6400)
        return -BASALT_EINVAL;
    c->target->weight = (u32)c->args[1];
    c->target->cap = (u32)c->args[2];
    for (unsigned i = 0; i < BASALT_VCPUS_MAX; i++)
        if (c->target->vcpus[i]) {
            c->target->vcpus[i]->sched.weight = c->target->weight;
            c->target->vcpus[i]->sched.cap = c->target->cap;
        }
    return 0;
}

static i64 hc_memory_populate(struct call *c) {
    return memory_populate(c->target, GPA(c->args[1]), c->args[2], c->args[3]);
}

static i64 hc_memory_release(struct call *c) {
    return memory_release(c->target, GPA(c->args[1]), c->args[2]);
}

static i64 hc_share_grant(struct call *c) {
    struct domain *grantee = domain_arg(c, c->args[4]);

    return grantee ? share_grant(c->target, GPA(c->args[1]), c->args[2], c->args[3], grantee)
                   : -BASALT_EBADF;
}

static i64 hc_share_map(struct call *c) {
    struct share *s = share_find(c->caller, c->args[0]);

    return s && s->grantee == c->caller ? share_map(s, c->args[1]) : -BASALT_ENOENT;
}

static i64 hc_share_extents(struct call *c) {
    struct share *s = share_find(c->caller, c->args[0]);
    struct basalt_extent extents[EXTENTS_PER_CALL];

    if (!s || s->grantee != c->caller || !c->caller->identity)
        return -BASALT_ENOENT;
    unsigned count =
        share_extents(s, c->args[1], extents, (unsigned)MIN(c->args[3], EXTENTS_PER_CALL));
    i64 error = put(c, c->args[2], extents, count * sizeof(*extents));
    return error ? error : count;
}

static i64 hc_share_end(struct call *c) {
    struct share *s = share_find(c->caller, c->args[0]);
    unsigned budget = TEARDOWN_BUDGET;

    return s ? share_end(s, &budget) : -BASALT_ENOENT;
}

static i64 hc_state_alloc(struct call *c) { return state_alloc(c->target, c->caller, c->args[1]); }

static i64 hc_state_address(struct call *c) {
    if (c->target->state_holder != c->caller || c->args[1] >= c->target->state_count)
        return -BASALT_ENOENT;
    return (i64)c->target->state_pages[c->args[1]];
}

static i64 hc_vcpu_create(struct call *c) { return vcpu_create(c->target, c->args[1]); }

static i64 hc_vcpu_set(struct call *c) {
    struct basalt_vcpu_state state;

    if (c->target->status != BASALT_STATUS_PAUSED)
        return -BASALT_EBUSY;
    int error = memory_read(c->caller, GPA(c->args[2]), &state, sizeof(state));
    return error ? error : vcpu_set_state(c->vcpu, &state);
}

static i64 hc_vcpu_get(struct call *c) {
    struct basalt_vcpu_state state;

    if (c->target->status == BASALT_STATUS_RUNNING)
        return -BASALT_EBUSY;
    vcpu_get_state(c->vcpu, &state);
    return put(c, c->args[2], &state, sizeof(state));
}

static i64 hc_vcpu_stats(struct call *c) {
    const struct vcpu *v = c->vcpu;
    struct basalt_vcpu_stats stats = {.run_tsc = v->run_tsc,
                                      .requests = v->requests,
                                      .doorbells = v->doorbells,
                                      .injections = v->injections,
                                      .wakeups = v->wakeups};

    memcpy(stats.exits, v->exits, sizeof(stats.exits));
    return put(c, c->args[2], &stats, sizeof(stats));
}

static i64 hc_port_alloc(struct call *c) { return port_alloc(c->caller); }

static i64 hc_port_free(struct call *c) {
    if (!port_find(c->caller, c->args[0]))
        return -BASALT_ENOENT;
    port_free(c->caller, (u32)c->args[0]);
    return 0;
}

static i64 hc_port_send(struct call *c) {
    struct port *p = port_find(c->target, c->args[1]);

    if (!p || p->kind != PORT_OPEN || p->sender != c->caller->id)
        return -BASALT_EPERM;
    event_ring(c->target, (u32)c->args[1]);
    return 0;
}

static i64 hc_port_open(struct call *c) {
    struct port *p = port_find(c->caller, c->args[0]);
    struct domain *sender = domain_arg(c, c->args[1]);

    if (!p || !sender)
        return -BASALT_EINVAL;
    if (p->kind != PORT_ALLOCATED)
        return -BASALT_EBUSY;
    p->kind = PORT_OPEN;
    p->sender = sender->id;
    return 0;
}

static i64 hc_timer_set(struct call *c) {
    if (!port_find(c->caller, c->args[1]) || c->v->index)
        return -BASALT_EINVAL;
    event_timer(c->caller, c->args[0], (u32)c->args[1]);
    return 0;
}

static i64 hc_request_serve(struct call *c) {
    c->set_second = true;
    return request_serve(c->target, c->caller, c->args[1], &c->second);
}

static i64 hc_request_route(struct call *c) {
    return request_route(c->target, c->caller, c->args[1], c->args[2], c->args[3], c->args[4]);
}

static i64 hc_request_answer(struct call *c) {
    return request_answer(c->target, c->caller, c->args[1], c->args[2], c->args[3]);
}

static i64 doorbell(struct call *c,
                    int (*act)(struct domain *, struct domain *, const struct basalt_doorbell *)) {
    struct basalt_doorbell bell;
    int error = memory_read(c->caller, GPA(c->args[1]), &bell, sizeof(bell));

    return error ? error : act(c->target, c->caller, &bell);
}
static i64 hc_doorbell_bind(struct call *c) { return doorbell(c, doorbell_bind); }
static i64 hc_doorbell_unbind(struct call *c) { return doorbell(c, doorbell_unbind); }

static i64 hc_inject_msi(struct call *c) { return guest_msi(c->target, c->args[1], c->args[2]); }

static i64 hc_pci_read(struct call *c) {
    return device_config_read(c->caller, c->args[1], c->args[2], c->args[3]);
}

static i64 hc_pci_write(struct call *c) {
    return device_config_write(c->caller, c->args[1], c->args[2], c->args[3], c->args[4]);
}

static i64 hc_irq_bind_msi(struct call *c) {
    return interrupt_bind_message(c->caller, c->args[1], c->args[2], c->args[3]);
}

static i64 hc_irq_bind_line(struct call *c) {
    return interrupt_bind_line(c->caller, c->args[1], c->args[2]);
}

static i64 hc_irq_ack(struct call *c) { return interrupt_ack(c->caller, c->args[0]); }

static i64 hc_handle_delegate(struct call *c) {
    struct domain *to = domain_arg(c, c->args[2]);

    return to ? handle_delegate(c->handle, c->args[1], to) : -BASALT_EBADF;
}

static i64 hc_handle_revoke(struct call *c) {
    handle_revoke(c->handle);
    return 0;
}

static i64 hc_handle_next(struct call *c) {
    u32 cursor = (u32)MIN(c->args[0], 0xffffffff);
    struct handle *h = handle_next(c->caller, &cursor);

    if (!h)
        return -BASALT_ENOENT;
    c->second = h->rights | (h->target ? 1ull << 32 : 0);
    c->set_second = true;
    return cursor;
}

struct row {
    const char *name;
    i64 (*handler)(struct call *);
    u32 rights; // BASALT_RIGHT_* that the first argument's handle must carry; 0: not a handle
    u8 flags;   // ROW_*
};

#define ROW_SELF  0x1u // the handle of the caller on itself will do
#define ROW_ENDED 0x2u // also on a domain that has ended
#define ROW_VCPU  0x4u // the second argument is one of its vCPUs

#define ROW(number, function, ...) \
    [BASALT_HC_##number - BASALT_HC_BASE] = {#number, function, __VA_ARGS__}

static const struct row rows[] = {
    ROW(VERSION, hc_version, 0, 0),
    ROW(BLOCK, hc_block, 0, 0),
    ROW(YIELD, hc_yield, 0, 0),
    ROW(CONSOLE_BIND, hc_console_bind, BASALT_RIGHT_CONSOLE, 0),
    ROW(CLOCK_SET, hc_clock_set, BASALT_RIGHT_POWER, 0),
    ROW(MEMORY_INFO, hc_memory_info, BASALT_RIGHT_CONSOLE, 0),
    ROW(RESET, hc_reset, BASALT_RIGHT_POWER, 0),
    ROW(DOMAIN_CREATE, hc_domain_create, BASALT_RIGHT_CREATE, 0),
    ROW(DOMAIN_DESTROY, hc_domain_destroy, BASALT_RIGHT_LIFE, ROW_ENDED),
    ROW(DOMAIN_CONTROL, hc_domain_control, BASALT_RIGHT_LIFE, 0),
    ROW(DOMAIN_INFO, hc_domain_info, BASALT_RIGHT_LIFE, ROW_SELF | ROW_ENDED),
    ROW(DOMAIN_BIND, hc_domain_bind, BASALT_RIGHT_LIFE, ROW_ENDED),
    ROW(DOMAIN_SCHEDULE, hc_domain_schedule, BASALT_RIGHT_QUOTA, 0),
    ROW(MEMORY_POPULATE, hc_memory_populate, BASALT_RIGHT_MEMORY, 0),
    ROW(MEMORY_RELEASE, hc_memory_release, BASALT_RIGHT_MEMORY, ROW_SELF),
    ROW(SHARE_GRANT, hc_share_grant, BASALT_RIGHT_MEMORY, ROW_SELF),
    ROW(SHARE_MAP, hc_share_map, 0, 0),
    ROW(SHARE_EXTENTS, hc_share_extents, 0, 0),
    ROW(SHARE_END, hc_share_end, 0, 0),
    ROW(STATE_ALLOC, hc_state_alloc, BASALT_RIGHT_MEMORY, 0),
    ROW(STATE_ADDRESS, hc_state_address, BASALT_RIGHT_MEMORY, ROW_ENDED),
    ROW(VCPU_CREATE, hc_vcpu_create, BASALT_RIGHT_LIFE, 0),
    ROW(VCPU_SET, hc_vcpu_set, BASALT_RIGHT_LIFE, ROW_VCPU),
    ROW(VCPU_GET, hc_vcpu_get, BASALT_RIGHT_LIFE, ROW_VCPU | ROW_ENDED),
    ROW(VCPU_STATS, hc_vcpu_stats, BASALT_RIGHT_LIFE, ROW_VCPU | ROW_SELF | ROW_ENDED),
    ROW(PORT_ALLOC, hc_port_alloc, 0, 0),
    ROW(PORT_FREE, hc_port_free, 0, 0),
    ROW(PORT_SEND, hc_port_send, BASALT_RIGHT_IO, 0),
    ROW(PORT_OPEN, hc_port_open, 0, 0),
    ROW(TIMER_SET, hc_timer_set, 0, 0),
    ROW(REQUEST_SERVE, hc_request_serve, BASALT_RIGHT_IO, 0),
    ROW(REQUEST_ROUTE, hc_request_route, BASALT_RIGHT_IO, 0),
    ROW(REQUEST_ANSWER, hc_request_answer, BASALT_RIGHT_IO, ROW_ENDED),
    ROW(DOORBELL_BIND, hc_doorbell_bind, BASALT_RIGHT_IO, 0),
    ROW(DOORBELL_UNBIND, hc_doorbell_unbind, BASALT_RIGHT_IO, ROW_ENDED),
    ROW(INJECT_MSI, hc_inject_msi, BASALT_RIGHT_IO, 0),
    ROW(PCI_READ, hc_pci_read, BASALT_RIGHT_PCI, 0),
    ROW(PCI_WRITE, hc_pci_write, BASALT_RIGHT_PCI, 0),
    ROW(IRQ_BIND_MSI, hc_irq_bind_msi, BASALT_RIGHT_PCI, 0),
    ROW(IRQ_BIND_LINE, hc_irq_bind_line, BASALT_RIGHT_PCI, 0),
    ROW(IRQ_ACK, hc_irq_ack, 0, 0),
    ROW(HANDLE_DELEGATE, hc_handle_delegate, BASALT_RIGHT_DELEGATE, 0),
    ROW(HANDLE_REVOKE, hc_handle_revoke, BASALT_RIGHT_DELEGATE, ROW_ENDED),
    ROW(HANDLE_NEXT, hc_handle_next, 0, 0),
};
_Static_assert(ARRAY_SIZE(rows) == BASALT_HC_END - BASALT_HC_BASE, "every hypercall has its row");

static const struct row *find_row(u64 number) {
    u64 index = number - BASALT_HC_BASE;

    return index < ARRAY_SIZE(rows) ? &rows[index] : NULL;
}

const char *hypercall_name(u64 number) {
    const struct row *row = find_row(number);

    return row ? row->name : "?";
}

// Arguments are in other registers in 32-bit code, and only their low halves count.
static void read_arguments(struct call *c, bool wide) {
    static const u8 registers64[6] = {BASALT_RDI, BASALT_RSI, BASALT_RDX,
                                      BASALT_R10, BASALT_R8,  BASALT_R9};
    static const u8 registers32[6] = {BASALT_RBX, BASALT_RCX, BASALT_RDX,
                                      BASALT_RSI, BASALT_RDI, BASALT_RBP};

    for (unsigned i = 0; i < 6; i++)
        c->args[i] = wide ? c->v->cpu.gprs[registers64[i]] : (u32)c->v->cpu.gprs[registers32[i]];
}

static i64 find_handle(struct call *c, const struct row *row) {
    if (!row->rights)
        return 0;
    c->handle = handle_find(c->caller, c->args[0]);
    if (!c->handle)
        return -BASALT_EBADF;
    bool self = row->flags & ROW_SELF && c->handle->target == c->caller;
    if ((c->handle->rights & row->rights) != row->rights && !self)
        return -BASALT_EPERM;
    c->target = c->handle->target;
    bool ended = c->target && c->target->status == BASALT_STATUS_ENDED;
    if (ended && !(row->flags & ROW_ENDED))
        return -BASALT_EINVAL;
    if (row->flags & ROW_VCPU && c->target && c->args[1] < BASALT_VCPUS_MAX)
        c->vcpu = c->target->vcpus[c->args[1]];
    return row->flags & ROW_VCPU && !c->vcpu ? -BASALT_ENOENT : 0;
}

void hypercall(struct vcpu *v) {
    u64 *gprs = v->cpu.gprs;
    bool wide = guest_mode(v) == MODE_64;
    u64 number = wide ? gprs[BASALT_RAX] : (u32)gprs[BASALT_RAX];
    const struct row *row = find_row(number);
    struct call c = {.v = v, .caller = v->domain};
    i64 result;

    if (!row)
        result = number < KVM_NUMBERS ? -KVM_ENOSYS : -BASALT_ENOSYS;
    else if (vcpu_cpl(v))
        result = -BASALT_EPERM;
    else {
        read_arguments(&c, wide);
        trace(BASALT_TRACE_HYPERCALL, c.caller->id, v->index, number, c.args[0]);
        result = find_handle(&c, row);
        if (!result)
            result = row->handler(&c);
    }
    gprs[BASALT_RAX] = wide ? (u64)result : (u32)result;
    if (c.set_second)
        gprs[BASALT_RDX] = wide ? c.second : (u32)c.second;
}
