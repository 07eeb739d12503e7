"""Which tensors hold the same values."""

from __future__ import annotations

import pytest

from onnxq.model.flow import (
    SAME,
    SUBSET,
    data_input,
    quantized_source,
    same_source,
    sole_consumer,
)

BODY = """(float[1,16,8,8] x) => (float[1,16,8,8] y, float[1,16,16,16] z) {
    r = Relu(x) t = Transpose<perm = [0, 1, 3, 2]>(r) i = Identity(t)
    m = MaxPool<kernel_shape = [1, 1]>(i) u = Unsqueeze(m, k)
    near = Resize<mode = "nearest">(r, , s) z = Resize<mode = "linear">(r, , s)
    n = Neg(near) y = Neg(t)
}"""


@pytest.fixture
def tensors(graph_of):
    return graph_of(BODY).tensors()


def test_values_are_followed_back_through_ops_that_keep_them_all(tensors):
    assert same_source(tensors["i"]) is tensors["r"]
    assert same_source(tensors["r"]) is tensors["r"]
    assert same_source(tensors["m"]) is tensors["m"]  # a choice among values


@pytest.mark.parametrize(
    ("tensor", "quantized", "source"),
    [
        ("u", {"u"}, "m"),  # observed where the values first are
        ("u", {"u", "m"}, "m"),
        ("u", {"u", "r"}, "r"),
        ("u", {"u", "x"}, "m"),  # Relu changes values
        ("near", {"near", "r"}, "r"),
        ("near", {"near"}, "near"),
        ("z", {"z", "r"}, "z"),  # interpolation makes new values
    ],
)
def test_a_choice_of_values_has_the_source_of_what_is_quantized_before_it(
    tensors, tensor, quantized, source
):
    assert quantized_source(tensors[tensor], quantized).name == source


def test_only_ops_that_move_values_have_a_data_input(graph_of):
    for node in graph_of(BODY).nodes:
        moves = node.op in (*SAME, *SUBSET) and node.attrs.get("mode") != "linear"
        assert data_input(node) is (node.inputs[0] if moves else None)


def test_a_sole_consumer_reads_a_tensor_that_is_no_output(graph_of):
    graph = graph_of(
        """(float[4] x) => (float[4] y, float[4] b) {
            a = Neg(x) b = Abs(a) c = Relu(b) d = Exp(b) y = Add(c, d)
        }"""
    )
    tensors = graph.tensors()
    assert sole_consumer(graph, tensors["a"]).op == "Abs"
    assert sole_consumer(graph, tensors["b"]) is None
    assert sole_consumer(graph, tensors["y"]) is None
    assert sole_consumer(graph, tensors["c"]).op == "Add"
