// SPDX-License-Identifier: Apache-2.0
//
// A small printf. Invariant: never writes at or beyond buffer + size, always terminates if size is
// not 0.

#include "kernel/log.h"

#include "arch/string.h"

struct output {
    char *buffer;
    size_t size, length;
};

struct field {
    bool left, zero;
    int width, precision; // precision -1: none
    bool is_long;
};

static void put(struct output *out, char c)
{
    if (out->length + 1 < out->size)
        out->buffer[out->length] = c;
    out->length++;
}

static void put_padded(struct output *out, const struct field *f, const char *text, int length)
{
    char pad = f->zero && !f->left ? '0' : ' ';
    for (int i = length; !f->left && i < f->width; i++)
        put(out, pad);
    for (int i = 0; i < length; i++)
        put(out, text[i]);
    for (int i = length; f->left && i < f->width; i++)
        put(out, ' ');
}

static void put_number(struct output *out, const struct field *f, u64 value, unsigned base,
                       bool negative)
{
    char digits[24];
    int at = sizeof(digits);
    do {
        digits[--at] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    if (negative)
        digits[--at] = '-';
    put_padded(out, f, digits + at, (int)sizeof(digits) - at);
}

static const char *parse_field(const char *p, struct field *f, va_list *args)
{
    *f = (struct field){.precision = -1};
    for (;; p++) {
        if (*p == '-')
            f->left = true;
        else if (*p == '0')
            f->zero = true;
        else
            break;
    }
    while (*p >= '0' && *p <= '9')
        f->width = f->width * 10 + *p++ - '0';
    if (*p == '.') {
        p++;
        f->precision = 0;
        if (*p == '*') {
            f->precision = va_arg(*args, int);
            p++;
        }
        while (*p >= '0' && *p <= '9')
            f->precision = f->precision * 10 + *p++ - '0';
    }
    for (; *p == 'l' || *p == 'z'; p++)
        f->is_long = true;
    return p;
}

static void put_string(struct output *out, const struct field *f, const char *s)
{
    int length = 0;
    s = s ? s : "(null)";
    while (s[length] && (f->precision < 0 || length < f->precision))
        length++;
    put_padded(out, f, s, length);
}

int format_va(char *buffer, size_t size, const char *text, va_list original)
{
    struct output out = {buffer, size, 0};
    va_list args;
    va_copy(args, original);
    for (const char *p = text; *p; p++) {
        struct field f;
        if (*p != '%') {
            put(&out, *p);
            continue;
        }
        p = parse_field(p + 1, &f, &args);
        if (*p == 's') {
            put_string(&out, &f, va_arg(args, const char *));
        } else if (*p == 'c') {
            put(&out, (char)va_arg(args, int));
        } else if (*p == 'd') {
            i64 value = f.is_long ? va_arg(args, i64) : va_arg(args, int);
            put_number(&out, &f, value < 0 ? 0 - (u64)value : (u64)value, 10, value < 0);
        } else if (*p == 'u' || *p == 'x') {
            u64 value = f.is_long ? va_arg(args, u64) : va_arg(args, unsigned);
            put_number(&out, &f, value, *p == 'u' ? 10 : 16, false);
        } else if (*p == 'p') {
            put_number(&out, &f, (u64)va_arg(args, void *), 16, false);
        } else if (*p) {
            put(&out, *p);
        } else {
            break;
        }
    }
    va_end(args);
    if (size)
        buffer[MIN(out.length, size - 1)] = 0;
    return (int)out.length;
}

int format(char *buffer, size_t size, const char *text, ...)
{
    va_list args;
    va_start(args, text);
    int length = format_va(buffer, size, text, args);
    va_end(args);
    return length;
}
