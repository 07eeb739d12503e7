"""A model that quantization ruins: the summary says so, and what to run next."""

from __future__ import annotations

import json
import math
import shlex
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.numpy_helper import from_array
from onnxq_cli.next_step import poor

from onnxq.judge.accuracy import agreement, agreements
from onnxq.pipeline.config import Config


@pytest.fixture
def ruined(folder, rng):
    """m.onnx and c.npy: every input has one channel a hundred times as large, of no weight."""
    body = """<ir_version: 8, opset_import: ["": 17]> g (float[N, 32] x) => (float[N, 24] y)
        { [fc] y = MatMul(x, w) }"""
    weight, x = rng.standard_normal((32, 24)), rng.standard_normal((40, 32))
    x[:, 0] *= 300
    weight[0] = 0
    model = onnx.parser.parse_model(body)
    model.graph.initializer.append(from_array(weight.astype(np.float32), "w"))
    onnx.save(model, "m.onnx")
    np.save("c d.npy", x.astype(np.float32))


ARGS = ("quantize", "m.onnx", "--calib", "c d.npy", "--method", "max")


def test_a_poor_result_is_said_with_a_command_that_runs(ruined, done):
    ran = done(*ARGS, "--json")
    (note,) = json.loads(ran.out)["notes"]
    assert note.startswith("output 'y' has ")
    assert note.endswith("; or try --recover all")
    command = note.removesuffix("; or try --recover all").split("do it: ")[1]
    words = shlex.split(command)
    assert words[:4] == ["onnxq", "sensitivity", "m.onnx", "--calib"]
    assert words[4] == "c d.npy"
    assert "fc" in done(*words[1:]).out
    assert "which is poor" in done(*ARGS).out


def test_a_good_result_needs_no_next_step(done, fixtures):
    model, data = (fixtures / f"classifier/{name}" for name in ("classifier.onnx", "calib.npy"))
    done("quantize", model, "--calib", data, "-o", "q.onnx")
    assert not json.loads(Path("q.onnx.manifest.json").read_text())["notes"]


def note_of(test, **options):
    ref = np.ones(8)
    found = agreements({"good": agreement(ref, ref), "y": agreement(ref, test)}, {}, {}, 1)
    return list(poor(Path("m.onnx"), Path("q.onnx"), ["c.npy"], Config(**options), found))


def test_the_worst_output_has_to_be_below_10_db():
    assert not note_of(np.full(8, 1 + 10 ** (-10.1 / 20)))
    assert len(note_of(np.full(8, 1 + 10 ** (-9.9 / 20)))) == 1


def test_nan_is_the_worst():
    (note,) = note_of(np.full(8, math.nan))
    assert note.startswith("output 'y' has nan dB")


def test_all_recoveries_are_not_named_once_they_ran():
    assert "--recover" in note_of(np.zeros(8))[0]
    assert "--recover" not in note_of(np.zeros(8), recover="all")[0]


def test_options_of_the_run_go_with_the_command():
    assert "--config q.onnx.manifest.json" in note_of(np.zeros(8), method="max")[0]
    assert "--config" not in note_of(np.zeros(8))[0]
