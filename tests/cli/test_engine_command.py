"""`onnxq engine`: what it prints, and what it refuses."""

import json

import pytest
from layer_files import FP16, INT8, residual_block, written


@pytest.fixture
def files(folder):
    found = []
    for name, skip in (("half", FP16), ("int8", INT8)):
        layers, profile = residual_block(skip)
        found += [written(folder, f"{name}.json", layers),
                  written(folder, f"{name}.times.json", profile)]  # fmt: skip
    return found


def test_one_engine_in_tables_of_80_columns_and_as_json(done, files):
    said = done("engine", files[0], "--profile", files[1]).out
    assert "3.7500 ms in 5 layers" in said
    assert "what to change" in said
    assert all(len(line) <= 80 for line in said.splitlines())
    found = json.loads(done("engine", files[0], "--profile", files[1], "--json").out)
    assert found["total_ms"] == 3.75
    assert {"coverage", "nodes", "reformats"} <= set(found)


def test_two_engines_side_by_side(done, files, folder):
    said = done("engine", files[0], files[2], "--profile", files[1], "--profile", files[3],
                "--write-skip", "skip.txt").out  # fmt: skip
    assert "What changed most" in said
    assert "B takes 0.67 of A's time" in said
    assert (folder / "skip.txt").read_text("utf-8") == ""


def test_without_a_profile_types_alone_are_shown(done, files):
    assert "no times" in done("engine", files[0]).out


@pytest.mark.parametrize(
    ("args", "line"),
    [
        ((0, 2), "give a --profile for each"),
        ((0, "--profile", 1, "--profile", 3), "give a --profile for each"),
        ((0, 0, 0), "of one engine, or of two"),
        ((0, "--write-skip", "s.txt"), "give two LAYERS"),
        (("nowhere.json",), "is not a file"),
        ((1,), "give it as --profile"),
    ],
)
def test_what_does_not_belong_together_is_refused(refused, files, args, line):
    words = [files[a] if isinstance(a, int) else a for a in args]
    assert line in refused("engine", *words)
