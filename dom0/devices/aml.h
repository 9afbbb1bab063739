// SPDX-License-Identifier: Apache-2.0
//
// A builder for AML, as much of it as a fixed machine's DSDT needs: names, scopes, devices,
// packages, buffers and integers. Packages are written with three-byte lengths that are filled in
// when they are closed. A buffer that is too small is remembered, not overrun: aml_ok() says so at
// the end. Follows "ACPI Machine Language (AML) Specification" of the ACPI specification.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AML_DEPTH 8

struct aml {
    uint8_t *bytes;
    size_t size, used;
    size_t open[AML_DEPTH]; // where the lengths of what is open are
    unsigned depth;
    bool failed;
};

void aml_byte(struct aml *aml, unsigned value);
void aml_little(struct aml *aml, unsigned bytes, uint64_t value); // without a prefix
void aml_integer(struct aml *aml, uint32_t value);
void aml_string(struct aml *aml, const char *text);

/// Name of 1..4 characters, "\\" in front for the root; padded with '_'.
void aml_path(struct aml *aml, const char *name);

void aml_name(struct aml *aml, const char *name); // Name (name, ...): the object follows
void aml_name_integer(struct aml *aml, const char *name, uint32_t value);
void aml_name_eisa(struct aml *aml, const char *name, const char *id); // "PNP0A08"

void aml_scope(struct aml *aml, const char *name);
void aml_device(struct aml *aml, const char *name);
void aml_package(struct aml *aml, unsigned elements);
void aml_close(struct aml *aml); // the scope, device or package opened last

/// Buffer with these contents (a resource template: the end tag is added).
void aml_resources(struct aml *aml, const uint8_t *bytes, size_t length);

bool aml_ok(const struct aml *aml);
