// SPDX-License-Identifier: Apache-2.0
//
// Measurements for `make bench`, begun by "bench=KIND" on dom0's command line; nothing otherwise.

#pragma once

#include "toolstack/domain.h"

/// Begins what the command line asks for; domains are described, none is started.
void bench_begin(void);

/// To be told of each change of a domain's state.
void bench_domain_changed(struct domain *d);
