"""The branch that is always taken stands in its If's place; other Ifs stay."""

from __future__ import annotations

import numpy as np
import pytest

from onnxq.errors import PlanError
from onnxq.model.graph import to_proto, within
from onnxq.passes.apply import apply
from onnxq.passes.fix_inputs import fix_inputs, fixed
from onnxq.passes.fold_ifs import deciding_inputs, fold_ifs
from onnxq.passes.prepare import prepare

# Both branches have an If of their own that asks for the rank, as PyTorch writes it.
RATES = """(float[N, 4] x, int64 rate) => (float[N, 4] y) <int64 fast = {16}, int64[1] two = {2}> {
    h = Relu(x)
    quick = Equal(rate, fast)
    y = If(quick) <
        then_branch = yes () => (float[N, 4] a) {
            p = MatMul(h, w) s = Shape(p) r = Shape(s) flat = Equal(r, two)
            a = If(flat) <then_branch = t () => (float[N, 4] b) { b = Tanh(p) },
                          else_branch = e () => (float[N, 4] c) { c = Neg(p) }>
        },
        else_branch = no () => (float[N, 4] d) { p = MatMul(h, v) d = Abs(p) }
    >
}"""
TWO = """(float[N, 4] x) => (float[N, 4] y, float[N, 4] z, float[N, 4] u) <bool on = {1}> {
    y = If(on) <then_branch = a () => (float[N, 4] b) { p = Neg(x) b = Tanh(p) },
                else_branch = c () => (float[N, 4] d) { d = Abs(x) }>
    z = If(on) <then_branch = e () => (float[N, 4] f) { p = Abs(x) f = Sqrt(p) },
                else_branch = g () => (float[N, 4] h) { h = Neg(x) }>
    u = If(on) <then_branch = k () => (float[N, 4] x) { },
                else_branch = m () => (float[N, 4] o) { o = Neg(x) }>
}"""


def weights():
    found = np.random.default_rng(3).normal(size=(2, 4, 4)).astype(np.float32)
    return {"w": found[0], "v": found[1]}


def ops(graph):
    return [node.op for node in within(graph.nodes)]


@pytest.mark.parametrize(("rate", "expected"), [(16, ["Relu", "MatMul", "Tanh"]),
                                                (8, ["Relu", "MatMul", "Abs"])])  # fmt: skip
def test_a_fixed_input_takes_its_branch_into_the_graph(graph_of, run_graph, rng, rate, expected):
    graph = graph_of(RATES, weights())
    folded = prepare(apply(graph, fix_inputs({"rate": rate})))
    assert ops(folded) == expected
    assert [t.name for t in folded.inputs] == ["x", "rate"]
    feeds = {"x": rng.normal(size=(3, 4)).astype(np.float32), "rate": np.array(rate)}
    (before,), (after,) = run_graph(graph, feeds), run_graph(folded, feeds)
    assert np.array_equal(before, after)  # the same nodes ran


def test_names_that_two_branches_have_in_common_are_told_apart(graph_of, run_graph, rng):
    body = TWO.replace("=> (float[N, 4] x) { }", "=> (float[N, 4] i) { i = Identity(x) }")
    graph = graph_of(body)
    before = to_proto(graph)
    folded = apply(graph, fold_ifs)
    assert to_proto(graph) == before
    assert "If" not in ops(folded)
    feeds = {"x": rng.normal(size=(3, 4)).astype(np.float32)}
    for a, b in zip(run_graph(graph, feeds), run_graph(folded, feeds), strict=True):
        assert np.array_equal(a, b)
    assert fold_ifs(folded) == 0


def test_an_if_that_the_data_decide_stays(graph_of):
    graph = graph_of(RATES, weights())
    assert fold_ifs(apply(graph)) == 0
    assert deciding_inputs(graph) == ["rate"]


@pytest.mark.parametrize(
    ("given", "found"),
    [("int64 c", ["c"]), ("bool[1] c", ["c"]), ("float c", []), ("int64[N] c", [])],
)
def test_an_input_that_decides_is_named_where_it_is_a_choice_and_no_data(graph_of, given, found):
    graph = graph_of(f"""(float[4] x, {given}) => (float[4] y) {{
        b = Cast<to = 9>(c)
        y = If(b) <then_branch = t () => (float[4] p) {{ p = Neg(x) }},
                   else_branch = e () => (float[4] q) {{ q = Abs(x) }}> }}""")
    assert deciding_inputs(graph) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rate", "is not NAME=VALUE"),
        ("rate=fast", "is not NAME=VALUE"),
        ("speed=16", "no such input; it has 'x', 'rate'"),
        ("x=1", "its shape is not fixed"),
        ("rate=1.5", "int64 cannot hold it"),
    ],
)
def test_what_cannot_be_fixed_is_refused(graph_of, text, said):
    with pytest.raises(PlanError, match=said):
        apply(graph_of(RATES, weights()), fix_inputs(fixed([text])))
