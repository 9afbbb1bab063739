// SPDX-License-Identifier: Apache-2.0
//
// The three formats of second-level entries as data: EPT ("EPT Paging-Structure Entries", SDM), AMD nested paging
// (ordinary long-mode entries, "Nested Paging", APM; every guest access counts as a user access, so U/S is set) and
// VT-d second stage ("Second-Stage Paging Entries"; snooped, no execute bit).

#include "ept/ept.h"

const struct ept_format ept_format_ept = {
    .read = BIT(0),
    .write = BIT(1),
    .exec = BIT(2),
    .table = BIT(0) | BIT(1) | BIT(2),
    .superpage = BIT(7),
    .write_back = 6ull << 3 |
                  BIT(6), // whatever the guest's PAT says: the kernel has it write-back, too
    .uncached = 0ull << 3,
};

const struct ept_format ept_format_npt = {
    .read = BIT(0) | BIT(2),
    .write = BIT(1),
    .no_exec = BIT(63),
    .table = BIT(0) | BIT(1) | BIT(2),
    .superpage = BIT(7),
    .uncached = BIT(4) | BIT(3), // PCD, PWT: entry 3 of the host's PAT, which is UC
};

const struct ept_format ept_format_vtd = {
    .read = BIT(0),
    .write = BIT(1),
    .table = BIT(0) | BIT(1),
    .superpage = BIT(7),
};
