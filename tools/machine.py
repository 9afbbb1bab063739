#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Machines to run Basalt on: QEMU (SVM) and Bochs (VMX, and SVM on its `ryzen`), for tests and for people.

    with Qemu("name", iso=path, disks=[Disk(path)]) as machine:
        machine.expect(r"guest1 .* running", timeout=60)
        machine.sendline("list")
        status = machine.wait(30)

Bochs(...) is used alike. What the machine says on its serial line is kept in build/logs/NAME.log (of every machine, also
after a success) and in `machine.text`. A failed expectation raises with the last lines of that log. Leaving the `with` block
ends the machine: only ever this one process, by its own handle.

As a program it gives people a machine: `machine.py run`, `run-bochs`, `gdb` (see the Makefile).
"""

import argparse
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
import time
import tty
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
LOGS = TOP / "build/logs"
# Emulated machines share few processors with each other and with whatever else runs: every timeout is multiplied by this. A
# timeout is how long a machine may be silent where no other time is waited for: only a test that fails takes longer with more.
PATIENCE = float(os.environ.get("BASALT_PATIENCE", "3"))


class MachineError(AssertionError):
    """The machine did not do what was expected; the text holds the end of its log."""


@dataclass
class Disk:
    """A disk of a QEMU machine. `interface`: virtio, ahci, nvme, ide. With `snapshot`, writes go nowhere. `drive` is more
    options for -drive, `device` more for -device; `file` may also be any QEMU file name (blkdebug:...). A flush does not
    wait for this machine's own disk, whose speed must not matter (QEMU stands still while it cancels one)."""
    file: object
    interface: str = "virtio"
    snapshot: bool = False
    readonly: bool = False
    format: str = "raw"
    drive: str = ""
    device: str = ""


class Machine:
    """What QEMU and Bochs have in common: a process, its serial line, its log."""

    # A line that means that all is lost: an expectation that meets it before what it waits for fails at once. A test that
    # goes on after a panic or after dom0's end sets it to None.
    fatal = re.compile(r"^.*\b(?:panic|PANIC): .*$|^.*domain 0 ended unwatched: .*$", re.M)

    def __init__(self, name, timeout=120):
        self.name = name
        self.timeout = timeout
        self.text = ""        # all that came over the serial line, without terminal sequences; where a line is drawn
        #                       anew (a carriage return alone), a new line begins; one that was wiped out ends in ERASED
        self.position = 0     # where the next expectation begins to look
        self.started = time.monotonic()
        self._changed = threading.Condition()
        self._ended = False
        self._pending = b""
        LOGS.mkdir(parents=True, exist_ok=True)
        self.log_path = LOGS / (re.sub(r"[^\w.+-]+", "_", name) + ".log")
        self._log = open(self.log_path, "wb")
        self.process = None

    # -- the serial line

    # What ends a line that was wiped out, as dom0's shell does with what is typed where a message comes: it is no line that
    # was entered.
    ERASED = "[erased]"
    _erasure = re.compile(rb"\r+\x1b\[K")
    _escape = re.compile(rb"\x1b(?:\[[0-9;?]*[A-Za-z]|[()][A-Z0-9]|[=>cM78])")

    def _received(self, data):
        if self._log.closed:  # what a machine says while it is ended
            return
        self._log.write(data)
        self._log.flush()
        data = self._pending + data
        # An escape sequence or a line's end may have come in parts: keep the last bytes back until they are whole.
        cut = len(data)
        last = data.rfind(b"\x1b", max(0, cut - 12))
        if last >= 0 and not self._escape.match(data, last):
            cut = last
        while cut and data[cut - 1] in b"\r":
            cut -= 1
        self._pending, data = data[cut:], data[:cut]
        data = self._erasure.sub(self.ERASED.encode() + b"\r", data)
        data = re.sub(rb"\r+\n?", b"\n", self._escape.sub(b"", data))
        text = data.decode("utf-8", "replace")
        with self._changed:
            self.text += text
            self._changed.notify_all()

    def _reader(self, read):
        while True:
            try:
                data = read()
            except (OSError, ValueError):
                data = b""
            if not data:
                break
            self._received(data)
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _start_reader(self, read):
        self._thread = threading.Thread(target=self._reader, args=(read,), daemon=True)
        self._thread.start()

    def _write(self, data):
        raise NotImplementedError

    def send(self, text):
        """Types text (str or bytes) on the serial line."""
        self._write(text.encode() if isinstance(text, str) else text)

    def sendline(self, text=""):
        self.send(text + "\r")

    def comes(self, pattern, timeout=None):
        """Waits until `pattern` (a regular expression, ^ and $ match at lines) comes, after what earlier expectations
        matched; returns the match, None when the time is over. A list of patterns: whichever comes first in the text;
        `match.re.pattern` tells."""
        patterns = self._compiled(pattern)
        limit = time.monotonic() + (timeout or self.timeout) * PATIENCE
        with self._changed:
            while True:
                ended = self._ended
                found = [m for m in (p.search(self.text, self.position) for p in patterns) if m]
                if found:
                    match = min(found, key=lambda m: m.start())
                    self.position = match.end()
                    return match
                if self.fatal and (bad := self.fatal.search(self.text, self.position)):
                    self._changed.wait(1)  # the backtrace
                    raise self._error(f"waiting for {self._wanted(patterns)}, met: {bad.group(0).strip()}")
                if ended:
                    raise self._error(f"the machine ended (status {self.process.poll()}) before {self._wanted(patterns)} came")
                left = limit - time.monotonic()
                if left <= 0:
                    return None
                self._changed.wait(left)

    def expect(self, pattern, timeout=None):
        """As comes(), but fails when the time is over."""
        match = self.comes(pattern, timeout)
        if match:
            return match
        error = self._error(f"{self._wanted(self._compiled(pattern))} did not come in {(timeout or self.timeout) * PATIENCE:.0f} s")
        raise MachineError(f"{error}\n{self._ask_dom0()}")

    @staticmethod
    def _compiled(pattern):
        return [re.compile(p, re.M) if isinstance(p, str) else p
                for p in (pattern if isinstance(pattern, (list, tuple)) else [pattern])]

    @staticmethod
    def _wanted(patterns):
        return " or ".join(repr(p.pattern) for p in patterns)

    def command(self, line, prompt, timeout=None):
        """Types a line at a shell; returns what it printed until `prompt` (a regular expression) came again."""
        start = self.position
        self.sendline(line)
        match = self.expect(prompt, timeout)
        lines = self.text[start:match.start()].split("\n")
        while lines and line not in lines[0]:
            lines.pop(0)
        return "\n".join(lines[1:])

    def seen(self, pattern):
        """Whether a pattern has come at any time so far."""
        return re.search(pattern, self.text, re.M)

    def _ask_dom0(self):
        """What dom0's shell says of a machine in which something hangs: if it answers, a few seconds' worth."""
        if not self.running or "basalt> " not in self.text:
            return "(there is no shell to ask)"
        start = len(self.text)
        running = re.findall(r"^(\S+): runs$", re.sub(r"^\[.*?\] info +", "", self.text, flags=re.M), re.M)
        self.send("\x1d0\r")
        for line in ("list", *(f"info {name}" for name in dict.fromkeys(running)), "top 2", "trace on", "sleep 1", "trace 40",
                     "log 20", "log dom0"):
            before = len(self.text)
            self.sendline(line)
            limit = time.monotonic() + 6 * PATIENCE
            while time.monotonic() < limit and not self.text[before:].rstrip(" ").endswith("\nbasalt>"):
                time.sleep(0.2)
            if time.monotonic() >= limit and line == "list":
                return f"--- dom0's shell does not answer ---\n{self.text[start:]}\n---"
        return f"--- asked, dom0 says ---\n{self.text[start:]}\n---"

    def _error(self, what):
        tail = "\n".join(self.text.rstrip().split("\n")[-40:])
        return MachineError(f"{self.name}: {what}\n--- the end of {self.log_path} ---\n{tail}\n---")

    # -- life and death

    def wait(self, timeout=None):
        """Waits until the machine has ended by itself; returns its exit status (QEMU: isa-debug-exit value*2+1, or 0)."""
        try:
            status = self.process.wait((timeout or self.timeout) * PATIENCE)
        except subprocess.TimeoutExpired:
            raise self._error("the machine runs on, though it should have ended") from None
        self._thread.join(5)
        return status

    @property
    def running(self):
        return self.process.poll() is None

    def elapsed(self):
        return time.monotonic() - self.started

    def close(self):
        if self.process and self.process.poll() is None:
            self._end()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._log.close()

    def _end(self):
        self.process.terminate()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def drive_arguments(disks):
    arguments = []
    if any(disk.interface == "ahci" for disk in disks):
        arguments += ["-device", "ich9-ahci,id=basalt-ahci"]
    port = 0
    for i, disk in enumerate(disks):
        drive = f"file={disk.file},format={disk.format},if=none,id=disk{i},cache=unsafe"
        drive += ",snapshot=on" if disk.snapshot else ""
        drive += ",readonly=on" if disk.readonly else ""
        drive += f",{disk.drive}" if disk.drive else ""
        device = {"virtio": f"virtio-blk-pci,drive=disk{i}", "ahci": f"ide-hd,bus=basalt-ahci.{port},drive=disk{i}",
                  "nvme": f"nvme,serial=basalt{i},drive=disk{i}", "ide": f"ide-hd,drive=disk{i}"}[disk.interface]
        port += disk.interface == "ahci"
        arguments += ["-drive", drive, "-device", device + (f",{disk.device}" if disk.device else "")]
    return arguments


def qemu_command(iso=None, machine="q35", cpu="max", smp=1, memory="1G", disks=(), icount=None, reboot=False, extra=()):
    """QEMU's command line, without what to do with the serial line and the monitor. `icount` is the shift, usually 0."""
    words = ["qemu-system-x86_64", "-machine", machine, "-accel", "tcg", "-cpu", cpu, "-smp", str(smp), "-m", str(memory),
             "-display", "none", "-nic", "none", "-device", "isa-debug-exit,iobase=0xf4,iosize=4"]
    if iso:
        words += ["-drive", f"file={iso},format=raw,if=none,media=cdrom,readonly=on,id=cd", "-boot", "d",
                  "-device", "ide-cd,drive=cd"]
    if icount is not None:
        words += ["-icount", f"shift={icount},sleep=off"]
    if not reboot:
        words += ["-no-reboot"]
    return words + drive_arguments(disks) + [str(word) for word in extra]


# What starts an emulator: it ends with the thread that started it, however that ends.
GUARDED = ["setpriv", "--pdeathsig", "KILL"]


class Qemu(Machine):
    """A QEMU machine (TCG). Its parameters are those of qemu_command()."""

    def __init__(self, name, timeout=120, **parameters):
        super().__init__(name, timeout)
        self._folder = tempfile.mkdtemp(prefix="basalt-qemu-")
        self._monitor = None
        words = GUARDED + qemu_command(**parameters) + [
            "-serial", "stdio", "-monitor", f"unix:{self._folder}/monitor,server=on,wait=off"]
        self._errors = open(self.log_path.with_suffix(".err"), "wb+")
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
                                        start_new_session=True)
        self._start_reader(lambda: os.read(self.process.stdout.fileno(), 65536))

    def _write(self, data):
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def _error(self, what):
        self._errors.seek(0)
        errors = self._errors.read().decode("utf-8", "replace").strip()
        return super()._error(what + (f"\nQEMU says: {errors}" if errors else ""))

    def monitor(self, command, timeout=20):
        """Gives QEMU's monitor a command (`info tlb`, `system_powerdown`, `system_reset`, ...); returns its answer."""
        if not self._monitor:
            self._monitor = socket.socket(socket.AF_UNIX)
            self._monitor.settimeout(timeout * PATIENCE)
            self._monitor.connect(f"{self._folder}/monitor")
            self._monitor_answer()
        self._monitor.sendall(command.encode() + b"\n")
        return self._monitor_answer().partition("\n")[2]

    def _monitor_answer(self):
        data = b""
        while not data.endswith(b"(qemu) "):
            more = self._monitor.recv(65536)
            if not more:
                break
            data += more
        return self._escape.sub(b"", data).replace(b"\r", b"").decode("utf-8", "replace").rpartition("(qemu)")[0]

    def close(self):
        super().close()
        if self._monitor:
            self._monitor.close()
        self._errors.close()
        errors = self.log_path.with_suffix(".err")
        if errors.exists() and re.fullmatch(r"(?:.*terminating on signal.*\n)?", errors.read_text(errors="replace")):
            errors.unlink()
        for stream in (self.process.stdin, self.process.stdout):
            try:
                stream.close()
            except OSError:
                pass
        shutil.rmtree(self._folder, ignore_errors=True)


BOCHS_CONFIG = """\
display_library: term
plugin_ctrl: unmapped=true, biosdev=true, speaker=true, extfpuirq=true, parallel=false, serial=true, iodebug=true{plugins}
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
megs: {memory}
cpu: model={cpu}, count={smp}, ips={ips}{cpu_extra}
clock: sync=none, time0={time0}
boot: cdrom
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path="{iso}", status=inserted
com1: enabled=1, mode=socket-client, dev=127.0.0.1:{port}
pci: enabled=1, chipset=i440fx
log: {folder}/bochs.log
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
{extra}
"""


class Bochs(Machine):
    """A Bochs machine: VMX on the Intel models, SVM on `ryzen`. `extra` is lines for its configuration, `script` is commands for
    its debugger."""

    def __init__(self, name, iso, cpu="corei7_haswell_4770", smp=1, memory=512, timeout=300, ips=100000000,
                 time0="utc", cpu_extra="", plugins="", extra="", script="c\n"):
        super().__init__(name, timeout)
        self._folder = tempfile.mkdtemp(prefix="basalt-bochs-")
        listener = socket.create_server(("127.0.0.1", 0))
        config = BOCHS_CONFIG.format(cpu=cpu, smp=smp, memory=memory, iso=Path(iso).resolve(), ips=ips, time0=time0,
                                     port=listener.getsockname()[1], folder=self._folder, extra=extra,
                                     cpu_extra=cpu_extra and f", {cpu_extra}", plugins=plugins and f", {plugins}")
        (Path(self._folder) / "bochsrc").write_text(config)
        (Path(self._folder) / "go.rc").write_text(script)
        # Bochs draws its screen on a terminal: it gets one of its own, which nobody looks at.
        self._terminal, terminal = pty.openpty()
        termios.tcsetwinsize(terminal, (50, 132))
        self.process = subprocess.Popen(
            GUARDED + ["bochs", "-q", "-f", f"{self._folder}/bochsrc", "-rc", f"{self._folder}/go.rc"],
            stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True, env=dict(os.environ, TERM="linux", LINES="50", COLUMNS="132"))
        os.close(terminal)
        self._screen = bytearray()
        self._picture = None
        threading.Thread(target=self._drain, daemon=True).start()
        limit = time.monotonic() + 20 * PATIENCE
        listener.settimeout(0.2)
        self._line = None
        while not self._line:
            try:
                self._line, _ = listener.accept()
            except socket.timeout:
                if self.process.poll() is not None or time.monotonic() > limit:
                    error = self._error("Bochs did not start")
                    self.close()
                    raise error from None
        listener.close()
        self._line.setblocking(True)
        self._start_reader(lambda: self._line.recv(65536))

    def _drain(self):
        while True:
            try:
                data = os.read(self._terminal, 65536)
            except OSError:
                return
            if not data:
                return
            self._screen = (self._screen + data)[-100000:]
            # The picture goes to a terminal that Bochs makes; when nobody reads that, Bochs stops after some seconds.
            screen = re.search(rb'connected to screen "(/dev/pts/\d+)"', bytes(self._screen))
            if screen and not self._picture:
                self._picture = screen[1].decode()
                threading.Thread(target=self._drain_picture, daemon=True).start()

    def _drain_picture(self):
        try:
            terminal = os.open(self._picture, os.O_RDONLY | os.O_NOCTTY)
            while os.read(terminal, 65536):
                pass
            os.close(terminal)
        except OSError:  # Bochs has ended
            pass

    def _write(self, data):
        # Bochs' UART model takes a byte at a time and has no flow control: type slowly; but for the key and its digit, which
        # belong together, and the time of an idle machine runs ahead of ours.
        for piece in re.findall(rb"(?s)\x1d?.", data):
            self._line.sendall(piece)
            time.sleep(0.005)

    def screen(self):
        """The end of what Bochs wrote to its terminal (with the debugger's words), roughly as text."""
        return self._escape.sub(b"", bytes(self._screen)).decode("utf-8", "replace")[-4000:]

    def _error(self, what):
        try:
            log = (Path(self._folder) / "bochs.log").read_text(errors="replace").strip().split("\n")[-5:]
        except OSError:
            log = []
        if self.process is not None and self.process.poll() is not None and not self.text:
            log.append(self.screen()[-600:])
        return super()._error(what + ("\nBochs says: " + "\n".join(log) if log else ""))

    def _end(self):
        self.process.kill()  # its debugger does not listen to less

    def close(self):
        super().close()
        if self._line:
            self._line.close()
        try:
            os.close(self._terminal)
        except OSError:
            pass
        shutil.rmtree(self._folder, ignore_errors=True)


# ---- For people -------------------------------------------------------------------------------------------------------

def run_disk():
    """The disk of `make run`: made from the template once, then the user's own."""
    disk = TOP / "build/run-disk.img"
    if not disk.exists():
        subprocess.run(["cp", "--sparse=always", TOP / "build/disk.img", disk], check=True)
        print(f"run: made {disk.relative_to(TOP)}; it is kept until you delete it", flush=True)
    return disk


def run_qemu(options):
    words = qemu_command(iso=options.iso, disks=[Disk(run_disk())], memory=options.memory, smp=options.smp,
                         machine=options.machine, reboot=True, extra=options.extra)
    print("run: QEMU, q35, SVM; Ctrl-A x ends it (Ctrl-A Ctrl-A types a Ctrl-A), `poweroff` ends it better", flush=True)
    sys.stdout.flush()
    os.execvp(words[0], words + ["-serial", "mon:stdio"])


def run_bochs(options):
    print("run-bochs: Bochs, VMX; Ctrl-A x ends it, `poweroff` ends it better; slower than QEMU: Linux takes a minute",
          flush=True)
    with Bochs("run-bochs", options.iso, cpu=options.cpu, memory=options.megs) as machine:
        relay(machine)
        for _ in range(50):
            if not machine.running:
                break
            time.sleep(0.1)


def relay(machine):
    """Connects the user's terminal with a machine's serial line until the machine ends or Ctrl-A x is typed (as in QEMU;
    Ctrl-A twice sends one)."""
    prefix = False
    shown = 0
    keyboard = sys.stdin.fileno()
    saved = termios.tcgetattr(keyboard) if os.isatty(keyboard) else None
    listening = [keyboard]
    if saved:
        tty.setraw(keyboard)
    try:
        while True:
            data = machine.log_path.read_bytes()[shown:] if machine.log_path.stat().st_size > shown else b""
            shown += len(data)
            os.write(sys.stdout.fileno(), data.replace(b"\n", b"\r\n").replace(b"\r\r\n", b"\r\n") if saved else data)
            if not machine.running:
                return
            ready, _, _ = select.select(listening, [], [], 0.05)
            if ready:
                typed = os.read(keyboard, 256)
                if not typed:
                    listening = []
                for key in typed:
                    if prefix and key in b"xX":
                        return
                    if saved and key == 1 and not prefix:
                        prefix = True
                        continue
                    prefix = False
                    machine.send(bytes([key]))
    finally:
        if saved:
            termios.tcsetattr(keyboard, termios.TCSADRAIN, saved)
        print("\r")


def run_gdb(options):
    with tempfile.TemporaryDirectory(prefix="basalt-gdb-") as folder:
        words = qemu_command(iso=options.iso, disks=[Disk(run_disk(), snapshot=True)], memory=options.memory,
                             extra=["-S", "-gdb", f"unix:{folder}/gdb,server=on,wait=off", "-serial",
                                    f"file:{folder}/serial", "-monitor", "none"])
        qemu = subprocess.Popen(GUARDED + words, start_new_session=True)
        try:
            while not os.path.exists(f"{folder}/gdb"):
                time.sleep(0.05)
            print(f"gdb: the machine waits at its reset vector; its console goes to {folder}/serial", flush=True)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            # Hardware breakpoints: the kernel's text is not there yet when they are set.
            subprocess.run(["gdb", "-q", options.kernel, "-ex", "set architecture i386:x86-64",
                            "-ex", f"target remote {folder}/gdb", *sum((["-ex", c] for c in options.ex), [])])
        finally:
            qemu.terminate()
            qemu.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="QEMU on this terminal")
    run.add_argument("--iso", required=True)
    run.add_argument("--memory", default="1G")
    run.add_argument("--smp", default=1)
    run.add_argument("--machine", default="q35")
    run.add_argument("extra", nargs="*", help="more words for QEMU, after --")
    run.set_defaults(function=run_qemu)
    bochs = commands.add_parser("run-bochs", help="Bochs on this terminal")
    bochs.add_argument("--iso", required=True)
    bochs.add_argument("--cpu", default="corei7_haswell_4770")
    bochs.add_argument("--megs", default=512)
    bochs.set_defaults(function=run_bochs)
    gdb = commands.add_parser("gdb", help="QEMU, halted, with gdb attached")
    gdb.add_argument("--iso", required=True)
    gdb.add_argument("--kernel", required=True)
    gdb.add_argument("--memory", default="1G")
    gdb.add_argument("--ex", action="append", default=[], help="a gdb command, may be repeated")
    gdb.set_defaults(function=run_gdb)
    options = parser.parse_args()
    options.function(options)


if __name__ == "__main__":
    main()
