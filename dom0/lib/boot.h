// SPDX-License-Identifier: Apache-2.0
//
// What the kernel handed to dom0: the boot information (checked once, read-only afterwards), its
// command line's options and its modules.

#pragma once

#include "lib/types.h"

#include <basalt/boot_info.h>

/// The boot information; valid from main() on.
extern const struct basalt_boot_info *boot_info;

/// Value of the option `name` ("name=value" on dom0's command line): copied to `value`, cut to
/// `size` bytes with its NUL. "name" alone gives an empty value. Returns whether the option is
/// there.
bool boot_option(const char *name, char *value, size_t size);

/// Module number `index` >= 0, not counting dom0's own image; NULL beyond the last.
const struct basalt_boot_module *boot_module(u32 index);

/// The module whose name (first word of its command line, directories left out) is `name`; NULL if
/// there is none.
const struct basalt_boot_module *boot_module_find(const char *name);

/// The module's contents: `module->size` bytes, writable (its pages are dom0's), zero up to the
/// page's end.
static inline void *boot_module_data(const struct basalt_boot_module *module) {
    return (void *)(uintptr_t)module->base;
}

/// Copies the module's name (see boot_module_find) to `name`, cut to `size` bytes with its NUL.
void boot_module_name(const struct basalt_boot_module *module, char *name, size_t size);

/// The rest of the module's command line after its name; never NULL.
const char *boot_module_arguments(const struct basalt_boot_module *module);
