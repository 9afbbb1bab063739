// SPDX-License-Identifier: Apache-2.0
//
// The domains that the toolstack knows: what describes them, whether they run, how they ended. One
// path takes a domain apart, whether its creation failed half way, it ended by itself or the
// operator ended it; what that path gives back is exactly what creation took, in the reverse order.
// Invariants: `handle`, `port`, `machine` and `claims` are set exactly while the domain holds them;
// a domain is STOPPED only when it holds nothing. All of it runs in dom0's event loop.

#pragma once

#include "block/block.h"
#include "devices/machine.h"
#include "lib/timer.h"
#include "toolstack/config.h"
#include "toolstack/screen.h"

#define DOMAIN_CONSOLE_BYTES 16384u
#define DOMAIN_ERROR_SIZE    400u

enum domain_state {
    DOMAIN_STOPPED, // holds nothing
    DOMAIN_RUNNING,
    DOMAIN_PAUSED,
    DOMAIN_ENDING,    // is being taken apart
    DOMAIN_PRESERVED, // has ended; kept to be looked at
    DOMAIN_WAITING,   // holds nothing; starts again when its timer says so
};

enum domain_cause { // of a domain's end
    DOMAIN_CAUSE_NONE,
    DOMAIN_CAUSE_POWER_OFF,
    DOMAIN_CAUSE_REBOOT,
    DOMAIN_CAUSE_CRASH,     // the kernel ended it: info.end_reason says why
    DOMAIN_CAUSE_DESTROYED, // by the operator
    DOMAIN_CAUSE_FAILED,    // its creation
};

struct top_sample { // what the shell's `top` saw last
    u64 run_tsc, exits;
};

struct domain {
    struct domain *next;
    unsigned number; // from 1; dom0 is 0
    struct domain_config config;
    char source[64]; // the file that describes it
    enum domain_state state;
    enum domain_cause cause;       // of the last or the current end
    struct basalt_domain_info end; // what the kernel said at the last end
    u64 started, ended;            // time_ns(); 0: never
    u32 starts;
    // What it holds.
    u32 handle; // 0: none
    int port;   // -1: none
    struct guest_machine *machine;
    struct block_claim claims[CONFIG_DISKS_MAX];
    // Under way.
    bool paused; // by the operator
    bool shutdown_asked;
    bool restart;         // after it has been taken apart
    u32 quick_ends;       // restarts in a row that ran only shortly
    struct timer timer;   // of the shutdown's patience, or of the next start
    struct work end_work; // the end was seen
    struct work destroy_work;
    struct screen screen;
    char ring[DOMAIN_CONSOLE_BYTES];
    struct top_sample top;
};

/// First domain / next: domain->next. By name; NULL if there is none.
struct domain *domain_first(void);
struct domain *domain_find(const char *name);
struct domain *domain_by_number(unsigned number);

/// Makes a domain known, or replaces the description of one that is stopped. NULL with a sentence
/// in `error`.
struct domain *domain_define(const struct domain_config *config, const char *source, char *error);

/// Starts a domain that is stopped. 0, or a negative error with a sentence in `error`
/// (DOMAIN_ERROR_SIZE bytes); then everything is given back (perhaps a little later: the state
/// tells).
must_check int domain_start(struct domain *d, char *error);

/// Presses its power button. Says in `error` why that can't help.
must_check int domain_shutdown(struct domain *d, char *error);

/// Ends it at once, or gives back a preserved one. 0, or -EINVAL when there is nothing to end.
must_check int domain_destroy(struct domain *d, char *error);

must_check int domain_pause(struct domain *d, char *error);
must_check int domain_resume(struct domain *d, char *error);

/// Whether it holds anything.
static inline bool domain_alive(const struct domain *d) {
    return d->state != DOMAIN_STOPPED && d->state != DOMAIN_WAITING;
}

/// Whether nothing more will happen by itself: stopped for good, or preserved.
static inline bool domain_over(const struct domain *d) {
    return d->state == DOMAIN_STOPPED || d->state == DOMAIN_PRESERVED;
}

const char *domain_state_name(const struct domain *d);
const char *domain_cause_name(const struct domain *d); // of the last end; "" if it never ended
const char *domain_end_reason_name(enum basalt_end_reason reason);

/// Called after each change of a domain's state.
void domain_set_listener(void (*listener)(struct domain *d));

/// Memory that a domain of this description is charged for, at most.
u64 domain_quota(const struct domain_config *config);

// ---- between the files of this folder ----

/// A change of state.
void domain_set_state(struct domain *d, enum domain_state state);

/// Takes the domain apart, step by step; afterwards it is STOPPED (or starts again, if `restart`
/// says so).
void domain_take_apart(struct domain *d);

/// Handlers of the machine's and the kernel's news about a domain's end.
void domain_power_off(void *d);
void domain_reset(void *d);
void domain_rung(void *d);
void domain_end_work(void *d);

/// Says on the log how a domain ended.
void domain_report_end(struct domain *d);

/// Loads the kernel and creates the vCPUs; the machine is there, the domain is paused.
must_check int domain_load(struct domain *d, char *error);

/// Writes a sentence to `error` (DOMAIN_ERROR_SIZE bytes) and returns `code`.
__attribute__((format(printf, 3, 4))) int domain_fail(i64 code, char *error, const char *format,
                                                      ...);
