"""Identity and inference Dropout go; the names of inputs and outputs stay."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from onnxq.model.graph import to_proto
from onnxq.passes.apply import apply
from onnxq.passes.remove_identity import remove_identity

MIDDLE = """(float[N] x) => (float[N] y, float[N] z) {
    a = Relu(x)
    b = Identity(a)
    c = Dropout(b)
    y = Neg(c)
    z = Abs(b)
}"""
AT_OUTPUT = """(float[N] x) => (float[N] y, float[N] z) {
    a = Relu(x)
    y = Identity(a)
    z = Neg(a)
}"""
OF_INITIALIZER = """(float[N] x) => (float[N] y)
<float[1] w = {2.0}> {
    v = Identity(w)
    y = Mul(x, v)
}"""
IN_SUBGRAPH = """(float[N] x, bool c) => (float[N] y) {
    a = Relu(x)
    b = Identity(a)
    y = If(c) <then_branch = t () => (float[N] p) {p = Abs(b)},
               else_branch = e () => (float[N] q) {q = Neg(b)}>
}"""
BODIES = [MIDDLE, AT_OUTPUT, OF_INITIALIZER, IN_SUBGRAPH]


def ops(graph):
    return [node.op for node in graph.nodes]


def test_identity_and_dropout_in_the_middle_go(graph_of):
    out = apply(graph_of(MIDDLE), remove_identity)
    assert ops(out) == ["Relu", "Neg", "Abs"]


def test_identity_before_an_output_leaves_its_name_to_the_writer(graph_of):
    out = apply(graph_of(AT_OUTPUT), remove_identity)
    assert ops(out) == ["Relu", "Neg"]
    assert [t.name for t in out.outputs] == ["y", "z"]
    assert out.nodes[0].outputs[0].name == "y"


def test_identity_of_an_initializer_is_resolved(graph_of):
    out = apply(graph_of(OF_INITIALIZER), remove_identity)
    assert out.nodes[0].inputs[1].name == "w"


def test_a_subgraph_reads_past_the_identity(graph_of):
    assert ops(apply(graph_of(IN_SUBGRAPH), remove_identity)) == ["Relu", "If"]


@pytest.mark.parametrize("body", BODIES)
def test_numbers_are_preserved(graph_of, run_graph, rng, body):
    graph = graph_of(body)
    feeds = {"x": rng.standard_normal(5).astype(np.float32)}
    if len(graph.inputs) > 1:
        feeds["c"] = np.array(True)
    for a, b in zip(
        run_graph(graph, feeds), run_graph(apply(graph, remove_identity), feeds), strict=True
    ):
        assert np.array_equal(a, b)  # nothing is computed differently


@pytest.mark.parametrize("body", BODIES)
def test_it_is_idempotent_and_leaves_its_input_alone(graph_of, body):
    graph = graph_of(body)
    before = to_proto(graph)
    once = apply(graph, remove_identity)
    assert to_proto(graph) == before
    assert remove_identity(once) == 0


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("(float[N] x) => (float[N] y) {y = Identity(x)}", "joins an input"),
        ("(float[N] x) => (float[N] a, float[N] y) {a = Relu(x) y = Identity(a)}", "two outputs"),
        (
            "(float[N] x) => (float[N] y, bool[N] m) {a, m = Dropout(x) y = Relu(a)}",
            "mask is used",
        ),
        (
            "(float[N] x) => (float[N] y) <float r = {0.5}, bool t = {1}>"
            "{a = Dropout(x, r, t) y = Relu(a)}",
            "training mode",
        ),
        (
            "(float[N] x, bool t) => (float[N] y) <float r = {0.5}>"
            "{a = Dropout(x, r, t) y = Relu(a)}",
            "training mode",
        ),
    ],
)
def test_it_declines_with_a_reason(graph_of, caplog, body, reason):
    graph = graph_of(body)
    with caplog.at_level(logging.INFO):
        assert remove_identity(graph) == 0
    assert reason in caplog.text


def test_another_domains_identity_is_not_ours(graph_of):
    assert (
        remove_identity(graph_of("(float[N] x) => (float[N] y) {a=my.Identity(x) y=Relu(a)}")) == 0
    )
