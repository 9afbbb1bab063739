# SPDX-License-Identifier: Apache-2.0
"""Isolation, attacked: the hostile guests of tests/guest on both vendors' backends, many in one machine (see hostile.py for
what must hold after each). docs/testing.md says which test shows what, tests/mutants which check each exists for.

Each test runs with few repetitions under `make test` and with many under `make test-long` (marked `long`)."""

import os

import pytest
from hostile import COUNTED, Arena, arena_image, build

HASWELL = "corei7_haswell_4770"
CRASHED = "triple fault|an instruction that can't be emulated|the processor refused its state"
# Ways to die (tests/guest/deaths) and what must be said. What only 32-bit code can do is a triple fault of 64-bit code.
DEATHS = {way: "triple fault" if way < 5 else CRASHED for way in range(24)}
STORMS = range(20)
# QEMU itself ends at the one that is left out (docs/caveats.md).
QEMU64_STORMS = [way for way in STORMS if way != 17]


@pytest.fixture(scope="session")
def elves(tmp_path_factory):
    return build(tmp_path_factory.mktemp("hostile"))


def processor(arena, names, few, virtual_8086=True):
    """Everything that a guest can ask of its processor."""
    for name in names:
        arena.attack(name, f"memory {0x1001000 if few else 0x201000}", timeout=300)
        arena.attack(name, "registers", timeout=120)
        arena.attack(name, "cpuids", timeout=120)
        arena.attack(name, f"descriptors {300 if few else 20000}", timeout=300)
        arena.attack(name, "instructions", timeout=300)
        arena.attack(name, f"realmode {1021 if few else 1} {int(virtual_8086)}", timeout=300)
        arena.attack(name, f"ports {1021 if few else 1}", timeout=600)
        arena.attack(name, f"msrs {200 if few else 5000} {61 if few else 1}", timeout=600)


def virtqueues(arena, names, rounds):
    for name in names:
        arena.attack(name, f"virtqueues {rounds}", timeout=900)
        arena.attack(name, "kicks", timeout=120)


def hypercalls(arena, names, calls):
    for name in names:
        arena.attack(name, f"hypercalls {calls}", timeout=1200)


def remains(arena):
    """What a guest had in its memory is not found by the next one."""
    arena.attack("h32", "remains 1", timeout=120)
    arena.attack("big", "remains 0 160", timeout=120)  # most of the machine's free memory


def deaths(arena, names, which):
    for name in names:
        for way in which:
            arena.death(name, f"deaths {way}", DEATHS[way])


def storms(arena, names, which, seconds=1):
    for name in names:
        for way in which:
            arena.hang(name, f"storm {way}", seconds, share=0.1)


def test_processor_on_qemu(qemu, image, elves):
    arena = Arena(qemu(arena_image(image, elves), memory="256M"))
    processor(arena, ("h32", "h64"), few=True)
    hypercalls(arena, ("h32", "h64"), 5000)
    virtqueues(arena, ("h32", "h64"), 8)
    remains(arena)


def test_deaths_on_qemu(qemu, image, elves):
    arena = Arena(qemu(arena_image(image, elves), memory="256M"))
    deaths(arena, ("h32",), DEATHS)
    deaths(arena, ("h64",), (0, 5, 8, 12, 17, 18, 23))


def test_storms_on_qemu(qemu, image, elves):
    arena = Arena(qemu(arena_image(image, elves), memory="256M", **COUNTED))
    storms(arena, ("h32",), STORMS[::2])
    storms(arena, ("h64",), QEMU64_STORMS[1::2])


# Two guests at a time that want the CPU, or dom0, or both for themselves.
CROWDS = [("doorbells", "storm 6"), ("doorbells", "doorbells"), ("storm 7", "storm 9"), ("storm 1", "storm 3")]


def test_crowds_on_qemu(qemu, image, elves):
    arena = Arena(qemu(arena_image(image, elves), memory="256M", **COUNTED))
    for lines in CROWDS:
        arena.crowd(dict(zip(("h32", "h64"), lines)))


@pytest.mark.bochs
def test_processor_on_bochs(bochs, image, elves):
    arena = Arena(bochs(arena_image(image, elves), cpu=HASWELL, memory=256), patience=4)
    for name, line in (("h64", f"memory {0x10001000}"), ("h32", "registers"), ("h64", "registers"), ("h64", "cpuids"),
                       ("h32", "descriptors 200"), ("h32", "instructions 1000000"), ("h32", "realmode 4093"), ("h64", "ports 2039"),
                       ("h64", "msrs 20 509"), ("h64", "hypercalls 1000"), ("h32", "hypercalls 1000"),
                       ("h32", "kicks"), ("h64", "kicks"), ("h64", "virtqueues 1")):
        arena.attack(name, line, timeout=200)
    remains(arena)


@pytest.mark.bochs
def test_deaths_on_bochs(bochs, image, elves):
    arena = Arena(bochs(arena_image(image, elves), cpu=HASWELL, memory=256), patience=4)
    deaths(arena, ("h32",), (0, 3, 5, 8, 9, 12, 14, 18, 20))
    deaths(arena, ("h64",), (2, 6, 7, 11, 17))
    storms(arena, ("h32",), (1, 18, 19))
    storms(arena, ("h64",), (6,))
    arena.crowd({"h32": "doorbells", "h64": "storm 6"})


# ---- Everything, many times ----

@pytest.mark.long
def test_everything_on_qemu(qemu, image, elves):
    arena = Arena(qemu(arena_image(image, elves), memory="256M"))
    processor(arena, ("h32", "h64"), few=False)
    hypercalls(arena, ("h32", "h64"), 1000000)
    virtqueues(arena, ("h32", "h64"), 300)
    deaths(arena, ("h32", "h64"), DEATHS)
    storms(arena, ("h32",), STORMS, seconds=3)
    storms(arena, ("h64",), QEMU64_STORMS, seconds=3)


@pytest.mark.long
@pytest.mark.bochs
@pytest.mark.parametrize("cpu", [HASWELL, "ryzen"])
def test_everything_on_bochs(bochs, image, elves, cpu):
    arena = Arena(bochs(arena_image(image, elves), cpu=cpu, memory=256), patience=4)
    # Bochs' SVM panics at an exit from virtual-8086 mode (docs/caveats.md).
    processor(arena, ("h32", "h64"), few=True, virtual_8086=cpu == HASWELL)
    hypercalls(arena, ("h32", "h64"), 20000)
    virtqueues(arena, ("h32", "h64"), 20)
    if cpu == HASWELL:  # Bochs' SVM panics at a guest's triple fault, and some guests keep that processor for themselves
        # One NMI only: who dies of one leaves the next guest's blocked (docs/caveats.md, Bochs).
        deaths(arena, ("h32", "h64"), [way for way in DEATHS if way not in (2, 23)])
        deaths(arena, ("h64",), (23,))
        storms(arena, ("h32", "h64"), STORMS)


# ---- One attack, for tools/mutants.py ----

@pytest.fixture
def attack_line():
    line = os.environ.get("BASALT_ATTACK")
    if not line:
        pytest.skip("BASALT_ATTACK names no attack")
    return line.split(" ", 1)


def one(arena, name, line):
    kind = line.split()[0]
    if kind == "deaths":
        arena.death(name, line, DEATHS[int(line.split()[1])])
    elif kind == "storm":
        arena.hang(name, line, share=0.1)
    elif kind == "remains":
        remains(arena)
    else:
        arena.attack(name, line, timeout=300)


def test_one_on_qemu(qemu, image, elves, attack_line):
    counted = COUNTED if attack_line[1].startswith("storm") else {}
    one(Arena(qemu(arena_image(image, elves), memory="256M", **counted)), *attack_line)


@pytest.mark.bochs
def test_one_on_bochs(bochs, image, elves, attack_line):
    one(Arena(bochs(arena_image(image, elves), cpu=HASWELL, memory=256), patience=4), *attack_line)
