// SPDX-License-Identifier: Apache-2.0
//
// The toolstack's start: consoles, shell, domain files, autostart; and what dom0's command line
// says about them.

#include "lib/boot.h"
#include "lib/console.h"
#include "lib/dom0.h"
#include "lib/log.h"
#include "toolstack/bench.h"
#include "toolstack/domain.h"
#include "toolstack/power.h"
#include "toolstack/shell.h"
#include "toolstack/source.h"
#include "toolstack/text.h"

#include <stdio.h>
#include <string.h>

#define OPTION_SIZE 1024u

static bool exit_when_idle, any_tried, script_waits;
static char script[OPTION_SIZE];
static struct work idle_work, start_work;
static struct domain *next_to_start;         // of those that start by themselves; NULL: all were
static char first_console[CONFIG_NAME_SIZE]; // to be shown as soon as it is there

static bool all_over(void) {
    for (struct domain *d = domain_first(); d; d = d->next)
        if (!domain_over(d))
            return false;
    return true;
}

// Runs once the loop has nothing more urgent: a script may start another domain.
static void idle_check(void *context) {
    (void)context;
    if (!exit_when_idle || !any_tried || !all_over() || next_to_start || script_waits ||
        power_going_down() || shell_in_script())
        return;
    exit_when_idle = false;
    log_info("toolstack", "all guests have ended (exit-when-idle)");
    power_down(false);
}

static void domain_changed(struct domain *d) {
    any_tried |= d->state != DOMAIN_STOPPED;
    shell_domain_changed(d);
    power_domain_changed();
    bench_domain_changed(d);
    work_queue(&idle_work);
    work_queue(&start_work);
    if (d->state == DOMAIN_RUNNING && strcmp(d->config.name, first_console) == 0) {
        first_console[0] = 0;
        screen_show(&d->screen);
    }
}

static void banner(void) {
    log_text("\n", 1);
    log_info("toolstack",
             "Ctrl-] switches between dom0 and the guests' consoles; \"help\" lists the commands");
}

static void script_ended(void) { work_queue(&idle_work); }

// The script finds the domains started that start by themselves.
static void begin_script(void) {
    if (script_waits)
        shell_run_script(script, script_ended);
    script_waits = false;
}

// One domain per pass of the event loop, and none while another is being taken apart: a domain that
// could not be started must not hold the memory that the next one needs.
static void start_next(void *context) {
    char error[DOMAIN_ERROR_SIZE];
    (void)context;
    if (power_going_down())
        return;
    if (!next_to_start) {
        begin_script();
        return;
    }
    for (struct domain *d = domain_first(); d; d = d->next)
        if (d->state == DOMAIN_ENDING)
            return; // domain_changed() queues this work again
    struct domain *d = next_to_start;
    next_to_start = d->next;
    work_queue(&start_work);
    if (!d->config.autostart || d->state != DOMAIN_STOPPED)
        return;
    if (domain_start(d, error) < 0)
        log_error(d->config.name, "is not started: %s", error);
    else
        log_info(d->config.name, "runs");
}

static bool autostart_wanted(void) {
    char value[16];
    if (!text_option(boot_info->cmdline, "autostart", value, sizeof(value)) ||
        strcmp(value, "yes") == 0)
        return true;
    if (strcmp(value, "no") == 0)
        return false;
    log_warning("toolstack", "autostart=%s ignored: yes or no", value);
    return true;
}

int toolstack_main(void) {
    char value[16];
    idle_work.handler = idle_check;
    start_work.handler = start_next;
    script_waits = text_option(boot_info->cmdline, "script", script, sizeof(script));
    exit_when_idle = text_option(boot_info->cmdline, "exit-when-idle", value, sizeof(value));
    text_option(boot_info->cmdline, "console", first_console, sizeof(first_console));
    shell_init();
    log_set_sink(shell_sink);
    console_set_input(screen_typed, NULL);
    domain_set_listener(domain_changed);
    banner();
    source_load_all();
    if (!domain_first())
        log_warning("toolstack",
                    "no domain is described: add a boot module named *.conf (docs/domain-file.md)");
    if (autostart_wanted())
        next_to_start = domain_first();
    work_queue(&start_work);
    bench_begin();
    return 0;
}
