// SPDX-License-Identifier: Apache-2.0
//
// The consoles on one serial line and the shell on dom0's: switching by key, digit and command, what
// is kept and shown again, typed bytes, scripts, commands that take time, messages while a line is
// typed.
//
// sources: tests/unit/dom0_host.c dom0/toolstack/screen.c dom0/toolstack/shell.c
// sources: dom0/toolstack/shell_parse.c dom0/toolstack/lineedit.c dom0/toolstack/text.c
// sources: dom0/toolstack/config.c dom0/toolstack/config_value.c dom0/lib/event.c dom0/lib/timer.c
// sources: dom0/lib/console.c dom0/lib/log.c dom0/lib/kernel_log.c dom0/lib/boot.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dom0_host.h"

#include "lib/event.h"
#include "lib/log.h"
#include "lib/timer.h"
#include "toolstack/domain.h"
#include "toolstack/screen.h"
#include "toolstack/shell.h"

#include <stdio.h>
#include <string.h>

// ---- two guests ----

#define RING 256u

static struct guest {
    struct screen screen;
    char ring[RING];
    char typed[600];
    size_t room; // bytes that it takes
    struct domain domain;
} guests[2];

static size_t guest_input(void *context, const char *bytes, size_t length) {
    struct guest *g = context;
    size_t taken = MIN(length, g->room), used = strlen(g->typed);
    memcpy(g->typed + used, bytes, taken);
    g->typed[used + taken] = 0;
    g->room -= taken;
    return taken;
}

struct domain *domain_first(void) {
    return &guests[0].domain;
}

// ---- commands ----

static bool cancelled;
static char ran[512];

static enum shell_result note(const struct shell_call *call) {
    size_t used = strlen(ran);
    snprintf(ran + used, sizeof(ran) - used, "%s;", call->count ? call->words[0] : "-");
    shell_print("noted %s\n", call->count ? call->words[0] : "-");
    return SHELL_DONE;
}

static void cancel(void) { cancelled = true; }

static enum shell_result slow(const struct shell_call *call) {
    note(call);
    shell_set_cancel(cancel);
    return SHELL_PENDING;
}

static enum shell_result show(const struct shell_call *call) {
    screen_show(&guests[call->words[0][0] - '1'].screen);
    return SHELL_DONE;
}

const struct shell_command shell_commands[] = {
    {"note", "[word]", "", note, 0, 1, false, SHELL_DOMAIN_NAMES},
    {"slow", "[word]", "", slow, 0, 1, false, SHELL_NO_COMPLETION},
    {"show", "<n>", "", show, 1, 1, false, SHELL_NO_COMPLETION},
    {NULL, NULL, NULL, NULL, 0, 0, false, SHELL_NO_COMPLETION},
};

// ---- the serial line ----

static size_t read_to;

// What came on the line since the last call, without what draws a line anew.
static const char *new_output(void) {
    static char text[65536];
    size_t used = 0;
    for (const char *p = host_console + read_to; *p; p++) {
        if (*p == 0x1b) {
            p += p[1] == '\\' ? 1 : strcspn(p, "KDJHpml");
            continue;
        }
        if (*p != '\r' && *p != 0x18 && *p != 0x0f)
            text[used++] = *p;
    }
    text[used] = 0;
    read_to = strlen(host_console);
    return text;
}

static void settle(void) {
    for (unsigned i = 0; i < 40; i++)
        event_pass(false);
}

static void type(const char *keys) {
    screen_typed(NULL, (const u8 *)keys, strlen(keys));
    settle();
}

static void output(unsigned guest, const char *text) {
    screen_write(&guests[guest].screen, text, strlen(text));
}

static void expect_output(const char *part) {
    const char *text = new_output();
    if (!strstr(text, part))
        fail_msg("expected \"%s\" in \"%s\"", part, text);
}

static int setup(void **state) {
    static bool begun;
    (void)state;
    if (!begun) {
        host_reset();
        event_init();
        shell_init();
        log_set_sink(shell_sink);
        for (unsigned i = 0; i < 2; i++) {
            struct guest *g = &guests[i];
            static const char *const names[] = {"guest1", "guest2"};
            g->screen = (struct screen){.name = names[i],
                                        .number = i + 1,
                                        .ring = g->ring,
                                        .size = RING,
                                        .input = guest_input,
                                        .context = g};
            snprintf(g->domain.config.name, sizeof(g->domain.config.name), "%s", names[i]);
        }
        guests[0].domain.next = &guests[1].domain;
        settle();
        expect_output("basalt> ");
    }
    begun = true;
    for (unsigned i = 0; i < 2; i++) {
        screen_add(&guests[i].screen);
        guests[i].typed[0] = 0;
        guests[i].room = 500;
    }
    host_advance(10 * NS_PER_S);
    type("\x1d"
         "0");
    type("\x03");
    ran[0] = 0;
    cancelled = false;
    new_output();
    return 0;
}

static void test_commands(void **state) {
    (void)state;
    type("note a\r");
    assert_string_equal(ran, "a;");
    expect_output("note a\nnoted a\nbasalt> ");
    type("nothing\r");
    expect_output("error: there is no command \"nothing\"");
    type("note one\rnote two\r"); // in one piece
    assert_string_equal(ran, "a;one;two;");
    type("no\tgu\t\t1\r");
    assert_string_equal(ran, "a;one;two;guest1;");
}

static void test_pending(void **state) {
    (void)state;
    new_output();
    type("slow x\r");
    expect_output("noted x\n");
    type("note later\r"); // waits
    assert_string_equal(ran, "x;");
    shell_done();
    settle();
    assert_string_equal(ran, "x;later;");
    type("slow y\r");
    type("note gone\x03");
    assert_true(cancelled);
    type("note z\r");
    assert_string_equal(ran, "x;later;y;z;");
    shell_done(); // of nobody
    settle();
}

static unsigned scripts_ended;

static void script_ended(void) {
    assert_true(shell_in_script());
    scripts_ended++;
}

static void test_script(void **state) {
    (void)state;
    shell_run_script(" note 1; slow 2 ;; note 3;bad; note \"4 5\"", script_ended);
    settle();
    assert_string_equal(ran, "1;2;");
    assert_true(shell_in_script());
    type("note typed\r");
    shell_done();
    settle();
    assert_string_equal(ran, "1;2;3;4 5;typed;");
    assert_false(shell_in_script());
    expect_output("basalt> note 3\nnoted 3\n");
    assert_int_equal(scripts_ended, 1);
    shell_run_script("slow 1; note 2", script_ended);
    settle();
    type("\x03");
    settle();
    assert_string_equal(ran, "1;2;3;4 5;typed;1;");
    assert_false(shell_in_script());
    shell_run_script("; ;", script_ended);
    settle();
    type("note end\r");
    assert_non_null(strstr(ran, "end;"));
    assert_int_equal(scripts_ended, 3);
}

static void test_messages(void **state) {
    (void)state;
    type("note ha");
    new_output();
    log_info("guest1", "news");
    expect_output("guest1: news\nbasalt> note ha");
    type("lf\r");
    assert_string_equal(ran, "half;");
    type("slow\r");
    new_output();
    log_info("guest1", "more"); // no prompt while a command runs
    assert_string_equal(new_output(), "guest1: more\n");
    shell_done();
    settle();
}

static void test_switching(void **state) {
    (void)state;
    type("\x1d");
    assert_ptr_equal(screen_shown(), &guests[0].screen);
    expect_output("--- guest1 (Ctrl-] for the next console) ---\n");
    host_advance(NS_PER_S);
    type("\x1d");
    assert_ptr_equal(screen_shown(), &guests[1].screen);
    host_advance(NS_PER_S);
    new_output();
    type("\x1d");
    expect_output("--- dom0 (Ctrl-] for the next console) ---\nbasalt> ");
    type("\x1d\x1d"); // two in one piece
    assert_ptr_equal(screen_shown(), &guests[1].screen);
    host_advance(NS_PER_S);
    type("\x1d"
         "1");
    assert_ptr_equal(screen_shown(), &guests[0].screen);
    host_advance(NS_PER_S);
    type("12"); // digits are typed again
    assert_string_equal(guests[0].typed, "12");
    type("\x1d"
         "7"); // nobody has this number: the next one gets it
    assert_ptr_equal(screen_shown(), &guests[1].screen);
    assert_string_equal(guests[1].typed, "7");
    type("\x1d"
         "0");
    type("show 2\r");
    assert_ptr_equal(screen_shown(), &guests[1].screen);
}

static void test_kept_output(void **state) {
    (void)state;
    output(0, "line one\nline two\npart");
    assert_string_equal(new_output(), "");
    type("\x1d"
         "1");
    expect_output("---\nline one\nline two\npart");
    output(0, "ial\n");
    assert_string_equal(new_output(), "ial\n");
    type("\x1d"
         "0");
    type("\x1d"
         "1"); // nothing new: the last line again
    new_output();
    output(0, "prompt$ ");
    type("\x1d"
         "0");
    new_output();
    type("\x1d"
         "1");
    expect_output("---\nprompt$ ");
    type("\x1d"
         "0");
    output(0, "[1.0] news\n");
    new_output();
    type("\x1d"
         "1"); // goes on in a line: with its beginning
    expect_output("---\nprompt$ [1.0] news\n");
    type("\x1d"
         "0");
    for (unsigned i = 0; i < 100; i++)
        output(0, "0123456789");
    new_output();
    type("\x1d"
         "1");
    expect_output("[744 bytes of older output are gone]\n456789");
    // What dom0 says meanwhile is shown when it is chosen.
    log_info("dom0", "quiet news");
    assert_string_equal(new_output(), "");
    type("\x1d"
         "0");
    expect_output("dom0: quiet news\nbasalt> ");
}

static void test_typing(void **state) {
    (void)state;
    static char many[400];
    type("\x1d"
         "1");
    host_advance(NS_PER_S);
    type("hello\r\x03\x04");
    assert_string_equal(guests[0].typed, "hello\r\x03\x04"); // all keys but one reach the guest
    guests[0].typed[0] = 0;
    guests[0].room = 3;
    type("abcdef");
    assert_string_equal(guests[0].typed, "abc");
    guests[0].room = 100;
    screen_room(&guests[0].screen);
    assert_string_equal(guests[0].typed, "abcdef");
    guests[0].room = 0;
    memset(many, 'x', sizeof(many) - 1);
    type(many); // as many as are kept, no more
    guests[0].room = 500;
    guests[0].typed[0] = 0;
    screen_room(&guests[0].screen);
    assert_int_equal(strlen(guests[0].typed), SCREEN_TYPED_MAX);
    // What was typed before the key goes to the one before.
    guests[0].typed[0] = 0;
    type("one\x1dtwo");
    assert_string_equal(guests[0].typed, "one");
    assert_string_equal(guests[1].typed, "two");
}

static void test_removal(void **state) {
    (void)state;
    type("\x1d"
         "2");
    screen_remove(&guests[1].screen);
    assert_int_equal(screen_shown()->number, 0);
    screen_remove(&guests[1].screen);
    output(1, "last words\n"); // kept all the same
    type("\x1d"
         "1");
    host_advance(NS_PER_S);
    type("\x1d"); // back to dom0: there is one fewer
    assert_int_equal(screen_shown()->number, 0);
    new_output();
    screen_add(&guests[1].screen);
    type("\x1d"
         "2");
    expect_output("last words\n");
}

// A guest's open sequences and modes end with its being shown; what it has queued without end does
// not keep dom0 waiting.
// The answer to a question in kept output would come as if it were typed.
static void test_old_questions(void **state) {
    (void)state;
    output(0, "a\x1b[6n\x1b[1mb\x1b[?1;2cc\x1b[99999999999999999999n\x1b[");
    size_t before = strlen(host_console);
    type("\x1d"
         "1");
    assert_non_null(strstr(host_console + before, "a\x1b[1mbc\x1b[99999999999999999999n\x1b["));
    before = strlen(host_console);
    output(0, "6n\x1b[6n"); // what is asked while it is shown is the guest's affair
    assert_string_equal(host_console + before, "6n\x1b[6n");
    type("\x1d"
         "0");
}

static void test_terminal_given_back(void **state) {
    (void)state;
    type("\x1d"
         "1");
    output(0, "\x1b]0;swallows everything that follows");
    size_t before = strlen(host_console);
    type("\x1d"
         "0");
    const char *after = host_console + before;
    assert_int_equal(after[0], 0x18);
    assert_non_null(strstr(after, "\x1b\\"));
    assert_true(strstr(after, "\x1b[!p") < strstr(after, "--- dom0"));
    host_advance(NS_PER_S);
    before = strlen(host_console);
    type("\x1d"); // from dom0 there is nothing to take back
    assert_null(strstr(host_console + before, "\x1b[!p"));
    type("\x1d"
         "1");
    static char flood[20000];
    memset(flood, 'x', sizeof(flood) - 1);
    host_console_full = true;
    output(0, flood);
    type("\x1d"
         "0");
    new_output();
    host_console_full = false;
    type("note a\r");
    const char *text = new_output();
    assert_null(strstr(text, "xx"));
    assert_non_null(strstr(text, "[output skipped]\n"));
    assert_non_null(strstr(text, "--- dom0"));
}

static void test_no_control_characters(void **state) {
    (void)state;
    new_output();
    shell_print("a\x1b[2Jb\x9f\xc2\x9b"
                "c\xc3\x9b d\te\n");
    expect_output("a?[2Jb\x9f?c\xc3\x9b d\te\n");
    log_info("disk", "x\x1b]0;\xc2\x9by");
    expect_output("disk: x?]0;??y\n");
}

static char tail[512];

static void tail_line(void *context, const char *text) {
    (void)context;
    size_t used = strlen(tail);
    snprintf(tail + used, sizeof(tail) - used, "%s|", text);
}

static const char *tail_of(const char *text, unsigned lines) {
    static char ring[64];
    struct screen s = {.name = "x", .ring = ring, .size = sizeof(ring), .input = guest_input};
    memset(ring, 'Z', sizeof(ring));
    screen_write(&s, text, strlen(text));
    tail[0] = 0;
    screen_tail(&s, lines, tail_line, NULL);
    return tail;
}

static void test_tail(void **state) {
    (void)state;
    assert_string_equal(tail_of("", 3), "");
    assert_string_equal(tail_of("one", 3), "one|");
    assert_string_equal(tail_of("one\n", 3), "one|");
    assert_string_equal(tail_of("one\r\ntwo\r\nthree\r\n", 2), "two|three|");
    assert_string_equal(tail_of("\n\n\n", 2), "|");
    assert_string_equal(tail_of("\x1b[1;31mred\x1b[0m\x07 text\x1b[", 2), "red text|");
    assert_string_equal(tail_of("a\x9b"
                                "1m\xc2\x9b"
                                "2m",
                                2),
                        "a1m2m|"); // C1 controls
    // The ring keeps 64 bytes: the long line has lost its beginning.
    tail_of("0123456789012345678901234567890123456789012345678901234567890123456789\nend", 5);
    assert_int_equal(strlen(tail), 60 + 1 + 3 + 1);
    assert_non_null(strstr(tail, "56789|end|"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_commands, setup),
        cmocka_unit_test_setup(test_pending, setup),
        cmocka_unit_test_setup(test_script, setup),
        cmocka_unit_test_setup(test_messages, setup),
        cmocka_unit_test_setup(test_switching, setup),
        cmocka_unit_test_setup(test_kept_output, setup),
        cmocka_unit_test_setup(test_old_questions, setup),
        cmocka_unit_test_setup(test_typing, setup),
        cmocka_unit_test_setup(test_removal, setup),
        cmocka_unit_test_setup(test_terminal_given_back, setup),
        cmocka_unit_test_setup(test_no_control_characters, setup),
        cmocka_unit_test_setup(test_tail, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
