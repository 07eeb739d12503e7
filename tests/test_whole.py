"""A model that is written weight by weight has the bytes that protobuf gives it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.numpy_helper import from_array

from onnxq.model import graph as graphs
from onnxq.model import located
from onnxq.model.whole import pieces

FIXTURES = sorted((Path(__file__).resolve().parents[1] / "fixtures").glob("*/*.onnx"))


@pytest.mark.parametrize("path", FIXTURES, ids=lambda p: p.stem)
def test_the_bytes_are_those_of_the_message(path: Path) -> None:
    model = onnx.load(path)
    assert b"".join(pieces(model)) == model.SerializeToString(deterministic=True)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 40_000])
def test_weights_in_files_are_taken_in(tmp_path: Path, size: int) -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 9, opset_import: ["" : 17]>
        net (float[n, 3] x) => (float[n, 3] y) { z = Mul(x, half) y = Relu(z) }""")
    values = np.random.default_rng(0).normal(size=size).astype(np.float32)
    for name in ("half", "unread"):
        model.graph.initializer.append(from_array(values, name))
    onnx.helper.set_model_props(model, {"key": "value"})
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=1)
    beside = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    located.locate(beside, tmp_path)
    written = b"".join(pieces(beside))
    located.fill(beside)
    assert written == beside.SerializeToString(deterministic=True)


def test_a_graph_is_saved_so(tmp_path: Path) -> None:
    graph = graphs.load(FIXTURES[0])
    size = graphs.save(graph, tmp_path / "m.onnx", {"key": "value"})
    assert size == (tmp_path / "m.onnx").stat().st_size
    model = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(model)
    assert {e.key for e in model.metadata_props} == {"key"}
