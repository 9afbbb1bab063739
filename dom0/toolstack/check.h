// SPDX-License-Identifier: Apache-2.0
//
// The processor's entry checks in software: which rule a vCPU's control block violates, by name, where hardware only
// says that it refuses the state. Pure over a function that reads the block, so that it runs on the host too.

#pragma once

#include <stdint.h>

struct check {
    uint64_t (*read)(
        void *context,
        uint32_t field); // a field as BASALT_HC_VCPU_FIELD numbers it; 0 where there is none
    void *context;
    unsigned physical_bits, linear_bits; // address widths of the processor
    // What was found: the field that the rule is about, and its value.
    uint32_t field;
    uint64_t value;
};

/// Names the first rule that the block violates, or NULL; `check->field` and `value` tell where.
const char *check_vmx(struct check *check);
const char *check_svm(struct check *check);
