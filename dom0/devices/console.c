// SPDX-License-Identifier: Apache-2.0
//
// One console per guest out of two devices. What either prints is printed; what is typed goes to
// the one that listens, and if both do, to the one that printed last: the prompt that the operator
// sees is then the one that answers.

#include "guest_machine.h"

void machine_console_uart_output(void *context, const char *bytes, size_t length) {
    struct guest_machine *m = context;
    m->last_output_uart = true;
    m->config.console_output(m->config.context, bytes, length);
}

void machine_console_virtio_output(void *context, const char *bytes, size_t length) {
    struct guest_machine *m = context;
    m->last_output_uart = false;
    m->config.console_output(m->config.context, bytes, length);
}

void machine_console_room(void *context) {
    struct guest_machine *m = context;
    if (m->input_refused)
        host_work_queue(&m->room_work);
}

void machine_console_has_room(void *context) {
    struct guest_machine *m = context;
    m->input_refused = false;
    if (m->config.console_room)
        m->config.console_room(m->config.context);
}

size_t machine_console_input(struct guest_machine *m, const char *bytes, size_t length) {
    bool serial = uart_open(&m->uart), virtio = virtio_console_open(&m->console);
    bool to_uart = serial && virtio ? m->last_output_uart : !virtio;
    size_t done = to_uart ? uart_input(&m->uart, bytes, length)
                          : virtio_console_input(&m->console, bytes, length);
    m->input_refused = done < length;
    return done;
}
