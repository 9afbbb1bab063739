// SPDX-License-Identifier: Apache-2.0
//
// A plugin for QEMU: which instructions run between two marks. A mark is `xchg %bx, %bx`, executed by a guest. From an
// odd mark to the next one every instruction is written to a file, one line each: whose it is and its address,
//
//     k ffffffff80201234      k: the kernel, d: dom0, g: a guest; a line `mark` stands at either end
//
// With from=ADDRESS it counts the instructions from the first one at that address to the first one behind a VMRUN, and
// writes a line `count N`.
//
// An address alone does not tell the kernel from dom0 (both live in the last 2 GiB), so the distance between an
// instruction's address and where QEMU keeps it does: it is the same all over an image. The kernel's is learned from VMRUN,
// dom0's from the first high address that is not the kernel's. Follows "QEMU TCG Plugins" (QEMU's documentation); the few
// declarations needed are given here, as Debian has no package with the header.

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef void (*translate_callback)(qemu_plugin_id_t id, struct qemu_plugin_tb *tb);
typedef void (*execute_callback)(unsigned vcpu, void *data);
typedef void (*exit_callback)(qemu_plugin_id_t id, void *data);

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, translate_callback callback);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
                                            execute_callback callback, int flags, void *data);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, exit_callback callback, void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
void *qemu_plugin_insn_haddr(const struct qemu_plugin_insn *insn);

#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = 1;
EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv);

#define HIGH (1ull << 63)

// An instruction as it was translated. Never freed: QEMU may keep its translation for ever.
struct place {
    uint64_t address, distance;
    bool vmrun;
};

static FILE *out;
static bool recording, kernel_known, dom0_known;
static uint64_t kernel_distance, dom0_distance;
static uint64_t from, count;
static enum { WAITING, COUNTING, ENTERING, COUNTED } state;

static char whose(const struct place *place) {
    if (kernel_known && place->distance == kernel_distance)
        return 'k';
    return dom0_known && place->distance == dom0_distance && place->address & HIGH ? 'd' : 'g';
}

static void count_one(const struct place *place) {
    if (state == WAITING && place->address == from)
        state = COUNTING;
    if (state == ENTERING) {
        state = COUNTED;
        fprintf(out, "count %" PRIu64 "\n", count);
        fflush(out);
    }
    count += state == COUNTING;
    if (state == COUNTING && place->vmrun)
        state = ENTERING;
}

static void executed(unsigned vcpu, void *data) {
    const struct place *place = data;

    (void)vcpu;
    if (from)
        count_one(place);
    if (recording)
        fprintf(out, "%c %" PRIx64 "\n", whose(place), place->address);
}

static void marked(unsigned vcpu, void *data) {
    (void)vcpu;
    (void)data;
    recording = !recording;
    fprintf(out, "mark\n");
}

static bool is(const struct qemu_plugin_insn *insn, const char bytes[3]) {
    return qemu_plugin_insn_size(insn) == 3 && !memcmp(qemu_plugin_insn_data(insn), bytes, 3);
}

static void learn(const struct place *place) {
    if (!(place->address & HIGH))
        return;
    if (place->vmrun) {
        kernel_known = true;
        kernel_distance = place->distance;
    } else if (kernel_known && !dom0_known && place->distance != kernel_distance) {
        dom0_known = true;
        dom0_distance = place->distance;
    }
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
    (void)id;
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        struct place *place = malloc(sizeof(*place));

        place->vmrun = is(insn, "\x0f\x01\xd8");
        place->address = qemu_plugin_insn_vaddr(insn);
        place->distance = (uint64_t)qemu_plugin_insn_haddr(insn) - place->address;
        learn(place);
        bool mark = is(insn, "\x66\x87\xdb");
        qemu_plugin_register_vcpu_insn_exec_cb(insn, mark ? marked : executed, 0, place);
    }
}

static void ended(qemu_plugin_id_t id, void *data) {
    (void)id;
    (void)data;
    fclose(out);
}

int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv) {
    (void)info;
    for (int i = 0; i < argc; i++)
        if (!strncmp(argv[i], "out=", 4))
            out = fopen(argv[i] + 4, "w");
        else if (!strncmp(argv[i], "from=", 5))
            from = strtoull(argv[i] + 5, NULL, 0);
    if (!out)
        return -1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
