"""A Softmax goes in front of a Transpose where that brings its axis nearer to the end."""

from __future__ import annotations

import numpy as np
import pytest

from onnxq.model.graph import to_proto
from onnxq.passes.apply import apply
from onnxq.passes.softmax_before_transpose import softmax_before_transpose

DFL = """(float[1,4,16,9] x) => (float[1,16,4,9] y) {
    t = Transpose<perm = [0, 2, 1, 3]>(x)
    y = Softmax<axis = 1>(t)
}"""
LEFT_ALONE = {
    "its axis would move away from the end": "(float[2,3,4] x) => (float[2,4,3] y)"
    " {t = Transpose<perm = [0, 2, 1]>(x) y = Softmax(t)}",
    "the Transpose has another reader": "(float[2,3,4] x) => (float[2,4,3] y, float[2,4,3] z)"
    " {t = Transpose<perm = [0, 2, 1]>(x) y = Softmax<axis = 1>(t) z = Relu(t)}",
    "the Transpose writes an output": "(float[2,3,4] x) => (float[2,4,3] y, float[2,4,3] t)"
    " {t = Transpose<perm = [0, 2, 1]>(x) y = Softmax<axis = 1>(t)}",
    "there is no Transpose": "(float[2,3,4] x) => (float[2,3,4] y) {y = Softmax<axis = 1>(x)}",
}


def test_a_softmax_goes_in_front_of_the_transpose(graph_of):
    softmax, transpose = apply(graph_of(DFL), softmax_before_transpose).nodes
    assert (softmax.op, softmax.attrs["axis"], transpose.op) == ("Softmax", 2, "Transpose")


def test_numbers_are_preserved_and_the_pass_is_idempotent(graph_of, run_graph, rng):
    graph = graph_of(DFL)
    before = to_proto(graph)
    once = apply(graph, softmax_before_transpose)
    assert to_proto(graph) == before
    feeds = {"x": rng.standard_normal((1, 4, 16, 9)).astype(np.float32)}
    for a, b in zip(run_graph(graph, feeds), run_graph(once, feeds), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)  # sums of 16 terms in another order
    assert to_proto(apply(once, softmax_before_transpose)) == to_proto(once)


@pytest.mark.parametrize("why", LEFT_ALONE)
def test_others_are_left_alone(graph_of, why):
    graph = graph_of(LEFT_ALONE[why])
    assert to_proto(apply(graph, softmax_before_transpose)) == to_proto(graph)
