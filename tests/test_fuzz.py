"""Damaged files through the command line: never a traceback, a hang or a file left behind.

`benchmarks/fuzz.py` runs as many mutants as one likes; these are the first of the same.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the machinery beside this file
from fuzzing import COMMANDS, make_corpus, run_in, survive
from mutants import BYTES, TEXT, mutant

MUTANTS = 300


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="uses limits of POSIX")
def test_no_damage_does_harm():
    outcomes = list(survive(0, MUTANTS))
    assert [o.seed for o in outcomes] == list(range(MUTANTS))
    harm = [f"seed {o.seed}, {o.command}: {o.fault}" for o in outcomes if o.fault]
    assert not harm, "\n".join(harm)
    assert {o.file for o in outcomes} == COMMANDS.keys()
    assert sum(o.code == 2 for o in outcomes) > MUTANTS / 2  # most damage does not go unnoticed


def test_every_command_takes_the_sound_files(tmp_path):
    make_corpus(tmp_path)
    for command in (c for commands in COMMANDS.values() for c in commands):
        code, said, trace = run_in(tmp_path, command)
        assert code in (0, 1), f"{command}: {said}{trace}"
        assert code == 0 or command[0] in ("lint", "diff")


@pytest.mark.parametrize("damage", [*BYTES, *TEXT], ids=lambda d: d.__name__)
def test_damage_is_the_same_for_a_seed_and_mostly_changes_something(damage):
    whole = b"kind: onnxq.plan\nversion: 1\nmodel: abc\nquantized:\n  conv: 12\n"
    once, twice = ([damage(whole, np.random.default_rng(i)) for i in range(50)] for _ in range(2))
    assert once == twice
    assert sum(x != whole for x in once) > 25


def test_a_mutant_of_nothing_is_still_bytes():
    for seed in range(50):
        for name in ("x.npy", "plan.yaml", "net.onnx"):
            assert isinstance(mutant(b"", name, np.random.default_rng(seed)), bytes)
