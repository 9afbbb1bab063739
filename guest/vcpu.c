// SPDX-License-Identifier: Apache-2.0
//
// The life of a virtual processor: creation with all its pages charged to its domain, its architectural state in and
// out, INIT and start-up IPIs. A vCPU's structure with its extended state fits one page. State of a vCPU that is not
// loaded is reached by loading its control block for a moment, in place of the caller's.

#include "guest/vcpu.h"

#include "arch/paging.h"
#include "kernel/domain.h"
#include "kernel/schedule.h"

#define VPIDS     65536u
#define PAT_RESET 0x0007040600070406ull

static const u8 all_ports_exit[3 * PAGE_SIZE]
    __attribute__((aligned(PAGE_SIZE))) = {[0 ... 3 * PAGE_SIZE - 1] = 0xff};

// Cached translations have the root of the nested tables as a tag too: within a domain VPIDs must differ, between
// domains it is only better that they do. 0 is the host's.
static u16 vpid_of(const struct domain *d, u64 index) {
    return (u16)(1 + ((u64)d->info.id * BASALT_VCPUS_MAX + index) % (VPIDS - 1));
}

static void free_pages(struct domain *d, struct vcpu *v) {
    domain_page_free(d, v->cpu.page);
    domain_page_free(d, v->lapic.page);
    domain_page_free(d, v);
}

static void lapic_timer_expired(struct timer *timer) {
    struct vcpu *v = container_of(timer, struct vcpu, lapic_timer);

    if (v->domain->info.status == BASALT_STATUS_ENDED)
        return;
    if (vlapic_timer_fire(&v->lapic, guest_tsc(v)))
        vcpu_unblock(v, BLOCK_HALT);
    vcpu_apic_effect(v, &(struct vlapic_effect){.timer = true}); // a periodic timer goes on
}

// Makes `v` the loaded one for backend calls; returns the one to put back.
static struct vcpu *borrow_cpu(struct vcpu *v) {
    struct vcpu *loaded = this_queue()->loaded;

    if (loaded == v)
        return v;
    if (loaded)
        backend->unload(&loaded->cpu);
    backend->load(&v->cpu);
    return loaded;
}

static void return_cpu(struct vcpu *v, struct vcpu *loaded) {
    if (loaded == v)
        return;
    backend->unload(&v->cpu);
    if (loaded)
        backend->load(&loaded->cpu);
}

// LMA is what paging makes of LME.
static u64 efer_of(const struct basalt_vcpu_state *s) {
    bool long_mode = s->cr0 & CR0_PG && s->efer & EFER_LME;

    return long_mode ? s->efer | EFER_LMA : s->efer & ~(u64)EFER_LMA;
}

static void write_state(struct vcpu *v, const struct basalt_vcpu_state *s) {
    struct cpu_state *c = &v->cpu;

    backend->write(c, REG_CR4, s->cr4);
    backend->write(c, REG_CR3, s->cr3);
    backend->write(c, REG_CR0, s->cr0);
    backend->write(c, REG_EFER, efer_of(s));
    backend->write(c, REG_DR7, s->dr7 | DR7_FIXED);
    for (unsigned i = 0; i < ARRAY_SIZE(s->segments); i++)
        backend->write_segment(c, i, &s->segments[i]);
    memcpy(c->gprs, s->gprs, sizeof(c->gprs));
    c->rip = s->rip;
    c->rflags = s->rflags | RFLAGS_FIXED;
    backend->write(c, REG_CR2, s->cr2);
    backend->clear_shadow(c); // of an instruction before
    backend->flush_linear(c); // what its tag translated before, perhaps for another vCPU
    c->dirty |= CPU_DIRTY_RSP | CPU_DIRTY_RFLAGS;
}

// Of RDX, which tells the processor's signature, any value will do. Follows the SDM, "IA-32 and Intel 64 Processor States
// Following Power-up, Reset, or INIT".
static const struct basalt_vcpu_state after_init = {
    .gprs = {[BASALT_RDX] = 0x600},
    .rip = 0xfff0,
    .cr0 = CR0_ET | CR0_CD | CR0_NW,
    .segments = {[BASALT_ES] = {.limit = 0xffff, .attributes = 0x93},
                 [BASALT_CS] = {0xffff0000, 0xffff, .selector = 0xf000, .attributes = 0x9b},
                 [BASALT_SS... BASALT_GS] = {.limit = 0xffff, .attributes = 0x93},
                 [BASALT_LDTR] = {.limit = 0xffff, .attributes = 0x82},
                 [BASALT_TR] = {.limit = 0xffff, .attributes = 0x8b},
                 [BASALT_GDTR... BASALT_IDTR] = {.limit = 0xffff}},
};

static void init_state(struct vcpu *v) {
    struct vcpu *loaded = borrow_cpu(v);
    u64 pat = PAT_RESET;

    v->cpu.debug_active = false;
    memset(v->cpu.dr, 0, sizeof(v->cpu.dr));
    backend->state_init(&v->cpu);
    write_state(v, &after_init);
    backend->write(&v->cpu, REG_DR6, DR6_FIXED);
    (void)backend->access_msr(&v->cpu, MSR_PAT, true, &pat);
    return_cpu(v, loaded);
}

int vcpu_create(struct domain *d, u64 index) {
    if (index >= BASALT_VCPUS_MAX || d->info.status == BASALT_STATUS_ENDED ||
        sizeof(struct vcpu) + xstate_area_size > PAGE_SIZE)
        return -BASALT_EINVAL;
    if (d->vcpus[index])
        return -BASALT_EEXIST;
    struct vcpu *v = domain_page_alloc(d);
    if (!v)
        return -BASALT_ENOSPC;
    v->cpu.page = domain_page_alloc(d);
    v->lapic.page = domain_page_alloc(d);
    if (!v->cpu.page || !v->lapic.page) {
        free_pages(d, v);
        return -BASALT_ENOSPC;
    }
    v->domain = d;
    v->index = (u16)index;
    v->io.route = v->io.bell = d->claims + 1;
    v->blocked = BLOCK_PAUSED | (index ? BLOCK_SIPI : BLOCK_NEW);
    if (d->info.status == BASALT_STATUS_RUNNING)
        v->blocked &= ~BLOCK_PAUSED;
    v->sched.weight = d->info.weight;
    v->sched.cap = d->info.cap;
    v->cpu.second_level = pool_hpa(d->ept.root);
    v->cpu.io_bitmap = kernel_virt_to_hpa(d->io_bitmap ? d->io_bitmap : all_ports_exit).v;
    v->cpu.tsc_offset = d->info.tsc_offset;
    v->lapic_timer.expire = lapic_timer_expired;
    vlapic_init(&v->lapic, v->lapic.page, v->index, index == 0);
    v->cpu.tag = backend_features.vpid ? vpid_of(d, index) : 0;
    if (backend_features.apicv)
        v->cpu.virtual_apic = pool_hpa(v->lapic.page);
    v->xcr0 = xstate_mask & XCR0_X87;
    xstate_init(v->xstate);
    init_state(v);
    d->vcpus[index] = v;
    d->info.vcpus++;
    return 0;
}

void vcpu_destroy(struct vcpu *v) {
    struct domain *d = v->domain;

    schedule_forget(v);
    d->vcpus[v->index] = NULL;
    d->info.vcpus--;
    free_pages(d, v);
}

static bool state_legal(const struct basalt_vcpu_state *s) {
    bool paging = s->cr0 & CR0_PG, protection = s->cr0 & CR0_PE, long_mode = efer_of(s) & EFER_LMA;

    return !((s->segments[BASALT_GDTR].limit | s->segments[BASALT_IDTR].limit) >> 16) &&
           !((s->cr0 | s->dr7) >> 32) && !(s->cr3 >> guest_cpuid.phys_bits) &&
           !(s->cr4 & ~guest_cpuid.cr4) && !(s->efer & ~EFER_GUEST) &&
           !(s->rflags & ~RFLAGS_DEFINED) && s->cr8 <= 15 && s->activity <= 2 &&
           (!paging || protection) && (long_mode ? s->cr4 & CR4_PAE : !(s->cr4 & CR4_PCIDE)) &&
           (!(s->rflags & RFLAGS_VM) || (protection && !long_mode));
}

int vcpu_set_state(struct vcpu *v, const struct basalt_vcpu_state *s) {
    if (!state_legal(s))
        return -BASALT_EINVAL;
    struct vcpu *loaded = borrow_cpu(v);
    bool legal = vcpu_load_pdptes(v, s->cr0, s->cr3, s->cr4, efer_of(s));
    if (legal)
        write_state(v, s);
    return_cpu(v, loaded);
    if (!legal)
        return -BASALT_EINVAL;
    vlapic_set_cr8(&v->lapic, s->cr8);
    v->halted = s->activity == 1; // lapic.changed is set
    v->io.stage = IO_IDLE;
    v->cpu.queued.valid = false;
    vcpu_unblock(v, BLOCK_HALT | BLOCK_REQUEST);
    if (s->activity != 2)
        vcpu_unblock(v, BLOCK_NEW | BLOCK_SIPI);
    return 0;
}

void vcpu_get_state(struct vcpu *v, struct basalt_vcpu_state *s) {
    struct vcpu *loaded = borrow_cpu(v);
    struct cpu_state *c = &v->cpu;

    *s = (struct basalt_vcpu_state){
        .rip = c->rip,
        .rflags = c->rflags,
        .cr0 = backend->read(c, REG_CR0),
        .cr2 = backend->read(c, REG_CR2),
        .cr3 = backend->read(c, REG_CR3),
        .cr4 = backend->read(c, REG_CR4),
        .cr8 = vlapic_get_cr8(&v->lapic),
        .efer = backend->read(c, REG_EFER),
        .dr6 = backend->read(c, REG_DR6),
        .dr7 = backend->read(c, REG_DR7),
        .activity = v->blocked & (BLOCK_SIPI | BLOCK_NEW) ? 2 : v->halted,
    };
    memcpy(s->gprs, c->gprs, sizeof(s->gprs));
    for (unsigned i = 0; i < ARRAY_SIZE(s->segments); i++)
        s->segments[i] = backend->read_segment(c, i);
    return_cpu(v, loaded);
}

static bool completion_legal(const struct basalt_completion *c) {
    u32 raised = BIT(EXC_UD) | BIT(EXC_SS) | BIT(EXC_GP) | BIT(EXC_PF);

    return c->length <= INSN_MAX_LENGTH && c->action <= BASALT_COMPLETE_LMSW &&
           (c->action != BASALT_COMPLETE_EXCEPTION || (c->vector < 32 && raised & BIT(c->vector)));
}

int vcpu_complete(struct vcpu *v, const struct basalt_completion *c) {
    if (!completion_legal(c))
        return -BASALT_EINVAL;
    struct vcpu *loaded = borrow_cpu(v);
    memcpy(v->cpu.gprs, c->gprs, sizeof(v->cpu.gprs));
    v->cpu.rflags = (v->cpu.rflags & ~RFLAGS_STATUS) | (c->rflags & RFLAGS_STATUS);
    v->cpu.dirty |= CPU_DIRTY_RSP | CPU_DIRTY_RFLAGS;
    if (c->action == BASALT_COMPLETE_EXCEPTION) {
        if (c->vector == EXC_PF)
            backend->write(&v->cpu, REG_CR2, c->operand);
        vcpu_exception(v, c->vector, exception_has_error(c->vector), c->error);
    } else if (c->action == BASALT_COMPLETE_LMSW && !vcpu_lmsw(v, (u16)c->operand)) {
        vcpu_gp(v);
    } else if (c->length) {
        vcpu_skip(v, c->length);
    }
    return_cpu(v, loaded);
    v->io.stage = IO_IDLE;
    vcpu_unblock(v, BLOCK_REQUEST);
    return 0;
}

bool vcpu_control_field(struct vcpu *v, u64 field, u64 *value) {
    struct vcpu *loaded = borrow_cpu(v);
    bool found = backend->control_field(&v->cpu, field, value);

    return_cpu(v, loaded);
    return found;
}

void vcpu_init_ipi(struct vcpu *v) {
    vlapic_reset(&v->lapic);
    vcpu_block(v, BLOCK_SIPI);
    v->cpu.queued.valid = false;
    v->io.stage = IO_IDLE;
    vcpu_unblock(v, BLOCK_HALT | BLOCK_REQUEST | BLOCK_EVENT);
    v->halted = v->nmi_pending = v->irq_window = false;
    init_state(v);
}

void vcpu_startup_ipi(struct vcpu *v, u8 vector) {
    struct basalt_segment cs = {.base = (u64)vector << 12,
                                .limit = 0xffff,
                                .selector = (u16)(vector << 8),
                                .attributes = 0x9b};

    if (!(v->blocked & BLOCK_SIPI))
        return;
    struct vcpu *loaded = borrow_cpu(v);
    backend->write_segment(&v->cpu, BASALT_CS, &cs);
    return_cpu(v, loaded);
    v->cpu.rip = 0;
    vcpu_unblock(v, BLOCK_SIPI);
}
