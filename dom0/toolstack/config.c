// SPDX-License-Identifier: Apache-2.0
//
// The domain file's lines and keys. One table says which keys there are, what their values look
// like and where they go.

#include "toolstack/config.h"

#include "toolstack/config_value.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const actions[] = {"destroy", "restart", "preserve", NULL};
static const char *const protocols[] = {"auto", "linux", "pvh", "multiboot", "multiboot2", NULL};

const char *config_action_name(enum config_action action) { return actions[action]; }

const char *config_protocol_name(enum config_protocol protocol) { return protocols[protocol]; }

#define KEY(key, kind, ...) \
    { .name = #key, .parse = config_value_##kind, __VA_ARGS__ }
#define ONE(field) .offset = offsetof(struct domain_config, field)
#define MANY(field, n)                                      \
    ONE(field), .count = offsetof(struct domain_config, n), \
                .element = sizeof(((struct domain_config *)0)->field[0])
#define FROM(a, b) .least = (a), .most = (b)
#define TEXT_MAX   (CONFIG_TEXT_SIZE - 1)

static const struct config_key keys[] = {
    KEY(name, name, ONE(name), FROM(1, CONFIG_NAME_SIZE - 1), .required = true),
    KEY(memory, size, ONE(memory), FROM(MIB, MIB << 20), .required = true),
    KEY(vcpus, number, ONE(vcpus), FROM(1, BASALT_VCPUS_MAX)),
    KEY(kernel, text, ONE(kernel), FROM(1, TEXT_MAX), .required = true),
    KEY(initrd, text, ONE(initrd), FROM(1, TEXT_MAX)),
    KEY(cmdline, text, ONE(cmdline), FROM(0, CONFIG_CMDLINE_SIZE - 1)),
    KEY(disk, disk, MANY(disks, disk_count), FROM(0, CONFIG_DISKS_MAX)),
    KEY(console, switch, ONE(console)),
    KEY(autostart, switch, ONE(autostart)),
    KEY(on_crash, choice, ONE(on_crash), .words = actions),
    KEY(on_reboot, choice, ONE(on_reboot), .words = actions),
    KEY(weight, number, ONE(weight), FROM(1, 10000)),
    KEY(cap, number, ONE(cap), FROM(0, 100 * BASALT_VCPUS_MAX)),
    KEY(protocol, choice, ONE(protocol), .words = protocols),
    KEY(module, module, MANY(modules, module_count), FROM(0, CONFIG_MODULES_MAX)),
};

#define KEYS ARRAY_SIZE(keys)
_Static_assert(sizeof(enum config_action) == 4 && sizeof(enum config_protocol) == 4,
               "choices are stored as u32");

struct parser {
    const char *file;
    unsigned line; // of the text, from 1; 0: the whole file
    struct domain_config *config;
    config_report report;
    void *context;
    unsigned mistakes;
    unsigned seen[KEYS]; // line of a key's first use, 0: none yet
};

// Reports one mistake at the current line.
__attribute__((format(printf, 2, 3))) static void mistake(struct parser *p, const char *format,
                                                          ...) {
    char text[320];
    size_t used = p->line ? (size_t)snprintf(text, sizeof(text), "%s:%u: ", p->file, p->line)
                          : (size_t)snprintf(text, sizeof(text), "%s: ", p->file);
    va_list args;
    if (++p->mistakes > CONFIG_MISTAKES_MAX)
        return;
    used = MIN(used, sizeof(text) - 1);
    va_start(args, format);
    vsnprintf(text + used, sizeof(text) - used, format, args);
    va_end(args);
    p->report(p->context, text);
}

// ---- words ----

static bool is_space(char c) { return c == ' ' || c == '\t'; }

static bool is_key_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
}

static char *skip_spaces(char *text) {
    while (is_space(*text))
        text++;
    return text;
}

// Damerau's distance of two short words (neighbours swapped count once); both at most 15 letters,
// else "far".
static unsigned distance(const char *a, const char *b) {
    enum { LONGEST = 15 };
    unsigned d[LONGEST + 1][LONGEST + 1];
    size_t m = strlen(a), n = strlen(b);
    if (m > LONGEST || n > LONGEST)
        return ~0u;
    for (unsigned i = 0; i <= m; i++)
        d[i][0] = i;
    for (unsigned j = 0; j <= n; j++)
        d[0][j] = j;
    for (size_t i = 1; i <= m; i++) {
        for (size_t j = 1; j <= n; j++) {
            unsigned change = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            d[i][j] = MIN(MIN(d[i - 1][j], d[i][j - 1]) + 1, change);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                d[i][j] = MIN(d[i][j], d[i - 2][j - 2] + 1);
        }
    }
    return d[m][n];
}

const char *config_nearest(const char *word, const char *const *names, size_t count) {
    const char *best = NULL;
    unsigned least = (unsigned)MAX(strlen(word) / 3, 1) + 1;
    for (size_t i = 0; i < count; i++) {
        unsigned far = distance(word, names[i]);
        if (far < least) {
            least = far;
            best = names[i];
        }
    }
    return best;
}

// ---- lines ----

static const struct config_key *find_key(struct parser *p, const char *name) {
    const char *names[KEYS];
    for (size_t i = 0; i < KEYS; i++) {
        if (strcmp(keys[i].name, name) == 0)
            return &keys[i];
        names[i] = keys[i].name;
    }
    const char *near = config_nearest(name, names, KEYS);
    if (near)
        mistake(p, "%s: no such key; did you mean \"%s\"?", name, near);
    else
        mistake(p, "%.40s: no such key; docs/domain-file.md lists them", name);
    return NULL;
}

// Takes the quotes off the text at `text`, in place (\" and \\ stand for " and \). Returns what
// follows the closing quote, NULL if there is none; *out is where the text's NUL belongs.
static char *unquote(char *text, char **out) {
    char *from = text + 1, *to = text;
    for (; *from && *from != '"'; from++) {
        if (*from == '\\' && (from[1] == '"' || from[1] == '\\'))
            from++;
        *to++ = *from;
    }
    *out = to;
    return *from ? from + 1 : NULL;
}

// Cuts a value out of `text`, in place: a text in quotes or one bare word, with nothing but a
// comment behind it. Returns NULL after a mistake.
static char *cut_value(struct parser *p, const char *key, char *text) {
    bool quoted = *text == '"';
    char *rest = text + strcspn(text, " \t#\""), *end = rest;
    if (quoted && !(rest = unquote(text, &end))) {
        mistake(p, "%s: expected a closing quote (\"), found the end of the line", key);
        return NULL;
    }
    if (!quoted && rest == text) {
        mistake(p, "%s: expected a value after \"=\", found none", key);
        return NULL;
    }
    char *after = skip_spaces(rest);
    if (*after && *after != '#') {
        mistake(p, "%s: expected nothing more after the value, found \"%.40s\"%s", key, after,
                quoted ? "" : " (a value with spaces needs quotes)");
        return NULL;
    }
    *end = 0;
    return text;
}

static void *field_of(struct parser *p, const struct config_key *key) {
    char *base = (char *)p->config + key->offset;
    if (!key->count)
        return base;
    return base + *(u32 *)((char *)p->config + key->count) * key->element;
}

static bool may_use(struct parser *p, const struct config_key *key) {
    unsigned *seen = &p->seen[key - keys];
    if (!key->count && *seen) {
        mistake(p, "%s: given already in line %u", key->name, *seen);
        return false;
    }
    if (!*seen)
        *seen = p->line;
    if (key->count && *(u32 *)((char *)p->config + key->count) >= key->most) {
        mistake(p, "%s: expected at most %u of them", key->name, (unsigned)key->most);
        return false;
    }
    return true;
}

static void parse_pair(struct parser *p, const char *name, char *text) {
    const struct config_key *key = find_key(p, name);
    if (!key || !may_use(p, key))
        return;
    char *value = cut_value(p, name, text);
    if (!value)
        return;
    const char *wanted = key->parse(key, value, field_of(p, key));
    if (wanted)
        mistake(p, "%s: expected %s, found \"%.60s\"%s", name, wanted, value,
                strlen(value) > 60 ? "..." : "");
    else if (key->count)
        ++*(u32 *)((char *)p->config + key->count);
}

// A line, NUL-terminated, without its end.
static void parse_line(struct parser *p, char *line) {
    char *name = skip_spaces(line), *end = name;
    if (!*name || *name == '#')
        return;
    while (is_key_char(*end))
        end++;
    char *equals = skip_spaces(end);
    if (end == name || *equals != '=') {
        mistake(p, "expected \"key = value\", found \"%.40s\"", name);
        return;
    }
    *end = 0;
    parse_pair(p, name, skip_spaces(equals + 1));
}

// Copies a line if nothing is wrong with its bytes.
static bool copy_line(struct parser *p, const char *text, size_t length, char *line) {
    if (length && text[length - 1] == '\r')
        length--;
    if (length > CONFIG_LINE_MAX) {
        mistake(p, "expected at most %u bytes in a line, found %zu", CONFIG_LINE_MAX, length);
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            mistake(p, "expected text, found a byte of value 0x%02x in column %zu%s", c, i + 1,
                    c ? "" : " (a NUL)");
            return false;
        }
    }
    memcpy(line, text, length);
    line[length] = 0;
    return true;
}

static void check_required(struct parser *p) {
    p->line = 0;
    for (size_t i = 0; i < KEYS; i++)
        if (keys[i].required && !p->seen[i])
            mistake(p, "the key \"%s\" is missing", keys[i].name);
    if (p->mistakes > CONFIG_MISTAKES_MAX) {
        char text[160];
        snprintf(text, sizeof(text), "%s: %u more mistakes are not shown", p->file,
                 p->mistakes - CONFIG_MISTAKES_MAX);
        p->report(p->context, text);
    }
}

unsigned config_parse(const char *file, const char *text, size_t bytes,
                      struct domain_config *config, config_report report, void *context) {
    static char line[CONFIG_LINE_MAX + 1];
    struct parser p = {.file = file, .config = config, .report = report, .context = context};
    *config = (struct domain_config){.vcpus = 1,
                                     .weight = 256,
                                     .console = true,
                                     .on_crash = CONFIG_DESTROY,
                                     .on_reboot = CONFIG_RESTART};
    if (bytes > CONFIG_FILE_MAX) {
        mistake(&p, "expected at most %u bytes, found %zu", CONFIG_FILE_MAX, bytes);
        return p.mistakes;
    }
    for (size_t at = 0; at < bytes;) {
        const char *end = memchr(text + at, '\n', bytes - at);
        size_t length = end ? (size_t)(end - (text + at)) : bytes - at;
        p.line++;
        if (copy_line(&p, text + at, length, line))
            parse_line(&p, line);
        at += length + 1;
    }
    check_required(&p);
    return p.mistakes;
}
