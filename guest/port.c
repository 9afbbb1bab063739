// SPDX-License-Identifier: Apache-2.0
//
// IN, OUT and their string forms. The plain forms need no decoding: the exit tells port, size and direction. String
// forms go one element at a time, each checked like the processor would (segment, paging) before the device is touched
// by INS and after it was by OUTS.

#include "guest/vcpu.h"
#include "kernel/domain.h"
#include "kernel/schedule.h"

static void finish_plain(struct vcpu *v, u64 value) {
    const struct exit *e = &v->io.exit;

    v->io.resume = NULL;
    if (!e->write)
        gpr_write(v, BASALT_RAX, e->bytes, false, value);
    vcpu_skip(v, e->insn_length);
}

static void plain_resume(struct vcpu *v) {
    if (v->io.answered)
        finish_plain(v, v->io.data);
}

static void string_resume(struct vcpu *v) {
    const struct exit *e = &v->io.exit;
    const struct insn *i = &v->io.insn;
    bool user = backend->cpl(&v->cpu) == 3, answered = v->io.answered;
    unsigned reg = e->write ? BASALT_RSI : BASALT_RDI, segment = e->write ? i->segment : BASALT_ES;
    struct walk_fault fault;
    u64 value = v->io.data, linear;

    v->io.answered = false;
    if (string_done(v))
        return;
    if (!guest_linear(v, segment, gpr_read(v, reg, i->address_size, false), e->bytes, !e->write, &linear)) {
        v->io.resume = NULL;
        return;
    }
    if (!answered) {
        gpa_t gpa;
        value = 0;
        int error = e->write ? guest_read_linear(v, linear, &value, e->bytes, user, false, &fault)
                             : guest_translate(v, linear, true, user, false, &gpa, &fault);
        if (error) {
            v->io.resume = NULL;
            vcpu_walk_failed(v, &fault);
            return;
        }
        if (!device_access(v, BASALT_SPACE_IO, e->port, e->bytes, e->write, &value))
            return;
    }
    if (!e->write && guest_write_linear(v, linear, &value, e->bytes, user, &fault)) {
        v->io.resume = NULL;
        vcpu_walk_failed(v, &fault);
        return;
    }
    string_step(v, e->write, !e->write);
}

void handle_port(struct vcpu *v, const struct exit *e) {
    v->io.exit = *e;
    v->io.answered = false;
    if (e->string) {
        if (!guest_decode(v, &v->io.insn))
            return;
        v->io.insn.operand_size = e->bytes;
        v->io.resume = string_resume;
        string_resume(v);
        return;
    }
    v->io.exit.insn_length = (u8)guest_insn_length(v, e);
    if (!v->io.exit.insn_length)
        return;
    u64 value = gpr_read(v, BASALT_RAX, e->bytes, false);
    v->io.resume = plain_resume;
    if (device_access(v, BASALT_SPACE_IO, e->port, e->bytes, e->write, &value))
        finish_plain(v, value);
}
