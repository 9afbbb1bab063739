// SPDX-License-Identifier: Apache-2.0
//
// The parts of dom0 that main() starts, in the order in which it starts them. Each returns 0 or a
// negative error, having said on the log what is wrong; main() goes on with what there is.

#pragma once

#include "lib/types.h"

int devices_init(void); // dom0/devices: device models and backends

// dom0/toolstack: domains, shell. Returns when everything is set up: handlers do the rest.
int toolstack_main(void);
