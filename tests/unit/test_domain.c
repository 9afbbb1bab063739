// SPDX-License-Identifier: Apache-2.0
//
// Domains and their memory: creation, populating, releasing, destruction in steps; quota and memory running out at every
// single allocation of each scenario. At any time what is charged is what is held, and after each scenario every
// frame and every charged byte is back.
// sources: tests/unit/host_machine.c tests/unit/host_kernel.c
// sources: kernel/domain.c kernel/memory.c kernel/handle.c kernel/event.c kernel/request.c kernel/share.c
// sources: kernel/interrupt.c kernel/hypercall.c kernel/policy.c kernel/timer.c kernel/schedule.c kernel/trace.c kernel/frames.c
// sources: kernel/console.c ept/ept.c ept/format.c guest/vcpu.c guest/interrupt.c guest/walk.c guest/emulate.c
// sources: guest/run.c guest/decode.c guest/event.c
// sources: guest/cpuid.c guest/msr.c guest/cr.c guest/vlapic.c guest/vlapic_register.c
// sources: guest/vlapic_timer.c guest/control.c
// libs: -Wl,--wrap=frame_alloc -Wl,--wrap=frame_alloc_chunk -Wl,--wrap=frame_kernel_alloc

#include "tests/unit/kernel_scene.h"

#include <basalt/error.h>

static void test_create_and_destroy(void **state unused) {
    struct domain *d = host_domain(64 * KIB);

    check_charges();
    assert_int_equal(d->info.status, BASALT_STATUS_PAUSED);
    assert_int_equal(d->info.memory_quota, 64 * KIB);
    assert_int_equal(d->info.weight, 256);
    assert_int_equal(d->info.cap, 0);
    u32 id = d->info.id;
    assert_int_equal(host_destroy(d), 1);
    d = host_domain(64 * KIB);
    assert_int_not_equal(d->info.id, id);
    host_destroy(d);
    host_assert_same(empty);
}

static void test_too_little_quota(void **state unused) {
    for (u64 quota = 0; quota < 2 * PAGE_SIZE; quota += 1000) {
        struct domain *d = NULL;
        int error = domain_create(quota, &d);
        assert_true(error == -BASALT_ENOSPC || error == -BASALT_ENOMEM);
        assert_null(d);
        host_assert_same(empty);
    }
}

static void test_populate_arguments(void **state unused) {
    struct domain *d = host_domain(8 * MIB);

    assert_int_equal(memory_populate(d, GPA(1), 1, 0), -BASALT_EINVAL);
    assert_int_equal(memory_populate(d, GPA(0), 0, 0), -BASALT_EINVAL);
    assert_int_equal(memory_populate(d, GPA(EPT_LIMIT), 1, 0), -BASALT_EINVAL);
    assert_int_equal(memory_populate(d, GPA(EPT_LIMIT - PAGE_SIZE), 2, 0), -BASALT_EINVAL);
    assert_int_equal(memory_populate(d, GPA(PAGE_SIZE), ~0ull, 0), -BASALT_EINVAL);
    assert_int_equal(memory_populate(d, GPA(~0ull & PAGE_MASK), 1, 0), -BASALT_EINVAL);
    assert_int_equal(memory_populate(d, GPA(0), 1, 3), -BASALT_EINVAL);
    assert_int_equal(memory_release(d, GPA(0), 0), -BASALT_EINVAL);
    assert_int_equal(memory_release(d, GPA(1), 1), -BASALT_EINVAL);
    assert_int_equal(memory_release(d, GPA(0), 1), -BASALT_ENOENT);
    assert_int_equal(memory_populate(d, GPA(EPT_LIMIT - PAGE_SIZE), 1, 0), 1);
    check_charges();
    host_destroy(d);
    host_assert_same(empty);
}

// Frames that others filled before come zeroed.
static void dirty_all_frames(void) {
    struct domain *d = host_domain(HOST_RAM);

    for (u64 gpa = 0; memory_populate(d, GPA(gpa), 1, 0) == 1; gpa += PAGE_SIZE)
        memset(host_memory(d, gpa), 0xa5, PAGE_SIZE);
    host_destroy(d);
}

static void assert_zero(struct domain *d, u64 gpa, u64 bytes) {
    for (; bytes; bytes -= PAGE_SIZE, gpa += PAGE_SIZE) {
        u64 page[512];
        assert_int_equal(memory_read(d, GPA(gpa), page, sizeof(page)), 0);
        for (unsigned i = 0; i < 512; i++)
            assert_int_equal(page[i], 0);
    }
}

static void test_populate_and_release(void **state unused) {
    dirty_all_frames();
    struct domain *d = host_domain(16 * MIB);

    assert_int_equal(memory_populate(d, GPA(0), 1024, 0), 512); // a superpage per call
    assert_int_equal(ept_walk(&d->ept, GPA(0x1234)).shift, 21);
    assert_int_equal(memory_populate(d, GPA(0x200000), 511, 0), 64);
    assert_int_equal(memory_populate(d, GPA(0x23f000), 10, 0), -BASALT_EEXIST);
    assert_int_equal(memory_populate(d, GPA(0x240000), 10, 0), 10);
    assert_int_equal(memory_populate(d, GPA(0), 512, 0), -BASALT_EEXIST);
    check_charges();
    assert_zero(d, 0, 0x24a000);
    // Taking one page out of a superpage splits it.
    assert_int_equal(memory_release(d, GPA(0x5000), 1), 1);
    assert_false(ept_walk(&d->ept, GPA(0x5000)).present);
    assert_int_equal(ept_walk(&d->ept, GPA(0x6000)).shift, 12);
    assert_int_equal(memory_release(d, GPA(0x5000), 1), -BASALT_ENOENT);
    assert_int_equal(memory_release(d, GPA(0x4000), 4), 1); // up to the hole
    check_charges();
    // A frame that something else refers to stays.
    hpa_t hpa = ept_walk(&d->ept, GPA(0x6000)).hpa;
    frames_get(hpa, 1);
    assert_int_equal(memory_release(d, GPA(0x6000), 1), -BASALT_EBUSY);
    frames_put(hpa, 1);
    assert_int_equal(memory_release(d, GPA(0x6000), 1), 1);
    assert_int_equal(memory_populate(d, GPA(0x4000), 3, 0), 3);
    check_charges();
    host_destroy(d);
    host_assert_same(empty);
}

static void test_release_a_superpage(void **state unused) {
    struct domain *d = host_domain(16 * MIB);

    assert_int_equal(memory_populate(d, GPA(0), 512, 0), 512);
    assert_int_equal(memory_release(d, GPA(0), 512), 512);
    assert_false(ept_walk(&d->ept, GPA(0)).present);
    assert_int_equal(memory_populate(d, GPA(0), 512, 0), 512);
    hpa_t inside = HPA(ept_walk(&d->ept, GPA(0)).hpa.v + 77 * PAGE_SIZE);
    frames_get(inside, 1);
    assert_int_equal(memory_release(d, GPA(0), 512), -BASALT_EBUSY);
    frames_put(inside, 1);
    host_destroy(d);
    host_assert_same(empty);
}

static void test_lazy(void **state unused) {
    struct domain *d = host_domain(16 * MIB);
    u64 value = 0x1122334455667788, out = 0;

    dirty_all_frames();
    assert_int_equal(memory_populate(d, GPA(0x1ff000), 1025, BASALT_POPULATE_LAZY), 1025);
    u64 charged = d->info.memory_bytes;
    assert_false(memory_fault(d, GPA(0x1fe000)));
    assert_false(memory_fault(d, GPA(0x600000)));
    assert_int_equal(memory_read(d, GPA(0x1fe000), &out, 8), -BASALT_EFAULT);
    assert_true(d->info.memory_bytes == charged);
    assert_int_equal(memory_write(d, GPA(0x1ffffc), &value, 8),
                     0); // a page and a superpage at once
    assert_int_equal(memory_read(d, GPA(0x1ffffc), &out, 8), 0);
    assert_true(out == value);
    assert_int_equal(ept_walk(&d->ept, GPA(0x200000)).shift, 21);
    assert_zero(d, 0x201000, 2 * MIB - PAGE_SIZE);
    assert_false(memory_fault(d, GPA(0x200000))); // it is there
    // No whole chunk left: single frames do.
    host_fail_at = 1;
    assert_true(memory_fault(d, GPA(0x400000 + 5 * PAGE_SIZE)));
    assert_int_equal(ept_walk(&d->ept, GPA(0x405000)).shift, 12);
    assert_false(ept_walk(&d->ept, GPA(0x406000)).present);
    assert_true(memory_fault(d, GPA(0x406fff)));
    check_charges();
    host_destroy(d);
    host_assert_same(empty);
}

// A hole stays a hole whatever stood there before.
static void test_lazy_after_release(void **state unused) {
    struct domain *d = host_domain(16 * MIB);

    assert_int_equal(memory_populate(d, GPA(0x200000), 4, 0), 4);
    assert_int_equal(memory_release(d, GPA(0x200000), 4), 4);
    for (u64 done = 0; done < 512;) {
        i64 pages =
            memory_populate(d, GPA(0x200000 + done * PAGE_SIZE), 512 - done, BASALT_POPULATE_LAZY);
        assert_true(pages > 0);
        done += (u64)pages;
    }
    assert_true(memory_fault(d, GPA(0x205000)));
    assert_true(memory_fault(d, GPA(0x3ff000)));
    host_destroy(d);
    host_assert_same(empty);
}

static void test_copy(void **state unused) {
    struct domain *d = host_domain(1 * MIB), *other = host_domain(1 * MIB);
    u8 in[9000], out[9000];

    for (unsigned i = 0; i < sizeof(in); i++)
        in[i] = (u8)host_random();
    assert_int_equal(memory_populate(d, GPA(0x10000), 4, 0), 4);
    for (unsigned n = 0; n < 200; n++) {
        u64 offset = host_random() % (4 * PAGE_SIZE), bytes = host_random() % sizeof(in);
        bool fits = offset + bytes <= 4 * PAGE_SIZE;
        assert_int_equal(memory_write(d, GPA(0x10000 + offset), in, bytes),
                         fits ? 0 : -BASALT_EFAULT);
        if (!fits)
            continue;
        memset(out, 0, sizeof(out));
        assert_int_equal(memory_read(d, GPA(0x10000 + offset), out, bytes), 0);
        assert_memory_equal(in, out, bytes);
    }
    assert_int_equal(memory_read(d, GPA(~0ull), out, 1), -BASALT_EFAULT);
    assert_int_equal(memory_read(d, GPA(~0ull), out, 2), -BASALT_EFAULT);
    assert_int_equal(memory_write(d, GPA(EPT_LIMIT), out, 1), -BASALT_EFAULT);
    assert_int_equal(memory_write(d, GPA(0x0), out, 0), 0);
    // Read-only and device memory.
    hpa_t frame = ept_walk(&d->ept, GPA(0x10000)).hpa;
    assert_int_equal(ept_map(&other->ept, GPA(0), frame, 12, EPT_READ | EPT_FOREIGN), 0);
    assert_int_equal(ept_map(&other->ept, GPA(0x1000), frame, 12,
                             EPT_READ | EPT_WRITE | EPT_UNCACHED | EPT_FOREIGN),
                     0);
    assert_int_equal(memory_read(other, GPA(0), out, 100), 0);
    assert_int_equal(memory_write(other, GPA(0), out, 100), -BASALT_EFAULT);
    assert_int_equal(memory_read(other, GPA(0x1000), out, 100), -BASALT_EFAULT);
    assert_int_equal(memory_write(other, GPA(0x1000), out, 100), -BASALT_EFAULT);
    host_destroy(other);
    host_destroy(d);
    host_assert_same(empty);
}

static void test_identity(void **state unused) {
    u64 ram;
    struct domain *d = host_dom0(4 * MIB, &ram);

    check_charges();
    assert_int_equal(memory_populate(d, GPA(0), 1, 0), -BASALT_EINVAL);
    assert_int_equal(memory_map_identity(d, HPA(0xa000), 3 * PAGE_SIZE, EPT_READ), 0);
    assert_int_equal(memory_map_identity(d, HPA(0x9000), 3 * PAGE_SIZE, EPT_READ), -BASALT_EEXIST);
    assert_false(ept_walk(&d->ept, GPA(0x9000)).present); // nothing is left of the half that worked
    memory_unmap_identity(d, HPA(0xa000), 3 * PAGE_SIZE);
    assert_false(ept_walk(&d->ept, GPA(0xa000)).present);
    assert_int_equal(memory_release(d, GPA(ram), 512), 512); // dom0 gives memory back
    check_charges();
    host_load(NULL);
    host_destroy(d);
    host_assert_same(empty);
}

static void test_end_rings_the_watcher(void **state unused) {
    u64 ram;
    struct domain *dom0 = host_dom0(2 * MIB, &ram), *d = host_domain(4 * MIB);
    i64 port = port_alloc(dom0);

    assert_int_equal(vcpu_create(d, 0), 0);
    d->end_watcher.domain = dom0;
    d->end_watcher.port = (u32)port;
    assert_int_equal(domain_control(d, BASALT_OP_RESUME), 0);
    host_load(d->vcpus[0]);
    domain_end(d, BASALT_END_TRIPLE_FAULT, 0, 42);
    assert_true(dom0->events->pending[0] & BIT(port));
    dom0->events->pending[0] = dom0->events->summary = 0;
    domain_end(d, BASALT_END_CONTROL, 0, 0); // only the first end counts
    assert_false(events_pending(dom0));
    assert_int_equal(d->info.end_reason, BASALT_END_TRIPLE_FAULT);
    assert_int_equal(d->info.end_detail, 42);
    assert_int_equal(domain_control(d, BASALT_OP_RESUME), -BASALT_EINVAL);
    assert_int_not_equal(vcpu_create(d, 1), 0);
    host_destroy(d);
    host_load(NULL);
    host_destroy(dom0);
    host_assert_same(empty);
}

// ---- Destruction in steps ----

static void test_destroy_is_bounded(void **state unused) {
    struct domain *d = host_domain(HOST_RAM);
    u64 pages = 0;

    // Superpages, single pages close together and far apart.
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(memory_populate(d, GPA(i * 2 * MIB), 512, 0), 512);
    for (unsigned i = 0; i < 2000; i += 50)
        assert_int_equal(memory_populate(d, GPA(4 * GIB + i * PAGE_SIZE), 50, 0), 50);
    for (u64 i = 1; i < 100; i++)
        assert_int_equal(memory_populate(d, GPA(i << 32 | 0x1234000), 1, 0), 1);
    pages = d->info.memory_bytes / PAGE_SIZE;
    check_charges();
    for (unsigned steps = 0;; steps++) {
        int error = domain_destroy(d);
        if (!error)
            break;
        assert_int_equal(error, -BASALT_EINTR);
        assert_int_equal(d->info.status, BASALT_STATUS_ENDED);
        assert_true(pages - d->info.memory_bytes / PAGE_SIZE <= 10 * 512 + 1024 + 100);
        pages = d->info.memory_bytes / PAGE_SIZE;
        check_charges();
        assert_true(steps < 1000);
    }
    host_assert_same(empty);
}

// As many as memory has room for.
static void test_many_domains(void **state unused) {
    static struct domain *all[HOST_RAM / (2 * PAGE_SIZE)];
    unsigned count = 0;

    while (count < ARRAY_SIZE(all) && !domain_create(64 * KIB, &all[count]))
        count++;
    assert_true(count > 4000 && count < ARRAY_SIZE(all));
    check_charges();
    while (count) {
        unsigned i = (unsigned)(host_random() % count);
        host_destroy(all[i]);
        all[i] = all[--count];
    }
    host_assert_same(empty);
}

// ---- Running out, at every allocation ----

// Everything that makes a domain hold something. Errors are allowed; dom0 is a holder of handles, server and so on.
static void live(struct domain *dom0, u64 quota) {
    struct domain *d = NULL, *helper = NULL;
    u64 page = 0, value = 1;
    i64 port = port_alloc(dom0);

    if (!domain_create(quota, &d)) {
        struct handle *h = handle_create(dom0, d, BASALT_RIGHTS_DOMAIN);
        (void)memory_populate(d, GPA(0), 512, 0);
        (void)memory_populate(d, GPA(0x40000000), 5, 0);
        (void)memory_populate(d, GPA(0x80000000), 1000, BASALT_POPULATE_LAZY);
        (void)!memory_write(d, GPA(0x80000000), &value, 8);
        (void)!memory_write(d, GPA(0x80200010), &value, 8);
        (void)memory_release(d, GPA(0x3000), 2); // splits
        for (unsigned i = 0; i < 3; i++)
            (void)!vcpu_create(d, i);
        u64 pages;
        (void)memory_populate(d, GPA(0x90000000), 3, BASALT_POPULATE_HIDDEN);
        i64 index =
            share_grant(d, GPA(0x90000000), 3, BASALT_SHARE_READ | BASALT_SHARE_WRITE, dom0, dom0);
        if (index >= 0)
            (void)share_map(share_find(d, (u64)index, dom0), BASALT_SHARE_IDENTITY, &pages);
        if (port > 0) {
            i64 id = request_serve(d, dom0, (u32)port, &page);
            if (id >= 0) {
                (void)!request_route(d, dom0, (u64)id, BASALT_SPACE_IO, 0x3f8, 0x3ff);
                (void)!request_route(d, dom0, (u64)id, BASALT_SPACE_MEMORY, 0xd0000000, 0xd0000fff);
            }
            (void)!request_route(d, dom0, (u64)port, BASALT_SPACE_IO_DOORBELL, 0x70, 0x70);
        }
        if (h && !domain_create(quota, &helper))
            (void)handle_delegate(h, BASALT_RIGHT_IO, helper);
        check_charges();
        assert_true(d->info.memory_bytes <= d->info.memory_quota);
        // Either may go first.
        if (helper && (quota ^ host_allocations) & 1)
            host_destroy(helper), helper = NULL;
        host_destroy(d);
    }
    if (helper)
        host_destroy(helper);
    check_charges();
}

// The n-th allocation fails, or all from it on.
static void fail_each(bool rest) {
    u64 ram, needed = 0, errors = host_log_errors;

    for (u64 n = 0; n == 0 || n <= needed; n++) {
        struct domain *dom0 = host_dom0(2 * MIB, &ram);
        host_load(dom0->vcpus[0]);
        host_allocations = 0;
        host_fail_at = n;
        host_fail_rest = rest;
        live(dom0, 16 * MIB);
        host_fail_at = 0;
        needed = n ? needed : host_allocations;
        host_load(NULL);
        host_destroy(dom0);
        host_assert_same(empty);
    }
    print_message("%llu allocations failed in turn\n", (unsigned long long)needed);
    assert_true(needed > 30);
    assert_int_equal(host_log_errors, errors);
}

static void test_one_allocation_fails(void **state unused) { fail_each(false); }
static void test_memory_runs_out(void **state unused) { fail_each(true); }

static void test_quota_runs_out(void **state unused) {
    u64 ram, errors = host_log_errors;

    for (u64 pages = 1; pages < 1200;
         pages += pages < 40 || (pages > 505 && pages < 560) ? 1 : 23) {
        struct domain *dom0 = host_dom0(2 * MIB, &ram);
        host_load(dom0->vcpus[0]);
        live(dom0, pages * PAGE_SIZE);
        host_load(NULL);
        host_destroy(dom0);
        host_assert_same(empty);
    }
    assert_int_equal(host_log_errors, errors);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_create_and_destroy),
        TEST(test_too_little_quota),
        TEST(test_populate_arguments),
        TEST(test_populate_and_release),
        TEST(test_release_a_superpage),
        TEST(test_lazy),
        TEST(test_lazy_after_release),
        TEST(test_copy),
        TEST(test_identity),
        TEST(test_end_rings_the_watcher),
        TEST(test_destroy_is_bounded),
        TEST(test_many_domains),
        TEST(test_one_allocation_fails),
        TEST(test_memory_runs_out),
        TEST(test_quota_runs_out),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
