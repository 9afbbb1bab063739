# SPDX-License-Identifier: Apache-2.0
"""What the system tests share: the images under test, and machines that end with the test.

A test asks for the fixture `qemu` or `bochs` and calls it; what it gives is described in tools/machine.py:

    def test_something(qemu, image):
        machine = qemu(image(cmdline="loglvl=debug"), memory="256M", disks=[Disk(disk_copy())])
        machine.expect("basalt: ")

Tests marked `long` run only under `make test-long`.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(TOP / "tools"))

import image as images  # noqa: E402
from machine import Bochs, Disk, Qemu  # noqa: E402,F401

BUILD = Path(os.environ.get("BASALT_BUILD", TOP / "build"))
GUEST = TOP / "build/guest"


def pytest_configure(config):
    config.addinivalue_line("markers", "long: takes minutes; run by `make test-long`")
    config.addinivalue_line("markers", "bochs: runs on Bochs")


def config_text(name="guest1", **settings):
    """A domain's description (the text of a .conf file) with the usual values; settings replace them, None leaves one out, a
    list repeats a key."""
    values = {"name": name, "memory": "192M", "vcpus": 1, "kernel": "vmlinuz", "initrd": "initrd",
              "cmdline": f"console=ttyS0 root=/dev/vda rw hostname={name}", "disk": f"gpt:{name}-root", "console": "on",
              "autostart": "yes", **settings}
    lines = []
    for key, value in values.items():
        for item in value if isinstance(value, list) else [value]:
            if item is not None:
                bare = isinstance(item, int) or item in ("on", "off", "yes", "no") or re.fullmatch(r"\d+[KMG]", item)
                lines.append(f"{key} = {item}" if bare else f'{key} = "{item}"')
    return "\n".join(lines) + "\n"


@pytest.fixture
def test_name(request):
    return re.sub(r"[^\w.-]+", "_", request.node.name).strip("_")


@pytest.fixture
def image(tmp_path, test_name):
    """Makes a CD image: image(cmdline="", dom0="", guests={"guest1": {settings}}, linux=True, modules=[], kernel=None,
    dom0_elf=None). `guests` maps names to settings for config_text (or to the text of a description); `modules` are further
    (path or bytes, command line) pairs. With linux=False the guests' kernel and RAM disk are left out. dom0_elf=False leaves
    dom0 out; bytes or a path replace it."""
    def make(cmdline="", dom0="", guests=None, linux=True, modules=(), kernel=None, dom0_elf=None, serial=True):
        parts = []
        if dom0_elf is not False:
            parts.append((dom0_elf or BUILD / "dom0.elf", f"dom0 {dom0}".strip()))
        if linux:
            parts += [(GUEST / "vmlinuz", "vmlinuz"), (GUEST / "initrd.img", "initrd")]
        for name, settings in (guests or {}).items():
            text = settings if isinstance(settings, str) else config_text(name, **settings)
            parts.append((text.encode(), f"{name}.conf"))
        make.count += 1
        return images.make_iso(tmp_path / f"{make.count}.iso", kernel or BUILD / "basalt.elf", cmdline,
                               [*parts, *modules], serial=serial)
    make.count = 0
    return make


@pytest.fixture(scope="session")
def hello(tmp_path_factory):
    """The tiny guest of tests/guest/hello, built: the path of its ELF file."""
    source = TOP / "tests/guest/hello"
    out = tmp_path_factory.mktemp("hello") / "hello.elf"
    subprocess.run(["gcc", "-m32", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none,-z,noexecstack",
                    "-Wl,--no-warn-rwx-segments,-z,max-page-size=4096,-T", source / "hello.ld", "-o", out,
                    source / "hello.S"], check=True)
    return out


def hello_config(cmdline="", **settings):
    """Settings for config_text() of a guest that runs `hello`."""
    return {"memory": "8M", "kernel": "hello", "initrd": None, "disk": None, "autostart": "no", "on_reboot": "destroy",
            "cmdline": cmdline, **settings}


@pytest.fixture
def disk_copy(tmp_path):
    """A copy of the default disk (guest1-root, guest2-root, basalt-config) that belongs to the test: disk_copy() -> path."""
    def copy(source=TOP / "build/disk.img"):
        target = tmp_path / f"disk{len(list(tmp_path.glob('disk*')))}.img"
        subprocess.run(["cp", "--sparse=always", source, target], check=True)
        return target
    return copy


def machine_fixture(kind):
    def fixture(test_name):
        machines = []

        def start(iso, name=None, **parameters):
            label = name or test_name + (f"-{len(machines) + 1}" if machines else "")
            machine = kind(label, iso=iso, **parameters)
            machines.append(machine)
            return machine
        yield start
        for machine in machines:
            machine.close()
    return fixture


qemu = pytest.fixture(machine_fixture(Qemu), name="qemu")
bochs = pytest.fixture(machine_fixture(Bochs), name="bochs")


# ---- dom0's shell and the guests' ---------------------------------------------------------------------------------------

PROMPT = r"^basalt> "


def shell(machine, line, timeout=60):
    """Runs a command in dom0's shell; returns what it printed. (While a command runs nothing draws the prompt; while a line
    is typed, a message may: then the line is wiped out, which is no end of it, and drawn anew behind the message.)"""
    machine.sendline(line)
    start = machine.expect(rf"(?:^|(?<=basalt> )){re.escape(line)}\n", timeout).end()
    end = machine.expect(PROMPT, timeout).start()
    return machine.text[start:end]


def shell_json(machine, line, timeout=60):
    """What a command with -j prints, parsed."""
    text = shell(machine, line, timeout)
    start = min(at for at in (text.find("["), text.find("{")) if at >= 0)
    return json.loads(text[start:])


def memory(machine):
    """What `mem -j` says, in bytes: {"total": ..., "free": ..., "kernel": ..., "dom0": ..., "domains": ...}."""
    return {row["what"]: row["bytes"] for row in shell_json(machine, "mem -j")}


def to_console(machine, name, timeout=None):
    """From dom0's shell to a guest's console."""
    machine.sendline(f"console {name}")
    machine.expect(rf"^--- {name} \(Ctrl-\] .*---\n", timeout)


def to_dom0(machine, timeout=None):
    """From any console to dom0's shell. (A digit that comes late for the key, in the machine's time, which may run ahead of
    ours, is typed at the next console: then once more.)"""
    shown = r"^--- dom0 \(Ctrl-\] .*---\n"
    machine.send("\x1d0")
    if not machine.comes(shown, 10):
        machine.send("\x1d0")
        machine.expect(shown, timeout)
    machine.expect(PROMPT, timeout)


def guest_prompt(machine, name, timeout=None):
    """Waits for the shell of the guest whose console is shown, and makes its kernel's messages stay out of what comes on the
    console from now on. Its prompt may have been shown before, on the way to another console, with something behind it:
    after a key it comes again. And a prompt may be one of an earlier run, so the shell has to answer."""
    prompt = rf"^{name}:/root# "
    machine.sendline()
    machine.expect(prompt, timeout)
    for turn in range(1, 20):
        machine.sendline(f"dmesg -n 1; echo qui''et {turn}")
        if machine.comes(rf"^quiet {turn}\n", 2 * turn):
            break
    machine.expect(prompt, timeout)


def power_button_works(machine, name):
    """Waits until the guest whose console is shown listens to its power button: its shell may be there before that."""
    machine.sendline("until ls -l /proc/$(pidof acpid)/fd | grep input; do sleep 1; done")
    machine.expect("-> /dev/input/event")
    machine.expect(rf"^{name}:/root# ")


def guest_shell(machine, name, line, timeout=120):
    """Runs a command in the shell of the guest whose console is shown; returns what it printed."""
    prompt = rf"^{name}:/root# "
    machine.sendline(line)
    start = machine.expect(rf"{re.escape(line)}\n", timeout).end()
    end = machine.expect(prompt, timeout).start()
    return machine.text[start:end]


# ---- Disks, from outside ------------------------------------------------------------------------------------------------


def guest_file(disk, partition, path, folder):
    """The contents of a file in a guest's root file system, read from the disk image from outside; None if it isn't there."""
    part = images.extract_partition(disk, partition, Path(folder) / f"{partition}.ext4")
    target = Path(folder) / "extracted"
    target.unlink(missing_ok=True)
    subprocess.run(["/sbin/debugfs", "-R", f"dump {path} {target}", part], stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, check=True)
    return target.read_bytes() if target.exists() else None


def check_filesystem(disk, partition, folder):
    """Fails if a guest's root file system in a disk image has errors (its journal is replayed in a copy first)."""
    part = images.extract_partition(disk, partition, Path(folder) / f"{partition}.ext4")
    subprocess.run(["/sbin/e2fsck", "-p", part], stdout=subprocess.DEVNULL)
    done = subprocess.run(["/sbin/e2fsck", "-f", "-n", part], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout


def stop_idle(machine):
    """Stops a QEMU machine (`cont` lets it go on) while its processor halts in the kernel, for want of anything to do."""
    for _ in range(200):
        machine.monitor("stop")
        registers = machine.monitor("info registers")
        if int(re.search(r"RIP=([0-9a-f]{16})", registers)[1], 16) >= 0xffff800000000000 and "HLT=1" in registers:
            return
        machine.monitor("cont")
        time.sleep(0.05)
    raise AssertionError("nobody has anything to do, but the processor does not halt")


def writable_and_executable(machine, lowest=0):
    """The pages, at or above virtual address `lowest`, that are writable and executable in the page tables that a QEMU
    machine's processor uses at this moment (which are a guest's while one runs: stop the machine where the kernel does)."""
    bad = []
    for line in machine.monitor("info tlb").split("\n"):
        found = re.match(r"([0-9a-f]{16}): [0-9a-f]{16} ([XGPDACTUW-]{9})", line)  # X here: no execution
        if found and int(found[1], 16) >= lowest and found[2][0] == "-" and found[2][8] == "W":
            bad.append(line)
    return bad
