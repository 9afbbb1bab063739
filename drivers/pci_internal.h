// SPDX-License-Identifier: Apache-2.0
//
// What the parts of the PCI driver share.

#pragma once

#include "drivers/pci.h"

/// Finds the configuration mechanism. Returns true for ECAM.
bool pci_config_init(void);
/// Fills in the MSI and MSI-X fields of a function whose BARs are known, and turns both off.
void pci_msi_probe(struct pci_function *f);
