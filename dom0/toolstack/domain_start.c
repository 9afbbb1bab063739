// SPDX-License-Identifier: Apache-2.0
//
// Creating a domain, in this order: disks, memory enough?, the kernel's domain (paused), its port,
// its machine, its kernel, its vCPUs, resume. Whatever fails, domain_take_apart() gives back what
// was taken so far.

#include "toolstack/domain.h"

#include "lib/hypercall.h"
#include "lib/log.h"
#include "toolstack/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define VCPU_BYTES  (32 * KIB) // at most, for the kernel's pages of one
#define FIXED_BYTES (256 * KIB)

int domain_fail(i64 code, char *error, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(error, DOMAIN_ERROR_SIZE, format, args);
    va_end(args);
    return (int)code;
}

// ---- disks ----

// The RAM disk that dom0/drivers made of a module: a disk whose label is the module's name.
static struct block_device *find_ramdisk(const char *module, char *error) {
    for (struct block_device *d = block_first(); d; d = block_next(d))
        if (!d->disk && strncmp(d->name, "ram", 3) == 0 && strcmp(d->label, module) == 0)
            return d;
    domain_fail(
        0, error,
        "there is no RAM disk \"%s\": it takes a boot module of this name, which ends in \".img\" or has the "
        "word \"disk\" behind it",
        module);
    return NULL;
}

static struct block_device *find_disk(const struct config_disk *disk, char *error) {
    static const char *const prefixes[] = {"", "label:", "guid:"};
    char name[CONFIG_TEXT_SIZE + 8];
    if (disk->source == CONFIG_DISK_MODULE)
        return find_ramdisk(disk->name, error);
    snprintf(name, sizeof(name), "%s%s", prefixes[disk->source], disk->name);
    return block_find(name, error, DOMAIN_ERROR_SIZE);
}

static int claim_disks(struct domain *d, struct machine_config *machine, char *error) {
    for (u32 i = 0; i < d->config.disk_count; i++) {
        const struct config_disk *disk = &d->config.disks[i];
        char reason[DOMAIN_ERROR_SIZE];
        struct block_device *device = find_disk(disk, reason);
        if (!device)
            return domain_fail(-BASALT_ENOENT, error, "disk %u: %s", i + 1, reason);
        int r = block_claim(&d->claims[i], device, d->config.name, !disk->read_only, reason,
                            sizeof(reason));
        if (r < 0)
            return domain_fail(r, error, "disk %u (%s): %s", i + 1, disk->name, reason);
        struct machine_disk *to = &machine->disks[i];
        to->device = device;
        to->read_only = disk->read_only;
        snprintf(to->serial, sizeof(to->serial), "%s", disk->name);
    }
    machine->disk_count = d->config.disk_count;
    return 0;
}

// ---- memory ----

// Guest memory, the kernel's tables for it (4 KiB for 2 MiB at most, and dom0's share of it), its
// pages and ours.
u64 domain_quota(const struct domain_config *config) {
    return config->memory + config->memory / 256 + config->vcpus * VCPU_BYTES + FIXED_BYTES;
}

static int out_of_memory(const struct domain *d, i64 code, char *error) {
    char wanted[TEXT_SIZE_MAX], most[TEXT_SIZE_MAX], left[TEXT_SIZE_MAX];
    u64 quota = domain_quota(&d->config);
    return domain_fail(
        code, error,
        "not enough memory: it takes %s, and up to %s for its tables and devices; %s are free. Lower "
        "`memory`, or end another domain",
        text_of_size(wanted, d->config.memory), text_of_size(most, quota - d->config.memory),
        text_of_size(left, (u64)hc_memory_free()));
}

static int check_memory(const struct domain *d, char *error) {
    i64 r = hc_memory_free();
    if (r < 0)
        return domain_fail(r, error, "the kernel does not tell how much memory is free: %s",
                           error_text(r));
    return (u64)r < domain_quota(&d->config) ? out_of_memory(d, -BASALT_ENOMEM, error) : 0;
}

// ---- the domain and its machine ----

static int create_domain(struct domain *d, char *error) {
    i64 r = hc_domain_create(domain_quota(&d->config));
    if (r < 0)
        return domain_fail(r, error, "the kernel does not create it: %s", error_text(r));
    d->handle = (u32)r;
    r = hc_domain_schedule(d->handle, d->config.weight, d->config.cap);
    if (r < 0)
        return domain_fail(r, error, "the kernel does not schedule it so: %s", error_text(r));
    d->port = event_port_alloc(domain_rung, d);
    r = d->port < 0 ? d->port : hc_domain_bind(d->handle, (u32)d->port);
    return r < 0 ? domain_fail(r, error, "no event port for it: %s", error_text(r)) : 0;
}

static void console_output(void *context, const char *bytes, size_t length) {
    screen_write(&((struct domain *)context)->screen, bytes, length);
}

static void console_room(void *context) { screen_room(&((struct domain *)context)->screen); }

static int create_machine(struct domain *d, struct machine_config *config, char *error) {
    config->name = d->config.name;
    config->domain = d->handle;
    config->vcpus = d->config.vcpus;
    config->memory = d->config.memory;
    config->context = d;
    config->console_output = console_output;
    config->console_room = console_room;
    config->on_power_off = domain_power_off;
    config->on_reset = domain_reset;
    int r = machine_create(&d->machine, config);
    if (r == -BASALT_ENOMEM)
        return out_of_memory(d, r, error);
    return r < 0 ? domain_fail(r, error, "its devices can't be made: %s", error_text(r)) : 0;
}

// ---- all together ----

static int start(struct domain *d, char *error) {
    struct machine_config machine = {0};
    int r = claim_disks(d, &machine, error);
    if (r == 0)
        r = check_memory(d, error);
    if (r == 0)
        r = create_domain(d, error);
    if (r == 0)
        r = create_machine(d, &machine, error);
    if (r == 0)
        r = domain_load(d, error);
    if (r < 0)
        return r;
    i64 resumed = hc_domain_control(d->handle, BASALT_OP_RESUME);
    return resumed < 0 ? domain_fail(resumed, error, "it can't be started: %s", error_text(resumed))
                       : 0;
}

int domain_start(struct domain *d, char *error) {
    if (d->state != DOMAIN_STOPPED && d->state != DOMAIN_WAITING)
        return domain_fail(-BASALT_EBUSY, error, "%s is %s already", d->config.name,
                           domain_state_name(d));
    timer_cancel(&d->timer);
    d->restart = d->shutdown_asked = false;
    d->cause = DOMAIN_CAUSE_NONE;
    screen_begin(&d->screen);
    d->end = (struct basalt_domain_info){0};
    int r = start(d, error);
    if (r < 0) {
        d->cause = DOMAIN_CAUSE_FAILED;
        d->ended = time_ns();
        domain_take_apart(d);
        return r;
    }
    d->started = time_ns();
    d->starts++;
    d->top = (struct top_sample){0};
    if (d->config.console)
        screen_add(&d->screen);
    domain_set_state(d, DOMAIN_RUNNING);
    return 0;
}
