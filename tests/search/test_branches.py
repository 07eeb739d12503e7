"""Outputs that are a Concat of branches."""

import numpy as np
import pytest

from onnxq.errors import PlanError
from onnxq.judge.parts import parts_of, wholes_of, with_outputs, with_stand_ins
from onnxq.passes.prepare import prepare

BODY = """(float[1, 2, 4] x) => (float[1, 5, 4] y, float[1, 2, 4] z, int64[3] n) {
    a = Relu(x)
    b = Concat<axis = 1>(x, a)
    c = Sigmoid(b)
    k = Constant<value = float[1, 1, 4] {1.0, 1.0, 1.0, 1.0}>()
    d = Sigmoid(k)
    y = Concat<axis = 1>(c, d)
    z = Neg(x)
    n = Shape(x)
}"""
SHAPES = {"c": (1, 4, 4), "d": (1, 1, 4)}


@pytest.fixture
def graph(graph_of):
    return graph_of(BODY)


def test_a_concat_is_scored_branch_by_branch(graph, run_graph, rng):
    found = parts_of(graph, (), SHAPES)
    assert [p.name for p in found] == ["y[:, 0:4]", "y[:, 4:5]", "z"]
    feed = {"x": rng.normal(size=(1, 2, 4)).astype(np.float32)}
    whole = dict(zip(("y", "z"), run_graph(graph, feed), strict=False))
    apart = run_graph(with_outputs(graph, found), feed)
    for part, value in zip(found, apart, strict=True):
        np.testing.assert_array_equal(part.of(whole[part.output]), value)


def test_a_concat_stays_whole_if_it_is_quantized_or_its_shapes_are_unknown(graph):
    next(n for n in graph.nodes if n.outputs[0].name == "y").name = "last"
    assert [p.name for p in parts_of(graph, {"last"}, SHAPES)] == ["y", "z"]
    assert [p.name for p in parts_of(graph, (), {})] == ["y", "z"]


def test_the_wholes_of_parts_are_the_outputs(graph):
    assert [p.name for p in wholes_of(parts_of(graph, (), SHAPES))] == ["y", "z"]


def test_outputs_can_be_named_and_unknown_ones_are_refused(graph):
    assert [p.name for p in parts_of(graph, (), SHAPES, ["z"])] == ["z"]
    with pytest.raises(PlanError, match="no output 'q'; it has 'y', 'z', 'n'"):
        parts_of(graph, (), SHAPES, ["q"])
    with pytest.raises(PlanError, match="no scored output has floats"):
        parts_of(graph, (), SHAPES, ["n"])


def test_what_an_output_of_varying_length_is_computed_from_is_scored(graph_of):
    graph = prepare(
        graph_of("""(float[N, 4] x) => (float[K] y, float[N, 4] z) <float t = {0.5}> {
        a = Relu(x) b = Greater(a, t) p = NonZero(b) q = Transpose(p) y = GatherND(a, q) z = Neg(x)
    }""")
    )
    whole = with_stand_ins(graph)
    assert [t.name for t in whole.outputs] == ["y", "z", "a"]
    assert [p.name for p in parts_of(whole, (), {})] == ["a", "z"]
    assert [p.name for p in parts_of(whole, (), {}, ["y"])] == ["a"]
    assert with_stand_ins(whole) is whole
