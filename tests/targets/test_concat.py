"""A tensor concatenated with max pools of itself is quantized once, before the pools."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxq.model.graph import Graph
from onnxq.passes.name_nodes import name_nodes
from onnxq.plan import Plan
from onnxq.spec import Edge
from onnxq.targets.concat import joined
from onnxq.targets.options import PlanOptions
from onnxq.targets.tensorrt import plan

SPPF = """
(float[1, 16, 8, 8] x) => (float[1, 16, 8, 8] y) {
    r = Relu(x)
    a = MaxPool<kernel_shape = [5, 5], pads = [2, 2, 2, 2]>(r)
    b = MaxPool<kernel_shape = [5, 5], pads = [2, 2, 2, 2]>(a)
    c = Concat<axis = 1>(r, a, b)
    y = Conv(c, w)
}
"""


@pytest.fixture
def sppf(graph_of: Callable[..., Graph], rng: np.random.Generator) -> Callable[[str], Graph]:
    def make(body: str) -> Graph:
        graph = graph_of(body, {"w": rng.normal(size=(16, 48, 1, 1)).astype(np.float32)})
        name_nodes(graph)
        return graph

    return make


def _pairs(made: Plan) -> set[Edge]:
    return {e for e in made.edges if made.rules[e.node] == "pool-concat"}


def test_pools_and_concat_share_the_range_of_the_output(sppf: Callable[[str], Graph]) -> None:
    graph = sppf(SPPF)
    made = plan(graph, PlanOptions(), "hash")
    pools = [n.name for n in graph.nodes if n.op == "MaxPool"]
    (concat,) = (n.name for n in graph.nodes if n.op == "Concat")
    assert _pairs(made) == {*(Edge(p, 0) for p in pools), *(Edge(concat, i) for i in range(3))}
    (group,) = made.tied
    assert {"r", "c"} <= {*group}


def test_a_skipped_concat_gets_nothing(sppf: Callable[[str], Graph]) -> None:
    made = plan(sppf(SPPF), PlanOptions(skip=("op:Concat",)), "hash")
    assert not _pairs(made)


def test_a_branch_that_is_no_pool_leaves_the_concat_float(sppf: Callable[[str], Graph]) -> None:
    other = SPPF.replace("b = MaxPool<kernel_shape = [5, 5], pads = [2, 2, 2, 2]>(a)", "b = Abs(a)")
    assert not _pairs(plan(sppf(other), PlanOptions(), "hash"))


def test_without_a_quantized_reader_nothing_is_inserted(sppf: Callable[[str], Graph]) -> None:
    made = plan(sppf(SPPF), PlanOptions(skip=("op:MaxPool",), min_channels=1), "hash")
    assert all(e.node not in ("MaxPool_0", "MaxPool_1") for e in made.edges)


@given(st.lists(st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=3), max_size=8))
def test_groups_that_overlap_become_one(groups: list[list[str]]) -> None:
    found = joined(tuple(group) for group in groups)
    expected: list[set[str]] = []
    for group in map(set, groups):
        overlapping = [other for other in expected if other & group]
        expected = [other for other in expected if not other & group]
        expected.append(group.union(*overlapping))
    assert [set(group) for group in found] == [group for group in expected if len(group) > 1]
    assert sum(map(len, found)) == len({name for group in found for name in group})
