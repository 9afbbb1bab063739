// SPDX-License-Identifier: Apache-2.0
//
// The line editor. After each change the line is drawn anew from the prompt on, which a serial line
// can bear.

#include "toolstack/lineedit.h"

#include <stdio.h>
#include <string.h>

#define CTRL(letter) ((letter) - '@')

enum { ESCAPE_NONE, ESCAPE_BEGUN, ESCAPE_BRACKET, ESCAPE_O };

static void put(struct lineedit *e, const char *text) { e->output(e->context, text, strlen(text)); }

static void draw(struct lineedit *e) {
    char back[24];
    put(e, "\r");
    put(e, e->prompt);
    put(e, e->text);
    put(e, "\x1b[K");
    if (e->cursor == e->length)
        return;
    snprintf(back, sizeof(back), "\x1b[%zuD", e->length - e->cursor);
    put(e, back);
}

static void set_text(struct lineedit *e, const char *text) {
    e->length = strnlen(text, LINEEDIT_SIZE - 1);
    memmove(e->text, text, e->length);
    e->text[e->length] = 0;
    e->cursor = e->length;
}

// After a finished line, an empty one.
static void begin(struct lineedit *e) {
    if (!e->finished)
        return;
    set_text(e, "");
    e->finished = false;
    e->browsing = 0;
}

void lineedit_show(struct lineedit *e) {
    begin(e);
    e->visible = true;
    draw(e);
}

void lineedit_hide(struct lineedit *e) {
    if (e->visible)
        put(e, "\r\x1b[K");
    e->visible = false;
}

// ---- changes ----

static void insert(struct lineedit *e, const char *text, size_t bytes) {
    if (e->length + bytes >= LINEEDIT_SIZE) {
        put(e, "\a");
        return;
    }
    memmove(e->text + e->cursor + bytes, e->text + e->cursor, e->length - e->cursor + 1);
    memcpy(e->text + e->cursor, text, bytes);
    e->length += bytes;
    e->cursor += bytes;
}

// Takes out [from, to) and puts the cursor there.
static void cut(struct lineedit *e, size_t from, size_t to) {
    memmove(e->text + from, e->text + to, e->length - to + 1);
    e->length -= to - from;
    e->cursor = from;
}

static size_t word_start(const struct lineedit *e) {
    size_t at = e->cursor;
    while (at > 0 && e->text[at - 1] == ' ')
        at--;
    while (at > 0 && e->text[at - 1] != ' ')
        at--;
    return at;
}

// ---- history ----

static void remember(struct lineedit *e) {
    const char *last = e->history[(e->history_count + LINEEDIT_HISTORY - 1) % LINEEDIT_HISTORY];
    e->browsing = 0;
    if (e->length == 0 || (e->history_count && strcmp(last, e->text) == 0))
        return;
    memcpy(e->history[e->history_count++ % LINEEDIT_HISTORY], e->text, e->length + 1);
}

static void browse(struct lineedit *e, u32 to) {
    if (to > MIN(e->history_count, LINEEDIT_HISTORY)) {
        put(e, "\a");
        return;
    }
    if (e->browsing == 0)
        memcpy(e->kept, e->text, e->length + 1);
    e->browsing = to;
    set_text(e, to ? e->history[(e->history_count - to) % LINEEDIT_HISTORY] : e->kept);
}

// ---- completion ----

void lineedit_offer(struct lineedit *e, const char *word) {
    size_t start = e->cursor;
    while (start > 0 && e->text[start - 1] != ' ')
        start--;
    size_t typed = e->cursor - start, same = 0;
    if (strncmp(word, e->text + start, typed) != 0 || strlen(word) >= LINEEDIT_SIZE)
        return;
    if (e->listing) {
        put(e, "  ");
        put(e, word);
        return;
    }
    if (e->candidates++ == 0) {
        snprintf(e->common, sizeof(e->common), "%s", word);
        return;
    }
    while (word[same] && word[same] == e->common[same])
        same++;
    e->common[same] = 0;
}

static void complete(struct lineedit *e) {
    size_t start = e->cursor;
    while (start > 0 && e->text[start - 1] != ' ')
        start--;
    if (!e->complete)
        return;
    e->candidates = 0;
    e->complete(e->context, e, start);
    size_t typed = e->cursor - start;
    if (e->candidates == 0 || strlen(e->common) < typed) {
        put(e, "\a");
        return;
    }
    bool longer = strlen(e->common) > typed;
    insert(e, e->common + typed, strlen(e->common) - typed);
    if (e->candidates == 1)
        insert(e, " ", 1);
    else if (!longer && e->last == '\t') {
        put(e, "\r\n");
        e->listing = true;
        e->complete(e->context, e, start);
        e->listing = false;
        put(e, "\r\n");
    } else if (!longer)
        put(e, "\a");
}

// ---- keys ----

static void left(struct lineedit *e) { e->cursor -= e->cursor > 0; }

static void right(struct lineedit *e) { e->cursor += e->cursor < e->length; }

static void delete (struct lineedit *e) {
    if (e->cursor < e->length)
        cut(e, e->cursor, e->cursor + 1);
}

static void control_key(struct lineedit *e, char c) {
    switch (c) {
    case CTRL('A'): e->cursor = 0; break;
    case CTRL('E'): e->cursor = e->length; break;
    case CTRL('B'): left(e); break;
    case CTRL('F'): right(e); break;
    case CTRL('D'): delete (e); break;
    case CTRL('K'): cut(e, e->cursor, e->length); break;
    case CTRL('U'): cut(e, 0, e->cursor); break;
    case CTRL('W'): cut(e, word_start(e), e->cursor); break;
    case CTRL('P'): browse(e, e->browsing + 1); break;
    case CTRL('N'):
        if (e->browsing)
            browse(e, e->browsing - 1);
        break;
    case CTRL('L'): put(e, "\x1b[2J\x1b[H"); break;
    case CTRL('I'): complete(e); break;
    case '\b':
    case 0x7f:
        if (e->cursor > 0)
            cut(e, e->cursor - 1, e->cursor);
        break;
    default: return;
    }
    draw(e);
}

// The last byte of a terminal's key sequence.
static void sequence_key(struct lineedit *e, char c) {
    static const struct {
        char final, control;
    } keys[] = {{'A', CTRL('P')}, {'B', CTRL('N')}, {'C', CTRL('F')},
                {'D', CTRL('B')}, {'H', CTRL('A')}, {'F', CTRL('E')}};
    for (unsigned i = 0; i < ARRAY_SIZE(keys); i++)
        if (keys[i].final == c)
            control_key(e, keys[i].control);
    if (c != '~')
        return;
    static const char by_number[9] = {0, CTRL('A'), 0,         CTRL('D'), CTRL('E'),
                                      0, 0,         CTRL('A'), CTRL('E')};
    if (e->parameter < sizeof(by_number))
        control_key(e, by_number[e->parameter]);
}

static void feed_escape(struct lineedit *e, char c) {
    if (e->escape == ESCAPE_BEGUN) {
        e->escape = c == '[' ? ESCAPE_BRACKET : c == 'O' ? ESCAPE_O : ESCAPE_NONE;
        e->parameter = 0;
        return;
    }
    if (c >= '0' && c <= '9') {
        e->parameter = (u8)(e->parameter * 10 + (c - '0'));
        return;
    }
    if (c == ';')
        return;
    e->escape = ESCAPE_NONE;
    sequence_key(e, c);
}

static enum lineedit_event finish(struct lineedit *e, const char *mark, enum lineedit_event event) {
    put(e, mark);
    put(e, "\r\n");
    e->visible = false;
    e->finished = true;
    return event;
}

enum lineedit_event lineedit_feed(struct lineedit *e, char c) {
    char before = e->last;
    begin(e);
    if (c == '\n' && before == '\r') { // one Enter that came as two bytes
        e->last = 0;
        return LINEEDIT_NOTHING;
    }
    if (e->escape)
        feed_escape(e, c);
    else if (c == 0x1b)
        e->escape = ESCAPE_BEGUN;
    else if (c == '\r' || c == '\n') {
        e->last = c;
        remember(e);
        return finish(e, "", LINEEDIT_LINE);
    } else if (c == CTRL('C'))
        return finish(e, "^C", LINEEDIT_CANCEL);
    else if ((unsigned char)c < 0x20 || c == 0x7f)
        control_key(e, c);
    else if (e->cursor == e->length &&
             e->length + 1 < LINEEDIT_SIZE) { // at the end: the letter is all there is to draw
        insert(e, &c, 1);
        e->output(e->context, &c, 1);
    } else {
        insert(e, &c, 1);
        draw(e);
    }
    e->last = c;
    return LINEEDIT_NOTHING;
}
