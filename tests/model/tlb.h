// SPDX-License-Identifier: Apache-2.0
//
// Tagged TLBs that forget nothing by themselves, and domains, virtual processors and CPUs that use them at random. Both
// emulators flush at every transition, so that a missing flush shows nowhere; here each translation that was ever used
// stays until the code under test says the words that make a processor forget it (SDM, "Caching Translation
// Information"; APM, "TLB Control"). Invariant that is checked: whenever a virtual processor runs, every translation that
// its tags reach on that CPU is one that its guest's and its domain's tables allow at this moment.
//
// A backend's test includes this file after the backend's source, and calls model_guest() in the place of a world switch.

#pragma once

#include "ept/ept.c" // on the model's own arch/paging.h
#include "guest/backend.h"
#include "tests/unit/init_state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum {
    CPUS = 3,
    DOMAINS = 3,
    VCPUS = 2,
    LINEAR = 16,
    SUPERPAGES = 4,
    GUEST_PAGES = SUPERPAGES * 512,
    NO_LINEAR = -1
};

struct translation {
    u64 tag;  // VPID or ASID
    u64 root; // of the second-level table; 0: the tag alone counts
    int linear;
    u64 gpa, hpa;
    bool write;
};

struct tlb {
    struct translation *entries;
    unsigned count, room;
};

struct model_domain {
    struct ept ept;
    struct model_vcpu {
        struct cpu_state cpu;
        struct model_domain *domain;
        u64 linear[LINEAR]; // the guest's own tables: gpa
        int loaded_on;      // CPU, or -1
        bool exists;
    } vcpus[VCPUS];
};

static struct tlb tlbs[CPUS];
static struct model_domain domains[DOMAINS];
static unsigned current_cpu;
static struct model_vcpu *running, *loaded[CPUS];
static u64 next_frame = 1, uses, forgotten;

static u64 model_random(u64 limit) { return ((u64)rand() << 20 ^ (u64)rand()) % limit; }

// ---- What processors do ----

/// Forgets, on the current CPU, what `matches` says.
static void tlb_forget(bool (*matches)(const struct translation *t, u64 a, u64 b), u64 a, u64 b) {
    struct tlb *tlb = &tlbs[current_cpu];

    for (unsigned i = 0; i < tlb->count;)
        if (matches(&tlb->entries[i], a, b)) {
            tlb->entries[i] = tlb->entries[--tlb->count];
            forgotten++;
        } else {
            i++;
        }
}

static void tlb_remember(const struct translation *t) {
    struct tlb *tlb = &tlbs[current_cpu];

    for (unsigned i = 0; i < tlb->count; i++)
        if (!memcmp(&tlb->entries[i], t, sizeof(*t)))
            return;
    if (tlb->count == tlb->room) {
        tlb->room = tlb->room ? 2 * tlb->room : 64;
        tlb->entries = realloc(tlb->entries, tlb->room * sizeof(*t));
    }
    tlb->entries[tlb->count++] = *t;
}

static void check(const struct translation *t) {
    struct ept_leaf leaf = ept_walk(&running->domain->ept, GPA(t->gpa));

    uses++;
    if (t->linear != NO_LINEAR && running->linear[t->linear] != t->gpa)
        fail_msg("CPU %u: linear page %d still leads to 0x%llx", current_cpu, t->linear,
                 (unsigned long long)t->gpa);
    if (!leaf.present)
        fail_msg("CPU %u: 0x%llx is gone, but still translated", current_cpu,
                 (unsigned long long)t->gpa);
    if (leaf.hpa.v + (t->gpa - leaf.gpa) != t->hpa)
        fail_msg("CPU %u: 0x%llx still leads to another frame", current_cpu,
                 (unsigned long long)t->gpa);
    if (t->write && !(leaf.flags & EPT_WRITE))
        fail_msg("CPU %u: 0x%llx can still be written", current_cpu, (unsigned long long)t->gpa);
}

static bool reaches(const struct translation *t, u64 tag, u64 root) {
    bool by_root = !t->root || t->root == root;
    return by_root && (t->linear == NO_LINEAR && t->root ? true : t->tag == tag);
}

static bool of_guest(const struct translation *t, u64 tag, u64 root) {
    return t->linear != NO_LINEAR && t->tag == tag && (!t->root || t->root == root);
}

static void change_tables(void) {
    for (unsigned i = 0; i < LINEAR; i++)
        running->linear[i] = model_random(GUEST_PAGES) << PAGE_SHIFT;
}

/// The guest between entry and exit: what its tags reach must be allowed; it uses some translations, and changes its own
/// tables with MOV to CR3, of which the hypervisor hears nothing. `by_root`: translations are tagged with the root, too,
/// and those of guest-physical addresses with the root only (VMX); else everything with the ASID (SVM).
static void model_guest(u64 tag, u64 root, bool by_root) {
    struct tlb *tlb = &tlbs[current_cpu];

    for (unsigned i = 0; i < tlb->count; i++)
        if (reaches(&tlb->entries[i], tag, root))
            check(&tlb->entries[i]);
    if (!model_random(4)) {
        change_tables();
        tlb_forget(of_guest, tag, root);
    }
    for (unsigned i = 0; i < 6; i++) {
        int linear = (int)model_random(LINEAR);
        u64 gpa = running->linear[linear];
        struct ept_leaf leaf = ept_walk(&running->domain->ept, GPA(gpa));
        if (!leaf.present)
            continue;
        struct translation t;
        memset(&t, 0, sizeof(t));
        t.tag = tag, t.root = by_root ? root : 0, t.linear = linear, t.gpa = gpa;
        t.hpa = leaf.hpa.v + (gpa - leaf.gpa), t.write = leaf.flags & EPT_WRITE;
        tlb_remember(&t);
        t.linear = NO_LINEAR;
        t.tag = by_root ? 0 : tag;
        tlb_remember(&t);
    }
}

// ---- Memory for tables: what was freed last is given out first, so that roots come back ----

static void *free_pages[4096];
static unsigned free_count;
void *ept_page_alloc(struct ept *ept unused) {
    void *page = free_count ? free_pages[--free_count] : aligned_alloc(PAGE_SIZE, PAGE_SIZE);
    return memset(page, 0, PAGE_SIZE);
}
void ept_page_free(struct ept *ept unused, void *page) { free_pages[free_count++] = page; }
static hpa_t page_hpa(const void *page) { return HPA((u64)page); }
static void *page_pointer(hpa_t hpa) { return (void *)hpa.v; }

// ---- What the kernel does ----

static void model_unload(struct model_vcpu *v) {
    unsigned cpu = current_cpu;

    if (v->loaded_on < 0)
        return;
    current_cpu = (unsigned)v->loaded_on; // its CPU is sent a message
    backend->unload(&v->cpu);
    loaded[current_cpu] = NULL;
    v->loaded_on = -1;
    current_cpu = cpu;
}

static void model_load(struct model_vcpu *v) {
    if (v->loaded_on == (int)current_cpu)
        return;
    model_unload(v);
    if (loaded[current_cpu])
        model_unload(loaded[current_cpu]);
    backend->load(&v->cpu);
    loaded[current_cpu] = v;
    v->loaded_on = (int)current_cpu;
}

static bool tags_used[8 * VCPUS * DOMAINS] = {true};
static u16 tag_alloc(void) {
    for (u16 i = 1;; i++)
        if (!tags_used[i]) {
            tags_used[i] = true;
            return i;
        }
}

static void model_create(struct model_domain *d, bool vpids) {
    const struct ept_format *format = vpids ? &ept_format_ept : &ept_format_npt;

    assert_int_equal(ept_init(&d->ept, format, 21), 0);
    for (unsigned i = 0; i < VCPUS; i++) {
        struct model_vcpu *v = &d->vcpus[i];
        memset(v, 0, sizeof(*v));
        v->domain = d;
        v->loaded_on = -1;
        v->exists = true;
        v->cpu.page = ept_page_alloc(NULL);
        v->cpu.second_level = page_hpa(d->ept.root);
        v->cpu.tag = vpids ? tag_alloc() : 0;
        running = v;
        change_tables();
        model_load(v);
        v->cpu.rflags = RFLAGS_FIXED; // as guest/vcpu.c makes it after INIT
        v->cpu.dirty = CPU_DIRTY_RSP | CPU_DIRTY_RFLAGS;
        backend->state_init(&v->cpu);
        if (backend->write_segment) // the whole backend is there
            write_init_state(backend, &v->cpu);
    }
}

static void model_destroy(struct model_domain *d, bool vpids) {
    struct ept_leaf leaf;
    unsigned budget = 1u << 30;

    for (unsigned i = 0; i < VCPUS; i++) {
        struct model_vcpu *v = &d->vcpus[i];
        model_unload(v);
        if (vpids)
            tags_used[v->cpu.tag] = false;
        ept_page_free(NULL, v->cpu.page);
    }
    while (ept_pop(&d->ept, &leaf, &budget) > 0)
        ;
}

static void model_map(struct model_domain *d) {
    bool big = !model_random(3);
    u64 gpa = big ? model_random(SUPERPAGES) << 21 : model_random(GUEST_PAGES) << PAGE_SHIFT;
    u32 flags = EPT_READ | EPT_EXEC | (model_random(4) ? EPT_WRITE : 0);
    int error = ept_map(&d->ept, GPA(gpa), HPA(next_frame++ << 21), big ? 21 : 12, flags);
    assert_true(error == 0 || error == -BASALT_EEXIST);
}

static void model_unmap(struct model_domain *d) {
    struct ept_leaf old;
    bool big = !model_random(4);
    u64 gpa = big ? model_random(SUPERPAGES) << 21 : model_random(GUEST_PAGES) << PAGE_SHIFT;
    int error = ept_unmap(&d->ept, GPA(gpa), big ? 21 : 12, &old);
    // The same page with another frame, or fewer rights: as a guest would find it after a share has ended.
    if (!error && model_random(2))
        assert_int_equal(ept_map(&d->ept, GPA(old.gpa), old.hpa, old.shift, old.flags & ~EPT_WRITE),
                         0);
}

// As guest/run.c does it before each entry (test_tlb_kernel runs that itself).
static void model_run(struct model_vcpu *v) {
    struct cpu_state *cpu = &v->cpu;

    model_load(v);
    running = v;
    if (v->cpu.flush_generation != v->domain->ept.generation) {
        backend->flush_second_level(&v->cpu);
        v->cpu.flush_generation = v->domain->ept.generation;
    }
    if (v->cpu.dirty | v->cpu.queued.valid)
        backend->prepare(&v->cpu);
    (void)backend_enter(backend->enter, &cpu);
    if (!model_random(5)) { // it exits with a write to a control register
        change_tables();
        backend->flush_linear(&v->cpu);
    }
}

static void model_steps(unsigned steps, bool vpids) {
    const char *seed = getenv("SEED");
    unsigned start = seed ? (unsigned)strtoul(seed, NULL, 0) : (unsigned)time(NULL);

    print_message("seed %u (SEED=... repeats)\n", start);
    srand(start);
    for (unsigned i = 0; i < DOMAINS; i++)
        model_create(&domains[i], vpids);
    while (steps--) {
        struct model_domain *d = &domains[model_random(DOMAINS)];
        current_cpu = (unsigned)model_random(CPUS);
        switch (model_random(16)) {
        case 0:
        case 1:
        case 2: model_unmap(d); break;
        case 3:
        case 4:
        case 5: model_map(d); break;
        case 6:
            if (model_random(20))
                break;
            model_destroy(d, vpids);
            model_create(d, vpids);
            break;
        default: model_run(&d->vcpus[model_random(VCPUS)]);
        }
    }
    for (unsigned i = 0; i < DOMAINS; i++)
        model_destroy(&domains[i], vpids);
    print_message("%llu translations used, %llu forgotten\n", (unsigned long long)uses,
                  (unsigned long long)forgotten);
    assert_true(uses > 1000 && forgotten > 100);
    while (free_count)
        free(free_pages[--free_count]);
    for (unsigned i = 0; i < CPUS; i++) {
        free(tlbs[i].entries);
        tlbs[i] = (struct tlb){0};
    }
    uses = forgotten = 0;
}
