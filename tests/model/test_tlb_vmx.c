// SPDX-License-Identifier: Apache-2.0
//
// The flushes of the VMX backend and of the second-level builder against tagged TLBs (tlb.h): VPIDs, EPT pointers,
// INVEPT, INVVPID, processors that change CPUs, domains whose tables and VPIDs are given to the next one.
//
// sources: ept/format.c
// cflags: -iquote tests/model/shim -include tests/model/shim/vmx/access.h -Wno-unused-function

// Named, but never called here; said before the first use, as Clang asks.
#pragma weak vmx_probe
#pragma weak vmx_cpu_on
#pragma weak vmx_read
#pragma weak vmx_write
#pragma weak vmx_read_segment
#pragma weak vmx_write_segment
#pragma weak vmx_access_msr
#pragma weak vmx_clear_shadow
#pragma weak vmx_queue_event
#pragma weak vmx_apic_mode
#pragma weak panic_trap
#pragma weak vmx_enter_guarded

#include "arch/x86.h"

#include "vmx/vmx.c"

#include <basalt/error.h>

const struct backend *backend = &vmx_backend;

#include "tests/model/tlb.h"

struct vmx_caps vmx_caps;

// ---- VMCSs ----

#define FIELDS 0x7000u
struct model_vmcs {
    hpa_t at;
    u64 fields[FIELDS];
};
static struct model_vmcs vmcss[DOMAINS * VCPUS * 64], *current[CPUS];
static unsigned vmcs_count;

static struct model_vmcs *vmcs_at(hpa_t at) {
    for (unsigned i = 0; i < vmcs_count; i++)
        if (vmcss[i].at.v == at.v)
            return &vmcss[i];
    vmcss[vmcs_count].at = at;
    return &vmcss[vmcs_count++];
}

u64 *model_field(u32 field) {
    assert_non_null(current[current_cpu]);
    return &current[current_cpu]->fields[field];
}

bool vmptrld(hpa_t at) {
    struct model_vmcs *vmcs = vmcs_at(at);

    for (unsigned i = 0; i < CPUS; i++)
        assert_true(i == current_cpu || current[i] != vmcs); // current on two CPUs
    current[current_cpu] = vmcs;
    return true;
}

bool vmclear(hpa_t at) {
    if (current[current_cpu] == vmcs_at(at))
        current[current_cpu] = NULL;
    return true;
}

// ---- What INVEPT and INVVPID forget (SDM, "Operations that Invalidate Cached Mappings") ----

static bool of_root(const struct translation *t, u64 root, u64 b unused) { return t->root == root; }
static bool of_vpid(const struct translation *t, u64 vpid, u64 b unused) {
    return t->linear != NO_LINEAR && t->tag == vpid;
}
static bool any(const struct translation *t unused, u64 a unused, u64 b unused) { return true; }
static bool linear(const struct translation *t, u64 a unused, u64 b unused) {
    return t->linear != NO_LINEAR;
}

void invept(u64 type, u64 pointer) {
    if (type == INV_ALL)
        tlb_forget(any, 0, 0);
    else
        tlb_forget(of_root, pointer & PAGE_MASK, 0);
}

void invvpid(u64 type, u16 vpid) {
    if (type == INV_ALL)
        tlb_forget(linear, 0, 0);
    else
        tlb_forget(of_vpid, vpid, 0);
}

// Without a VPID, each transition forgets what is tagged with VPID 0.
struct exit vmx_enter(struct cpu_state *cpu unused) {
    bool has_vpid = vmx_caps.use[CONTROL_SECONDARY] & SECONDARY_VPID && vmcs_read16(VPID);
    u64 vpid = has_vpid ? vmcs_read16(VPID) : 0;

    if (!has_vpid)
        tlb_forget(of_vpid, 0, 0);
    model_guest(vpid, vmcs_read64(EPT_POINTER) & PAGE_MASK, true);
    if (!has_vpid)
        tlb_forget(of_vpid, 0, 0);
    return (struct exit){.kind = BASALT_EXIT_INTERRUPT};
}

// ---- The rest of the backend, as far as it matters ----

static struct cpu model_cpus[CPUS];
struct cpu *this_cpu(void) {
    return &model_cpus[current_cpu];
}

void vmx_state_init(struct cpu_state *cpu) {
    vmcs_write64(EPT_POINTER, cpu->second_level.v | EPT_POINTER_WRITE_BACK | EPT_POINTER_WALK_4);
    vmcs_write16(VPID, cpu->tag);
}

void vmx_msrs_load(const struct cpu_state *cpu unused) {}
void vmx_msrs_save(struct cpu_state *cpu unused) {}
void vmx_init_host(const struct cpu *host unused) {}

static void with_everything(void **state) {
    (void)state;
    vmx_caps.use[CONTROL_SECONDARY] = SECONDARY_VPID;
    vmx_caps.ept_vpid = EPT_CAP_INVEPT_SINGLE | VPID_CAP_SINGLE;
    model_steps(60000, true);
}

static void with_invalidation_of_all_only(void **state) {
    (void)state;
    vmx_caps.ept_vpid = 0;
    model_steps(20000, true);
}

static void without_vpid(void **state) {
    (void)state;
    vmx_caps.use[CONTROL_SECONDARY] = 0;
    vmx_caps.ept_vpid = EPT_CAP_INVEPT_SINGLE;
    model_steps(20000, true);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(with_everything),
        cmocka_unit_test(with_invalidation_of_all_only),
        cmocka_unit_test(without_vpid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
