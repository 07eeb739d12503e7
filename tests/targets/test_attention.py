"""Attention is quantized whole or not at all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from onnxq.model.graph import Graph
from onnxq.passes.name_nodes import name_nodes
from onnxq.plan import Plan
from onnxq.targets.options import PlanOptions
from onnxq.targets.tensorrt import plan

ATTENTION = """
(float[1, 32, 64] x) => (float[1, 32, 64] y) {
    qm = MatMul(x, wq)
    km = MatMul(x, wk)
    vm = MatMul(x, wv)
    kt = Transpose<perm = [0, 2, 1]>(km)
    s = MatMul(qm, kt)
    d = Div(s, eight)
    p = Softmax<axis = -1>(d)
    o = MatMul(p, vm)
    y = MatMul(o, wo)
}
"""


@pytest.fixture
def attention(graph_of: Callable[..., Graph], rng: np.random.Generator) -> Graph:
    weights = {n: rng.normal(size=(64, 64)).astype(np.float32) for n in ("wq", "wk", "wv", "wo")}
    return graph_of(ATTENTION, {**weights, "eight": np.float32(8)})


def _names(graph: Graph) -> list[str]:
    name_nodes(graph)
    return [n.name for n in graph.nodes if n.op == "MatMul"]


def _plan(graph: Graph, *skip: str) -> Plan:
    return plan(graph, PlanOptions(skip=skip), "hash")


def test_whole_attention_has_every_product_in_int8(attention: Graph) -> None:
    names = _names(attention)
    assert _plan(attention).nodes == names


def test_one_float_product_leaves_the_other_float(attention: Graph) -> None:
    names = _names(attention)
    qk, pv = names[3], names[4]
    for skipped, other in ((qk, pv), (pv, qk)):
        made = _plan(attention, skipped)
        assert other not in made.nodes
        assert made.skipped[other].startswith("attention:")
        assert skipped in made.skipped[other]


def test_a_float_projection_leaves_both_products_float(attention: Graph) -> None:
    names = _names(attention)
    made = _plan(attention, names[5])
    assert made.nodes == names[:3]


def test_a_float_query_projection_changes_nothing_else(attention: Graph) -> None:
    names = _names(attention)
    assert _plan(attention, names[0]).nodes == names[1:]
