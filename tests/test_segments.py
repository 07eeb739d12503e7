"""Segments: running them in order is running the graph."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxq.errors import ModelError
from onnxq.model import graph as graphs
from onnxq.run import runtime
from onnxq.run.segments import cut, restrict, shapes_at, subgraph

RESIDUAL = """
<ir_version: 9, opset_import: ["" : 17]>
net (float[N, 8] x) => (float[N, 8] y, float[N, 8] z)
{
  a = Relu(x)
  b = Neg(a)
  c = Sigmoid(b)
  d = Add(c, a)
  e = Exp(d)
  y = Add(e, x)
  z = Mul(e, b)
}
"""

BRANCH = """
<ir_version: 9, opset_import: ["" : 17]>
net (float[2, 8] x, bool p) => (float[2, 8] y)
{
  a = Relu(x)
  b = Neg(a)
  c = Sigmoid(b)
  d = If (p) <
    then_branch = then () => (float[2, 8] t) { t = Add(a, c) },
    else_branch = orelse () => (float[2, 8] f) {
      inner = Exp(b)
      f = Add(inner, x)
    }
  >
  y = Abs(d)
}
"""


def load(text: str) -> graphs.Graph:
    return graphs.from_proto(onnx.parser.parse_model(text))


def run_whole(graph, outputs, feeds):
    session = runtime.session(graphs.to_proto(restrict(graph, outputs)), threads=1, optimize="none")
    return dict(zip(outputs, session.run(list(outputs), feeds), strict=True))


def run_segments(graph, observed, feeds, segment_bytes):
    live, seen = dict(feeds), {}
    for segment in cut(graph, observed, segment_bytes):
        session = runtime.session(
            graphs.to_proto(subgraph(graph, segment)), threads=1, optimize="none"
        )
        values = session.run(segment.outputs, {name: live[name] for name in segment.inputs})
        live.update(zip(segment.outputs, values, strict=True))
        seen.update({n: live[n] for n in segment.outputs if n in observed})
        for name in segment.dead:
            del live[name]
    return seen, live


@pytest.mark.parametrize("segment_bytes", [1, 200, 1 << 20])
def test_segments_in_order_equal_the_whole_graph(segment_bytes):
    x = np.random.default_rng(0).standard_normal((2, 8)).astype(np.float32)
    outputs = ["a", "c", "d", "y", "z"]
    graph = restrict(load(RESIDUAL), outputs)
    seen, live = run_segments(graph, set(outputs), {"x": x}, segment_bytes)
    for name, value in run_whole(load(RESIDUAL), outputs, {"x": x}).items():
        np.testing.assert_array_equal(seen[name], value)
    assert set(live) <= {"x"}  # everything is dropped after its last use


def test_small_segments_are_many_and_large_ones_are_one():
    graph = restrict(load(RESIDUAL), ["a", "b", "c", "d", "y"])
    assert len(cut(graph, {"a", "b", "c", "d", "y"}, 1)) == 5
    assert len(cut(graph, {"a", "b", "c", "d", "y"}, 1 << 20)) == 1


def test_nodes_that_no_output_needs_are_left_out():
    graph = restrict(load(RESIDUAL), ["b"])
    assert [node.op for node in graph.nodes] == ["Relu", "Neg"]


def test_the_cut_is_taken_where_least_crosses():
    graph = load(
        """
        <ir_version: 9, opset_import: ["" : 17]>
        net (float[1, 64] x) => (float[1, 64] y)
        {
          a = Relu(x)
          wide = Concat <axis = 1> (a, a, a)
          one = ReduceSum <keepdims = 1> (wide)
          y = Add(one, x)
        }
        """
    )
    first, second = cut(restrict(graph, ["a", "y"]), {"a", "y"}, 256)
    assert (first.outputs, second.inputs) == (("a",), ("a", "x"))
    # 'a' is observed, so it crosses for nothing; unobserved, the narrow point is behind 'one'
    graph.nodes[0].op = "Neg"
    first, second = cut(restrict(graph, ["one", "y"]), {"one", "y"}, 4)
    assert second.inputs == ("one", "x")


@pytest.mark.parametrize("taken", [True, False])
def test_what_a_branch_captures_from_outside_crosses_the_cut(taken):
    x = np.random.default_rng(0).standard_normal((2, 8)).astype(np.float32)
    feeds = {"x": x, "p": np.array(taken)}
    outputs = ["a", "b", "c", "y"]
    graph = restrict(load(BRANCH), outputs)
    assert len(cut(graph, set(outputs), 1)) == 4
    seen, _ = run_segments(graph, set(outputs), feeds, 1)
    np.testing.assert_array_equal(seen["y"], run_whole(load(BRANCH), ["y"], feeds)["y"])


def test_no_cut_where_a_tensor_of_unknown_type_would_cross():
    graph = load(
        """
        <ir_version: 9, opset_import: ["" : 17, "custom" : 1]>
        net (float[2, 8] x) => (float[2, 8] y)
        {
          a = Relu(x)
          b = custom.Mystery(a)
          c = Neg(a)
          y = Add(b, c)
        }
        """
    )
    outputs = ["a", "c", "y"]
    segments = cut(restrict(graph, outputs), set(outputs), 1)
    assert [[node.op for node in s.nodes] for s in segments] == [
        ["Relu"],
        ["Mystery", "Neg", "Add"],
    ]


def test_shapes_follow_from_those_of_the_inputs_and_the_graph_is_left_alone():
    graph = load(RESIDUAL)
    graph.outputs[0].shape = [7, 7]  # stale
    part = restrict(graph, ["d", "y"])
    assert shapes_at(part, {"x": (3, 8)})["y"] == (3, 8)
    assert "y" not in shapes_at(part, {})
    assert graph.tensors()["x"].shape == ["N", 8]
    assert [t.name for t in graph.outputs] == ["y", "z"]
    assert graph.outputs[0].shape == [7, 7]


def test_constants_are_not_boundaries():
    graph = load(
        """
        <ir_version: 9, opset_import: ["" : 17]>
        net (float[2, 8] x) => (float[2, 8] y)
        {
          low = Constant <value = float {-1.0}> ()
          a = Clip(x, low)
          y = Max(a, low)
        }
        """
    )
    segments = cut(restrict(graph, ["a", "y"]), {"a", "y"}, 1)
    assert [s.inputs for s in segments] == [("x",), ("a",)]


def test_an_unknown_output_is_an_error_that_names_it():
    with pytest.raises(ModelError, match="no tensor 'nope'"):
        restrict(load(RESIDUAL), ["nope"])


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_graph_any_cut_gives_the_same_values(data):
    count = data.draw(st.integers(2, 10))
    lines, names = [], ["x"]
    for i in range(count):
        left, right = (data.draw(st.sampled_from(names)) for _ in range(2))
        lines.append(f"t{i} = {data.draw(st.sampled_from(['Add', 'Sub', 'Max']))}({left}, {right})")
        names.append(f"t{i}")
    text = "\n".join(lines)
    model = f"""<ir_version: 9, opset_import: ["" : 17]>
    net (float[2, 3] x) => (float[2, 3] t{count - 1}) {{ {text} }}"""
    observed = data.draw(st.lists(st.sampled_from(names[1:]), min_size=1, unique=True))
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    graph = restrict(load(model), observed)
    seen, _ = run_segments(graph, set(observed), {"x": x}, data.draw(st.integers(1, 100)))
    for name, value in run_whole(load(model), observed, {"x": x}).items():
        np.testing.assert_array_equal(seen[name], value)


def test_tensors_of_partly_known_shape_are_cut_at_too():
    graph = load(
        """
        <ir_version: 9, opset_import: ["" : 17]>
        net (float[N, T, 384] x, int64[N, S] index) => (float[N, S, 384] y)
        {
          two = Constant <value = int64[1] {2}> ()
          a = Relu(x)
          b = Tile(a, repeats)
          y = Neg(b)
          size = Shape(index)
          wanted = Mul(size, two)
          repeats = Concat <axis = 0> (wanted, one)
          one = Constant <value = int64[1] {1}> ()
        }
        """
    )
    assert len(cut(restrict(graph, ["a", "b", "y"]), {"a", "b", "y"})) == 3
