#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the tests that make asks for and sums them up. The last line is `N passed, N failed`; the exit status is 1 if any
failed. Logs of machines, of unit tests, and JUnit XML of the system tests (system.xml) are left in build/logs.
"""

import argparse
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import unit

TOP = Path(__file__).resolve().parent.parent
LOGS = TOP / "build/logs"
FUZZ_SECONDS = int(os.environ.get("BASALT_FUZZ_SECONDS", "60"))


def system(build, only, long, workers):
    """Runs pytest on tests/system; returns (passed, failed, names of the failed)."""
    LOGS.mkdir(parents=True, exist_ok=True)
    report = LOGS / "system.xml"
    report.unlink(missing_ok=True)
    words = ["/usr/bin/python3", "-m", "pytest", "tests/system", "-v", "-ra", "--tb=short", "-p", "no:cacheprovider",
             f"--junitxml={report}", "--durations=10"]
    if workers > 1:
        words += ["-n", str(workers), "--dist", "worksteal" if worksteal() else "load"]
    if not long:
        words += ["-m", "not long"]
    if only:
        words += ["-k", only]
    environment = dict(os.environ, BASALT_BUILD=str((TOP / build).resolve()), PYTHONDONTWRITEBYTECODE="1")
    status = subprocess.run(words, cwd=TOP, env=environment, stdin=subprocess.DEVNULL).returncode
    if status == 5:  # no test was selected
        return 0, 0, []
    if not report.exists():
        return 0, 1, [f"pytest itself (status {status})"]
    passed, failures = 0, []
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"}:
            failures.append(f"{case.get('classname')}: {case.get('name')}")
        elif "skipped" not in kinds:
            passed += 1
    if status not in (0, 1) and not failures:
        failures.append(f"pytest itself (status {status})")
    return passed, len(failures), failures


def worksteal():
    done = subprocess.run(["/usr/bin/python3", "-m", "pytest", "--help"], stdout=subprocess.PIPE, text=True, cwd=TOP)
    return "worksteal" in done.stdout


def fuzz(build, only):
    """Runs each fuzzer for a while; returns (passed, failed, names of the failed)."""
    passed, failures = 0, []
    for source in sorted((TOP / "tests/fuzz").glob("fuzz_*.c")):
        if only and not re.search(only, source.stem):
            continue
        corpus = TOP / "build/fuzz-corpus" / source.stem
        corpus.mkdir(parents=True, exist_ok=True)
        log = LOGS / f"{source.stem}.log"
        LOGS.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        with open(log, "w") as output:
            status = subprocess.run([TOP / build / "fuzz" / source.stem, f"-max_total_time={FUZZ_SECONDS}", "-timeout=10",
                                     f"-artifact_prefix={LOGS}/{source.stem}-", corpus], stdout=output,
                                    stderr=subprocess.STDOUT, cwd=TOP).returncode
        print(f"  {'ok    ' if status == 0 else 'FAILED'} {source.stem}: {time.monotonic() - started:.0f} s", flush=True)
        if status:
            failures.append(f"{source.stem} (see {log})")
            print("\n".join("      | " + line for line in log.read_text(errors="replace").split("\n")[-40:]))
        else:
            passed += 1
    return passed, len(failures), failures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build")
    parser.add_argument("--compiler", default="gcc")
    parser.add_argument("--unit", action="store_true")
    parser.add_argument("--system", action="store_true")
    parser.add_argument("--fuzz", action="store_true")
    parser.add_argument("--long", action="store_true", help="the tests marked `long` as well")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1), help="machines at a time")
    parser.add_argument("--only", help="tests whose name matches")
    options = parser.parse_args()
    passed, failed, failures = 0, 0, []

    def add(result):
        nonlocal passed, failed, failures
        passed, failed, failures = passed + result[0], failed + result[1], failures + result[2]

    started = time.monotonic()
    if options.unit:
        total = unit.run(options.build, options.compiler, options.only)
        add((total["passed"], total["failed"], total["failures"]))
    if options.fuzz:
        add(fuzz(options.build, options.only))
    if options.system:
        add(system(options.build, options.only, options.long, options.workers))
    if failures:
        print("\nfailed:\n" + "\n".join("  " + name for name in failures))
    print(f"\n{time.monotonic() - started:.0f} s; logs are in build/logs\n{passed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
