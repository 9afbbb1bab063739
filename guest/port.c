// SPDX-License-Identifier: Apache-2.0
//
// IN and OUT need no decoding: the exit tells port, size and direction. Their string forms go the way of the other string
// instructions, one element at a time (guest/emulate.c).

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

void handle_port(struct vcpu *v, const struct exit *e) {
    v->io.exit = *e;
    v->io.answered = false;
    if (e->string) {
        if (!guest_decode(v, &v->io.insn))
            return;
        if (v->io.insn.op != (e->write ? OP_OUTS : OP_INS))
            return; // the code changed under the decoder: it is tried again
        v->io.insn.operand_size = e->bytes;
        string_begin(v);
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
