#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Unit tests and fuzzers: makes their build rules, and runs the unit tests.

Each tests/unit/test_NAME.c and tests/model/test_NAME.c is a cmocka program, each tests/fuzz/fuzz_NAME.c a libFuzzer program. Comments in it say what it
is linked with:

    // sources: kernel/frames.c ept/ept.c      the code under test (and more files of the test, if it has any)
    // libs: -lcapstone                        libraries
    // cflags: -DSOMETHING                     for the test's own file only
    // like: tests/unit/test_NAME.c            a fuzzer that includes this unit test, or needs what it needs: linked with the same

`unit.py rules` prints rules for make. `unit.py run` runs the programs, two at a time, and prints each test's result, the
output of those that failed, and the line coverage of every source file under test. It leaves build/logs/unit.json.
"""

import argparse
import concurrent.futures
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
LOGS = TOP / "build/logs"
TIMEOUT = 300


def comment(text, key):
    return " ".join(re.findall(rf"^// {key}: *(.*?) *$", text, re.M)).split()


def linked(test):
    """The sources and libraries that a program's comments name, those of the unit test that it is like among them."""
    text = test.read_text()
    sources, libs = comment(text, "sources"), comment(text, "libs")
    for other in comment(text, "like"):
        more = linked(TOP / other)
        sources, libs = sources + more[0], libs + more[1] + ["-lcmocka"]
    return sources, libs


def unit_tests():
    """The unit tests' files: those of tests/model, too, which run code against models of a processor."""
    return sorted([*(TOP / "tests/unit").glob("test_*.c"), *(TOP / "tests/model").glob("test_*.c")])


def rules(build):
    """Prints makefile rules: programs, and one object per source file, shared by all tests that name it."""
    for kind, flags, compiler in (("unit", "$(UNIT_FLAGS)", "$(CC)"), ("fuzz", "$(FUZZ_FLAGS)", "clang")):
        programs, objects = [], set()
        link = "-fsanitize=address,undefined --coverage" if kind == "unit" else "-fsanitize=fuzzer,address,undefined"
        prefix = "test" if kind == "unit" else "fuzz"
        for test in unit_tests() if kind == "unit" else sorted((TOP / "tests" / kind).glob(f"{prefix}_*.c")):
            text = test.read_text()
            sources, libs = linked(test)
            sources.insert(0, str(test.relative_to(TOP)))
            program = f"{build}/{kind}/{test.stem}"
            parts = [f"{build}/{kind}/obj/{source}.o" for source in sources]
            programs.append(program)
            objects.update(sources)
            if cflags := comment(text, "cflags"):
                print(f"{parts[0]}: EXTRA_FLAGS := {' '.join(cflags)}")
            libs = " ".join(libs + (["-lcmocka"] if kind == "unit" else []))
            print(f"{program}: {' '.join(parts)}\n\t@echo '  LD      $@'\n\t$(Q){compiler} {link} -o $@ $^ {libs}")
        for source in sorted(objects):
            target = f"{build}/{kind}/obj/{source}.o"
            # The tests' own code is not instrumented for libFuzzer: it is not what shall be covered, and it is slow.
            if kind == "fuzz" and not source.startswith("tests/"):
                print(f"{target}: EXTRA_FLAGS += -fsanitize=fuzzer-no-link")
            print(f"{target}: {source} Makefile | $(CJSON)/cJSON.c\n\t@mkdir -p $(@D)\n\t@echo '  CC      {source} ({kind})'\n"
                  f"\t$(Q){compiler} {flags} $(EXTRA_FLAGS) -MMD -MP -c -o $@ $<")
            print(f"-include {build}/{kind}/obj/{source}.d")
        print(f"{kind.upper()}_PROGRAMS := {' '.join(programs)}")


def run_program(program):
    """Runs one test program; returns (name, list of (test, passed), output, seconds)."""
    environment = dict(os.environ, ASAN_OPTIONS="detect_leaks=1:abort_on_error=0:" + os.environ.get("ASAN_OPTIONS", ""),
                       UBSAN_OPTIONS="print_stacktrace=1", CMOCKA_MESSAGE_OUTPUT="stdout")
    started = time.monotonic()
    try:
        done = subprocess.run([program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                              timeout=TIMEOUT, env=environment, cwd=TOP, stdin=subprocess.DEVNULL)
        output, status = done.stdout, done.returncode
    except subprocess.TimeoutExpired as error:
        output, status = (error.stdout or b"").decode("utf-8", "replace") + f"\nno end after {TIMEOUT} s\n", "timeout"
    passed = re.findall(r"^\[       OK \] (\S+)", output, re.M)
    failed = list(dict.fromkeys(re.findall(r"^\[  FAILED  \] (?:\S+: )?(\w+)$", output, re.M)))
    results = [(name, True) for name in passed] + [(name, False) for name in failed]
    if status != 0 and not failed:
        started_tests = re.findall(r"^\[ RUN      \] (\S+)", output, re.M)
        results.append((f"{started_tests[-1] if started_tests else 'main'} (ended with {status})", False))
    if status == 0 and not results:
        results.append(("main", True))
    return program.name, results, output, time.monotonic() - started


def coverage(build, compiler):
    """Line coverage by source file, from the counters that the programs left."""
    tool = ["llvm-cov", "gcov"] if "clang" in compiler else ["gcov"]
    rows = []
    for data in sorted((build / "unit/obj").rglob("*.gcda")):
        source = str(data.relative_to((build / "unit/obj").resolve() if data.is_absolute() else build / "unit/obj"))
        source = source.removesuffix(".gcda")
        if source.startswith("tests/"):
            continue
        done = subprocess.run([*tool, "-n", "-o", data.parent, data], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              text=True, cwd=TOP)
        for name, percent, lines in re.findall(r"File '(.*?)'\nLines executed: *([\d.]+)% of (\d+)", done.stdout):
            if name.endswith(source):
                rows.append((source, round(float(percent) * int(lines) / 100), int(lines)))
    return rows


def run(build, compiler, only):
    build = (TOP / build).resolve()
    programs = [build / "unit" / test.stem for test in unit_tests()
                if not only or re.search(only, test.stem)]
    for data in (build / "unit").rglob("*.gcda"):
        data.unlink()
    LOGS.mkdir(parents=True, exist_ok=True)
    total = {"passed": 0, "failed": 0, "failures": []}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for name, results, output, seconds in pool.map(run_program, programs):
            (LOGS / f"unit-{name}.log").write_text(output)
            for test, passed in results:
                print(f"  {'ok    ' if passed else 'FAILED'} {name}: {test}")
                total["passed" if passed else "failed"] += 1
                if not passed:
                    total["failures"].append(f"{name}: {test}")
            if not all(passed for _, passed in results):
                print("\n".join("      | " + line for line in output.rstrip().split("\n")[-60:]))
    rows = coverage(build, compiler)
    if rows:
        print("\nline coverage")
        for source, hit, lines in rows:
            print(f"  {source:36} {100 * hit / lines if lines else 100:5.1f} %  of {lines:5}")
        hit, lines = sum(row[1] for row in rows), sum(row[2] for row in rows)
        print(f"  {'all':36} {100 * hit / max(lines, 1):5.1f} %  of {lines:5}")
    total["coverage"] = rows
    (LOGS / "unit.json").write_text(json.dumps(total, indent=1))
    print(f"\nunit: {total['passed']} passed, {total['failed']} failed", flush=True)
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["rules", "run"])
    parser.add_argument("--build", default="build")
    parser.add_argument("--compiler", default="gcc")
    parser.add_argument("--only", help="a regular expression for the names of test programs")
    options = parser.parse_args()
    if options.command == "rules":
        rules(options.build)
        return 0
    return 1 if run(options.build, options.compiler, options.only)["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
