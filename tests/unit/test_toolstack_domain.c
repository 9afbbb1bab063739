// SPDX-License-Identifier: Apache-2.0
//
// The life of domains over a kernel, a machine and disks that the test plays: each call that
// creation makes is let fail once, and afterwards nothing may be held; ends of every kind, restarts
// and their back-off, two guests for one partition, too little memory.
//
// sources: dom0/toolstack/domain.c dom0/toolstack/domain_start.c dom0/toolstack/domain_end.c
// sources: dom0/toolstack/domain_load.c dom0/toolstack/domain_report.c dom0/toolstack/check_vmx.c dom0/toolstack/check_svm.c dom0/toolstack/screen.c dom0/toolstack/text.c dom0/toolstack/loader.c
// sources: dom0/toolstack/loader_linux.c dom0/toolstack/loader_elf.c dom0/toolstack/loader_pvh.c
// sources: dom0/toolstack/loader_multiboot.c dom0/toolstack/loader_multiboot2.c dom0/toolstack/config.c
// sources: dom0/toolstack/config_value.c dom0/lib/event.c dom0/lib/timer.c dom0/lib/log.c dom0/lib/kernel_log.c dom0/lib/boot.c
// sources: dom0/block/claim.c

#include "tests/unit/domain_scene.h"

// Every call of a creation fails once.
static void test_every_failure(void **state) {
    (void)state;
    struct domain *d = define("g", "root1");
    unsigned n = 0;
    for (bool more = true; more; n++) {
        char error[DOMAIN_ERROR_SIZE] = "";
        calls = 0;
        fail_at = n + 1;
        failed = false;
        late_destroy = n & 1;
        free_bytes = GIB;
        int r = domain_start(d, error);
        fail_at = 0;
        more = failed;
        assert_true(r == 0 || error[0]);
        assert_true(r < 0 || d->state == DOMAIN_RUNNING);
        if (r == 0)
            assert_int_equal(domain_destroy(d, error), 0);
        settle();
        assert_int_equal(d->state, DOMAIN_STOPPED);
        nothing_is_held();
        assert_false(d->screen.added);
    }
    assert_true(n >= 14);
}

// And every call of a life with an end by the guest, with a restart.
static void test_every_failure_at_the_end(void **state) {
    (void)state;
    struct domain *d = define("g", "root1");
    bool more = true;
    for (unsigned n = 0; more; n++) {
        char error[DOMAIN_ERROR_SIZE];
        d = define("g", "root1");
        free_bytes = GIB;
        start(d);
        calls = 0;
        fail_at = n + 1;
        failed = false;
        if (n & 1)
            crash(d, BASALT_END_TRIPLE_FAULT);
        else
            newest->config.on_reset(newest->config.context);
        settle();
        advance(2);
        fail_at = 0;
        more = failed || n < 4;
        settle();
        if (!domain_over(d) || d->state == DOMAIN_PRESERVED)
            assert_int_equal(domain_destroy(d, error), 0);
        settle();
        assert_int_equal(d->state, DOMAIN_STOPPED);
        nothing_is_held();
    }
}

static void test_power_off(void **state) {
    (void)state;
    struct domain *d = define("g", "root1");
    for (unsigned late = 0; late < 2; late++) {
        late_destroy = late;
        start(d);
        assert_int_equal(domains[d->handle].vcpus, 2);
        assert_true(d->screen.added);
        advance(65);
        newest->config.on_power_off(newest->config.context);
        assert_int_equal(domains[d->handle].status, BASALT_STATUS_ENDED); // at once
        settle();
        assert_int_equal(d->state, DOMAIN_STOPPED);
        assert_int_equal(d->cause, DOMAIN_CAUSE_POWER_OFF);
        nothing_is_held();
    }
    assert_non_null(strstr(said, "g: powered off after 1 min 5 s\n"));
}

static void test_crash_report(void **state) {
    (void)state;
    struct domain *d = define("g", NULL);
    start(d);
    static const char text[] = "first line\r\n\x1b[31mred\x1b[0m line\r\nlast words";
    newest->config.console_output(newest->config.context, text, sizeof(text) - 1);
    advance(3);
    crash(d, BASALT_END_EMULATION);
    assert_int_equal(d->state, DOMAIN_STOPPED);
    assert_int_equal(d->cause, DOMAIN_CAUSE_CRASH);
    static const char *const parts_said[] = {
        "warning: g: crashed after 3 s: an instruction that can't be emulated on vCPU 0",
        "address 0xfee1dead",
        "rip ffffffff81234567",
        "r15 0000000000001515",
        "instruction 0f b9\n",
        "g: | first line\n",
        "g: | red line\n",
        "g: | last words\n"};
    for (size_t i = 0; i < ARRAY_SIZE(parts_said); i++)
        if (!strstr(said, parts_said[i]))
            fail_msg("not said: %s\nbut: %s", parts_said[i], said);
    nothing_is_held();
    // What it printed in an earlier run is not said again.
    start(d);
    newest->config.console_output(newest->config.context, "again\n", 6);
    said[0] = 0;
    crash(d, BASALT_END_TRIPLE_FAULT);
    assert_non_null(strstr(said, "g: | again\n"));
    assert_null(strstr(said, "last words"));
    nothing_is_held();
}

static void test_preserve(void **state) {
    (void)state;
    char error[DOMAIN_ERROR_SIZE];
    struct domain *d = define("g", "root1");
    d->config.on_crash = CONFIG_PRESERVE;
    start(d);
    crash(d, BASALT_END_TRIPLE_FAULT);
    assert_int_equal(d->state, DOMAIN_PRESERVED);
    assert_int_equal(machines, 1);
    assert_true(domain_pause(d, error) < 0);
    assert_true(domain_start(d, error) < 0);
    end(d);
}

static void test_restart(void **state) {
    (void)state;
    struct domain *d = define("g", "root1");
    start(d);
    advance(20);
    newest->config.on_reset(newest->config.context);
    settle();
    advance(0);
    assert_int_equal(d->state, DOMAIN_RUNNING); // at once after a long run
    assert_non_null(strstr(said, "g: rebooted after 20 s\n"));
    u64 wait = 1;
    for (unsigned i = 0; i < 9; i++) { // then later and later
        newest->config.on_reset(newest->config.context);
        settle();
        assert_int_equal(d->state, DOMAIN_WAITING);
        nothing_is_held();
        if (wait > 1)
            advance(wait - 1);
        assert_int_equal(d->state, DOMAIN_WAITING);
        advance(1);
        assert_int_equal(d->state, DOMAIN_RUNNING);
        wait = wait < 64 ? 2 * wait : 64;
    }
    newest->config.on_reset(newest->config.context);
    settle();
    assert_int_equal(d->state, DOMAIN_WAITING);
    end(d); // while it waits
    assert_false(d->screen.added);
    advance(100);
    assert_int_equal(d->state, DOMAIN_STOPPED);
}

static void test_reboot_as_told(void **state) {
    (void)state;
    struct domain *d = define("g", NULL);
    d->config.on_reboot = CONFIG_DESTROY;
    start(d);
    newest->config.on_reset(newest->config.context);
    settle();
    assert_int_equal(d->state, DOMAIN_STOPPED);
    d->config.on_crash = CONFIG_RESTART;
    start(d);
    advance(11);
    crash(d, BASALT_END_MEMORY);
    advance(0);
    assert_int_equal(d->state, DOMAIN_RUNNING);
    end(d);
}

static void test_same_partition(void **state) {
    (void)state;
    char error[DOMAIN_ERROR_SIZE];
    struct domain *a = define("a", "root1"), *b = define("b", "root1");
    start(a);
    assert_int_equal(domain_start(b, error), -BASALT_EBUSY);
    assert_string_equal(error, "disk 1 (root1): vda1 is in use: \"a\" writes to it");
    settle();
    assert_int_equal(a->state, DOMAIN_RUNNING);
    end(a);
    start(b);
    end(b);
    // Read-only, both may.
    a->config.disks[0].read_only = b->config.disks[0].read_only = true;
    start(a);
    start(b);
    assert_int_equal(domain_destroy(b, error), 0);
    settle();
    end(a);
    b->config.disks[0].read_only = false;
    snprintf(b->config.disks[0].name, sizeof(b->config.disks[0].name), "nosuch");
    assert_int_equal(domain_start(b, error), -BASALT_ENOENT);
    assert_non_null(strstr(error, "disk 1: "));
    assert_non_null(strstr(error, "nosuch"));
    settle();
    nothing_is_held();
}

static void test_memory(void **state) {
    (void)state;
    char error[DOMAIN_ERROR_SIZE];
    struct domain *d = define("g", NULL);
    free_bytes = 64 * MIB;
    assert_int_equal(domain_start(d, error), -BASALT_ENOMEM);
    assert_non_null(strstr(error, "not enough memory: it takes 64 MiB, and up to "));
    assert_non_null(strstr(error, "; 64 MiB are free. Lower `memory`, or end another domain"));
    settle();
    nothing_is_held();
    free_bytes = 66 * MIB;
    start(d);
    end(d);
}

static void test_missing_files(void **state) {
    (void)state;
    char error[DOMAIN_ERROR_SIZE];
    struct domain *d = define("g", NULL);
    snprintf(d->config.kernel, sizeof(d->config.kernel), "bzImage");
    assert_int_equal(domain_start(d, error), -BASALT_ENOENT);
    assert_non_null(strstr(error, "kernel \"bzImage\": there is no boot module of this name"));
    settle();
    nothing_is_held();
    snprintf(d->config.kernel, sizeof(d->config.kernel), "vmlinuz");
    snprintf(d->config.initrd, sizeof(d->config.initrd), "initrd");
    assert_int_equal(domain_start(d, error), -BASALT_ENOENT);
    settle();
    d->config.initrd[0] = 0;
    d->config.module_count = 1;
    snprintf(d->config.modules[0].text, sizeof(d->config.modules[0].text), "mod with words");
    assert_int_equal(domain_start(d, error), -BASALT_ENOENT);
    assert_non_null(strstr(error, "module \"mod\": there is no boot module"));
    settle();
    nothing_is_held();
}

static void test_operations(void **state) {
    (void)state;
    char error[DOMAIN_ERROR_SIZE];
    struct domain *d = define("g", NULL);
    assert_true(domain_pause(d, error) < 0);
    assert_string_equal(error, "g is stopped: it can't be paused");
    assert_true(domain_shutdown(d, error) < 0);
    assert_true(domain_destroy(d, error) < 0);
    start(d);
    assert_true(domain_start(d, error) < 0);
    assert_string_equal(error, "g is running already");
    assert_true(domain_resume(d, error) < 0);
    assert_int_equal(domain_pause(d, error), 0);
    assert_true(domain_shutdown(d, error) < 0);
    assert_int_equal(domain_resume(d, error), 0);
    newest->button = false;
    assert_int_equal(domain_shutdown(d, error), -BASALT_EAGAIN);
    assert_non_null(strstr(error, "does not listen to its power button (yet)"));
    newest->button = true;
    assert_int_equal(domain_shutdown(d, error), 0);
    assert_string_equal(domain_state_name(d), "stopping");
    advance(61);
    assert_non_null(strstr(said, "g: has not shut down in 60 s; \"destroy g\" ends it"));
    assert_string_equal(domain_state_name(d), "running");
    assert_int_equal(domain_pause(d, error), 0);
    end(d);
}

static void test_definitions(void **state) {
    (void)state;
    char error[DOMAIN_ERROR_SIZE];
    struct domain *d = define("unique", NULL);
    struct domain_config c = d->config;
    assert_null(domain_define(&c, "other.conf", error));
    assert_string_equal(
        error,
        "other.conf: the name \"unique\" is taken by the domain that unique.conf describes: change one");
    assert_ptr_equal(domain_define(&c, "unique.conf", error), d);
    start(d);
    assert_null(domain_define(&c, "unique.conf", error));
    end(d);
}

// A guest's callbacks after its end was seen change nothing any more.
static void test_late_news(void **state) {
    (void)state;
    struct domain *d = define("g", NULL);
    start(d);
    newest->config.on_power_off(newest->config.context);
    newest->config.on_reset(newest->config.context);
    domain_rung(d);
    settle();
    assert_int_equal(d->cause, DOMAIN_CAUSE_POWER_OFF);
    assert_int_equal(d->state, DOMAIN_STOPPED);
    domain_rung(d);
    domain_reset(d);
    domain_end_work(d);
    settle();
    assert_int_equal(d->state, DOMAIN_STOPPED);
    nothing_is_held();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_every_failure, setup),
        cmocka_unit_test_setup(test_every_failure_at_the_end, setup),
        cmocka_unit_test_setup(test_power_off, setup),
        cmocka_unit_test_setup(test_crash_report, setup),
        cmocka_unit_test_setup(test_preserve, setup),
        cmocka_unit_test_setup(test_restart, setup),
        cmocka_unit_test_setup(test_reboot_as_told, setup),
        cmocka_unit_test_setup(test_same_partition, setup),
        cmocka_unit_test_setup(test_memory, setup),
        cmocka_unit_test_setup(test_missing_files, setup),
        cmocka_unit_test_setup(test_operations, setup),
        cmocka_unit_test_setup(test_definitions, setup),
        cmocka_unit_test_setup(test_late_news, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
