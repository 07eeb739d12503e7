"""What does not depend on the inputs becomes a constant; what would do harm stays."""

from __future__ import annotations

import logging
import sys

import numpy as np
import onnx
import pytest

from onnxq.model.graph import to_proto
from onnxq.passes.apply import apply
from onnxq.passes.fold_constants import fold_constants
from onnxq.passes.infer_shapes import infer_shapes

CONSTANTS = """(float[N,2] x) => (float[N,2] y) {
    a = Constant<value = float[2] {1.0, 2.0}>()
    b = Constant<value_float = 3.0>()
    c = Mul(x, a)
    y = Add(c, b)
}"""
WEIGHT = """(float[N,4] x) => (float[N,3] y)
<float[3,4] w = {0,1,2,3,4,5,6,7,8,9,10,11}> {
    t = Transpose<perm = [1, 0]>(w)
    h = Cast<to = 10>(t)
    f = Cast<to = 1>(h)
    y = MatMul(x, f)
}"""
SHAPES = """(float[N,6] x) => (float[N,2,3] y)
<int64 zero = {0}, int64[1] axis = {0}, int64[2] tail = {2,3}> {
    s = Shape(x)
    n = Gather<axis = 0>(s, zero)
    u = Unsqueeze(n, axis)
    d = Concat<axis = 0>(u, tail)
    y = Reshape(x, d)
}"""


def ops(graph):
    return [node.op for node in graph.nodes]


def test_constant_nodes_become_initializers(graph_of):
    out = apply(graph_of(CONSTANTS), fold_constants)
    assert ops(out) == ["Mul", "Add"]
    assert out.nodes[0].inputs[1].values.tolist() == [1.0, 2.0]


def test_a_weight_behind_transpose_and_casts_is_folded(graph_of):
    out = apply(graph_of(WEIGHT), fold_constants)
    assert ops(out) == ["MatMul"]
    weight = np.arange(12, dtype=np.float32).reshape(3, 4).T
    assert np.array_equal(out.nodes[0].inputs[1].values, weight)


def test_shape_arithmetic_on_a_static_shape_is_folded(graph_of):
    graph = graph_of(SHAPES.replace("[N,", "[5,"))
    out = apply(graph, infer_shapes, fold_constants)
    assert ops(out) == ["Reshape"]
    assert out.nodes[0].inputs[1].values.tolist() == [5, 2, 3]


def test_shape_arithmetic_on_a_dynamic_dimension_stays(graph_of):
    graph = graph_of(SHAPES)
    assert apply(graph, infer_shapes, fold_constants).nodes[0].op == "Shape"


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ("p = Gather<axis = 0>(s, one)", 6),
        ("p = Slice(s, from, to)", [6]),
        ("p = Shape<start = 1>(x)", [6]),
        ("p = Slice(s, from, to, axis, step)", [6]),
    ],
)
def test_the_static_entries_of_a_dynamic_shape_are_folded(graph_of, node, expected):
    graph = graph_of(
        f"""(float[N,6] x) => (int64[M] y)
        <int64 one = {{-1}}, int64[1] from = {{-1}}, int64[1] to = {{9}}, int64[1] axis = {{0}},
         int64[1] step = {{1}}> {{
            s = Shape(x)
            {node}
            y = Add(s, p)
        }}"""
    )
    out = apply(graph, fold_constants)
    assert ops(out) == ["Shape", "Add"]
    assert out.nodes[1].inputs[1].values.tolist() == expected


def test_an_index_outside_the_shape_stays(graph_of):
    graph = graph_of(
        "(float[N,6] x) => (int64 y) <int64 i = {5}> {s = Shape(x) g = Gather(s, i) y = Neg(g)}"
    )
    assert fold_constants(graph) == 0


@pytest.mark.parametrize("body", [CONSTANTS, WEIGHT, SHAPES, SHAPES.replace("[N,", "[5,")])
def test_numbers_are_preserved_and_the_pass_is_idempotent(graph_of, run_graph, rng, body):
    graph = graph_of(body)
    before = to_proto(graph)
    once = apply(graph, infer_shapes, fold_constants)
    assert to_proto(graph) == before
    assert fold_constants(once) == 0
    width = graph.inputs[0].shape[1]
    feeds = {"x": rng.standard_normal((5, width)).astype(np.float32)}
    # The folded values are the very ones the nodes would compute: equal to the bit.
    assert np.array_equal(run_graph(once, feeds), run_graph(graph, feeds))


def test_folding_twice_from_the_same_file_gives_the_same_bytes(graph_of):
    first, second = (
        to_proto(apply(graph_of(SHAPES), infer_shapes, fold_constants)).SerializeToString()
        for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            "(float[N] x) => (float[N] y) <float[1] w = {1.0}, float s = {0.5}, int8 z = {0}>"
            "{q = QuantizeLinear(w, s, z) d = DequantizeLinear(q, s, z) y = Mul(x, d)}",
            "part of the quantization",
        ),
        (
            "(float[N] x) => (float[N] y) {r = RandomNormal<shape = [1]>() y = Mul(x, r)}",
            "it is random",
        ),
        (
            "(float[N] x) => (float[1000000] y) <int64[1] n = {1000000}>"
            "{c = ConstantOfShape(n) y = Add(x, c)}",
            "would take 4000000 bytes",
        ),
        (
            "(float[N] x) => (float[1000000] y) <float[1] w = {2.0}, int64[1] n = {1000000}>"
            "{c = Expand(w, n) y = Add(x, c)}",
            "would take 4000000 bytes",
        ),
        (
            "(float[N] x) => (float[1000000] y) <float[1] w = {2.0}, int64[1] n = {1000000}>"
            "{c = Tile(w, n) y = Add(x, c)}",
            "would take 4000000 bytes",
        ),
        (
            "(float[N] x) => (float[N] y, float[1] z) <float[1] w = {2.0}>{y = Relu(x) z = Neg(w)}",
            "output of the graph",
        ),
        (
            "(float[N] x) => (float[N] y) <float[1] w = {2.0}> {p = Plugin(w) y = Add(x, p)}",
            "cannot be computed",
        ),
        (
            "(float[N] x) => (float[N] y) <bool c = {1}, float[1] w = {2.0}>"
            "{a = If(c) <then_branch = t () => (float[1] p) {p = Abs(w)},"
            "else_branch = e () => (float[1] q) {q = Neg(w)}> y = Add(x, a)}",
            "holds a subgraph",
        ),
    ],
)
def test_it_declines_with_a_reason(graph_of, caplog, body, reason):
    graph = graph_of(body)
    with caplog.at_level(logging.INFO):
        assert fold_constants(graph) == 0
    assert reason in caplog.text


def test_a_custom_op_on_constants_stays(graph_of):
    graph = graph_of("(float[N] x) => (float[N] y) <float[1] w={1.0}> {a = my.Op(w) y = Add(x, a)}")
    assert fold_constants(graph) == 0


def test_a_result_of_the_wrong_type_is_not_taken(graph_of, caplog):
    graph = graph_of("(float[N] x) => (float[N] y) <float[1] w = {2.0}> {a = Neg(w) y = Add(x, a)}")
    graph.tensors()["a"].dtype = np.float64
    with caplog.at_level(logging.INFO):
        assert fold_constants(graph) == 0
    assert "came out as float32, not float64" in caplog.text


def test_a_constant_that_only_a_subgraph_reads_is_still_there(graph_of, run_graph):
    graph = graph_of(
        """(float[N] x, bool c) => (float[N] y) {
            w = Constant<value = float[1] {2.0}>()
            y = If(c) <then_branch = t () => (float[N] p) {p = Mul(x, w)},
                       else_branch = e () => (float[N] q) {q = Add(x, w)}>
        }"""
    )
    out = apply(graph, fold_constants)
    assert ops(out) == ["If"]
    feeds = {"x": np.ones(3, np.float32), "c": np.array(True)}
    assert run_graph(out, feeds)[0].tolist() == [2.0, 2.0, 2.0]


def test_it_needs_no_onnxruntime(graph_of, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert ops(apply(graph_of(WEIGHT), fold_constants)) == ["MatMul"]


def test_an_int8_weight_may_grow_to_float(graph_of):
    weight = np.ones((300, 300), np.int8)  # 90 kB, 360 kB as float
    graph = graph_of(
        "(float[N,300] x) => (float[N,300] y) {f = Cast<to = 1>(w) y = MatMul(x, f)}", {"w": weight}
    )
    assert ops(apply(graph, fold_constants)) == ["MatMul"]


def test_opset_12_attributes_are_evaluated_as_opset_12(graph_of):
    graph = graph_of(
        "(float[N,2] x) => (float[N,2] y) <float[2] w = {1,2}>"
        "{u = Unsqueeze<axes = [0]>(w) y = Add(x, u)}",
        opset=12,
    )
    assert ops(apply(graph, fold_constants)) == ["Add"]
    assert onnx.defs.onnx_opset_version() > 12
