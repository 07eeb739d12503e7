"""Lengths that depend on values, and what is judged in place of such outputs."""

from __future__ import annotations

import pytest

from onnxq.judge.lengths import comparable, varying
from onnxq.passes.prepare import prepare

SCORES = "m = MatMul(x, w) s = Sigmoid(m)"
WEIGHT = (
    "<float[4,4] w = {1,0,0,0,0,1,0,0,0,0,1,0,0,0,0,1}, float half = {0.5}, int64[1] axis = {0}>"
)


def found(graph_of, outputs, body):
    graph = prepare(graph_of(f"(float[N,4] x, int64[1] n) => ({outputs}) {WEIGHT} {{{body}}}"))
    unlike = varying(graph)
    outs = graph.outputs
    return [o.name for o in outs if o.name in unlike], [t.name for t in comparable(outs, unlike)]


@pytest.mark.parametrize(
    ("body", "judged"),
    [
        ("b = Greater(s, half) p = NonZero(b) q = Transpose(p) y = GatherND(s, q)", ["s"]),
        ("k = ReduceMax<axes=[1], keepdims=0>(s) b = Greater(k, half) "
         "y = Compress<axis=0>(m, b)", ["m", "k"]),
        ("r = ReduceMean<keepdims=0>(s) i = Cast<to=7>(r) l = Unsqueeze(i, axis) "
         "e = Concat<axis=0>(l, n) h = ReduceMean<axes=[0]>(m) z = Squeeze(h, axis) "
         "y = Expand(r, e)", ["r"]),
        ("f = Flatten<axis=0>(s) g = Squeeze(f, axis) u = Unique(g) y = Neg(u)", ["g"]),
    ],
)  # fmt: skip
def test_lengths_from_values_are_judged_at_what_they_are_computed_from(graph_of, body, judged):
    assert found(graph_of, "float[K] y", f"{SCORES} {body}") == (["y"], judged)


@pytest.mark.parametrize(
    "body",
    [
        "h = Shape(x) y = Reshape(s, h)",  # a length of the input
        "i = Concat<axis=0>(n, n) y = Expand(s, i)",  # a length that is given
        "b = Greater(s, half) p = NonZero(b) q = Transpose(p) g = GatherND(s, q) "
        "y = ScatterND(m, q, g)",
    ],
)
def test_other_lengths_are_nothing_to_leave_out(graph_of, body):
    assert found(graph_of, "float[K,L] y", f"{SCORES} {body}") == ([], ["y"])


def test_classes_are_judged_at_their_scores_where_there_is_nothing_else(graph_of):
    body = f"{SCORES} k = ArgMax<axis=1>(s) y = Neg(m) h = Shape(x)"
    assert found(graph_of, "int64[N,1] k, int64[2] h", body) == ([], ["s"])
    assert found(graph_of, "int64[N,1] k, float[N,4] y", body) == ([], ["y"])
    assert found(graph_of, "int64[2] h", body) == ([], [])
