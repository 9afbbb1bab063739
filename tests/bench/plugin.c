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
// With count=1 it writes no instructions, but when a guest has been entered for the first time, and at each mark, how many
// were executed so far, and how often a guest was entered: `counts KERNEL DOM0 OTHERS ENTRIES`. At the end follow the kernel's
// long stretches between two STIs, from the first entry on: `stretch INSTRUCTIONS ADDRESS`, with the address of the
// instruction that was executed most; the longest for each such address.
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
enum { INLINE_ADD_U64 };
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *insn, int operation,
                                                void *counter, uint64_t add);
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

// Instructions counted by the distance of their image: those of one that comes late fall to the others, guests'.
#define KINDS 64
static bool counting;
static uint64_t kinds[KINDS], executions[KINDS + 1], entries, dom0_before;
static unsigned kind_count;

static uint64_t *counter_of(uint64_t distance) {
    unsigned i = 0;
    while (i < kind_count && kinds[i] != distance)
        i++;
    if (i == kind_count && i < KINDS)
        kinds[kind_count++] = distance;
    return &executions[i];
}

static uint64_t executed_by(bool known, uint64_t distance) {
    return known ? *counter_of(distance) : 0;
}

static void write_counts(void) {
    uint64_t all = 0, kernel = executed_by(kernel_known, kernel_distance);
    uint64_t dom0 = executed_by(dom0_known, dom0_distance);
    for (unsigned i = 0; i <= KINDS; i++)
        all += executions[i];
    fprintf(out, "counts %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", kernel, dom0,
            all - kernel - dom0, entries);
    fflush(out);
}

// An entry was one of dom0's if dom0 has executed anything since.
static void entering(unsigned vcpu, void *data) {
    uint64_t dom0 = executed_by(dom0_known, dom0_distance);

    (void)vcpu;
    (void)data;
    if (dom0 && dom0 == dom0_before && !entries++)
        write_counts();
    dom0_before = dom0;
}

// ---- stretches with interrupts off ----

#define LONG_STRETCH 5000u
#define SLOTS        4096u
#define STRETCHES    64u

static struct slot { uint64_t address, stretch, times; } slots[SLOTS];
static struct stretch { uint64_t length, address; } stretches[STRETCHES];
static uint64_t stretch_number = 1, stretch_length, hottest, hottest_times;

static bool of_kernel(const struct place *place) {
    return place->address & HIGH && kernel_known && place->distance == kernel_distance;
}

static void stretched(unsigned vcpu, void *data) {
    const struct place *place = data;
    struct slot *slot = &slots[place->address / 2 % SLOTS];

    (void)vcpu;
    if (!entries || !of_kernel(place))
        return;
    stretch_length++;
    if (slot->stretch != stretch_number)
        *slot = (struct slot){place->address, stretch_number, 0};
    if (slot->address == place->address && ++slot->times > hottest_times) {
        hottest = place->address;
        hottest_times = slot->times;
    }
}

static void stretch_ends(unsigned vcpu, void *data) {
    struct stretch *s = stretches;

    (void)vcpu;
    if (!entries || !of_kernel(data))
        return;
    while (s < stretches + STRETCHES - 1 && s->address && s->address != hottest)
        s++;
    if (stretch_length > LONG_STRETCH && stretch_length > s->length)
        *s = (struct stretch){stretch_length, hottest};
    stretch_number++;
    stretch_length = hottest_times = 0;
}

static void write_stretches(void) {
    for (struct stretch *s = stretches; s < stretches + STRETCHES; s++)
        if (s->length)
            fprintf(out, "stretch %" PRIu64 " %" PRIx64 "\n", s->length, s->address);
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
    if (counting) {
        write_counts();
        return;
    }
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
        if (counting) {
            qemu_plugin_register_vcpu_insn_exec_inline(insn, INLINE_ADD_U64,
                                                       counter_of(place->distance), 1);
            if (place->address & HIGH && (!kernel_known || place->distance == kernel_distance)) {
                bool sti = qemu_plugin_insn_size(insn) == 1 &&
                           !memcmp(qemu_plugin_insn_data(insn), "\xfb", 1);
                qemu_plugin_register_vcpu_insn_exec_cb(insn, sti ? stretch_ends : stretched, 0,
                                                       place);
            }
            if (mark || place->vmrun)
                qemu_plugin_register_vcpu_insn_exec_cb(insn, mark ? marked : entering, 0, place);
            continue;
        }
        qemu_plugin_register_vcpu_insn_exec_cb(insn, mark ? marked : executed, 0, place);
    }
}

static void ended(qemu_plugin_id_t id, void *data) {
    (void)id;
    (void)data;
    write_stretches();
    fclose(out);
}

int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv) {
    (void)info;
    for (int i = 0; i < argc; i++)
        if (!strncmp(argv[i], "out=", 4))
            out = fopen(argv[i] + 4, "w");
        else if (!strncmp(argv[i], "from=", 5))
            from = strtoull(argv[i] + 5, NULL, 0);
        else if (!strncmp(argv[i], "count=", 6))
            counting = true;
    if (!out)
        return -1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
