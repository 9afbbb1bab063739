// SPDX-License-Identifier: Apache-2.0
//
// Domains: creation, ending and taking apart. A domain's structure is one page of its own; ids count up, so that none is
// used twice in a boot (not before 2^32 domains were made). Destruction goes in
// bounded steps, each of which leaves a consistent domain that can only be destroyed further.

#include "kernel/domain.h"

#include "kernel/console.h"
#include "kernel/event.h"
#include "kernel/interrupt.h"
#include "kernel/log.h"
#include "kernel/request.h"
#include "kernel/schedule.h"
#include "kernel/trace.h"

#define TEARDOWN_BUDGET 512u // table entries looked at in one step

static u32 next_id;
static u64 charged_total;

bool domain_charge(struct domain *d, u64 bytes) {
    if (bytes > d->info.memory_quota - d->info.memory_bytes)
        return false;
    d->info.memory_bytes += bytes;
    charged_total += bytes;
    return true;
}

void domain_uncharge(struct domain *d, u64 bytes) {
    d->info.memory_bytes -= bytes;
    charged_total -= bytes;
}

u64 domains_charged(void) { return charged_total; }

void *domain_page_alloc(struct domain *d) {
    if (!domain_charge(d, PAGE_SIZE))
        return NULL;
    void *page = frame_kernel_alloc();
    if (!page)
        domain_uncharge(d, PAGE_SIZE);
    return page;
}

void domain_page_free(struct domain *d, void *page) {
    if (!page)
        return;
    frame_kernel_free(page);
    domain_uncharge(d, PAGE_SIZE);
}

void *ept_page_alloc(struct ept *ept) {
    return domain_page_alloc(container_of(ept, struct domain, ept));
}

void ept_page_free(struct ept *ept, void *page) {
    domain_page_free(container_of(ept, struct domain, ept), page);
}

static void free_domain(struct domain *d) {
    domain_uncharge(d, d->info.memory_bytes);
    frame_kernel_free(d);
}

int domain_create(u64 quota, struct domain **out) {
    struct domain *d = frame_kernel_alloc();
    unsigned max_shift = backend_features.second_level_1g   ? 30
                         : backend_features.second_level_2m ? SUPERPAGE_SHIFT
                                                            : PAGE_SHIFT;

    if (!d)
        return -BASALT_ENOMEM;
    d->info.memory_quota = quota;
    d->info.weight = SCHED_WEIGHT_DEFAULT;
    d->info.status = BASALT_STATUS_PAUSED;
    d->info.tsc_offset = -rdtsc(); // the guest's TSC begins at 0
    d->self = (struct handle){.target = d, .holder = d};
    d->handles_used = BASALT_HANDLE_SELF + 1;
    list_init(&d->free_handles);
    list_init(&d->handles);
    list_init(&d->grants);
    int error = -BASALT_ENOSPC;
    if (domain_charge(d, PAGE_SIZE))
        error = ept_init(&d->ept, backend->vmx ? &ept_format_ept : &ept_format_npt, max_shift);
    if (!error)
        error = requests_init(d);
    if (error) {
        domain_page_free(d, d->ept.root);
        free_domain(d);
        return error;
    }
    d->info.id = next_id++;
    d->owner = (u16)(FRAME_OWNER_DOMAIN + d->info.id % (FRAME_OWNERS - FRAME_OWNER_DOMAIN));
    trace(BASALT_TRACE_DOMAIN, d->info.id, 0, 1, 0);
    *out = d;
    return 0;
}

static void each_vcpu(struct domain *d, void (*act)(struct vcpu *, u32), u32 reason) {
    struct vcpu *v;

    for_each_vcpu (v, d)
        act(v, reason);
}

void domain_end(struct domain *d, enum basalt_end_reason reason, u32 vcpu, u64 detail) {
    if (d->info.status == BASALT_STATUS_ENDED)
        return;
    d->info.status = BASALT_STATUS_ENDED;
    d->info.end_reason = reason;
    d->info.end_vcpu = vcpu;
    d->info.end_detail = detail;
    if (vcpu < BASALT_VCPUS_MAX && d->vcpus[vcpu] && d->vcpus[vcpu] == this_queue()->loaded &&
        reason != BASALT_END_CONTROL)
        d->info.end_insn_length = guest_fetch(d->vcpus[vcpu], d->info.end_insn);
    each_vcpu(d, vcpu_block, BLOCK_ENDED);
    console_release(d, 0);
    trace(BASALT_TRACE_DOMAIN, d->info.id, vcpu, 2, reason);
    if (d->end_watcher.domain)
        event_ring(d->end_watcher.domain, d->end_watcher.port);
    else if (vcpu < BASALT_VCPUS_MAX && d->vcpus[vcpu] && reason != BASALT_END_CONTROL)
        log_err("basalt: domain %u ended unwatched: reason %u at RIP 0x%lx, detail 0x%lx",
                d->info.id, reason, d->vcpus[vcpu]->cpu.rip, detail);
}

int domain_control(struct domain *d, u64 op) {
    if (d->info.status == BASALT_STATUS_ENDED)
        return -BASALT_EINVAL;
    switch (op) {
    case BASALT_OP_PAUSE:
        d->info.status = BASALT_STATUS_PAUSED;
        each_vcpu(d, vcpu_block, BLOCK_PAUSED);
        return 0;
    case BASALT_OP_RESUME:
        d->info.status = BASALT_STATUS_RUNNING;
        each_vcpu(d, vcpu_unblock, BLOCK_PAUSED);
        return 0;
    case BASALT_OP_END: domain_end(d, BASALT_END_CONTROL, 0, 0); return 0;
    }
    return -BASALT_EINVAL;
}

void domain_schedule(struct domain *d, u32 weight, u32 cap) {
    struct vcpu *v;

    d->info.weight = weight;
    d->info.cap = cap;
    for_each_vcpu (v, d) {
        v->sched.weight = weight;
        v->sched.cap = cap;
    }
}

static void free_tables(struct domain *d) {
    events_teardown(d);
    for (unsigned i = 0; i < HANDLE_PAGES; i++)
        domain_page_free(d, d->handle_pages[i]);
    domain_page_free(d, d->claims);
    domain_page_free(d, d->cpuid);
    domain_page_free(d, d->share_page);
}

int domain_destroy(struct domain *d) {
    unsigned budget = TEARDOWN_BUDGET;
    struct vcpu *v;

    domain_end(d, BASALT_END_CONTROL, 0, 0);
    interrupts_release(d);
    if (shares_teardown(d, &budget) || memory_teardown(d, &budget))
        return -BASALT_EINTR;
    for_each_vcpu (v, d)
        vcpu_destroy(v);
    requests_forget(d, NULL);
    if (handles_teardown(d, &budget))
        return -BASALT_EINTR;
    free_tables(d);
    trace(BASALT_TRACE_DOMAIN, d->info.id, 0, 3, d->info.memory_bytes);
    if (d->info.memory_bytes != PAGE_SIZE)
        log_err("domain: %u is gone but %llu bytes were still charged to it", d->info.id,
                (unsigned long long)(d->info.memory_bytes - PAGE_SIZE));
    free_domain(d);
    return 0;
}
