// SPDX-License-Identifier: Apache-2.0
//
// The list of domains and what an operator does to one.

#include "toolstack/domain.h"

#include "lib/hypercall.h"
#include "lib/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHUTDOWN_PATIENCE_NS (60 * NS_PER_S)

static struct domain *domains; // in order of their numbers
static void (*listener)(struct domain *d);

struct domain *domain_first(void) {
    return domains;
}

struct domain *domain_find(const char *name) {
    struct domain *d = domains;
    while (d && strcmp(d->config.name, name) != 0)
        d = d->next;
    return d;
}

struct domain *domain_by_number(unsigned number) {
    struct domain *d = domains;
    while (d && d->number != number)
        d = d->next;
    return d;
}

void domain_set_listener(void (*function)(struct domain *d)) { listener = function; }

void domain_set_state(struct domain *d, enum domain_state state) {
    d->state = state;
    if (listener)
        listener(d);
}

const char *domain_state_name(const struct domain *d) {
    static const char *const names[] = {"stopped", "running",   "paused",
                                        "ending",  "preserved", "waiting"};
    return d->state == DOMAIN_RUNNING && d->shutdown_asked ? "stopping" : names[d->state];
}

const char *domain_cause_name(const struct domain *d) {
    static const char *const names[] = {"",        "powered off", "rebooted",
                                        "crashed", "destroyed",   "not started"};
    return names[d->cause];
}

// ---- known domains ----

static size_t screen_input(void *context, const char *bytes, size_t length) {
    struct domain *d = context;
    return d->machine ? machine_console_input(d->machine, bytes, length) : length;
}

static struct domain *add(void) {
    struct domain **link = &domains, *d = calloc(1, sizeof(*d));
    if (!d)
        return NULL;
    d->number = 1;
    for (; *link; link = &(*link)->next)
        d->number = (*link)->number + 1;
    *link = d;
    d->port = -1;
    d->end_work = (struct work){.handler = domain_end_work, .context = d};
    d->screen = (struct screen){.name = d->config.name,
                                .number = d->number,
                                .ring = d->ring,
                                .size = sizeof(d->ring),
                                .input = screen_input,
                                .context = d};
    return d;
}

struct domain *domain_define(const struct domain_config *config, const char *source, char *error) {
    struct domain *d = domain_find(config->name);
    if (d && strcmp(d->source, source) != 0) {
        snprintf(error, DOMAIN_ERROR_SIZE,
                 "%s: the name \"%s\" is taken by the domain that %s describes: change one", source,
                 config->name, d->source);
        return NULL;
    }
    if (d && d->state != DOMAIN_STOPPED) {
        snprintf(error, DOMAIN_ERROR_SIZE, "%s is %s already", config->name, domain_state_name(d));
        return NULL;
    }
    if (!d && !(d = add())) {
        snprintf(error, DOMAIN_ERROR_SIZE,
                 "dom0 has no memory left for one more domain: raise dom0_mem");
        return NULL;
    }
    d->config = *config;
    snprintf(d->source, sizeof(d->source), "%s", source);
    return d;
}

// ---- operations ----

static int refuse(const struct domain *d, const char *what, char *error) {
    snprintf(error, DOMAIN_ERROR_SIZE, "%s is %s: it can't be %s", d->config.name,
             domain_state_name(d), what);
    return -BASALT_EINVAL;
}

static void shutdown_late(void *context) {
    struct domain *d = context;
    if (d->state != DOMAIN_RUNNING)
        return;
    d->shutdown_asked = false;
    log_warning(d->config.name, "has not shut down in %u s; \"destroy %s\" ends it",
                (unsigned)(SHUTDOWN_PATIENCE_NS / NS_PER_S), d->config.name);
    domain_set_state(d, d->state);
}

int domain_shutdown(struct domain *d, char *error) {
    if (d->state != DOMAIN_RUNNING)
        return refuse(d, "shut down", error);
    if (!machine_power_button(d->machine)) {
        snprintf(error, DOMAIN_ERROR_SIZE,
                 "%s does not listen to its power button (yet): shut it down from its console, "
                 "or end it with \"destroy %s\"",
                 d->config.name, d->config.name);
        return -BASALT_EAGAIN;
    }
    d->shutdown_asked = true;
    d->timer.handler = shutdown_late;
    d->timer.context = d;
    timer_set(&d->timer, time_ns() + SHUTDOWN_PATIENCE_NS);
    return 0;
}

int domain_destroy(struct domain *d, char *error) {
    if (d->state == DOMAIN_STOPPED || d->state == DOMAIN_ENDING)
        return refuse(d, "destroyed", error);
    timer_cancel(&d->timer);
    d->restart = false;
    if (d->state == DOMAIN_WAITING) {
        screen_remove(&d->screen);
        domain_set_state(d, DOMAIN_STOPPED);
        return 0;
    }
    if (d->state != DOMAIN_PRESERVED) {
        d->cause = DOMAIN_CAUSE_DESTROYED;
        d->ended = time_ns();
        i64 r = hc_domain_control(d->handle, BASALT_OP_END);
        if (r < 0)
            log_error(d->config.name, "the kernel does not end it: %s", error_text(r));
    }
    domain_take_apart(d);
    return 0;
}

static int control(struct domain *d, enum basalt_domain_op op, enum domain_state state,
                   char *error) {
    i64 r = hc_domain_control(d->handle, op);
    if (r < 0) {
        snprintf(error, DOMAIN_ERROR_SIZE, "%s: the kernel refuses: %s", d->config.name,
                 error_text(r));
        return (int)r;
    }
    domain_set_state(d, state);
    return 0;
}

int domain_pause(struct domain *d, char *error) {
    if (d->state != DOMAIN_RUNNING)
        return refuse(d, "paused", error);
    return control(d, BASALT_OP_PAUSE, DOMAIN_PAUSED, error);
}

int domain_resume(struct domain *d, char *error) {
    if (d->state != DOMAIN_PAUSED)
        return refuse(d, "resumed", error);
    return control(d, BASALT_OP_RESUME, DOMAIN_RUNNING, error);
}
