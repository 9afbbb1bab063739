// SPDX-License-Identifier: Apache-2.0
//
// Integer types, address kinds, and the few macros and functions of the C library that every file uses. Guest-physical
// and host-physical addresses are distinct structure types, so that mixing them does not compile; kernel pointers are plain
// pointers.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t i8;
typedef int32_t i32;
typedef int64_t i64;

typedef struct {
    u64 v;
} gpa_t; // address in a domain's physical address space
typedef struct {
    u64 v;
} hpa_t; // address on the machine's bus

#define GPA(x)          ((gpa_t){(x)})
#define HPA(x)          ((hpa_t){(x)})
#define HPA_NONE        HPA(~0ull)

#define PAGE_SHIFT      12
#define PAGE_SIZE       UINT64_C(4096)
#define PAGE_MASK       (~(PAGE_SIZE - 1))
#define SUPERPAGE_SHIFT 21
#define SUPERPAGE_SIZE  UINT64_C(0x200000)
#define KIB             UINT64_C(1024)
#define MIB             (UINT64_C(1024) * 1024)
#define GIB             (UINT64_C(1024) * 1024 * 1024)

#define must_check      __attribute__((warn_unused_result))
#define packed          __attribute__((packed))
#define noreturn        __attribute__((noreturn))
#define unused          __attribute__((unused))
#define likely(x)       __builtin_expect(!!(x), 1)
#define unlikely(x)     __builtin_expect(!!(x), 0)

#define ARRAY_SIZE(a)   (sizeof(a) / sizeof((a)[0]))
#define BIT(n)          (UINT64_C(1) << (n))
// Each argument is evaluated once: it may be something that another processor changes.
#define SELECT_ONCE_(a, b, op, x, y) \
    ({                               \
        typeof(a) x = (a);           \
        typeof(b) y = (b);           \
        x op y ? x : y;              \
    })
#define SELECT_ONCE(a, b, op, n)      SELECT_ONCE_(a, b, op, CONCAT(left_, n), CONCAT(right_, n))
#define CONCAT_(a, b)                 a##b
#define CONCAT(a, b)                  CONCAT_(a, b)
#define MIN(a, b)                     SELECT_ONCE(a, b, <, __COUNTER__)
#define MAX(a, b)                     SELECT_ONCE(a, b, >, __COUNTER__)
#define ALIGN_UP(x, a)                (((x) + (a)-1) & ~((u64)(a)-1))
#define ALIGN_DOWN(x, a)              ((x) & ~((u64)(a)-1))
#define container_of(p, type, member) ((type *)((char *)(p)-offsetof(type, member)))
#define SIZE_ASSERT(type, size)       _Static_assert(sizeof(type) == (size), #type " has a fixed size")

// Memory and strings, in arch/string.c.
void *memcpy(void *restrict to, const void *restrict from, size_t bytes);
void *memmove(void *to, const void *from, size_t bytes);
void *memset(void *to, int value, size_t bytes);
int memcmp(const void *a, const void *b, size_t bytes);
size_t strlen(const char *s);
int strcmp(const char *a, const char *b);
char *strchr(const char *s, int c);
