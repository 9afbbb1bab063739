// SPDX-License-Identifier: Apache-2.0
//
// Values of the domain file: each kind of value has one function that turns its text into the field
// of struct domain_config, or says what it expected. Pure; the text is NUL-terminated and holds no
// control characters.

#pragma once

#include "toolstack/config.h"

struct config_key {
    const char *name;
    // Stores `text` in *field. Returns NULL, or what was expected ("a size such as 256M").
    const char *(*parse)(const struct config_key *key, const char *text, void *field);
    size_t offset;            // of the field in struct domain_config
    u64 least, most;          // numbers: the range; texts: bytes; keys that may repeat: how often
    const char *const *words; // of a choice
    size_t count;   // offset of the field's counter, for keys that may repeat; 0: once only
    size_t element; // bytes of one element of such a field
    bool required;
};

const char *config_value_name(const struct config_key *key, const char *text, void *field);
const char *config_value_text(const struct config_key *key, const char *text, void *field);
const char *config_value_size(const struct config_key *key, const char *text, void *field);
const char *config_value_number(const struct config_key *key, const char *text, void *field);
const char *config_value_switch(const struct config_key *key, const char *text, void *field);
const char *config_value_choice(const struct config_key *key, const char *text, void *field);
const char *config_value_disk(const struct config_key *key, const char *text, void *field);
const char *config_value_module(const struct config_key *key, const char *text, void *field);
