// SPDX-License-Identifier: Apache-2.0
//
// Fuzzer of the parser of domain files: any bytes. What config.h promises of a file without mistakes is checked.
//
// sources: dom0/toolstack/config.c dom0/toolstack/config_value.c

#include "tests/fuzz/fuzz.h"

#include "toolstack/config.h"

static unsigned reports;

static void report(void *context, const char *sentence) {
    (void)context;
    reports++;
    require(strncmp(sentence, "f.conf:", 7) == 0 && strlen(sentence) < 320);
    for (const char *c = sentence; *c; c++)
        require((unsigned char)*c >= 0x20 || *c == '\t');
}

static void check(const struct domain_config *c) {
    require(c->name[0] && memchr(c->name, 0, sizeof(c->name)));
    require(c->memory >= MIB && c->memory <= MIB << 20 && c->memory % PAGE_SIZE == 0);
    require(c->vcpus >= 1 && c->vcpus <= BASALT_VCPUS_MAX);
    require(c->weight >= 1 && c->weight <= 10000 && c->cap <= 6300);
    require(c->kernel[0] && memchr(c->kernel, 0, sizeof(c->kernel)));
    require(memchr(c->cmdline, 0, sizeof(c->cmdline)) && memchr(c->initrd, 0, sizeof(c->initrd)));
    require(c->disk_count <= CONFIG_DISKS_MAX && c->module_count <= CONFIG_MODULES_MAX);
    for (u32 i = 0; i < c->disk_count; i++)
        require(c->disks[i].name[0] && memchr(c->disks[i].name, 0, CONFIG_TEXT_SIZE));
    for (u32 i = 0; i < c->module_count; i++)
        require(c->modules[i].text[0] && memchr(c->modules[i].text, 0, 256));
    require(config_action_name(c->on_crash) && config_action_name(c->on_reboot) &&
            config_protocol_name(c->protocol));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct domain_config config;
    char *copy = exact_copy(data, size);
    reports = 0;
    unsigned mistakes = config_parse("f.conf", copy, size, &config, report, NULL);
    require((mistakes == 0) == (reports == 0) && reports <= CONFIG_MISTAKES_MAX + 1);
    if (mistakes == 0)
        check(&config);
    free(copy);
    return 0;
}
