"""Parsers under fuzzing: they return, or raise one of our errors, in bounded time and memory.

``KSTORE_TEST_FUZZ=EXECUTIONS`` lets the guided fuzzing of each target go on longer.
"""

from __future__ import annotations

import importlib.util
import os
import random

import pytest

from tests.faults.fuzzing import fuzzed
from tests.faults.fuzztargets import TARGETS

_EXECUTIONS = int(os.environ.get("KSTORE_TEST_FUZZ", "4000"))


def _mutated(data: bytes, chance: random.Random) -> bytes:
    """``data`` after some of what goes wrong with bytes."""
    changed = bytearray(data)
    for _ in range(chance.randrange(1, 5)):
        place = chance.randrange(len(changed) + 1)
        match chance.randrange(6):
            case 0:
                changed[place : place + 1] = bytes([chance.randrange(256)])
            case 1:
                del changed[place : place + chance.randrange(1, 64)]
            case 2:
                changed[place:place] = changed[place : place + chance.randrange(1, 64)]
            case 3:
                changed[place:place] = chance.randbytes(chance.randrange(1, 16))
            case 4:
                changed[place:place] = chance.choice([b"\0", b'"', b"{", b"\xff" * 8, b"9" * 30])
            case _:
                del changed[place:]
    return bytes(changed)


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_what_chance_makes_of_them_end_well(name: str) -> None:
    target, chance = TARGETS[name], random.Random(name)
    for seed in target.seeds:
        target.run(seed)  # it is accepted, so that what is made of it comes far
        for _ in range(300):
            target(_mutated(seed, chance))


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris has no wheel for this Python"
)
@pytest.mark.timeout(0 if _EXECUTIONS > 4000 else 120)
@pytest.mark.parametrize("name", TARGETS)
def test_what_a_guided_fuzzer_finds_ends_well(name: str) -> None:
    done = fuzzed(name, _EXECUTIONS)
    assert done.finding == ""
    assert done.executions >= _EXECUTIONS
    assert done.discoveries > 0, "nothing guides it: is the code that reads it instrumented?"
