// SPDX-License-Identifier: Apache-2.0
//
// Where domain files come from: boot modules whose names end in ".conf", and the files of the
// partition "basalt-config" (FAT), which is read only when no module is a domain file.

#pragma once

#include "lib/types.h"

struct domain;

/// Reads all domain files and makes their domains known; mistakes go to the log, with file and
/// line.
void source_load_all(void);

/// Reads one domain file by its name ("guest3.conf") and makes its domain known. NULL with a
/// sentence in `error` (DOMAIN_ERROR_SIZE bytes); mistakes in the file are printed one by one with
/// `report`.
struct domain *source_load(const char *file, void (*report)(void *context, const char *sentence),
                           char *error);
