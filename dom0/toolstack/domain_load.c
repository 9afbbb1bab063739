// SPDX-License-Identifier: Apache-2.0
//
// A domain's kernel: its files among the boot modules, the loader's plan, the vCPUs in the state that
// the plan says.

#include "toolstack/domain.h"

#include "lib/boot.h"
#include "lib/hypercall.h"
#include "lib/log.h"
#include "lib/memory.h"
#include "toolstack/loader.h"

#include <stdio.h>
#include <string.h>

static bool find_file(const char *what, const char *name, struct loader_file *file, char *error) {
    const struct basalt_boot_module *module = boot_module_find(name);
    if (!module) {
        domain_fail(
            0, error,
            "%s \"%s\": there is no boot module of this name; the bootloader's configuration lists them "
            "(module2 /path/file %s)",
            what, name, name);
        return false;
    }
    *file = (struct loader_file){
        .name = name, .data = boot_module_data(module), .bytes = module->size, .cmdline = ""};
    return true;
}

// Modules of a Multiboot guest: the file is named by the first word, the guest is told the whole
// text.
static bool find_modules(const struct domain_config *config, struct loader_file *files,
                         char *error) {
    static char names[CONFIG_MODULES_MAX][CONFIG_TEXT_SIZE];
    for (u32 i = 0; i < config->module_count; i++) {
        snprintf(names[i], sizeof(names[i]), "%.*s", (int)strcspn(config->modules[i].text, " "),
                 config->modules[i].text);
        if (!find_file("module", names[i], &files[i], error))
            return false;
        files[i].cmdline = config->modules[i].text;
    }
    return true;
}

static int load_kernel(struct domain *d, struct loader_plan *plan, char *error) {
    struct loader_file modules[CONFIG_MODULES_MAX];
    struct machine_memory_range map[MACHINE_MEMORY_RANGES];
    u8 rsdp[LOADER_RSDP_SIZE];
    struct loader_input input = {
        .modules = modules,
        .module_count = d->config.module_count,
        .cmdline = d->config.cmdline,
        .protocol = d->config.protocol,
        .memory = d->config.memory,
        .map = map,
        .map_count = machine_memory_map(d->machine, map),
        .rsdp = machine_acpi_root(d->machine),
    };
    if (guest_read(machine_memory(d->machine), input.rsdp, rsdp, sizeof(rsdp)))
        input.rsdp_copy = rsdp;
    if (!find_file("kernel", d->config.kernel, &input.kernel, error) ||
        (d->config.initrd[0] && !find_file("initrd", d->config.initrd, &input.initrd, error)) ||
        !find_modules(&d->config, modules, error))
        return -BASALT_ENOENT;
    if (!loader_make_plan(&input, plan) || !loader_carry_out(plan, machine_memory(d->machine)))
        return domain_fail(-BASALT_EINVAL, error, "%s", plan->error);
    return 0;
}

// For tests: "crash=guest" on dom0's command line gives guests a state that no processor enters.
static void break_on_request(struct basalt_vcpu_state *state) {
    char kind[8];

    if (!boot_option("crash", kind, sizeof(kind)) || strcmp(kind, "guest") != 0)
        return;
    state->cr0 |= 1u << 31;                          // PG
    state->cr4 |= 1u << 5;                           // PAE
    state->efer |= 1u << 8;                          // LME
    state->segments[BASALT_CS].attributes |= 0x6000; // L and D
}

int domain_load(struct domain *d, char *error) {
    static struct loader_plan plan;
    int r = load_kernel(d, &plan, error);
    if (r < 0)
        return r;
    for (u32 i = 0; i < d->config.vcpus; i++) {
        i64 made = hc_vcpu_create(d->handle, i);
        if (made < 0)
            return domain_fail(made, error, "vCPU %u can't be created: %s", i, error_text(made));
    }
    break_on_request(&plan.state);
    i64 set = hc_vcpu_set(d->handle, 0, &plan.state);
    if (set < 0)
        return domain_fail(set, error, "vCPU 0 can't begin at 0x%llx: %s",
                           (unsigned long long)plan.state.rip, error_text(set));
    log_info(d->config.name, "kernel \"%s\" (%s protocol) loaded, %llu MiB, %u vCPU(s), %u disk(s)",
             d->config.kernel, config_protocol_name(plan.protocol),
             (unsigned long long)(d->config.memory / MIB), d->config.vcpus, d->config.disk_count);
    return 0;
}
