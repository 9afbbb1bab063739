# SPDX-License-Identifier: Apache-2.0
"""dom0's own mistakes are seen: an exception is shown with registers and return addresses on the console, and the kernel says that
dom0 ended. The kinds also show that its page tables allow nothing but what they should."""

import pytest


@pytest.mark.parametrize("kind, says", [
    ("null", r"#PF page fault, error 2, address 8$"),
    ("text", r"#PF page fault, error 3, address ffffffff80"),
    ("alias", r"#PF page fault, error 2, address [0-9a-f]{6,8}$"),
    ("stack", r"#PF page fault, error 2, address ffffffff80[0-9a-f]+ \(stack overflow\)"),
    ("data", r"#PF page fault, error 11, address ffffffff80"),
])
def test_exceptions_are_shown(qemu, image, kind, says):
    machine = qemu(image(dom0=f"crash={kind}", linux=False), memory="256M")
    machine.expect(rf"^dom0: exception {says}")
    machine.expect(r"^dom0: rip ffffffff80[0-9a-f]+ rsp ffffffff80[0-9a-f]+ rflags ")
    machine.expect(r"^dom0: called from ffffffff80[0-9a-f]+")
    machine.expect(r"^basalt: domain 0 ended")


@pytest.mark.bochs
def test_exceptions_are_shown_on_vmx(bochs, image):
    machine = bochs(image(dom0="crash=alias", linux=False))
    machine.expect(r"^dom0: exception #PF page fault, error 2, address [0-9a-f]{6,8}$")
    machine.expect(r"^basalt: domain 0 ended")


def test_last_words(qemu, image):
    machine = qemu(image(dom0="crash=exit", linux=False), memory="256M")
    machine.expect(r"^dom0: crash=exit")
    machine.expect(r"^basalt: domain 0 ended")
