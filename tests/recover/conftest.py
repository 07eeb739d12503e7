"""Networks that rounding shifts, and their Q/DQ forms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from onnxq.calib.collect import collect
from onnxq.calib.data import Dataset, InputInfo, open_data
from onnxq.calib.methods import Max, Mse
from onnxq.calib.observed import activation_specs, observed
from onnxq.calib.ranges import read_ranges
from onnxq.model.graph import Graph, to_proto
from onnxq.passes.insert_qdq import InsertOptions, insert_qdq
from onnxq.passes.prepare import prepare
from onnxq.plan import Plan
from onnxq.recover.draft import Bench, Draft
from onnxq.recover.pipeline import Algorithm
from onnxq.spec import Edge, QuantSpec
from onnxq.targets import tensorrt
from onnxq.targets.options import PlanOptions

Arrays = Mapping[str, np.ndarray]


@pytest.fixture
def planned(graph_of) -> Callable[..., tuple[Graph, Plan]]:
    """`planned(body, weights)`: the prepared graph and its plan."""

    def make(body: str, weights: Arrays | None = None) -> tuple[Graph, Plan]:
        graph = prepare(graph_of(body, weights))
        return graph, tensorrt.plan(graph, PlanOptions(), "m")

    return make


@pytest.fixture
def dataset(tmp_path: Path) -> Callable[[np.ndarray], Dataset]:
    """Samples of the input `x`, each a row of an array."""

    def make(x: np.ndarray) -> Dataset:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.npy"
        np.save(path, x)
        return open_data(str(path), {"x": InputInfo((1, *x.shape[1:]), x.dtype)})

    return make


@pytest.fixture
def quantized() -> Callable[[Graph, Plan, Dataset], Graph]:
    """The Q/DQ form of a graph, every range the largest value seen."""

    def make(graph: Graph, plan: Plan, data: Dataset) -> Graph:
        stats = collect(graph, observed(graph, plan), data)
        copy = graph.copy()
        insert_qdq(copy, plan, read_ranges(stats, Max(), QuantSpec(), plan.tied).amax)
        return copy

    return make


@pytest.fixture
def bench_of() -> Callable[[Graph, Plan, Dataset], Bench]:
    """A bench with ranges by MSE."""

    def make(graph: Graph, plan: Plan, data: Dataset) -> Bench:
        return Bench(
            graph,
            plan,
            data,
            InsertOptions(),
            lambda g, stats: read_ranges(stats, Mse(), activation_specs(g, plan), plan.tied),
        )

    return make


@pytest.fixture
def drafts_by_order(dataset, bench_of) -> Callable[..., list[bytes]]:
    """What an algorithm makes of a graph with samples in order, and in another one."""

    def make(algorithm: Algorithm, graph: Graph, plan: Plan, x: np.ndarray) -> list[bytes]:
        models = []
        for order in (np.arange(len(x)), np.random.default_rng(9).permutation(len(x))):
            draft, _ = algorithm(bench_of(graph, plan, dataset(x[order])), Draft(graph))
            models.append(to_proto(draft.graph).SerializeToString(deterministic=True))
        return models

    return make


@pytest.fixture
def activations_alone() -> Callable[[Graph], Plan]:
    """A plan that quantizes the first input of every op with a weight, and no weight."""

    def make(graph: Graph) -> Plan:
        ops = ("MatMul", "Gemm", "Conv", "ConvTranspose")
        return Plan(
            "m", "tensorrt", {Edge(n.name, 0): QuantSpec() for n in graph.nodes if n.op in ops}
        )

    return make
