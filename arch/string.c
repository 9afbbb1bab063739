// SPDX-License-Identifier: Apache-2.0
//
// Memory and string functions. The compiler may call the first four by itself. Long copies and
// fills use the string instructions, which recent processors do a cache line at a time.

#include "arch/types.h"

void *memcpy(void *restrict to, const void *restrict from, size_t bytes) {
    void *result = to;
    size_t words = bytes / 8, rest = bytes % 8;
    asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(rest) : : "memory");
    return result;
}

void *memset(void *to, int value, size_t bytes) {
    void *result = to;
    u64 pattern = 0x0101010101010101ull * (u8)value;
    size_t words = bytes / 8, rest = bytes % 8;
    asm volatile("rep stosq" : "+D"(to), "+c"(words) : "a"(pattern) : "memory");
    asm volatile("rep stosb" : "+D"(to), "+c"(rest) : "a"(pattern) : "memory");
    return result;
}

void *memmove(void *to, const void *from, size_t bytes) {
    if ((u64)to - (u64)from >= bytes)
        return memcpy(to, from, bytes);
    u8 *d = to;
    const u8 *s = from;
    while (bytes--)
        *(volatile u8 *)(d + bytes) = s[bytes]; // volatile: not to be turned into a call of memmove
    return to;
}

int memcmp(const void *a, const void *b, size_t bytes) {
    const u8 *p = a, *q = b;
    for (size_t i = 0; i < bytes; i++)
        if (p[i] != q[i])
            return p[i] - q[i];
    return 0;
}

size_t strlen(const char *s) {
    const char *end = s;
    while (*(const volatile char *)end)
        end++;
    return (size_t)(end - s);
}

int strcmp(const char *a, const char *b) {
    for (; *a && *a == *b; a++)
        b++;
    return (u8)*a - (u8)*b;
}

char *strchr(const char *s, int c) {
    while (*s && *s != (char)c)
        s++;
    return *s == (char)c ? (char *)s : NULL;
}
