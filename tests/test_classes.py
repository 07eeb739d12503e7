"""Outputs that hold probabilities of classes are known as such however the Softmax is written."""

from __future__ import annotations

import numpy as np
import pytest

from onnxq.judge.classes import classes_axis
from onnxq.judge.parts import slices_of
from onnxq.passes.apply import apply
from onnxq.passes.infer_shapes import infer_shapes

TERMS = "m = ReduceMax<axes = [1]>(x) d = Sub(x, m) e = Exp(d) "
LIKE = "s = ReduceSum<keepdims = 0>(e, one) r = Reshape(s, column) b = Expand(r, all)"


@pytest.mark.parametrize(
    ("body", "axis"),
    [
        ("y = Softmax(x)", -1),
        ("s = Softmax<axis = 1>(x) y = Identity(s)", 1),
        ("s = Softmax(x) c = Cast<to = 1>(s) y = Identity(c)", -1),
        ("s = Softmax<axis = 1>(x) y = Transpose<perm = [1, 0]>(s)", 0),
        ("s = Softmax(x) y = Reshape(s, same)", 1),
        ("t = Shape(x) f = Flatten(x) s = Softmax(f) y = Reshape(s, t)", 1),
        (TERMS + "s = ReduceSum(e, one) y = Div(e, s)", 1),
        (TERMS + "s = ReduceSum(e, one) r = Reciprocal(s) y = Mul(r, e)", 1),
        (TERMS + LIKE + " y = Div(e, b)", 1),
    ],
)
def test_the_axis_of_probabilities_is_found(graph_of, body, axis):
    graph = _graph(graph_of, body)
    assert classes_axis(graph.outputs[0]) == axis
    assert [part.name for part in slices_of(graph)] == ["y", "y logits"]


@pytest.mark.parametrize(
    "body",
    [
        "y = Sigmoid(x)",
        "s = Softmax(x) y = Mul(s, s)",
        "s = Softmax(x) y = Transpose(s)  # of unknown shape",
        TERMS + "s = ReduceSum(x, one) y = Div(e, s)",  # by the sum of something else
        TERMS + "s = ReduceSum(e, both) y = Div(e, s)",  # over all values
        TERMS + "s = ReduceMean<axes = [1]>(e) y = Div(e, s)",
        "s = Softmax(x) y = Reshape(s, flat)",  # the classes of all samples in a row
        "t = Shape(x) f = Flatten<axis = 0>(x) s = Softmax(f) y = Reshape(s, t)",  # of all axes
    ],
)
def test_anything_else_is_left_as_it_is(graph_of, body):
    unknown = "#" in body
    graph = _graph(graph_of, body.split("#")[0], infer=not unknown)
    assert classes_axis(graph.outputs[0]) is None


def test_logits_behind_a_softmax_written_out_are_those_that_went_in(graph_of, run_graph, rng):
    graph = _graph(graph_of, TERMS + LIKE + " y = Div(e, b)")
    (logits,) = [part for part in slices_of(graph) if part.called]
    x = rng.normal(0, 3, (2, 4)).astype(np.float32)
    (y,) = run_graph(graph, {"x": x})
    # float32's rounding of a probability is all that is between them
    np.testing.assert_allclose(logits.of(y), x - x.mean(axis=1, keepdims=True), atol=1e-5)


def _graph(graph_of, body, infer=True):
    graph = graph_of(f"""(float[2, 4] x) => (float[{"2, 4" if infer else ""}] y) <
        int64[1] one = {{1}}, int64[2] both = {{0, 1}}, int64[2] column = {{2, 1}},
        int64[2] all = {{2, 4}}, int64[2] same = {{2, 4}}, int64[1] flat = {{8}}> {{ {body} }}""")
    if infer:
        graph.outputs[0].shape = None
        return apply(graph, infer_shapes)
    return graph
