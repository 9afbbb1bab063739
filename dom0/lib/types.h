// SPDX-License-Identifier: Apache-2.0
//
// Integer types and the few macros that dom0's files use. dom0 is a house of its own: it shares
// nothing with the kernel but include/basalt. Errors are negative values of <basalt/error.h>
// everywhere (newlib's errno is not used).

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <basalt/error.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t i8;
typedef int16_t i16;
typedef int32_t i32;
typedef int64_t i64;

#define PAGE_SHIFT     12
#define PAGE_SIZE      4096ull
#define PAGE_MASK      (~(PAGE_SIZE - 1))
#define SUPERPAGE_SIZE 0x200000ull
#define KIB            1024ull
#define MIB            (1024ull * 1024)
#define GIB            (1024ull * 1024 * 1024)

#define must_check     __attribute__((warn_unused_result))
#define likely(x)      __builtin_expect(!!(x), 1)
#define unlikely(x)    __builtin_expect(!!(x), 0)

#define ARRAY_SIZE(a)  (sizeof(a) / sizeof((a)[0]))
#define BIT(n)         (1ull << (n))
#ifndef MIN // newlib's <sys/param.h> has both
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#endif
#define ALIGN_UP(x, a)                (((x) + (a)-1) & ~((u64)(a)-1))
#define ALIGN_DOWN(x, a)              ((x) & ~((u64)(a)-1))
#define container_of(p, type, member) ((type *)((char *)(p)-offsetof(type, member)))
#define SIZE_ASSERT(type, size)       _Static_assert(sizeof(type) == (size), #type " has a size")
