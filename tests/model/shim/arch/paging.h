// SPDX-License-Identifier: Apache-2.0
//
// Stand-in for arch/paging.h: physical addresses are the host's own.

#pragma once

#include "arch/types.h"

static inline void *pool_ptr(hpa_t pa) { return (void *)pa.v; }
static inline hpa_t pool_hpa(const void *p) { return HPA((u64)p); }
static inline hpa_t kernel_virt_to_hpa(const void *p) { return HPA((u64)p); }
