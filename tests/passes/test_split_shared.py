"""A weight used in several ways gets a copy a way; the same use goes on sharing it."""

from __future__ import annotations

import numpy as np
import pytest

from onnxq.model.graph import to_proto
from onnxq.passes.apply import apply
from onnxq.passes.split_shared import split_shared

W = np.arange(16, dtype=np.float32).reshape(4, 4) / 8
K = np.arange(144, dtype=np.float32).reshape(4, 4, 3, 3) / 99
B = np.arange(4, dtype=np.float32)

TWO_AXES = """(float[N,4] x) => (float[N,4] y) {
    a = Gemm<transB = 1>(x, w)
    b = MatMul(a, w)
    y = Gemm(b, w)
}"""
CONV_AND_DECONV = """(float[N,4,9,9] x) => (float[N,4,9,9] y) {
    a = Conv(x, k, b)
    y = ConvTranspose(a, k, b)
}"""
TIED_EMBEDDING = """(int64[N] i) => (float[N,4] y) {
    e = Gather(w, i)
    y = Gemm<transB = 1>(e, w)
}"""
SAME_USE = """(float[N,4] x) => (float[N,4] y) {a = MatMul(x, w) b = Relu(a) y = MatMul(b, w)}"""
SQUARE = """(float[4,4] x) => (float[4,4] y) {a = MatMul(w, w) y = Add(x, a)}"""
CASES = [
    (TWO_AXES, {"w": W}, 1, {"x": (2, 4)}),
    (CONV_AND_DECONV, {"k": K, "b": B}, 2, {"x": (2, 4, 9, 9)}),
    (TIED_EMBEDDING, {"w": W}, 1, {"i": (3,)}),
    (SAME_USE, {"w": W}, 0, {"x": (2, 4)}),
    (SQUARE, {"w": W}, 1, {"x": (4, 4)}),
]


def reads(graph):
    return [[t.name for t in node.inputs[1:]] for node in graph.nodes]


def test_each_axis_gets_a_copy_and_the_same_axis_shares_it(graph_of):
    out = apply(graph_of(TWO_AXES, {"w": W}), split_shared)
    assert reads(out) == [["w"], ["w.1"], ["w.1"]]


def test_conv_and_deconv_get_a_kernel_and_a_bias_each(graph_of):
    out = apply(graph_of(CONV_AND_DECONV, {"k": K, "b": B}), split_shared)
    assert reads(out) == [["k", "b"], ["k.1", "b.1"]]


def test_a_use_that_is_no_weight_keeps_the_original(graph_of):
    out = apply(graph_of(TIED_EMBEDDING, {"w": W}), split_shared)
    assert [[t.name for t in node.inputs] for node in out.nodes] == [["w", "i"], ["e", "w.1"]]


def test_the_copies_share_one_array(graph_of):
    out = apply(graph_of(TWO_AXES, {"w": W}), split_shared)
    tensors = out.tensors()
    assert tensors["w"].values is tensors["w.1"].values


def test_a_copy_avoids_a_name_that_is_taken(graph_of):
    graph = graph_of(TWO_AXES, {"w": W})
    graph.tensors()["a"].name = "w.1"
    assert reads(apply(graph, split_shared)) == [["w"], ["w.1_1"], ["w.1_1"]]


@pytest.mark.parametrize(("body", "weights", "copies", "shapes"), CASES)
def test_numbers_are_preserved_and_the_pass_is_idempotent(
    graph_of, run_graph, rng, body, weights, copies, shapes
):
    graph = graph_of(body, weights)
    before = to_proto(graph)
    once = apply(graph, split_shared)
    assert to_proto(graph) == before
    assert len([t for t in once.tensors() if "." in t]) == copies
    assert split_shared(once) == 0
    feeds = {
        name: np.arange(3) if name == "i" else rng.standard_normal(shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    # Every consumer reads the same values as before: equal to the bit.
    assert np.array_equal(run_graph(once, feeds), run_graph(graph, feeds))


def test_a_weight_with_one_consumer_is_left_alone(graph_of):
    graph = graph_of("(float[N,4] x) => (float[N,4] y) {y = MatMul(x, w)}", {"w": W})
    assert split_shared(graph) == 0
