// SPDX-License-Identifier: Apache-2.0
//
// The memory and string functions of the C library that the kernel uses.

#pragma once

#include "arch/types.h"

void *memcpy(void *restrict to, const void *restrict from, size_t bytes);
void *memmove(void *to, const void *from, size_t bytes);
void *memset(void *to, int value, size_t bytes);
int memcmp(const void *a, const void *b, size_t bytes);
size_t strlen(const char *s);
int strcmp(const char *a, const char *b);
char *strchr(const char *s, int c);
/// Copies at most size - 1 characters (size > 0) and always terminates. Returns strlen(from): >= size means
/// cut short.
size_t strlcpy(char *to, const char *from, size_t size);
