# SPDX-License-Identifier: Apache-2.0
"""Speculation controls on the machines at hand. No processor here has their MSRs: all that can be in force is what needs
none, filling the return stack buffer at every exit, through the guarded path of enter.S that other tests take too. What is
chosen for processors that have more is tests/unit/test_spec.c's."""

import re
import subprocess

import pytest
from conftest import BUILD, PROMPT, TOP

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
    ("spec=auto", r"small-code \(iTLB multihit\) rsb \(returns\)", r"missing: l1d-flush \(L1TF\) verw \(MDS\)"),
    ("spec=off", "none", r"switched off: l1d-flush \(L1TF\) verw \(MDS\)")])
def test_controls_on_bochs(bochs, image, cmdline, in_force, missing):
    boots(bochs(image(linux=False, cmdline=cmdline), memory=256), in_force, missing)


def functions():
    """The kernel's functions: what each calls and jumps to, and whether it has a return."""
    text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", BUILD / "basalt.elf"], check=True,
                          capture_output=True, text=True).stdout
    found = {}
    for name, body in re.findall(r"^[0-9a-f]{16} <([^>]+)>:\n((?:.+\n)+)", text, re.M):
        calls, jumps, returns = found.setdefault(name.removesuffix(".cold"), (set(), set(), []))
        calls |= set(re.findall(r"\tcall +[0-9a-f]+ <(\w+)>", body))
        jumps |= {to for to in re.findall(r"\tj\w+ +[0-9a-f]+ <([\w.]+?)(?:\.cold)?(?:\+0x[0-9a-f]+)?>", body)}
        returns += re.findall(r"\tret", body)
    return text, found


def entries():
    return int(re.search(r"define SPEC_RSB_ENTRIES (\d+)", (TOP / "arch/spec.h").read_text())[1])


def test_returns_after_an_exit():
    """A return whose call came before the exit is predicted from what spec_exit filled in (docs/decisions/0014)."""
    text, found = functions()
    entering = [path.name for path in TOP.glob("[agk]*/*.c") if "backend_enter(" in path.read_text()]
    assert entering == ["run.c"], "the one call of the world switches, in vcpu_run()"
    found["vcpu_run"][0].update(["svm_enter", "svm_enter_guarded", "vmx_enter", "vmx_enter_guarded"])
    for suffix in ("", "_guarded"):  # where the processor goes on when the guest, entered there, exits
        found["vmx_enter" + suffix][1].add("vmx_exit_entry" + suffix)
    _, jumps, returning = found["schedule_loop"]
    assert not returning and jumps <= {"schedule_loop"}

    def returns(function, below=()):
        """How many returns lead from `function` to one that never returns."""
        if function == "schedule_loop":
            return 0
        assert function not in below, "a recursion"
        below += (function,)
        callers = [1 + returns(name, below) for name, (calls, _, _) in found.items() if function in calls]
        tails = [returns(name, below) for name, (_, jumps, _) in found.items() if function in jumps and name != function]
        assert callers or tails, f"nobody calls {function}"
        return max(callers + tails)

    for function in ("svm_exit", "vmx_exit"):
        assert 2 * returns(function) <= entries()
    for first in ("svm_enter_guarded", "vmx_exit_entry_guarded"):
        body = re.search(rf"^[0-9a-f]{{16}} <{first}>:\n((?:.+\n)+)", text, re.M)[1]
        assert len(re.findall(r"\tcall .*\n.*\tint3", body)) == entries()
