# SPDX-License-Identifier: Apache-2.0
"""The operator's shell: every command, with -j where it takes it, mistakes, completion, history, and the consoles' switch."""

import json
import re

from conftest import PROMPT, hello_config, memory, shell, shell_json, to_console, to_dom0

LEAST = set("help list create shutdown destroy pause resume console info top log trace mem reboot poweroff".split())


def start(qemu, image, hello, dom0=""):
    guests = {"alpha": hello_config("type poweroff", autostart="yes"), "beta": hello_config("type", autostart="yes"),
              "idle": hello_config("")}
    machine = qemu(image(linux=False, dom0=dom0, guests=guests, modules=[(hello, "hello")]), memory="256M")
    machine.expect(r"^beta: runs")
    machine.expect(PROMPT)
    return machine


def test_every_command(qemu, image, hello):
    machine = start(qemu, image, hello)
    text = shell(machine, "help")
    rows = dict(re.findall(r"^  (\w+) .*?  +(\S.*)$", text, re.M))
    assert LEAST <= set(rows), LEAST - set(rows)
    takes_json = {name for name, says in rows.items() if "-j" in says}
    assert {"list", "info", "top", "trace", "mem"} <= takes_json
    for name in rows:
        assert name in shell(machine, f"help {name}")

    domains = {row["name"]: row for row in shell_json(machine, "list -j")}
    assert domains["alpha"]["state"] == "running" and domains["idle"]["state"] == "stopped"
    assert domains["alpha"]["memory"] == 8 << 20 and domains["alpha"]["vcpus"] == 1
    for name in domains:
        assert name in shell(machine, "list")
    info = shell_json(machine, "info alpha -j")
    assert info["name"] == "alpha" and info["memory"] == 8 << 20 and info["memory_charged"] > 8 << 20
    assert re.search(r"^ +kernel +hello", shell(machine, "info alpha"), re.M)
    assert "kernel" in shell(machine, "info idle")
    top = {row["name"]: row for row in shell_json(machine, "top -j 1")}
    assert top["alpha"]["cpu_percent"] >= 0 and "idle" not in top
    assert "EXITS/S" in shell(machine, "top")
    assert 'nothing was recorded yet: "trace on" begins' in shell(machine, "trace")
    shell(machine, "trace domain")
    shell(machine, "pause alpha")
    shell(machine, "trace on")
    shell(machine, "resume alpha")
    records = shell_json(machine, "trace -j 50")
    assert len(records) > 10 and {"seconds", "kind", "name", "domain", "vcpu"} <= set(records[0])
    assert re.search(r"exit +io|exit +\w+", shell(machine, "trace"))
    figures = memory(machine)
    assert figures["free"] + figures["kernel"] + figures["dom0"] + figures["domains"] <= figures["total"] + (64 << 20)
    assert figures["domains"] > 16 << 20 and "alpha" in shell(machine, "mem")
    assert "basalt: " in shell(machine, "log 100")
    assert len(shell(machine, "log 3").strip().split("\n")) == 3
    assert "toolstack: " in shell(machine, "log dom0")
    assert isinstance(shell_json(machine, "version -j"), dict) and "SVM" in shell(machine, "version")

    shell(machine, "pause beta")
    assert [row["state"] for row in shell_json(machine, "list -j")] == ["running", "paused", "stopped"]
    shell(machine, "resume beta")
    shell(machine, "create idle")
    assert [row["state"] for row in shell_json(machine, "list -j")] == ["running"] * 3
    assert "does not listen to its power button" in shell(machine, "shutdown idle")
    shell(machine, "destroy idle")
    assert shell_json(machine, "list -j")[2]["last_end"] == "destroyed"
    shell(machine, "destroy all")
    assert [row["state"] for row in shell_json(machine, "list -j")] == ["stopped"] * 3
    machine.sendline("poweroff")
    assert machine.wait(60) == 0


def test_mistakes_at_the_shell(qemu, image, hello):
    machine = start(qemu, image, hello)
    for line, says in (("lst", r'no command "lst"; did you mean "list"\?'), ("frobnicate", r'no command "frobnicate"; "help"'),
                       ("info", r'expected "info <name>"'), ("info alpha beta", r'expected "info <name>"'),
                       ("info gamma", r"gamma"), ("create", r'expected "create <name|file>"'),
                       ("create alpha", r"alpha is running already"), ("resume alpha", r"alpha is running: it can't be resumed"),
                       ("pause idle", r"idle is stopped: it can't be paused"), ("shutdown idle", r"it can't be shut down"),
                       ("destroy idle", r"it can't be destroyed"), ("console idle", r"idle has no console: it does not run"),
                       ("destroy -j alpha", r"destroy does not take -j"), ("log many", r"expected a count of lines .*many"),
                       ("trace 0", r"expected a count of records"), ("top 0", r"expected seconds"),
                       ('info "al', r'expected a closing quote')):
        text = shell(machine, line)
        assert re.search(rf"^error: .*{says}", text, re.M), text
    assert shell(machine, "   ").strip() == ""
    assert [row["state"] for row in shell_json(machine, "list -j")] == ["running", "running", "stopped"]


def test_editing(qemu, image, hello):
    """Completion of commands and names, the history, and corrections within a line."""
    machine = start(qemu, image, hello)

    def typed(keys, line):
        machine.send(keys)
        machine.expect(rf"^basalt> {re.escape(line)}$", timeout=20)
        machine.send("\r")
        at = machine.position
        machine.expect(PROMPT)
        return machine.text[at:machine.position]

    assert "beta" in typed("inf\tbe\t", "info beta ")
    assert "alpha" in typed("\x1b[A\x08\x08\x08\x08\x08alpha", "info alpha")
    assert "WHAT" in typed("\x10\x10\x15me\t", "mem ")
    assert "alpha" in typed("\x10\x10", "info alpha")
    assert "running" in typed("lst\x01\x06i", "list")
    machine.send("re\t\t")
    machine.expect(r"^.*resume.*reboot|^.*reboot.*resume")
    machine.send("\x03")
    machine.expect(PROMPT)
    assert "alpha" in shell(machine, "list")


def test_consoles(qemu, image, hello):
    """Ctrl-] goes round, Ctrl-] and a digit goes to a domain's, and what a guest printed meanwhile is shown then."""
    machine = start(qemu, image, hello)
    assert machine.seen(r"^toolstack: Ctrl-\] switches between dom0 and the guests' consoles")
    to_console(machine, "beta")
    machine.expect(r"^hello: command line: type\n")
    machine.sendline("to beta")
    machine.expect(r"^to beta\n")
    machine.send("\x1d1")
    machine.expect(r"^--- alpha .*---\n")
    machine.expect(r"^hello: command line: type poweroff\n")
    machine.sendline("to alpha")
    machine.expect(r"^to alpha\n")
    assert "to beta" not in machine.text[machine.text.rindex("--- alpha"):]
    to_dom0(machine)
    shell(machine, "version")
    machine.send("\x1d")
    machine.expect(r"^--- alpha .*---\n")
    machine.sendline("end")
    machine.expect(r"^--- dom0 .*---\n")
    machine.expect(r"^alpha: powered off after")
    machine.expect(PROMPT)
    assert shell_json(machine, "list -j")[0]["last_end"] == "powered off"
    assert "alpha has no console" in shell(machine, "console alpha")


def test_script(qemu, image, hello):
    """dom0's option script= runs commands without anybody at the console, and exit-when-idle ends the machine."""
    machine = qemu(image(linux=False, dom0='"script=list -j; create g; wait g 60; mem" exit-when-idle',
                         guests={"g": hello_config("real poweroff")}, modules=[(hello, "hello")]), memory="256M")
    found = machine.expect(r"^basalt> list -j\n(.*)\n")
    assert json.loads(found[1])[0]["name"] == "g"
    machine.expect(r"^g: powered off after")
    machine.expect(r"^basalt> mem\n")
    machine.expect(r"^toolstack: all guests have ended \(exit-when-idle\)")
    assert machine.wait(60) == 0
