# SPDX-License-Identifier: Apache-2.0
"""Speculation controls on the machines at hand. No processor here has their MSRs: all that can be in force is what needs
none, filling the return stack buffer at every exit, through the guarded path of enter.S that other tests take too. What is
chosen for processors that have more is tests/unit/test_spec.c's."""

import pytest
from conftest import PROMPT

MISSING = r"exit-ibpb \(Spectre v2, Retbleed, SRSO\)"


def boots(machine, in_force, missing):
    machine.expect(rf"^basalt: speculation: in force: {in_force}$", timeout=120)
    machine.expect(rf"^basalt: speculation: {missing}", timeout=60)
    machine.expect(PROMPT, timeout=300)


def test_controls_on_qemu(qemu, image):
    boots(qemu(image(linux=False, cmdline="spec=maybe"), memory="256M"), r"rsb \(returns\)", f"missing: {MISSING}")


def test_controls_off_on_qemu(qemu, image):
    boots(qemu(image(linux=False, cmdline="spec=off"), memory="256M"), "none", f"switched off: {MISSING}")


@pytest.mark.bochs
@pytest.mark.parametrize("cmdline, in_force, missing", [
    ("spec=auto", r"rsb \(returns\)", r"missing: l1d-flush \(L1TF\) verw \(MDS\)"),
    ("spec=off", "none", r"switched off: l1d-flush \(L1TF\) verw \(MDS\)")])
def test_controls_on_bochs(bochs, image, cmdline, in_force, missing):
    boots(bochs(image(linux=False, cmdline=cmdline), memory=256), in_force, missing)
