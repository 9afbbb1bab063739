// SPDX-License-Identifier: Apache-2.0
//
// The flushes of the SVM backend and of the second-level builder against tagged TLBs (tlb.h): ASIDs that run out, with
// and without flush-by-ASID, processors that change CPUs, domains whose tables are given to the next one.
//
// sources: ept/format.c svm/asid.c svm/registers.c svm/event.c svm/exit.c dom0/toolstack/check_svm.c
// cflags: -iquote tests/model/shim -Wno-unused-function

// Named, but never called here; said before the first use, as Clang asks.
#pragma weak svm_enter_guarded
#pragma weak refuse

#include "svm/svm.c"

#include "svm/run.c"

#include <basalt/error.h>
#include <signal.h>
#include <ucontext.h>

const struct backend *backend = &svm_backend;
struct backend_features backend_features;

#include "tests/model/tlb.h"
#include "toolstack/check.h"

enum { ASIDS = 6 };

static struct cpu model_cpus[CPUS];
struct cpu_features cpu_features;
struct cpu *this_cpu(void) {
    return &model_cpus[current_cpu];
}

static bool of_asid(const struct translation *t, u64 asid, u64 b unused) { return t->tag == asid; }
static bool any(const struct translation *t unused, u64 a unused, u64 b unused) { return true; }

static uint64_t read_block(void *vmcb, uint32_t field) {
    uint64_t value;

    if (field == BASALT_FIELD_SVM_FEATURES)
        return backend_features.flush_by_asid ? CPUID_8A_EDX_FLUSH_BY_ASID : 0;
    memcpy(&value, (u8 *)vmcb + field, sizeof(value));
    return value;
}

// What the backend makes is legal by the rules that dom0 holds refused blocks to.
static void assert_legal(struct vmcb *vmcb) {
    struct check check = {
        .read = read_block, .context = vmcb, .physical_bits = 52, .linear_bits = 48};

    assert_null(check_svm(&check));
}

struct exit svm_enter(struct cpu_state *cpu) {
    struct vmcb *vmcb = pool_ptr(cpu->svm.vmcb);

    assert_legal(vmcb);
    assert_in_range(vmcb->asid, 1, ASIDS - 1);
    assert_true(vmcb->tlb_control != TLB_CONTROL_FLUSH_ASID || backend_features.flush_by_asid);
    if (vmcb->tlb_control == TLB_CONTROL_FLUSH_ALL)
        tlb_forget(any, 0, 0);
    else if (vmcb->tlb_control == TLB_CONTROL_FLUSH_ASID)
        tlb_forget(of_asid, vmcb->asid, 0);
    model_guest(vmcb->asid, vmcb->nested_cr3, false);
    vmcb->exit_code = 0x60; // an interrupt
    return svm_exit(cpu);
}

#define RIP 16 // of the general registers in a signal's context

// VMSAVE is not for programs: it is passed over.
static void no_vmsave(int number unused, siginfo_t *info unused, void *context) {
    ucontext_t *c = context;
    const u8 *code = (const u8 *)c->uc_mcontext.gregs[RIP];

    if (memcmp(code, "\x0f\x01\xdb", 3))
        abort();
    c->uc_mcontext.gregs[RIP] += 3;
}

static void start(void) {
    struct sigaction action = {.sa_sigaction = no_vmsave, .sa_flags = SA_SIGINFO};

    sigaction(SIGILL, &action, NULL);
    sigaction(SIGSEGV, &action, NULL);
    for (current_cpu = 0; current_cpu < CPUS; current_cpu++) {
        model_cpus[current_cpu].id = current_cpu;
        svm_run_init(ASIDS);
    }
    current_cpu = 0;
}

static void without_flush_by_asid(void **state) {
    (void)state;
    start();
    backend_features.flush_by_asid = false;
    model_steps(40000, false);
}

static void with_flush_by_asid(void **state) {
    (void)state;
    start();
    backend_features.flush_by_asid = true;
    model_steps(40000, false);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_flush_by_asid),
        cmocka_unit_test(with_flush_by_asid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
