// SPDX-License-Identifier: Apache-2.0
//
// The consoles' rings, and who is shown.

#include "toolstack/screen.h"

#include "lib/console.h"
#include "lib/timer.h"

#include <stdio.h>
#include <string.h>

#define DIGIT_WAIT_NS (700 * NS_PER_MS) // after the key, so long does a digit choose
#define CONTEXT_BYTES 200u // at most, of the line that is shown again as its end was not seen
#define LINE_BYTES    160u
#define QUESTION_MAX  16u

// What a guest prints is its own affair while it is shown; it must not spoil what is shown after
// it. This ends a sequence that it left open (CAN, ST), and takes back character set, modes,
// colours, reports of the mouse and the alternate screen.
#define TERMINAL_RESET "\x18\x1b\\\x0f\x1b[!p\x1b[0m\x1b[?1000;1002;1003;1004;1006;2004l\x1b[?47l"

static struct screen *screens; // in order of their numbers
static struct screen *shown;
static u64 digit_until;

static u64 oldest(const struct screen *s) { return s->head > s->size ? s->head - s->size : 0; }

void screen_write(struct screen *s, const char *bytes, size_t length) {
    for (size_t i = 0; i < length; i++)
        s->ring[s->head++ % s->size] = bytes[i];
    if (s == shown) {
        console_write(bytes, length);
        s->seen = s->head;
    }
}

static void send(const struct screen *s, u64 from, u64 to) {
    while (from < to) {
        u64 at = from % s->size, piece = MIN(to - from, s->size - at);
        console_write(s->ring + at, piece);
        from += piece;
    }
}

// The bytes of a question to the terminal (CSI ... n: where is the cursor; CSI ... c: what are you) at `at`, 0 if
// there is none.
static u64 question_length(const struct screen *s, u64 at) {
    if (s->ring[at % s->size] != 0x1b || at + 1 >= s->head || s->ring[(at + 1) % s->size] != '[')
        return 0;
    for (u64 end = at + 2; end < s->head && end < at + QUESTION_MAX; end++) {
        char c = s->ring[end % s->size];
        if (c == 'n' || c == 'c')
            return end + 1 - at;
        if (c < '0' || c > '?') // no parameter
            return 0;
    }
    return 0;
}

// Sends [from, head) of the ring to the console, but for questions: nobody waits for their answers any more, which would
// be taken for typed.
static void replay(struct screen *s, u64 from) {
    for (u64 at = from; at < s->head;) {
        u64 question = question_length(s, at);
        if (question) {
            send(s, from, at);
            from = at + question;
        }
        at += MAX(question, 1u);
    }
    send(s, from, s->head);
    s->seen = s->head;
}

// Where the line begins in which `at` is, no more than CONTEXT_BYTES back.
static u64 line_begin(const struct screen *s, u64 at) {
    u64 least = MAX(oldest(s), at > CONTEXT_BYTES ? at - CONTEXT_BYTES : 0);
    while (at > least && s->ring[(at - 1) % s->size] != '\n')
        at--;
    return at;
}

static void announce(const struct screen *s, u64 lost) {
    char text[128];
    int n =
        snprintf(text, sizeof(text), "\r\n--- %s (Ctrl-] for the next console) ---\r\n", s->name);
    console_write(text, (size_t)n);
    if (lost == 0)
        return;
    n = snprintf(text, sizeof(text), "[%llu bytes of older output are gone]\r\n",
                 (unsigned long long)lost);
    console_write(text, (size_t)n);
}

void screen_show(struct screen *s) {
    if (s == shown)
        return;
    struct screen *before = shown;
    shown = s;
    if (before && before->shown)
        before->shown(before->context, false);
    if (before && before->number) {
        console_drop(); // or dom0 would wait behind what a flooding guest has queued
        console_write(TERMINAL_RESET, sizeof(TERMINAL_RESET) - 1);
    }
    u64 first = oldest(s);
    announce(s, s->seen < first ? first - s->seen : 0);
    replay(s, line_begin(s, MAX(s->seen, first)));
    if (s->shown)
        s->shown(s->context, true);
}

struct screen *screen_shown(void) {
    return shown;
}

void screen_add(struct screen *s) {
    if (s->added)
        return;
    struct screen **link = &screens;
    while (*link && (*link)->number <= s->number)
        link = &(*link)->next;
    s->next = *link;
    *link = s;
    s->added = true;
    s->typed_count = 0;
    if (!shown)
        shown = s;
}

void screen_remove(struct screen *s) {
    if (!s->added)
        return;
    struct screen **link = &screens;
    while (*link != s)
        link = &(*link)->next;
    *link = s->next;
    s->added = false;
    if (shown == s && screens)
        screen_show(screens);
}

// ---- input ----

void screen_room(struct screen *s) {
    u32 count = s->typed_count;
    s->typed_count = 0;
    u32 taken = (u32)s->input(s->context, s->typed, count);
    s->typed_count = count - taken;
    memmove(s->typed, s->typed + taken, s->typed_count);
}

// Queues one byte for the shown screen; a full queue drops it, as a serial line does.
static void type(char c) {
    if (shown->typed_count < SCREEN_TYPED_MAX)
        shown->typed[shown->typed_count++] = c;
}

static bool choose_digit(char c) {
    struct screen *s = screens;
    while (s && s->number != (unsigned)(c - '0'))
        s = s->next;
    if (s)
        screen_show(s);
    return s != NULL;
}

void screen_typed(void *context, const u8 *data, size_t bytes) {
    (void)context;
    for (size_t i = 0; shown && i < bytes; i++) {
        char c = (char)data[i];
        bool digit = c >= '0' && c <= '9' && time_ns() < digit_until;
        digit_until = 0;
        if (digit && choose_digit(c))
            continue;
        if (c != SCREEN_KEY) {
            type(c);
            continue;
        }
        screen_room(shown);
        screen_show(shown->next ? shown->next : screens);
        digit_until = time_ns() + DIGIT_WAIT_NS;
    }
    if (shown && shown->typed_count)
        screen_room(shown);
}

// ---- the end of a ring, as lines ----

void screen_begin(struct screen *s) { s->begun = s->head; }

static void make_line(const struct screen *s, u64 from, u64 to, char *text) {
    u32 used = 0;
    for (u64 at = from; at < to && used + 1 < LINE_BYTES; at++) {
        char c = s->ring[at % s->size];
        if (c == 0x1b) { // a terminal sequence: up to its letter
            while (at < to &&
                   !(((c = s->ring[at % s->size]) >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')))
                at++;
            continue;
        }
        if (c >= 0x20 && c < 0x7f)
            text[used++] = c;
    }
    text[used] = 0;
}

void screen_tail(const struct screen *s, unsigned lines,
                 void (*line)(void *context, const char *text), void *context) {
    u64 end = s->head, first = MAX(oldest(s), s->begun);
    if (end > first && s->ring[(end - 1) % s->size] == '\n')
        end--;
    u64 at = end;
    for (unsigned left = lines; at > first; at--)
        if (s->ring[(at - 1) % s->size] == '\n' && --left == 0)
            break;
    while (at < end) {
        u64 stop = at;
        while (stop < end && s->ring[stop % s->size] != '\n')
            stop++;
        char text[LINE_BYTES];
        make_line(s, at, stop, text);
        line(context, text);
        at = stop + 1;
    }
}
