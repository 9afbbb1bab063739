# SPDX-License-Identifier: Apache-2.0
"""NMIs and machine checks are named, and what a panic said is shown at the next boot. QEMU's monitor makes them."""

from conftest import PROMPT, shell, stop_idle

# The status of a machine check bank: valid, uncorrected, enabled, the processor's state is lost; an error of the caches.
FATAL = "0xb200000000000175"


def test_nmi(qemu, image):
    machine = qemu(image(linux=False), memory="256M")
    machine.expect(PROMPT)
    machine.monitor("nmi")
    machine.expect(r"basalt: cpu: NMI on CPU 0")
    assert "SVM" in shell(machine, "version")


def test_panic_is_shown_at_the_next_boot(qemu, image):
    """A machine check that can't be survived: the panic names it and resets; the next boot shows the panic's text, once."""
    machine = qemu(image(linux=False), memory="256M", reboot=True)
    machine.fatal = None
    machine.expect(PROMPT)
    stop_idle(machine)  # TCG does not intercept machine checks: one that came while dom0 runs would be dom0's
    machine.monitor(f"mce 0 1 {FATAL} 0x5 0x1234000 0x0")
    machine.monitor("cont")
    machine.expect(r"basalt: machine check: CPU 0 bank 1: .*(?:un|not )corrected, status 0xb200000000000175")
    machine.expect(r"basalt: panic: machine check that cannot be survived")
    machine.expect(r"^  from ffffffff8[0-9a-f]+ \w+\+0x")
    machine.expect(r"^basalt: resetting the machine")
    machine.expect(r"^basalt: Basalt ")
    machine.expect(r"^basalt: previous boot panicked:")
    machine.expect(r"^\| basalt: panic: machine check that cannot be survived")
    machine.expect(r"^\|   from ffffffff8[0-9a-f]+ \w+\+0x")
    machine.expect(PROMPT)
    machine.monitor("system_reset")
    start = machine.expect(r"^basalt: Basalt ").start()
    machine.expect(PROMPT)
    assert "previous boot" not in machine.text[start:]
