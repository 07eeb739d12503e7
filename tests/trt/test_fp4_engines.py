"""NVFP4 is what an engine for Blackwell runs, and what one for Ada is refused for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from onnxq.model.graph import Graph, save
from onnxq.plan import Plan
from onnxq.targets.options import PlanOptions
from onnxq.trt.build import BuildOptions, build
from onnxq.trt.engine import Engine, precision_of
from onnxq.trt.lint import explain, is_refused, lint
from onnxq.trt.verdict import judge

BODY = """(float[2,8,64] x) => (float[2,8,96] y) {
    [a] h = MatMul(x, w)
    r = Relu(h)
    [b] y = MatMul(r, v)
}"""


def test_both_products_run_as_planned_for_sm120_and_sm89_is_refused_with_the_rule(
    graph_of: Callable[..., Graph],
    quantized: Callable[..., Plan],
    engine_of_graph: Callable[..., Engine],
    rng: np.random.Generator,
    tmp_path: Path,
) -> None:
    shapes = {"w": (64, 40), "v": (40, 96)}
    weights = {name: rng.normal(0, 0.1, s).astype(np.float32) for name, s in shapes.items()}
    graph = graph_of(BODY, weights, 23)
    quantized(graph, PlanOptions(scheme="nvfp4"), True)
    found = lint(graph)
    assert not is_refused(found)
    assert not {f.rule for f in found if f.severity != "info"}
    engine = engine_of_graph(graph, arch="sm120")
    assert (precision_of(engine, "a"), precision_of(engine, "b")) == ("fp4", "fp8")
    assert judge(graph, engine).missed == []

    save(graph, tmp_path / "m.onnx")
    options = BuildOptions("tensorrt-rtx", arch="sm89")
    refused = build(tmp_path / "m.onnx", tmp_path / "m.engine", options=options)
    assert not refused.ok
    reason = explain(refused.problems[0].message, graph)
    assert reason is not None
    assert (reason.rule, reason.message) == ("hardware", "FLOAT4E2M1 needs compute capability 10.0")
