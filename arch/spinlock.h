// SPDX-License-Identifier: Apache-2.0
//
// A ticket lock, fair between CPUs. The kernel's interrupts are off, so that there is nothing to
// save; NMI and machine-check handlers take no lock. Invariant: serving <= next, and their
// difference is holder plus waiters.

#pragma once

#include "arch/x86.h"

struct spinlock {
    u32 next, serving;
};

static inline void spin_lock(struct spinlock *lock) {
    u32 ticket = __atomic_fetch_add(&lock->next, 1, __ATOMIC_RELAXED);
    while (__atomic_load_n(&lock->serving, __ATOMIC_ACQUIRE) != ticket)
        cpu_pause();
}

must_check static inline bool spin_trylock(struct spinlock *lock) {
    u32 serving = __atomic_load_n(&lock->serving, __ATOMIC_RELAXED);
    return __atomic_compare_exchange_n(&lock->next, &serving, serving + 1, false, __ATOMIC_ACQUIRE,
                                       __ATOMIC_RELAXED);
}

static inline void spin_unlock(struct spinlock *lock) {
    __atomic_store_n(&lock->serving, lock->serving + 1, __ATOMIC_RELEASE);
}
