// SPDX-License-Identifier: Apache-2.0
//
// The line editor, fed with keys, against a terminal of one line that understands what the editor
// writes: the terminal must show the prompt and the text with the cursor in the right column after
// every key.
//
// sources: dom0/toolstack/lineedit.c

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "toolstack/lineedit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROMPT "basalt> "

// ---- the terminal ----

static char row[1024];
static size_t column;
static unsigned bells, lines;
static char listed[2048]; // all lines that were left behind

static void terminal_control(const char **bytes, const char *end) {
    unsigned n = 0;
    const char *p = *bytes + 2; // behind ESC [
    for (; p < end && *p >= '0' && *p <= '9'; p++)
        n = n * 10 + (unsigned)(*p - '0');
    if (*p == 'K')
        row[column] = 0;
    else if (*p == 'D')
        column -= n;
    else if (*p == 'J' || *p == 'H')
        column = 0, row[0] = 0;
    else
        fail_msg("the terminal does not know sequence %c", *p);
    *bytes = p;
}

static void terminal(void *context, const char *bytes, size_t length) {
    (void)context;
    for (const char *p = bytes, *end = bytes + length; p < end; p++) {
        if (*p == '\r')
            column = 0;
        else if (*p == '\a')
            bells++;
        else if (*p == '\n') {
            lines++;
            size_t used = strlen(listed);
            snprintf(listed + used, sizeof(listed) - used, "%s\n", row);
            row[0] = 0;
        } else if (*p == 0x1b)
            terminal_control(&p, end);
        else {
            if (!row[column])
                row[column + 1] = 0;
            row[column++] = *p;
        }
        assert_true(column < sizeof(row) - 1);
    }
}

// ---- the editor ----

static struct lineedit *e;
static enum lineedit_event last;

static void complete(void *context, struct lineedit *editor, size_t start) {
    static const char *const words[] = {"list",   "log",    "pause", "poweroff",
                                        "resume", "guest1", "guest2"};
    (void)context;
    (void)start;
    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        lineedit_offer(editor, words[i]);
}

static int setup(void **state) {
    (void)state;
    e = calloc(1, sizeof(*e));
    e->prompt = PROMPT;
    e->output = terminal;
    e->complete = complete;
    memset(row, 0, sizeof(row));
    column = bells = lines = 0;
    listed[0] = 0;
    lineedit_show(e);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    free(e);
    return 0;
}

static void check_screen(void) {
    char expected[LINEEDIT_SIZE + 32];
    assert_true(e->cursor <= e->length && e->length < LINEEDIT_SIZE);
    assert_int_equal(strlen(e->text), e->length);
    if (!e->visible)
        return;
    snprintf(expected, sizeof(expected), PROMPT "%s", e->text);
    assert_string_equal(row, expected);
    assert_int_equal(column, strlen(PROMPT) + e->cursor);
}

static void type(const char *keys) {
    for (; *keys; keys++) {
        last = lineedit_feed(e, *keys);
        if (!e->escape)
            check_screen();
    }
}

// Types a line with Enter; it must come out as `text`.
static void line(const char *keys, const char *text) {
    type(keys);
    type("\r");
    assert_int_equal(last, LINEEDIT_LINE);
    assert_string_equal(e->text, text);
    lineedit_show(e);
    check_screen();
}

#define UP     "\x1b[A"
#define DOWN   "\x1b[B"
#define RIGHT  "\x1b[C"
#define LEFT   "\x1b[D"
#define HOME   "\x1b[H"
#define END    "\x1bOF"
#define DELETE "\x1b[3~"

static void test_typing(void **state) {
    (void)state;
    line("list", "list");
    line("", "");
    line("lisz\x7ft", "list");
    line("lisz\bt", "list");
    line("\x7f\x7f", "");
    line("\x01\x02\x05\x06\x0b\x15\x17\x0e\x1f", ""); // on an empty line they do nothing
}

static void test_moving(void **state) {
    (void)state;
    line("ist" HOME "l", "list");
    line("ist\x01l\x05 all", "list all");
    line("lst" LEFT LEFT "i", "list");
    line("lst" LEFT LEFT "i" RIGHT RIGHT RIGHT RIGHT "!", "list!");
    line("st" HOME LEFT "li" END ".", "list.");
    line("xlist\x1b[1~" DELETE "\x1b[4~!", "list!");
    line("xlist\x1b[7~" DELETE "\x1b[8~!", "list!");
    line("abc" HOME "\x04\x04\x04\x04", "");
    line("a" LEFT "\x1b[99~\x1b[200~b", "ba");
    line("a\x1b[1;5Cb", "ab"); // Ctrl-right is a right
}

static void test_cutting(void **state) {
    (void)state;
    line("one two three\x17", "one two ");
    line("one two  \x17", "one ");
    line("one two\x17\x17\x17", "");
    line("one two\x15three", "three");
    line("one two\x02\x02\x02\x15", "two");
    line("one two\x02\x02\x02\x0b", "one ");
    line("one two\x02\x02\x02\x17", "two");
}

static void test_history(void **state) {
    (void)state;
    line("first", "first");
    line("second", "second");
    line("second", "second"); // kept once
    line("", "");             // not kept
    line(UP, "second");
    line(UP UP, "first");
    line(UP UP DOWN, "first"); // which is the newest now
    type("half" UP UP);
    assert_string_equal(e->text, "second");
    type(DOWN);
    assert_string_equal(e->text, "first");
    type(DOWN);
    assert_string_equal(e->text, "half"); // what was typed comes back
    type("\x10\x10\x0e\x0e");
    assert_string_equal(e->text, "half");
    unsigned before = bells;
    for (unsigned i = 0; i < 50; i++)
        type(UP);
    assert_true(bells > before);
    line(" more", "first more"); // the oldest, changed
}

static void test_history_is_bounded(void **state) {
    (void)state;
    char text[16];
    for (unsigned i = 0; i < 3 * LINEEDIT_HISTORY; i++) {
        snprintf(text, sizeof(text), "line %u", i);
        line(text, text);
    }
    for (unsigned i = 0; i < LINEEDIT_HISTORY; i++)
        type(UP);
    snprintf(text, sizeof(text), "line %u", 2 * LINEEDIT_HISTORY);
    assert_string_equal(e->text, text);
    type(UP);
    assert_string_equal(e->text, text);
}

static void test_completion(void **state) {
    (void)state;
    line("li\t", "list ");
    line("pause g\t1", "pause guest1"); // as far as it is common
    line("pau\tguest2", "pause guest2");
    unsigned before = bells;
    line("zzz\t", "zzz");
    assert_int_equal(bells, before + 1);
    type("p\t");
    assert_string_equal(e->text, "p");
    type("\t"); // the second time lists them
    assert_non_null(strstr(listed, "  pause  poweroff"));
    assert_string_equal(e->text, "p");
    line("ow\t", "poweroff ");
    line("li x" LEFT LEFT "\t", "list  x"); // in the middle
    e->complete = NULL;
    line("li\t", "li");
}

static void test_cancel(void **state) {
    (void)state;
    type("some text\x03");
    assert_int_equal(last, LINEEDIT_CANCEL);
    lineedit_show(e);
    check_screen();
    assert_string_equal(e->text, "");
    line("list", "list");
}

static void test_enter_in_all_ways(void **state) {
    (void)state;
    type("a\r");
    assert_int_equal(last, LINEEDIT_LINE);
    type("\n"); // of the same Enter
    assert_int_equal(last, LINEEDIT_NOTHING);
    type("b\n");
    assert_int_equal(last, LINEEDIT_LINE);
    assert_string_equal(e->text, "b");
    type("\n");
    assert_int_equal(last, LINEEDIT_LINE);
    type("\r");
    assert_int_equal(last, LINEEDIT_LINE);
    type("\r");
    assert_int_equal(last, LINEEDIT_LINE);
}

static void test_hide(void **state) {
    (void)state;
    type("text" LEFT LEFT);
    lineedit_hide(e);
    assert_string_equal(row, "");
    lineedit_hide(e);
    terminal(NULL, "news\r\n", 6);
    lineedit_show(e);
    check_screen();
    line("", "text");
}

static void test_too_long(void **state) {
    (void)state;
    for (unsigned i = 0; i < 2 * LINEEDIT_SIZE; i++)
        type("x");
    assert_int_equal(e->length, LINEEDIT_SIZE - 1);
    assert_true(bells > 0);
    type(LEFT "y" DELETE "y\t\t");
    assert_int_equal(e->length, LINEEDIT_SIZE - 1);
    type("\r");
    assert_int_equal(last, LINEEDIT_LINE);
}

static void test_any_bytes(void **state) {
    (void)state;
    u32 seed = 1;
    for (unsigned i = 0; i < 100000; i++) {
        seed = seed * 1664525 + 1013904223;
        char c = (char)(seed >> 24);
        if (c == '\n' || c == '\r')
            listed[0] = 0;
        if (lineedit_feed(e, c) != LINEEDIT_NOTHING)
            lineedit_show(e);
        listed[0] = 0;
        assert_true(e->cursor <= e->length && e->length < LINEEDIT_SIZE &&
                    strlen(e->text) == e->length);
    }
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_typing),
        TEST(test_moving),
        TEST(test_cutting),
        TEST(test_history),
        TEST(test_history_is_bounded),
        TEST(test_completion),
        TEST(test_cancel),
        TEST(test_enter_in_all_ways),
        TEST(test_hide),
        TEST(test_too_long),
        TEST(test_any_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
