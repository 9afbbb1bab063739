// SPDX-License-Identifier: Apache-2.0
//
// Address space identifiers: tags of TLB entries. Each CPU hands out its own in rising order; when
// they are used up a new generation begins with a flush of the whole TLB, and every state takes a
// new one when it next runs. Invariant: between two such flushes no ASID of a CPU belongs to two
// states, nor twice to one that asked for a flush. Follows the APM, "TLB Control" and "Address
// Space Identifier".

#include "svm/svm.h"

#define GENERATION_CPU_SHIFT 48

void asid_pool_init(struct asid_pool *pool, u32 cpu, u32 count) {
    pool->generation = ((u64)cpu + 1) << GENERATION_CPU_SHIFT;
    pool->count = MIN(count, 0x10000u); // cpu_state.tag has 16 bits
    pool->next = pool->count;           // the first to come begins a generation
}

must_check u8 asid_assign(struct asid_pool *pool, struct cpu_state *state) {
    u8 flush = TLB_CONTROL_NOTHING;

    if (state->tag != 0 && state->tag_generation == pool->generation)
        return flush;
    if (pool->next >= pool->count) {
        pool->generation++;
        pool->next = 1;
        flush = TLB_CONTROL_FLUSH_ALL;
    }
    state->tag = (u16)pool->next++;
    state->tag_generation = pool->generation;
    return flush;
}
