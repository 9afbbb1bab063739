// SPDX-License-Identifier: Apache-2.0
//
// Registers after INIT but PAT, as guest/vcpu.c writes them into a control block that a backend has made.

#pragma once

#include "arch/x86.h"
#include "guest/backend.h"

static inline void write_init_state(const struct backend *b, struct cpu_state *cpu) {
    static const u32 attributes[] = {0x93, 0x9b, 0x93, 0x93, 0x93, 0x93, 0x82, 0x8b, 0, 0};

    b->write(cpu, REG_CR4, 0);
    b->write(cpu, REG_CR3, 0);
    b->write(cpu, REG_CR0, CR0_ET | CR0_CD | CR0_NW);
    b->write(cpu, REG_EFER, 0);
    b->write(cpu, REG_DR6, DR6_FIXED);
    b->write(cpu, REG_DR7, DR7_FIXED);
    for (unsigned i = 0; i < BASALT_SEGMENTS; i++) {
        struct basalt_segment s = {.limit = 0xffff, .attributes = attributes[i]};
        if (i == BASALT_CS) {
            s.selector = 0xf000;
            s.base = 0xffff0000;
        }
        b->write_segment(cpu, i, &s);
    }
}
