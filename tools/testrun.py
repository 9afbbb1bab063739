#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the tests that make asks for and sums them up. The last line is `N passed, N failed`; the exit status is 1 if any
failed. Logs of machines, of unit tests, and JUnit XML of the system tests (system.xml) are left in build/logs.
"""

import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import unit

TOP = Path(__file__).resolve().parent.parent
LOGS = TOP / "build/logs"
FUZZ_SECONDS = 60
KEPT_BYTES = 24 << 10  # of one corpus in the repository, unless its fuzzer says otherwise


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


def fuzzers(only):
    return [source for source in sorted((TOP / "tests/fuzz").glob("fuzz_*.c")) if not only or re.search(only, source.stem)]


def corpora(source):
    """Where a fuzzer's inputs are: those that it found on this machine, and those that the repository keeps."""
    found = TOP / "build/fuzz-corpus" / source.stem
    kept = TOP / "tests/fuzz/corpus" / source.stem.removeprefix("fuzz_")
    found.mkdir(parents=True, exist_ok=True)
    return [found] + ([kept] if kept.is_dir() else [])


def fuzz_one(build, source, seconds):
    """Replays a fuzzer's corpora, then lets it look for new inputs; returns (name, passed, what to print)."""
    log = LOGS / f"{source.stem}.log"
    program = (TOP / build / "fuzz" / source.stem).relative_to(TOP)
    words = [program, f"-max_total_time={seconds}", "-timeout=30", "-rss_limit_mb=2048", "-print_final_stats=1",
             f"-artifact_prefix={LOGS.relative_to(TOP)}/{source.stem}-", *unit.comment(source.read_text(), "fuzz"),
             *(folder.relative_to(TOP) for folder in corpora(source))]
    environment = dict(os.environ, UBSAN_OPTIONS="print_stacktrace=1")
    with open(log, "w") as output:
        status = subprocess.run(words, stdout=output, stderr=subprocess.STDOUT, cwd=TOP, env=environment,
                                stdin=subprocess.DEVNULL).returncode
    text = log.read_text(errors="replace")
    runs = re.search(r"number_of_executed_units: *(\d+)", text)
    points = re.findall(r" cov: (\d+) ", text)
    if status == 0:
        return source.stem, True, f"{runs[1] if runs else '?'} runs, {points[-1] if points else '?'} edges"
    lines = text.split("\n")[-40:]
    if kept := re.search(r"Test unit written to (\S+)", text):
        lines.append(f"to see it again: make fuzz-build && {program} {kept[1]}")
    return source.stem, False, f"see {log}\n" + "\n".join("      | " + line for line in lines)


def fuzz(build, only, seconds):
    """Runs each fuzzer for a while, two at a time; returns (passed, failed, names of the failed)."""
    passed, failures = 0, []
    LOGS.mkdir(parents=True, exist_ok=True)
    with concurrent.futures.ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        for name, good, text in pool.map(lambda source: fuzz_one(build, source, seconds), fuzzers(only)):
            print(f"  {'ok    ' if good else 'FAILED'} {name}: {text}", flush=True)
            passed += good
            if not good:
                failures.append(f"{name} (see build/logs/{name}.log)")
    return passed, len(failures), failures


def merge(build, source, longest):
    """A small set of a fuzzer's inputs, cut to `longest` bytes, that covers what all of them cover: a list of contents."""
    with tempfile.TemporaryDirectory() as new:
        subprocess.run([TOP / build / "fuzz" / source.stem, "-set_cover_merge=1", "-reduce_inputs=1", "-timeout=30",
                        *unit.comment(source.read_text(), "fuzz"), f"-max_len={longest}", new, *corpora(source)], cwd=TOP,
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        return {file.name: file.read_bytes() for file in Path(new).iterdir()}


def keep_corpus(build, only):
    """Makes the corpora of the repository anew, each as long as its inputs may be for all together to fit."""
    for source in fuzzers(only):
        most = int((unit.comment(source.read_text(), "keep") or [KEPT_BYTES])[0])
        for longest in (4096, 2048, 1024, 512, 256, 128):
            inputs = merge(build, source, longest)
            total = sum(map(len, inputs.values()))
            if total <= most:
                break
        kept = TOP / "tests/fuzz/corpus" / source.stem.removeprefix("fuzz_")
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        for name, data in inputs.items():
            (kept / name).write_bytes(data)
        print(f"  {source.stem}: {len(inputs)} inputs of at most {longest} bytes, {total} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build")
    parser.add_argument("--compiler", default="gcc")
    parser.add_argument("--unit", action="store_true")
    parser.add_argument("--system", action="store_true")
    parser.add_argument("--fuzz", action="store_true")
    parser.add_argument("--seconds", type=int, default=FUZZ_SECONDS, help="for each fuzzer")
    parser.add_argument("--keep-corpus", action="store_true", help="only makes tests/fuzz/corpus anew")
    parser.add_argument("--long", action="store_true", help="the tests marked `long` as well")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1), help="machines at a time")
    parser.add_argument("--only", help="tests whose name matches")
    options = parser.parse_args()
    if options.keep_corpus:
        keep_corpus(options.build, options.only)
        return 0
    passed, failed, failures = 0, 0, []

    def add(result):
        nonlocal passed, failed, failures
        passed, failed, failures = passed + result[0], failed + result[1], failures + result[2]

    started = time.monotonic()
    if options.unit:
        total = unit.run(options.build, options.compiler, options.only)
        add((total["passed"], total["failed"], total["failures"]))
    if options.fuzz:
        add(fuzz(options.build, options.only, options.seconds))
    if options.system:
        add(system(options.build, options.only, options.long, options.workers))
    if failures:
        print("\nfailed:\n" + "\n".join("  " + name for name in failures))
    print(f"\n{time.monotonic() - started:.0f} s; logs are in build/logs\n{passed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
