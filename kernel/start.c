// SPDX-License-Identifier: Apache-2.0
//
// The kernel proper's start: choose the backend, bring up what vCPUs need, build dom0, run. When the machine lacks
// something that Basalt can't do without, it says what and what to do about it, and stops.

#include "boot/boot.h"
#include "kernel/cmdline.h"
#include "kernel/console.h"
#include "kernel/log.h"
#include "kernel/panic.h"
#include "kernel/schedule.h"
#include "kernel/trace.h"

#define EXIT_REFUSED 2u

const struct backend *backend;
struct backend_features backend_features;

void refuse(const char *remedy, const char *missing, ...) {
    char text[256];
    va_list args;

    va_start(args, missing);
    (void)format_va(text, sizeof(text), missing, args);
    va_end(args);
    log_err("basalt: can't go on: %s", text);
    log_err("basalt: remedy: %s", remedy);
    console_take();
    test_exit(EXIT_REFUSED);
    for (;;)
        cpu_hlt();
}

static void report_features(void) {
    const struct backend_features *f = &backend_features;
    bool vmx = backend->vmx;
    const struct {
        const char *name;
        bool asked, there;
    } features[] = {
        {"VPID", vmx, f->vpid},
        {"EPT-A/D", vmx, f->ept_ad},
        {"preemption-timer", vmx, f->preemption_timer},
        {"APICv", vmx, f->apicv},
        {"NRIP-save", !vmx, f->nrip_save},
        {"decode-assists", !vmx, f->decode_assists},
        {"flush-by-ASID", !vmx, f->flush_by_asid},
        {"clean-bits", !vmx, f->clean_bits},
        {"pause-filter", !vmx, f->pause_filter},
    };
    char text[2][200] = {"", ""}; // not in use, in use

    for (unsigned i = 0; i < ARRAY_SIZE(features); i++) {
        char *line = text[features[i].there];
        size_t used = strlen(line);
        if (features[i].asked)
            format(line + used, sizeof(text[0]) - used, " %s", features[i].name);
    }
    log_info("basalt: %s with nested paging (%s); in use:%s; not in use:%s", backend->name,
             vmx ? "EPT" : "NPT", text[1][0] ? text[1] : " none", text[0][0] ? text[0] : " none");
}

noreturn void basalt_start(const struct boot_params *boot) {
    void *page = frame_kernel_alloc();

    if (!page)
        panic("no memory for the backend");
    if (!cpu_features.vmx && !cpu_features.svm)
        refuse("use a processor with Intel VT-x or AMD-V; nested in QEMU: -cpu host,+vmx or +svm",
               "the processor has neither VMX nor SVM");
    backend = cpu_features.vmx ? &vmx_backend : &svm_backend;
    backend->probe(&backend_features);
    backend->cpu_on(page);
    backend_features.apicv &= !options.noapicv;
    report_features();
    trace_init();
    trace_events = options.trace ? BASALT_TRACE_ALL : 0;
    if (schedule_init())
        panic("no memory for the scheduler");
    cpuid_setup();
    dom0_build(boot);
    log_info("basalt: memory: %lu KiB free of %lu KiB", frames_free() / KIB, boot->ram_bytes / KIB);
    schedule_loop();
}
