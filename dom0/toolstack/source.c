// SPDX-License-Identifier: Apache-2.0
//
// Domain files among the boot modules.

#include "toolstack/source.h"

#include "lib/boot.h"
#include "lib/log.h"
#include "toolstack/domain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_SIZE 112u

static bool is_domain_file(const char *name)
{
    size_t length = strlen(name);
    return length > 5 && strcmp(name + length - 5, ".conf") == 0;
}

static struct domain *define(const char *file, const char *text, size_t bytes,
                             void (*report)(void *context, const char *sentence), char *error)
{
    struct domain_config *config = malloc(sizeof(*config));
    struct domain *d = NULL;
    if (!config) {
        snprintf(error, DOMAIN_ERROR_SIZE, "dom0 has no memory left for %s", file);
        return NULL;
    }
    unsigned mistakes = config_parse(file, text, bytes, config, report, NULL);
    if (mistakes)
        snprintf(error, DOMAIN_ERROR_SIZE, "%s: %u mistake(s): the domain is left out", file,
                 mistakes);
    else
        d = domain_define(config, file, error);
    free(config);
    return d;
}

struct domain *source_load(const char *file, void (*report)(void *context, const char *sentence),
                           char *error)
{
    const struct basalt_boot_module *module = boot_module_find(file);
    if (module)
        return define(file, boot_module_data(module), module->size, report, error);
    snprintf(error, DOMAIN_ERROR_SIZE,
             "there is no domain and no domain file \"%s\"; \"list\" shows the domains", file);
    return NULL;
}

static void report_to_log(void *context, const char *sentence)
{
    (void)context;
    log_error("config", "%s", sentence);
}

void source_load_all(void)
{
    for (u32 i = 0; boot_module(i); i++) {
        char name[NAME_SIZE], error[DOMAIN_ERROR_SIZE];
        boot_module_name(boot_module(i), name, sizeof(name));
        if (is_domain_file(name) && !source_load(name, report_to_log, error))
            log_error("config", "%s", error);
    }
}
