"""Engines of ONNX text: planned, quantized, built by TensorRT-RTX and read, without a GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from onnxq.model.graph import Graph, save
from onnxq.passes.insert_qdq import InsertOptions, insert_qdq
from onnxq.passes.raise_opset import raise_opset_to
from onnxq.passes.to_half import to_half
from onnxq.plan import Plan
from onnxq.targets import tensorrt
from onnxq.targets.options import PlanOptions
from onnxq.trt.build import BuildOptions, build
from onnxq.trt.engine import Engine, load_engine

ARCH = "sm89"


@pytest.fixture(scope="session")
def tensorrt_rtx() -> None:
    """Skips the test where TensorRT-RTX is not installed."""
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX, which builds without a GPU")


def amax(tensor: str) -> float:
    """A range of its own for every tensor: equal scales would hide a requantization."""
    return 1.0 + sum(tensor.encode()) % 97 / 32


@pytest.fixture
def engine_of_graph(tmp_path: Path, tensorrt_rtx: None) -> Callable[..., Engine]:
    """`engine_of_graph(graph, arch=...)`: what the engine of a graph runs."""

    def make(graph: Graph, arch: str = ARCH) -> Engine:
        save(graph, tmp_path / "m.onnx")
        options = BuildOptions("tensorrt-rtx", arch=arch)
        result = build(tmp_path / "m.onnx", tmp_path / "m.engine", options=options)
        assert result.engine is not None, result.problems
        engine = load_engine(result.engine)
        assert engine.readable, engine.reason
        return engine

    return make


@pytest.fixture
def quantized(rng: np.random.Generator) -> Callable[..., Plan]:
    """`quantized(graph, options, half=False)`: plan and insert in place, weights at random."""

    def make(graph: Graph, options: PlanOptions | None = None, half: bool = False) -> Plan:
        plan = tensorrt.plan(graph, options or PlanOptions(), model="0" * 64)
        tensors = {plan.source.get(t, t) for t in graph.tensors()}
        tied = {t: group[0] for group in plan.tied for t in group}
        ranges: Mapping[str, float] = {t: amax(tied.get(t, t)) for t in tensors}
        if half:
            raise_opset_to(19)(graph)
        insert_qdq(graph, plan, ranges, InsertOptions(scale_dtype="float16" if half else "float32"))
        if half:
            to_half(graph)
        return plan

    return make
