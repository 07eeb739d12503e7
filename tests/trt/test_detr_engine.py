"""A DETR with query selection: what is quantized, by its plan and by the engine it becomes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from detr_like import detr, images

from onnxq import api
from onnxq.model.graph import Graph, load, save
from onnxq.pipeline.config import Config
from onnxq.pipeline.quantize import Quantized
from onnxq.trt.engine import Engine
from onnxq.trt.verdict import judge

Make = Callable[..., Graph]
PICKING = ("GridSample", "TopK", "GatherElements", "ReduceMax")


@pytest.fixture
def quantized(graph_of: Make, tmp_path: Path) -> Quantized:
    body, constants = detr()
    save(graph_of(body, constants), tmp_path / "detr.onnx")
    np.save(tmp_path / "calib.npy", images(12))
    config = Config(recover="none", check_samples=4)
    return api.quantize(tmp_path / "detr.onnx", [str(tmp_path / "calib.npy")], config)


def test_encoder_and_decoder_run_in_int8_and_no_code_is_sampled(
    quantized: Quantized, tmp_path: Path, engine_of_graph: Callable[..., Engine]
) -> None:
    api.write(quantized, tmp_path / "q.onnx")
    graph = load(tmp_path / "q.onnx")
    for node in graph.nodes:
        if node.op in PICKING:
            assert not [t for t in node.inputs for n in t.inputs if n.op == "DequantizeLinear"]
    planned = set(quantized.plan.rules)
    assert {"enc_q", "enc_qk", "enc_pv", "enc_up", "dec0_value", "dec1_cross"} <= planned
    found = judge(graph, engine_of_graph(graph))
    assert not [name for name in found.missed if name.startswith(("enc", "back"))]


def test_its_rows_are_matched_before_they_are_compared(quantized: Quantized) -> None:
    found = quantized.agreement
    assert set(found.parts) == {"matched boxes", "matched scores"}
    (rows,) = found.matched.values()
    assert rows.both > 0.8 * rows.rows
    assert any("were matched by class and box" in line for line in found.notes())
