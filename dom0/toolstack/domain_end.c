// SPDX-License-Identifier: Apache-2.0
//
// How a domain ends: the guest powers off or resets, the kernel ends it for a fault, the operator
// destroys it. The end is seen, said, and then on_crash and on_reboot decide. Taking apart goes:
// machine (its I/O is waited for), the kernel's domain (in steps), port, claims.

#include "toolstack/domain.h"

#include "lib/event.h"
#include "lib/hypercall.h"
#include "lib/log.h"
#include "toolstack/text.h"

#define QUICK_END_NS   (10 * NS_PER_S) // a domain that runs shorter waits longer for its next start
#define BACK_OFF_NS    NS_PER_S
#define BACK_OFF_SHIFT 6u // at most 64 s

// ---- taking apart ----

static void start_again(void *context) {
    struct domain *d = context;
    char error[DOMAIN_ERROR_SIZE];
    if (domain_start(d, error) < 0)
        log_error(d->config.name, "does not start again: %s", error);
}

// The first restart comes at once; quick ends in a row double the wait.
static void wait_for_restart(struct domain *d) {
    char text[TEXT_SIZE_MAX];
    d->quick_ends = d->ended - d->started < QUICK_END_NS ? d->quick_ends + 1 : 0;
    u64 wait = d->quick_ends == 0 ? 0 : BACK_OFF_NS << MIN(d->quick_ends - 1, BACK_OFF_SHIFT);
    if (wait)
        log_info(d->config.name,
                 "ended after less than %u s, %u time(s) in a row: starts again in %s",
                 (unsigned)(QUICK_END_NS / NS_PER_S), d->quick_ends, text_of_duration(text, wait));
    d->timer.handler = start_again;
    d->timer.context = d;
    timer_set(&d->timer, time_ns() + wait);
    domain_set_state(d, DOMAIN_WAITING);
}

static void taken_apart(struct domain *d) {
    event_port_free(d->port);
    d->port = -1;
    for (u32 i = 0; i < CONFIG_DISKS_MAX; i++)
        block_unclaim(&d->claims[i]);
    work_cancel(&d->end_work);
    if (d->restart) {
        wait_for_restart(d);
        return;
    }
    screen_remove(&d->screen);
    domain_set_state(d, DOMAIN_STOPPED);
}

static void destroy_step(void *context) {
    struct domain *d = context;
    event_finish_call(); // it may name the handle, which goes
    i64 r = d->handle ? hc_domain_destroy_step(d->handle) : 0;
    if (r == -BASALT_EINTR) {
        work_queue(&d->destroy_work);
        return;
    }
    if (r < 0)
        log_error(d->config.name, "the kernel does not give it back: %s", error_text(r));
    d->handle = 0;
    taken_apart(d);
}

static void machine_gone(void *context) {
    struct domain *d = context;
    d->machine = NULL;
    destroy_step(d);
}

void domain_take_apart(struct domain *d) {
    timer_cancel(&d->timer);
    d->destroy_work = (struct work){.handler = destroy_step, .context = d};
    domain_set_state(d, DOMAIN_ENDING);
    if (d->machine)
        machine_destroy(d->machine, machine_gone, d);
    else
        destroy_step(d);
}

// ---- seeing the end ----

static bool lives(const struct domain *d) {
    return d->state == DOMAIN_RUNNING || d->state == DOMAIN_PAUSED;
}

static void end(struct domain *d, enum domain_cause cause) {
    if (!lives(d) || d->cause != DOMAIN_CAUSE_NONE)
        return;
    d->cause = cause;
    d->ended = time_ns();
    work_queue(&d->end_work);
}

// The guest is stopped at once, so that it does nothing after its last word.
static void end_by_guest(struct domain *d, enum domain_cause cause) {
    if (!lives(d) || d->cause != DOMAIN_CAUSE_NONE)
        return;
    end(d, cause);
    i64 r = hc_domain_control(d->handle, BASALT_OP_END);
    if (r < 0)
        log_error(d->config.name, "the kernel does not end it: %s", error_text(r));
}

void domain_power_off(void *d) { end_by_guest(d, DOMAIN_CAUSE_POWER_OFF); }

void domain_reset(void *d) { end_by_guest(d, DOMAIN_CAUSE_REBOOT); }

void domain_rung(void *context) {
    struct domain *d = context;
    struct basalt_domain_info info = {0};
    if (!lives(d) || hc_domain_info(d->handle, &info) < 0 || info.status != BASALT_STATUS_ENDED)
        return;
    end(d, DOMAIN_CAUSE_CRASH);
}

void domain_end_work(void *context) {
    struct domain *d = context;
    if (!lives(d))
        return;
    timer_cancel(&d->timer);
    d->shutdown_asked = false;
    hc_domain_info(d->handle, &d->end);
    domain_report_end(d);
    enum config_action action = d->cause == DOMAIN_CAUSE_REBOOT  ? d->config.on_reboot
                                : d->cause == DOMAIN_CAUSE_CRASH ? d->config.on_crash
                                                                 : CONFIG_DESTROY;
    if (action == CONFIG_PRESERVE) {
        log_info(d->config.name, "kept as it is; \"destroy %s\" gives its memory back",
                 d->config.name);
        domain_set_state(d, DOMAIN_PRESERVED);
        return;
    }
    d->restart = action == CONFIG_RESTART;
    domain_take_apart(d);
}
