// SPDX-License-Identifier: Apache-2.0
//
// The kernel proper's start: choose the backend, bring up what vCPUs need, build dom0, run. When the machine lacks
// something that Basalt can't do without, it says what and what to do about it, and stops.

#include "arch/cpu.h"
#include "arch/string.h"
#include "arch/x86.h"
#include "boot/boot.h"
#include "guest/vcpu.h"
#include "kernel/console.h"
#include "kernel/dom0.h"
#include "kernel/frames.h"
#include "kernel/interrupt.h"
#include "kernel/log.h"
#include "kernel/panic.h"
#include "kernel/schedule.h"
#include "kernel/trace.h"

#define EXIT_REFUSED 2u

const struct backend *backend;
struct backend_features backend_features;

noreturn static void refuse(const struct refusal *why) {
    log_err("basalt: can't go on: %s", why->missing);
    log_err("basalt: remedy: %s", why->remedy);
    console_take();
    test_exit(EXIT_REFUSED);
    for (;;)
        cpu_hlt();
}

static const struct backend *choose_backend(struct refusal *why) {
    static const struct backend *const all[] = {&vmx_backend, &svm_backend};
    struct refusal other = {0};

    for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
        bool present = all[i] == &vmx_backend ? cpu_features.vmx : cpu_features.svm;
        *why = (struct refusal){0};
        if (!all[i]->probe(&backend_features, why))
            return all[i];
        if (present) // it has the feature, but something about it is missing: that is the reason to tell
            other = *why;
    }
    if (other.missing)
        *why = other;
    else
        *why = (struct refusal){
            "the processor has neither VMX nor SVM",
            "use a processor with Intel VT-x or AMD-V; nested in QEMU: -cpu host,+vmx or +svm"};
    return NULL;
}

static void report_features(void) {
    const struct backend_features *f = &backend_features;
    const struct {
        const char *name;
        bool there;
    } vmx[] =
        {
            {"VPID", f->vpid},
            {"EPT-A/D", f->ept_ad},
            {"EPT-1G", f->ept_1g},
            {"preemption-timer", f->preemption_timer},
            {"virtual-NMI", f->virtual_nmi},
            {"APICv", f->apicv},
            {"posted-interrupts", f->posted},
            {"PML", f->pml},
            {"XSAVES", f->xsaves},
            {"TSC-scaling", f->tsc_scaling},
        },
      svm[] =
          {
              {"NRIP-save", f->nrip_save},         {"decode-assists", f->decode_assists},
              {"flush-by-ASID", f->flush_by_asid}, {"clean-bits", f->clean_bits},
              {"pause-filter", f->pause_filter},
          },
      *table = backend == &vmx_backend ? vmx : svm;
    unsigned count = backend == &vmx_backend ? ARRAY_SIZE(vmx) : ARRAY_SIZE(svm);
    char text[2][200] = {"", ""};

    for (unsigned i = 0; i < count; i++) {
        char *line = text[!table[i].there];
        size_t used = strlen(line);
        format(line + used, sizeof(text[0]) - used, " %s", table[i].name);
    }
    log_info("basalt: %s with nested paging (%s); present:%s; missing:%s", backend->name,
             f->second_level_is_ept ? "EPT" : "NPT", text[0][0] ? text[0] : " none",
             text[1][0] ? text[1] : " none");
}

noreturn void basalt_start(const struct boot_params *boot) {
    struct refusal why;
    void *page = frame_kernel_alloc();

    backend = choose_backend(&why);
    if (!backend || !page || backend->cpu_on(page, &why))
        refuse(&why);
    report_features();
    if (trace_init(this_cpu()) || schedule_init())
        panic("no memory for the scheduler");
    vcpu_setup();
    interrupts_init();
    if (dom0_build(boot, &why))
        refuse(&why);
    struct frames_count f = frames_count();
    log_info("basalt: memory: %lu KiB free of %lu KiB", f.free / KIB, f.total / KIB);
    schedule_loop();
}
