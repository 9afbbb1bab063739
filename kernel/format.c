// SPDX-License-Identifier: Apache-2.0
//
// A small printf. Invariant: never writes at or beyond buffer + size, always terminates if size is
// not 0.

#include "kernel/log.h"

struct output {
    char *buffer;
    size_t size, length;
};

static void put(struct output *out, char c) {
    if (out->length + 1 < out->size)
        out->buffer[out->length] = c;
    out->length++;
}

static void put_padded(struct output *out, const char *text, size_t length, size_t width,
                       char pad) {
    for (size_t i = length; i < width; i++)
        put(out, pad);
    for (size_t i = 0; i < length; i++)
        put(out, text[i]);
}

static void put_number(struct output *out, u64 value, char conversion, size_t width, char pad) {
    char digits[24];
    size_t at = sizeof(digits);
    unsigned base = conversion == 'x' ? 16 : 10;
    do {
        digits[--at] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    put_padded(out, digits + at, sizeof(digits) - at, width, pad);
}

static size_t parse_number(const char **text) {
    size_t value = 0;
    for (; **text >= '0' && **text <= '9'; (*text)++)
        value = value * 10 + (size_t)(**text - '0');
    return value;
}

int format_va(char *buffer, size_t size, const char *text, va_list args) {
    struct output out = {buffer, size, 0};
    for (const char *p = text; *p; p++) {
        if (*p != '%') {
            put(&out, *p);
            continue;
        }
        char pad = *++p == '0' ? '0' : ' ';
        size_t width = parse_number(&p), precision = SIZE_MAX, length = 0;
        if (*p == '.') {
            p++;
            precision = parse_number(&p);
        }
        bool is_long = *p == 'l' || *p == 'z';
        while (*p == 'l' || *p == 'z')
            p++;
        if (*p == 's') {
            const char *s = va_arg(args, const char *);
            while (length < precision && s[length])
                length++;
            put_padded(&out, s, length, width, ' ');
        } else if (*p == 'u' || *p == 'x') {
            u64 value = is_long ? va_arg(args, u64) : va_arg(args, unsigned);
            put_number(&out, value, *p, width, pad);
        } else {
            put(&out, *p); // %%; the compiler has checked that nothing else comes
        }
    }
    if (size)
        buffer[MIN(out.length, size - 1)] = 0;
    return (int)out.length;
}

int format(char *buffer, size_t size, const char *text, ...) {
    va_list args;
    va_start(args, text);
    int length = format_va(buffer, size, text, args);
    va_end(args);
    return length;
}
