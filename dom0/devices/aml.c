// SPDX-License-Identifier: Apache-2.0
//
// AML encodings: one function per construct. Follows "AML Grammar Definition" and "AML Byte Stream
// Byte Values" of the ACPI specification.

#include <string.h>

#include "aml.h"

#define OP_NAME            0x08u
#define OP_BYTE            0x0au
#define OP_WORD            0x0bu
#define OP_DWORD           0x0cu
#define OP_STRING          0x0du
#define OP_SCOPE           0x10u
#define OP_BUFFER          0x11u
#define OP_PACKAGE         0x12u
#define OP_EXTENDED        0x5bu
#define OP_EXTENDED_DEVICE 0x82u

#define LENGTH_BYTES       3u // lead byte: 2 more bytes follow, low 4 bits of the length
#define LENGTH_LEAD        0x80u

void aml_byte(struct aml *aml, unsigned value) {
    if (aml->used < aml->size)
        aml->bytes[aml->used++] = (uint8_t)value;
    else
        aml->failed = true;
}

void aml_little(struct aml *aml, unsigned bytes, uint64_t value) {
    for (unsigned i = 0; i < bytes; i++)
        aml_byte(aml, (uint8_t)(value >> (8 * i)));
}

void aml_integer(struct aml *aml, uint32_t value) {
    if (value < 2) {
        aml_byte(aml, value); // ZeroOp, OneOp
        return;
    }
    unsigned bytes = value < 0x100 ? 1 : value < 0x10000 ? 2 : 4;
    aml_byte(aml, bytes == 1 ? OP_BYTE : bytes == 2 ? OP_WORD : OP_DWORD);
    aml_little(aml, bytes, value);
}

void aml_string(struct aml *aml, const char *text) {
    aml_byte(aml, OP_STRING);
    for (; *text; text++)
        aml_byte(aml, (uint8_t)*text);
    aml_byte(aml, 0);
}

void aml_path(struct aml *aml, const char *name) {
    if (*name == '\\')
        aml_byte(aml, (uint8_t)*name++);
    for (unsigned i = 0; i < 4; i++)
        aml_byte(aml, *name ? (uint8_t)*name++ : '_');
}

void aml_name(struct aml *aml, const char *name) {
    aml_byte(aml, OP_NAME);
    aml_path(aml, name);
}

void aml_name_integer(struct aml *aml, const char *name, uint32_t value) {
    aml_name(aml, name);
    aml_integer(aml, value);
}

static unsigned hex(char c) { return (unsigned)(c <= '9' ? c - '0' : c - 'A' + 10); }

void aml_name_eisa(struct aml *aml, const char *name, const char *id) {
    unsigned maker = (id[0] - 0x40u) << 10 | (id[1] - 0x40u) << 5 | (id[2] - 0x40u);
    aml_name(aml, name);
    aml_byte(aml, OP_DWORD);
    aml_byte(aml, maker >> 8);
    aml_byte(aml, maker & 0xff);
    aml_byte(aml, hex(id[3]) << 4 | hex(id[4]));
    aml_byte(aml, hex(id[5]) << 4 | hex(id[6]));
}

static void open_length(struct aml *aml) {
    if (aml->depth == AML_DEPTH) {
        aml->failed = true;
        return;
    }
    aml->open[aml->depth++] = aml->used;
    aml_little(aml, LENGTH_BYTES, 0);
}

void aml_close(struct aml *aml) {
    if (aml->failed || aml->depth == 0) {
        aml->failed = true;
        return;
    }
    size_t at = aml->open[--aml->depth];
    size_t length = aml->used - at; // its own bytes count
    aml->bytes[at] = (uint8_t)(LENGTH_LEAD | (length & 15));
    aml->bytes[at + 1] = (uint8_t)(length >> 4);
    aml->bytes[at + 2] = (uint8_t)(length >> 12);
}

void aml_scope(struct aml *aml, const char *name) {
    aml_byte(aml, OP_SCOPE);
    open_length(aml);
    aml_path(aml, name);
}

void aml_device(struct aml *aml, const char *name) {
    aml_byte(aml, OP_EXTENDED);
    aml_byte(aml, OP_EXTENDED_DEVICE);
    open_length(aml);
    aml_path(aml, name);
}

void aml_package(struct aml *aml, unsigned elements) {
    aml_byte(aml, OP_PACKAGE);
    open_length(aml);
    aml_byte(aml, elements);
}

void aml_resources(struct aml *aml, const uint8_t *bytes, size_t length) {
    static const uint8_t end[2] = {0x79, 0}; // its checksum of 0 counts as right
    aml_byte(aml, OP_BUFFER);
    open_length(aml);
    aml_integer(aml, (uint32_t)(length + sizeof(end)));
    for (size_t i = 0; i < length; i++)
        aml_byte(aml, bytes[i]);
    for (size_t i = 0; i < sizeof(end); i++)
        aml_byte(aml, end[i]);
    aml_close(aml);
}

bool aml_ok(const struct aml *aml) { return !aml->failed && aml->depth == 0; }
