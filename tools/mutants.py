#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Builds Basalt with one check taken out, and shows that the test that exists for that check fails.

tests/mutants/NAME.mutant is a paragraph of comment and lines of `key: value`:

    # The ASIDs of a new generation may be those of others: the whole TLB is flushed.
    file: svm/asid.c
    in: asid_assign                     (a function; only its text is searched. May be left out)
    find: flush = TLB_CONTROL_FLUSH_ALL (a regular expression that must match exactly once)
    replace: (void)flush
    test: unit test_tlb_svm
    test: attack qemu h64 ports 61      (one attack of tests/guest in a machine: tests/system/test_hostile.py, test_one)

`file` to `replace` may come several times, for a check that is made twice. `test: system EXPRESSION` is a test of
tests/system. The sources are copied to build/mutants/tree, which is built incrementally; nothing else is touched, and what
becomes of the sources meanwhile does not matter. Each test must pass there once without any mutant. An anchor that no longer
matches is an error. The last line is `N caught, M missed`.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
TREE = TOP / "build/mutants/tree"
LOGS = TOP / "build/logs"
LINKED = ("ext", "guest", "grub", "disk.img")  # of build/: the same for all trees


class Mutant:
    def __init__(self, path):
        self.name, self.edits, self.tests = path.stem, [], []
        for line in path.read_text().split("\n"):
            if not line.strip() or line.startswith("#"):
                continue
            key, _, value = line.partition(":")
            if key == "file":
                self.edits.append({"file": value.strip()})
            elif key == "test":
                self.tests.append(value.strip())
            elif key in ("in", "find", "replace") and self.edits:
                self.edits[-1][key] = value.strip()
            else:
                sys.exit(f"mutants: {path}: what is {line!r}?")
        for edit in self.edits:
            if "find" not in edit or "replace" not in edit:
                sys.exit(f"mutants: {path}: {edit['file']}: find and replace are needed")
        if not self.edits or not self.tests:
            sys.exit(f"mutants: {path}: file and test are needed")

    def texts(self):
        """The changed files: {path: text}. Raises ValueError if an anchor does not match."""
        out = {}
        self.originals = {edit["file"]: (TOP / edit["file"]).read_text() for edit in self.edits}
        for edit in self.edits:
            path = edit["file"]
            text = out.get(path) or self.originals[path]
            start, end = function_range(text, edit["in"], path) if "in" in edit else (0, len(text))
            found = list(re.finditer(edit["find"], text[start:end], re.S))
            if len(found) != 1:
                raise ValueError(f"{path}: /{edit['find']}/ matches {len(found)} times" +
                                 (f" in {edit['in']}()" if "in" in edit else ""))
            out[path] = text[:start + found[0].start()] + found[0].expand(edit["replace"]) + text[start + found[0].end():]
        return out


def function_range(text, name, path):
    """Where a function's definition is: from its name to the brace in the first column (or the end of its only line)."""
    found = re.search(rf"^[a-z][^;={{}}\n]*\b{name}\([^;{{]*?\)\s*\{{", text, re.M)
    if not found:
        raise ValueError(f"{path}: there is no function {name}()")
    line_end = text.index("\n", found.end())
    if text[found.end():line_end].rstrip().endswith("}"):
        return found.start(), line_end
    return found.start(), text.index("\n}", found.end())


def tracked():
    names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=TOP, stdout=subprocess.PIPE, text=True,
                           check=True).stdout.split("\n")
    return [name for name in names if name and (TOP / name).is_file()]


def copy_tree():
    """Makes TREE equal to the sources, touching only what differs, so that make builds little."""
    wanted = set(tracked())
    for name in wanted:
        source, target = TOP / name, TREE / name
        if target.exists() and target.read_bytes() == source.read_bytes():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        shutil.copymode(source, target)
    for path in TREE.rglob("*.[chS]"):
        if "build" not in path.relative_to(TREE).parts[:1] and str(path.relative_to(TREE)) not in wanted:
            path.unlink()
    (TREE / "build").mkdir(exist_ok=True)
    for name in LINKED:
        link = TREE / "build" / name
        (TOP / "build" / name).exists() and not link.exists() and link.symlink_to(TOP / "build" / name)


def make(*goals, log):
    words = ["make", "-C", str(TREE), *goals]
    return subprocess.run(words, stdout=log, stderr=subprocess.STDOUT, env=dict(os.environ, BASALT_SETUP="done")).returncode


def run_test(test, log):
    """Builds what the test needs and runs it. "passed", "failed", or "unbuilt"."""
    kind, _, rest = test.partition(" ")
    # Mutants hang often, and one test runs at a time: its timeouts are short.
    environment = {"BASALT_PATIENCE": "1", **os.environ, "BASALT_BUILD": str(TREE / "build"), "PYTHONDONTWRITEBYTECODE": "1"}
    if kind == "unit":
        program = f"build/unit/{rest}"
        if make("unit-build", f"UNIT_PROGRAMS={program}", log=log):
            return "unbuilt"
        words = [str(TREE / program)]
    else:
        if make("all", log=log):
            return "unbuilt"
        select = rest
        if kind == "attack":
            machine, _, attack = rest.partition(" ")
            environment["BASALT_ATTACK"] = attack
            select = f"test_one_on_{machine}"
        words = ["/usr/bin/python3", "-m", "pytest", "tests/system", "-x", "-q", "--tb=short", "-p", "no:cacheprovider", "-k",
                 select]
    try:
        done = subprocess.run(words, cwd=TREE, env=environment, stdout=log, stderr=subprocess.STDOUT,
                              stdin=subprocess.DEVNULL, timeout=900)
    except subprocess.TimeoutExpired:
        return "failed"
    return "passed" if done.returncode == 0 else "failed"


def log_of(name):
    LOGS.mkdir(parents=True, exist_ok=True)
    return open(LOGS / f"mutant-{name}.log", "w")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="a regular expression for the names of mutants")
    parser.add_argument("--unit", action="store_true", help="those that unit tests catch, only")
    parser.add_argument("--trust", action="store_true", help="do not run the tests without a mutant first")
    parser.add_argument("--check", action="store_true", help="only whether every anchor matches")
    options = parser.parse_args()
    mutants = [Mutant(path) for path in sorted((TOP / "tests/mutants").glob("*.mutant"))
               if not options.only or re.search(options.only, path.stem)]
    if options.unit:
        mutants = [m for m in mutants if all(test.startswith("unit ") for test in m.tests)]
    texts, errors = {}, []
    for mutant in mutants:
        try:
            texts[mutant.name] = mutant.texts()
        except (ValueError, OSError) as error:
            errors.append(f"mutants: {mutant.name}: {error}")
    print("\n".join(errors) or f"mutants: the anchors of {len(mutants)} match", flush=True)
    if errors or options.check:
        return 1 if errors else 0
    copy_tree()
    began = time.monotonic()
    for test in () if options.trust else dict.fromkeys(test for mutant in mutants for test in mutant.tests):
        started = time.monotonic()
        with log_of("none") as log:
            result = run_test(test, log)
        print(f"  {'ok    ' if result == 'passed' else 'ERROR '} without a mutant: {test}: {result}, "
              f"{time.monotonic() - started:.0f} s", flush=True)
        if result != "passed":
            errors.append(test)
    if errors:
        print(f"mutants: these must pass first (build/logs/mutant-none.log): {', '.join(errors)}")
        return 1
    caught = missed = 0
    for mutant in mutants:
        for path, text in texts[mutant.name].items():
            (TREE / path).write_text(text)
        started = time.monotonic()
        results = {}
        try:
            with log_of(mutant.name) as log:
                for test in mutant.tests:
                    results[test] = run_test(test, log)
        finally:
            for path, text in mutant.originals.items():
                (TREE / path).write_text(text)
        good = all(result == "failed" for result in results.values())
        caught, missed = caught + good, missed + (not good)
        for test, result in results.items():
            print(f"  {'caught' if result == 'failed' else 'MISSED'} {mutant.name}: {test}"
                  f"{' (does not build)' if result == 'unbuilt' else ''}, {time.monotonic() - started:.0f} s", flush=True)
    print(f"mutants: {len(mutants)} in {(time.monotonic() - began) / 60:.0f} minutes\n{caught} caught, {missed} missed", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
