// SPDX-License-Identifier: Apache-2.0
//
// The shell's surroundings: dom0's screen, the line editor, the script, the command that is
// running.

#include "toolstack/shell.h"

#include "lib/log.h"
#include "toolstack/domain.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define RING_BYTES  16384u
#define SCRIPT_SIZE 1024u
#define CTRL_C      0x03

static char ring[RING_BYTES];
static char script[SCRIPT_SIZE], *script_next; // NULL: at its end
static bool in_script, pending;
static void (*script_end)(void);
static void (*cancel)(void);
static struct work next_work;

static size_t input(void *context, const char *bytes, size_t length);
static void was_shown(void *context, bool now_shown);
static void complete(void *context, struct lineedit *e, size_t start);

static struct screen screen = {
    .name = "dom0", .ring = ring, .size = RING_BYTES, .input = input, .shown = was_shown};

static void editor_output(void *context, const char *bytes, size_t length) {
    (void)context;
    screen_write(&screen, bytes, length);
}

static struct lineedit editor = {
    .prompt = "basalt> ", .output = editor_output, .complete = complete};

// ---- output ----

// Text may come from a disk or a domain file: no control character of it reaches the terminal,
// neither ASCII's nor U+0080 to U+009F.
static void write_printable(const char *text, size_t bytes) {
    size_t start = 0; // of what is not written yet
    for (size_t i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)text[i];
        bool upper = c == 0xc2 && i + 1 < bytes && (text[i + 1] & 0xe0) == 0x80;
        if (!upper && (c >= 0x20 || c == '\t') && c != 0x7f)
            continue;
        screen_write(&screen, text + start, i - start);
        screen_write(&screen, "?", 1);
        i += upper;
        start = i + 1;
    }
    if (start < bytes)
        screen_write(&screen, text + start, bytes - start);
}

static void write_lines(const char *text, size_t bytes) {
    for (size_t start = 0; start < bytes;) {
        const char *end = memchr(text + start, '\n', bytes - start);
        size_t length = end ? (size_t)(end - (text + start)) : bytes - start;
        write_printable(text + start, length);
        if (end)
            screen_write(&screen, "\r\n", 2);
        start += length + (end != NULL);
    }
}

void shell_sink(const char *text, size_t bytes) {
    bool editing = editor.visible;
    if (editing)
        lineedit_hide(&editor);
    write_lines(text, bytes);
    if (editing)
        lineedit_show(&editor);
}

void shell_print(const char *format, ...) {
    char text[600];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    write_lines(text, strlen(text));
}

void shell_print_line(const char *line) {
    write_lines(line, strlen(line));
    write_lines("\n", 1);
}

enum shell_result shell_error(const char *format, ...) {
    char text[600];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    shell_print("error: %s\n", text);
    return SHELL_FAILED;
}

// ---- running ----

void shell_set_cancel(void (*function)(void)) { cancel = function; }

bool shell_in_script(void) { return in_script; }

static void run(char *line) {
    char *words[SHELL_WORDS_MAX], error[160];
    struct shell_call call;
    const struct shell_command *command = shell_parse(line, words, &call, error, sizeof(error));
    if (!command) {
        if (error[0])
            shell_error("%s", error);
        return;
    }
    pending = true;
    cancel = NULL;
    if (command->run(&call) != SHELL_PENDING)
        pending = false;
}

// The script's next command, or the prompt.
static void next(void *context) {
    (void)context;
    if (pending)
        return;
    if (in_script && !script_next && script_end)
        script_end();
    in_script = script_next != NULL;
    if (!in_script) {
        lineedit_show(&editor);
        screen_room(&screen);
        return;
    }
    char *line = script_next;
    script_next = strchr(line, ';');
    if (script_next)
        *script_next++ = 0;
    line += strspn(line, " ");
    shell_print("%s%s\n", editor.prompt, line);
    run(line);
    work_queue(&next_work);
}

void shell_done(void) {
    if (!pending)
        return;
    pending = false;
    cancel = NULL;
    work_queue(&next_work);
}

static void give_up(void) {
    script_next = NULL;
    if (pending && cancel) {
        cancel();
        shell_print("^C\n");
        shell_done();
    }
}

// ---- input ----

static size_t input(void *context, const char *bytes, size_t length) {
    (void)context;
    for (size_t i = 0; i < length; i++) {
        if (pending || script_next) {
            const char *c = memchr(bytes + i, CTRL_C, length - i);
            if (!c)
                return i;
            give_up();
            i = (size_t)(c - bytes);
            continue;
        }
        switch (lineedit_feed(&editor, bytes[i])) {
        case LINEEDIT_LINE:
            run(editor.text);
            work_queue(&next_work);
            return i + 1;
        case LINEEDIT_CANCEL: lineedit_show(&editor); break;
        case LINEEDIT_NOTHING: break;
        }
    }
    return length;
}

static void was_shown(void *context, bool now_shown) {
    (void)context;
    if (now_shown && editor.visible)
        lineedit_show(&editor);
}

// Completes the first word as a command, others as the command's row says.
static void complete(void *context, struct lineedit *e, size_t start) {
    (void)context;
    size_t first = strspn(e->text, " ");
    size_t length = strcspn(e->text + first, " ");
    enum shell_completion what = start <= first ? SHELL_COMMAND_NAMES : SHELL_NO_COMPLETION;
    for (const struct shell_command *c = shell_commands; c->name && start > first; c++)
        if (strlen(c->name) == length && strncmp(c->name, e->text + first, length) == 0)
            what = c->completion;
    if (what == SHELL_COMMAND_NAMES)
        for (const struct shell_command *c = shell_commands; c->name; c++)
            lineedit_offer(e, c->name);
    if (what == SHELL_DOMAIN_NAMES)
        for (struct domain *d = domain_first(); d; d = d->next)
            lineedit_offer(e, d->config.name);
}

void shell_init(void) {
    next_work.handler = next;
    screen_add(&screen);
    work_queue(&next_work);
}

void shell_run_script(const char *commands, void (*ended)(void)) {
    script_end = ended;
    in_script = true;
    snprintf(script, sizeof(script), "%s", commands);
    script_next = script[strspn(script, " ;")] ? script : NULL;
    lineedit_hide(&editor);
    work_queue(&next_work);
}
