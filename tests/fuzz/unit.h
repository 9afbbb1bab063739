// SPDX-License-Identifier: Apache-2.0
//
// For fuzzers that include a unit test's file and drive its model with their input: the test's main() gets another
// name, and an assertion that fails ends the fuzzer. Included before the test's file.

#pragma once

#include "tests/fuzz/fuzz.h"

#define main unit_test_main

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    return setenv("CMOCKA_TEST_ABORT", "1", 1);
}
