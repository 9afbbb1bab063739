// SPDX-License-Identifier: Apache-2.0
//
// Hypercalls as hostile callers make them: every number with plausible, extreme and random arguments, a million calls from
// a printed seed, by dom0, by guests and by a domain with delegated rights, in 64- and 32-bit code, with allocations
// failing now and then. Nothing crashes, every result is documented, other registers are kept, every frame is charged
// to someone, and at the end all of them are back. CALLS=n in the environment sets another number.
// like: tests/unit/test_hypercall.c

#include "tests/unit/hypercall_scene.h"

#define COUNT (BASALT_HC_END - BASALT_HC_BASE)

static void check_charges(void) {
    struct host_account now = host_account();

    assert_int_equal(now.charged - empty.charged, (now.kernel_frames - empty.kernel_frames +
                                                   now.domain_frames - empty.domain_frames) *
                                                      PAGE_SIZE);
}

// ---- What each argument is ----

// h handle, H grantee, M the machine's, b buffer, n count, q quota, g page address, p pages, P port, v vCPU, s share, f
// flags, r rights, i index, N number of a request, k space, a address of a device, d PCI function, o offset, z access
// size, m MSI address, D its data, l 0 or 1, t time, I identity or address
static const char *const signatures[COUNT] = {
    "",    "",      "",     "MPi",  "Ma",     "M",   "Ml", // VERSION .. RESET
    "Mq",  "h",     "hi",   "hb",   "hP",     "hnn", "hgpf",
    "hgp", "hgpfH", "hsI",  "hs",                    // DOMAIN_CREATE ..
    "hv",  "hvb",   "hvb",  "hvb",  "hvi",           // VCPU_CREATE ..
    "",    "P",     "tP",                            // PORT_ALLOC ..
    "hP",  "hikaa", "hvNx", "hmD",                   // REQUEST_SERVE ..
    "Mdo", "Mdx",   "MdiP", "P",                     // PCI_READ ..
    "hrh", "h",     "i",    "hvNb", "hvNazx", "hbn", // HANDLE_DELEGATE ..
};

static u64 latest_request;
static u64 outcomes[COUNT][2]; // good ones, errors

static u64 extreme(void) {
    static const u64 values[] = {
        0,
        1,
        2,
        0x7f,
        0xff,
        0xfff,
        0x1000,
        0xffff,
        0x10000,
        0x7fffffff,
        0x80000000,
        0xfffff000,
        0xffffffff,
        0x100000000,
        BIT(47),
        BIT(48) - PAGE_SIZE,
        BIT(48),
        BIT(52),
        BIT(63),
        ~0ull,
        ~0ull - 4095,
        ~0ull - 1,
        (u64)-8,
    };
    return host_random() % 3 ? values[host_random() % ARRAY_SIZE(values)]
                             : host_random() >> host_random() % 64;
}

static u64 buffer(const struct domain *caller) {
    u64 offset = host_random() % 16 * 64 + (host_random() % 8 ? 0 : PAGE_SIZE - 16);

    return (caller->identity ? ram : 0) + offset;
}

static u64 typed(const struct domain *caller, char type) {
    u64 r = host_random();

    switch (type) {
    case 'h': return 2 + r % 6;
    case 'H': return r % 2 ? 0 : 2 + r % 6;
    case 'M': return BASALT_HANDLE_MACHINE;
    case 'b': return buffer(caller);
    case 'n': return r % 20;
    case 'q': return r % (12 * MIB) >> (r >> 32) % 10;
    case 'g': return r % 3 ? r % 24 * PAGE_SIZE : r % 4 * SUPERPAGE_SIZE + (r >> 8) % 2 * PAGE_SIZE;
    case 'p': return r % 3 ? 1 + r % 12 : 512 + r % 100;
    case 'P': return (r >> 8) % 3 ? r % 6 : r % 24;
    case 'v': return r % 4;
    case 's': return r % 4;
    case 'f': return r % 4;
    case 'r': return r % 2 ? BIT(r % 6) : r % 64;
    case 'i': return r % 6;
    case 'k': return r % 6;
    case 'l': return r % 2;
    case 'a': return r % 40;
    case 'N': return latest_request - r % 3 / 2;
    case 'd': return r % 8 ? r % 2 ? 0x10 : 0x18 : r % 16 ? r % 64 : BASALT_IRQ_ISA + r % 20;
    case 'o': return r % 4 ? r % 256 : r % 5000;
    case 'z': return BIT(r % 3);
    case 'm': return 0xfee00000 | (r % 5) << 12 | (r >> 20 & 0xc);
    case 'D': return (r % 256) | (r >> 20 & 0xc700);
    case 't': return r % 3 ? rdtsc() + r % 100000 : 0;
    case 'I': return caller->identity ? BASALT_SHARE_IDENTITY : GIB + r % 64 * 0x100000;
    default: return r;
    }
}

// Something for hypercalls that read a structure.
static void fill_buffer(struct domain *caller, u64 gpa) {
    struct basalt_vcpu_state state = {
        .cr0 = CR0_PE | CR0_ET, .rflags = 2, .activity = (u32)(host_random() % 3)};
    u64 garbage[64];

    for (unsigned i = 0; i < ARRAY_SIZE(garbage); i++)
        garbage[i] = host_random();
    if (host_random() % 2)
        (void)!memory_write(caller, GPA(gpa), &state, sizeof(state));
    else
        (void)!memory_write(caller, GPA(gpa), garbage, sizeof(garbage));
}

static void check_result(i64 result) {
    static const i64 errors[] = {BASALT_EPERM,  BASALT_ENOENT, BASALT_EINTR,  BASALT_EBADF,
                                 BASALT_EAGAIN, BASALT_ENOMEM, BASALT_EFAULT, BASALT_EBUSY,
                                 BASALT_EEXIST, BASALT_ENODEV, BASALT_EINVAL, BASALT_ENOSPC,
                                 BASALT_ENOSYS, 1000};
    bool known = result >= 0;

    for (unsigned i = 0; i < ARRAY_SIZE(errors); i++)
        known |= result == -errors[i];
    if (!known)
        fail_msg("result %lld is not documented", (long long)result);
}

// One call with the registers as they are; 32-bit callers see the low halves.
static i64 call(struct vcpu *v, u64 number, const u64 args[6]) {
    u64 before[16];
    bool quiet = v->domain == dom0;
    jmp_buf jump;

    v->cpu.gprs[BASALT_RDX] = 0x1234;
    host_reset = &jump;
    if (setjmp(jump))
        return 0; // the machine is being reset
    if (guest_mode(v) == MODE_64) {
        static const u8 registers[6] = {BASALT_RDI, BASALT_RSI, BASALT_RDX,
                                        BASALT_R10, BASALT_R8,  BASALT_R9};
        for (unsigned i = 0; i < 6; i++)
            v->cpu.gprs[registers[i]] = args[i];
    } else {
        static const u8 registers[6] = {BASALT_RBX, BASALT_RCX, BASALT_RDX,
                                        BASALT_RSI, BASALT_RDI, BASALT_RBP};
        for (unsigned i = 0; i < 6; i++)
            v->cpu.gprs[registers[i]] = args[i];
    }
    v->cpu.gprs[BASALT_RAX] = number;
    memcpy(before, v->cpu.gprs, sizeof(before));
    host_exit_for_call(v);
    for (unsigned i = 0; quiet && i < 16; i++)
        if (i != BASALT_RAX && i != BASALT_RDX)
            assert_true(v->cpu.gprs[i] == before[i]);
    return guest_mode(v) == MODE_64 ? (i64)v->cpu.gprs[BASALT_RAX] : (i32)v->cpu.gprs[BASALT_RAX];
}

// A virtual processor that may make a call: dom0's, or one of a running domain.
static struct vcpu *pick_caller(void) {
    struct handle *h = handle_find(dom0, (u32)(host_random() % 10));
    struct vcpu *v = h && h->target ? h->target->vcpus[host_random() % 2] : NULL;

    return v && !v->blocked && h->target->info.status == BASALT_STATUS_RUNNING &&
                   host_random() % 4 == 0
               ? v
               : dom0->vcpus[0];
}

static void prepare(struct vcpu *v) {
    host_load(v);
    if (v->domain != dom0)
        host_set_mode(v, host_random() % 4 ? MODE_64 : MODE_32);
    host_vcpu(v)->cpl = v->domain != dom0 && host_random() % 16 == 0 ? 3 : 0;
}

// What a guest's instructions do between hypercalls.
static void guest_access(struct vcpu *v) {
    enum basalt_space space = host_random() % 2 ? BASALT_SPACE_MEMORY : BASALT_SPACE_IO;
    u64 address = host_random() % 44, data = host_random();

    if (v->blocked & BLOCK_REQUEST)
        return;
    if (request_access(v, space, address, 1u << host_random() % 3, host_random() % 2, &data))
        latest_request = v->io.number;
}

// What makes and takes others away comes rarely, so that there is time to do something with them.
static bool destructive(u64 number) {
    return number == BASALT_HC_DOMAIN_CREATE || number == BASALT_HC_DOMAIN_DESTROY ||
           number == BASALT_HC_DOMAIN_CONTROL || number == BASALT_HC_HANDLE_REVOKE ||
           number == BASALT_HC_PORT_FREE || number == BASALT_HC_SHARE_END ||
           number == BASALT_HC_REQUEST_SERVE;
}

static void one_call(void) {
    struct vcpu *v = pick_caller();
    u64 number = BASALT_HC_BASE + host_random() % COUNT, args[6];
    bool plausible = host_random() % 8;

    prepare(v);
    if (v->domain != dom0 && host_random() % 3 == 0) {
        guest_access(v);
        return;
    }
    if (destructive(number) && host_random() % 16)
        number = BASALT_HC_BASE + host_random() % COUNT;
    if (host_random() % 64 == 0)
        number = extreme();
    const char *signature = number - BASALT_HC_BASE < COUNT ? signatures[number - BASALT_HC_BASE]
                                                            : "";
    for (unsigned i = 0; i < 6; i++) {
        args[i] = *signature && plausible && host_random() % 24 ? typed(v->domain, *signature)
                                                                : extreme();
        if (*signature == 'b' && host_random() % 8)
            fill_buffer(v->domain, args[i]);
        signature += *signature != 0;
    }
    if (v->domain == dom0 && number == BASALT_HC_MEMORY_RELEASE &&
        !args[0]) // keeps the pages of its buffers
        args[1] = ram + SUPERPAGE_SIZE + host_random() % 512 * PAGE_SIZE;
    host_fail_at = host_random() % 32 ? 0 : 1 + host_random() % 3;
    i64 result = call(v, number + (host_random() % 8 ? 0 : BASALT_HC_THEN_BLOCK), args);
    host_fail_at = 0;
    check_result(result);
    if (number - BASALT_HC_BASE < COUNT)
        outcomes[number - BASALT_HC_BASE][result < 0]++;
    if (v->blocked & BLOCK_EVENT)
        vcpu_unblock(v, BLOCK_EVENT);
}

// Keeps the population such that something can happen.
static void tend(void) {
    struct vcpu *v = dom0->vcpus[0];

    host_load(v);
    schedule_poll();
    struct handle *h;
    for (u32 cursor = 2; (h = host_next_handle(dom0, &cursor)); cursor++)
        if (population() > 6 || (h->target && h->target->info.status == BASALT_STATUS_ENDED))
            if (host_random() % 2)
                (void)HOST_CALL(v, DOMAIN_DESTROY, cursor);
    if (population() >= 4)
        return;
    struct basalt_vcpu_state state = {.cr0 = CR0_PE | CR0_ET, .rflags = 2};
    u64 at = ram + 64;
    i64 handle = HOST_CALL(v, DOMAIN_CREATE, BASALT_HANDLE_MACHINE, 6 * MIB);
    if (handle < 0)
        return;
    struct domain *d = handle_find(dom0, (u32)handle)->target;
    if (host_random() % 3 == 0) { // a driver domain: has ports, and knows of dom0 and of another
        d->identity = true;
        (void)!events_init(d);
        (void)handle_create(d, dom0, BASALT_RIGHT_QUOTA);
        (void)HOST_CALL(v, HANDLE_DELEGATE, 2 + host_random() % 4, 0x17, (u64)handle);
    }
    assert_int_equal(memory_write(dom0, GPA(at), &state, sizeof(state)), 0);
    (void)HOST_CALL(v, MEMORY_POPULATE, (u64)handle, 0, 16);
    for (u64 i = 0; i < 2; i++) {
        (void)HOST_CALL(v, VCPU_CREATE, (u64)handle, i);
        (void)HOST_CALL(v, VCPU_SET, (u64)handle, i, at);
    }
    if (d->events && d->vcpus[0]) {
        host_load(d->vcpus[0]);
        host_set_mode(d->vcpus[0], MODE_64);
        (void)HOST_CALL(d->vcpus[0], PORT_ALLOC, 0);
        host_load(v);
    }
    i64 port = HOST_CALL(v, PORT_ALLOC, 0),
        server = HOST_CALL(v, REQUEST_SERVE, (u64)handle, (u64)port);
    (void)HOST_CALL(v, REQUEST_ROUTE, (u64)handle, (u64)server, BASALT_SPACE_IO, 0, 20);
    (void)HOST_CALL(v, DOMAIN_CONTROL, (u64)handle, BASALT_OP_RESUME);
}

static void test_a_million_calls(void **state unused) {
    const char *given = getenv("CALLS");
    u64 calls = given ? strtoull(given, NULL, 0) : 1000000, errors = host_log_errors;

    for (u64 n = 0; n < calls; n++) {
        if (n % 64 == 0)
            tend();
        one_call();
        if (n % 4096 == 0)
            check_charges();
    }
    check_charges();
    assert_int_equal(host_log_errors, errors);
    for (u64 i = 0; i < COUNT; i++)
        if (!outcomes[i][0] || !outcomes[i][1] || getenv("OUTCOMES"))
            print_message("%-3llu %8llu good %8llu errors\n", (unsigned long long)i,
                          (unsigned long long)outcomes[i][0], (unsigned long long)outcomes[i][1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {TEST(test_a_million_calls)};

    return cmocka_run_group_tests(tests, setup, NULL);
}
