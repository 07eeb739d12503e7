"""What the summary says of weights that stay float, and of models that are slower than in float."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.numpy_helper import from_array
from rich.console import Console

from onnxq.pipeline.manifest import quantized_share
from onnxq.report.text import summary
from onnxq.run.over import loaded
from onnxq.run.side_by_side import side_by_side


def shown(manifest):
    """The summary as text."""
    console = Console(width=80)
    with console.capture() as captured:
        console.print(summary(manifest))
    return captured.get()


@pytest.fixture
def recurrent(folder, rng):
    """m.onnx, an LSTM behind a MatMul, and c.npy."""
    body = """<ir_version: 8, opset_import: ["": 17]> g (float[5, 1, 96] x)
        => (float[5, 1, 1, 96] y) { a = MatMul(x, v) y = LSTM<hidden_size = 96>(a, w, r) }"""
    model = onnx.parser.parse_model(body)
    for name, shape in {"v": (96, 96), "w": (1, 384, 96), "r": (1, 384, 96)}.items():
        model.graph.initializer.append(from_array(
            rng.normal(size=shape).astype(np.float32) / 10, name))  # fmt: skip
    onnx.save(model, "m.onnx")
    np.save("c.npy", rng.normal(size=(16, 5, 1, 96)).astype(np.float32))


def test_an_lstm_stands_in_the_table_with_its_megabytes(recurrent, done):
    ran = done("quantize", "m.onnx", "--calib", "c.npy", "-o", "q.onnx")
    manifest = json.loads(Path("q.onnx.manifest.json").read_text())
    assert manifest["nodes"]["float_weights"] == [
        {"op": "LSTM", "nodes": 1, "bytes": 2 * 384 * 96 * 4}
    ]
    assert "Weights that stay float" in ran.out
    assert "FP16 alone may serve" in manifest["verdict"]["why"]


def test_models_for_onnx_runtime_are_timed_beside_the_float_one(recurrent, done):
    ran = done("quantize", "m.onnx", "--calib", "c.npy", "-o", "q.onnx", "--target", "onnxruntime")
    timing = json.loads(Path("q.onnx.manifest.json").read_text())["timing"]
    assert timing["ratio"] == pytest.approx(timing["quantized_ms"] / timing["float_ms"], rel=0.1)
    assert "ms a sample, float" in ran.out
    done("quantize", "m.onnx", "--calib", "c.npy", "-o", "t.onnx")
    manifest = json.loads(Path("t.onnx.manifest.json").read_text())
    assert "timing" not in manifest
    manifest["timing"] = {"float_ms": 1.0, "quantized_ms": 1.3, "ratio": 1.3}
    assert "slower than float" in shown(manifest)
    manifest["timing"]["ratio"] = 0.9
    assert "slower than float" not in shown(manifest)


def test_models_run_in_turns(graph_of):
    from onnxq.model import graph as graphs

    model = loaded(graphs.to_proto(graph_of("(float[4] x) => (float[4] y) { y = Neg(x) }")))
    found = side_by_side([model, model], [{"x": np.ones(4, np.float32)}], most=5)
    assert len(found) == 2
    assert all(0 < seconds < math.inf for seconds in found)


def test_a_plan_that_quantizes_no_weight_has_no_share(fixtures):
    from onnxq import api

    source = api.prepare(fixtures / "classifier/classifier.onnx")
    plan = api.plan(source)
    assert quantized_share(source.graph, plan) > 0.9
    assert quantized_share(source.graph, plan.only()) == 0
