// SPDX-License-Identifier: Apache-2.0
//
// Where boot/ hands over to the kernel.

#pragma once

#include "boot/multiboot2.h"

/// boot/entry.S calls it on the boot stack, in 64-bit mode with the low 4 GiB mapped one to one.
noreturn void kernel_main(u32 magic, u64 multiboot_info);

/// The kernel proper: probes the backend, builds dom0 and enters the scheduler. Everything in
/// boot/main.c's list is up.
noreturn void basalt_start(const struct boot_params *params);
