// SPDX-License-Identifier: Apache-2.0
//
// I/O requests and doorbells: what happens to a guest's access to a port or address that is no memory. Lookup is a
// binary search in the domain's own table, where it is not what the vCPU found last. Invariant: at most one request per
// vCPU is out; only the server that it went to, naming its number, can answer it.

#pragma once

#include "guest/vcpu.h"
#include "kernel/domain.h"

// The space of a claim stands above the address. No place is 0.
#define ROUTE(space, address)    ((u64)((space) + 1) << 56 | (address))
#define DOORBELL(space, address) ROUTE((space) + BASALT_SPACE_IO_DOORBELL, address)

// Whether a place lies between two claims. Most accesses are where the last one was, and find what that found: neighbours in
// the table show it, whatever has come or gone since.
static inline bool request_between(const struct claim *c, u64 place) {
    return place > c[-1].last && place < c->first;
}

/// True: nobody claims an access of `write` or else a read at `address`, which reads as all ones. False:
/// request_access() knows.
static inline bool request_unclaimed(const struct vcpu *v, enum basalt_space space, u64 address,
                                     bool write) {
    return likely(request_between(v->io.route, ROUTE(space, address))) &&
           (!write || likely(request_between(v->io.bell, DOORBELL(space, address))));
}

/// Gives a new domain its page for claims. -BASALT_ENOSPC.
must_check int requests_init(struct domain *d);
/// Makes `server` a request server of `d`, ringing `port`. Returns its id; *page_address is where the page is mapped.
i64 request_serve(struct domain *d, struct domain *server, u64 port, u64 *page_address);
/// Claims a range of addresses for the server `id` of the caller's, or a doorbell's for its port `id`; or gives up just that.
must_check int request_route(struct domain *d, struct domain *caller, u64 id, u64 space, u64 first,
                             u64 last);
/// Carries out an access: rings the doorbell that is tied to it, or sends it to its server as request_send() does, which
/// gets the low `bytes` bytes of *data.
must_check bool request_access(struct vcpu *v, enum basalt_space space, u64 address, unsigned bytes,
                               bool write, u64 *data);
/// Sends an access to its server and blocks the vCPU. False: it is done, a read with *data: what the server has
/// published, or all ones where nobody claims it.
must_check bool request_send(struct vcpu *v, enum basalt_space space, u64 address, unsigned bytes,
                             bool write, u64 *data);
/// Sends the last request once more, with the same number, as its server has gone. False: nobody claims the address, or has
/// published what is there; the instruction can be tried again.
must_check bool request_again(struct vcpu *v);
/// The vCPU that waits for `caller` to answer this request; NULL: none does.
struct vcpu *request_find(struct domain *d, const struct domain *caller, u64 vcpu, u64 number);
/// Lets the vCPU go on.
must_check int request_answer(struct domain *d, const struct domain *caller, u64 vcpu, u64 number,
                              u64 data);
/// `holder` lost its handle on `d`: nothing of `d` may point to it any more. NULL: to nobody, `d` is going.
void requests_forget(struct domain *d, const struct domain *holder);
