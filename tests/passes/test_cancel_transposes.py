"""Inverse Transposes go, others stay."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from onnxq.model.graph import to_proto
from onnxq.passes.apply import apply
from onnxq.passes.cancel_transposes import cancel_transposes

ROTATED = """(float[N,3,4] x) => (float[N,3,4] y, float[3,4,N] z) {
    a = Transpose<perm = [1, 2, 0]>(x)
    b = Transpose<perm = [2, 0, 1]>(a)
    y = Relu(b)
    z = Neg(a)
}"""
DEFAULT = """(float[N,3] x) => (float[N,3] y) {a = Transpose(x) b = Transpose(a) y = Relu(b)}"""


def ops(graph):
    return [node.op for node in graph.nodes]


def test_an_inverse_pair_goes_and_other_consumers_keep_the_first(graph_of):
    assert ops(apply(graph_of(ROTATED), cancel_transposes)) == ["Transpose", "Relu", "Neg"]


def test_two_transposes_without_perm_go(graph_of):
    assert ops(apply(graph_of(DEFAULT), cancel_transposes)) == ["Relu"]


@pytest.mark.parametrize("body", [ROTATED, DEFAULT])
def test_numbers_are_preserved_and_the_pass_is_idempotent(graph_of, run_graph, rng, body):
    graph = graph_of(body)
    before = to_proto(graph)
    once = apply(graph, cancel_transposes)
    assert to_proto(graph) == before
    assert cancel_transposes(once) == 0
    feeds = {"x": rng.standard_normal((2, 3, 4)[: len(graph.inputs[0].shape)]).astype(np.float32)}
    for a, b in zip(run_graph(graph, feeds), run_graph(once, feeds), strict=True):
        assert np.array_equal(a, b)  # only the layout moved


def test_transposes_that_do_not_undo_each_other_stay(graph_of):
    graph = graph_of(
        ROTATED.replace("[2, 0, 1]", "[1, 2, 0]").replace("=> (float[N,3,4]", "=> (float[4,N,3]")
    )
    assert cancel_transposes(graph) == 0


def test_a_pair_before_an_output_stays(graph_of, caplog):
    graph = graph_of("(float[N,3] x) => (float[N,3] y) {a = Transpose(x) y = Transpose(a)}")
    with caplog.at_level(logging.INFO):
        assert cancel_transposes(graph) == 0
    assert "output of the graph" in caplog.text
