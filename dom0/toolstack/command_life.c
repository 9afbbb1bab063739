// SPDX-License-Identifier: Apache-2.0
//
// Commands with which domains begin and end, and those that wait for that.

#include "toolstack/commands.h"

#include "lib/timer.h"
#include "toolstack/domain.h"
#include "toolstack/source.h"
#include "toolstack/text.h"

#include <stdio.h>
#include <string.h>

#define WAIT_SECONDS_MAX 86400u

struct domain *command_domain(const struct shell_call *call) {
    struct domain *d = domain_find(call->words[0]);
    if (!d)
        shell_error("there is no domain \"%s\"; \"list\" shows them", call->words[0]);
    return d;
}

static enum shell_result result(int r, const char *error) {
    return r < 0 ? shell_error("%s", error) : SHELL_DONE;
}

static void report(void *context, const char *sentence) {
    (void)context;
    shell_error("%s", sentence);
}

enum shell_result command_create(const struct shell_call *call) {
    char error[DOMAIN_ERROR_SIZE];
    struct domain *d = domain_find(call->words[0]);
    if (!d)
        d = source_load(call->words[0], report, error);
    if (!d)
        return shell_error("%s", error);
    if (domain_start(d, error) < 0)
        return shell_error("%s: %s", d->config.name, error);
    shell_print("%s runs; \"console %s\" shows it\n", d->config.name, d->config.name);
    return SHELL_DONE;
}

// ---- waiting ----

static struct domain *awaited; // NULL: none, or all
static bool awaiting_all;
static struct timer wait_timer;

static void stop_waiting(void) {
    timer_cancel(&wait_timer);
    awaited = NULL;
    awaiting_all = false;
}

static bool all_over(void) {
    for (struct domain *d = domain_first(); d; d = d->next)
        if (!domain_over(d))
            return false;
    return true;
}

void shell_domain_changed(struct domain *d) {
    if (awaiting_all ? !all_over() : d != awaited || !domain_over(d))
        return;
    if (!awaiting_all)
        shell_print("%s is %s: %s\n", d->config.name, domain_state_name(d), domain_cause_name(d));
    stop_waiting();
    shell_done();
}

static void wait_is_over(void *context) {
    (void)context;
    if (awaited)
        shell_error("%s is %s still", awaited->config.name, domain_state_name(awaited));
    else if (awaiting_all)
        shell_error("some domains run still");
    stop_waiting();
    shell_done();
}

// `seconds` 0: for ever.
static enum shell_result begin_wait(u64 seconds) {
    wait_timer.handler = wait_is_over;
    shell_set_cancel(stop_waiting);
    if (seconds)
        timer_set(&wait_timer, time_ns() + seconds * NS_PER_S);
    return SHELL_PENDING;
}

enum shell_result command_wait(const struct shell_call *call) {
    bool all = strcmp(call->words[0], "all") == 0;
    struct domain *d = all ? NULL : command_domain(call);
    u64 seconds = 0;
    if (!d && !all)
        return SHELL_FAILED;
    if (call->count > 1 && !text_number(call->words[1], WAIT_SECONDS_MAX, &seconds))
        return shell_error("expected seconds (1 to %u), found \"%s\"", WAIT_SECONDS_MAX,
                           call->words[1]);
    if (all ? all_over() : domain_over(d))
        return SHELL_DONE;
    awaited = d;
    awaiting_all = all;
    return begin_wait(seconds);
}

enum shell_result command_sleep(const struct shell_call *call) {
    u64 seconds;
    if (!text_number(call->words[0], WAIT_SECONDS_MAX, &seconds) || seconds == 0)
        return shell_error("expected seconds (1 to %u), found \"%s\"", WAIT_SECONDS_MAX,
                           call->words[0]);
    stop_waiting();
    return begin_wait(seconds);
}

// ---- ending ----

enum shell_result command_shutdown(const struct shell_call *call) {
    char error[DOMAIN_ERROR_SIZE];
    enum shell_result worst = SHELL_DONE;
    if (strcmp(call->words[0], "all") == 0) {
        for (struct domain *d = domain_first(); d; d = d->next)
            if (d->state == DOMAIN_RUNNING && domain_shutdown(d, error) < 0)
                worst = shell_error("%s", error);
        return worst;
    }
    struct domain *d = command_domain(call);
    return d ? result(domain_shutdown(d, error), error) : SHELL_FAILED;
}

// Returns when everything is given back.
enum shell_result command_destroy(const struct shell_call *call) {
    char error[DOMAIN_ERROR_SIZE];
    bool all = strcmp(call->words[0], "all") == 0;
    struct domain *only = all ? NULL : command_domain(call);
    if (!all && !only)
        return SHELL_FAILED;
    if (only && domain_destroy(only, error) < 0)
        return shell_error("%s", error);
    for (struct domain *d = all ? domain_first() : NULL; d; d = d->next)
        if (d->state != DOMAIN_STOPPED && d->state != DOMAIN_ENDING && domain_destroy(d, error) < 0)
            shell_error("%s", error);
    if (all ? all_over() : domain_over(only))
        return SHELL_DONE;
    awaited = only;
    awaiting_all = all;
    return begin_wait(0);
}

enum shell_result command_pause(const struct shell_call *call) {
    char error[DOMAIN_ERROR_SIZE];
    struct domain *d = command_domain(call);
    return d ? result(domain_pause(d, error), error) : SHELL_FAILED;
}

enum shell_result command_resume(const struct shell_call *call) {
    char error[DOMAIN_ERROR_SIZE];
    struct domain *d = command_domain(call);
    return d ? result(domain_resume(d, error), error) : SHELL_FAILED;
}

enum shell_result command_console(const struct shell_call *call) {
    struct domain *d = command_domain(call);
    if (!d)
        return SHELL_FAILED;
    if (!d->screen.added)
        return shell_error("%s has no console: %s", d->config.name,
                           domain_alive(d) ? "its domain file says console = off"
                                           : "it does not run");
    screen_show(&d->screen);
    return SHELL_DONE;
}
