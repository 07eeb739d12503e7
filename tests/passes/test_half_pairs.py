"""What a node reads is dequantized in the type that it computes in; no Cast comes between."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnxq.model.graph import constant_of, producer, to_proto
from onnxq.model.qdq import spread_for
from onnxq.passes.apply import apply
from onnxq.passes.half_pairs import single_pairs
from onnxq.passes.insert_qdq import InsertOptions, insert_qdq
from onnxq.passes.prepare import prepare
from onnxq.passes.to_half import HalfOptions, reasons_to_keep, to_half
from onnxq.plan import Plan
from onnxq.spec import Edge, QuantSpec

TWO = """(float[N,8] x) => (float[N,8] y) {
    [act] a = Relu(x) [one] b = MatMul(a, v) [two] c = MatMul(a, w) [sum] y = Add(b, c)
}"""
TENSOR, COLUMNS = QuantSpec(), QuantSpec("int8", "channel", 1)
KEPT = HalfOptions(keep={"two": "values near the end of FP16"})


def floats(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture
def quantized(graph_of):
    """`quantized(amax, size, weights_as)`: both products quantized for FP16, `w` times `size`."""

    def make(amax=3.0, size=1.0, weights_as="int"):
        weights = {"v": floats(8, 8), "w": floats(8, 8, seed=1) * np.float32(size)}
        graph = prepare(graph_of(TWO, weights, opset=19))
        specs = (TENSOR, COLUMNS)
        edges = {Edge(n, i): specs[i] for n in ("one", "two") for i in range(2)}
        options = InsertOptions(weights_as, scale_dtype="float16")
        insert_qdq(graph, Plan("m", "tensorrt", edges), {"a": amax}, options)
        return graph

    return make


def halved(graph, options=None):
    def run(graph):
        return to_half(graph, options)

    out = apply(graph, run)
    onnx.checker.check_model(to_proto(out), full_check=True)
    return out


def reads(graph, name):
    """(op, scale type) of what writes the inputs of a product."""
    (node,) = [n for n in graph.nodes if n.name == name]
    makers = [producer(t) for t in node.inputs]
    return [(m.op, constant_of(m.inputs[1]).dtype.name) for m in makers]


HALF, SINGLE = [("DequantizeLinear", "float16")] * 2, [("DequantizeLinear", "float32")] * 2


@pytest.mark.parametrize("weights_as", ["int", "float"])
def test_a_tensor_read_in_both_types_is_quantized_once_and_dequantized_twice(
    quantized, run_graph, weights_as
):
    before = quantized(weights_as=weights_as)
    graph = halved(before, KEPT)
    assert (reads(graph, "one"), reads(graph, "two")) == (HALF, SINGLE)
    a = [n for n in graph.nodes if n.op == "QuantizeLinear" and n.inputs[0].name == "a"]
    assert len(a) == 1
    x = floats(4, 8, seed=2)
    for y, ref in zip(run_graph(graph, {"x": x}), run_graph(before, {"x": x}), strict=True):
        np.testing.assert_allclose(y, ref, rtol=5e-3, atol=5e-2)  # sums of 8 in FP16


def test_without_kept_readers_no_pair_is_single(quantized):
    graph = quantized()
    assert single_pairs(graph, set()) == set()
    assert (reads(halved(graph), "one"), reads(halved(graph), "two")) == (HALF, HALF)


def test_the_pair_of_a_tensor_that_only_kept_nodes_read_is_single(quantized):
    graph = halved(quantized(), HalfOptions(keep=dict.fromkeys(("one", "two"), "kept")))
    assert (reads(graph, "one"), reads(graph, "two")) == (SINGLE, SINGLE)
    (q,) = [n for n in graph.nodes if n.op == "QuantizeLinear"]
    assert constant_of(q.inputs[1]).dtype == np.float32


@pytest.mark.parametrize("amax", [1e-6, 1e7])
def test_a_scale_that_fp16_cannot_hold_keeps_what_reads_it(quantized, run_graph, amax):
    before = quantized(amax)
    assert set(reasons_to_keep(before, HalfOptions())) == {"one", "two"}
    graph = halved(before)
    assert (reads(graph, "one"), reads(graph, "two")) == (SINGLE, SINGLE)
    scale = constant_of(
        producer(next(n for n in graph.nodes if n.name == "one").inputs[0]).inputs[1]
    )
    assert scale == np.float32(amax) / np.float32(127)


@pytest.mark.parametrize("size", [1e-8, 1e5])
def test_a_weight_beyond_fp16_at_either_end_keeps_its_node_alone(quantized, size):
    graph = quantized(size=size)
    assert set(reasons_to_keep(graph, HalfOptions())) == {"two"}
    assert (reads(halved(graph), "one"), reads(halved(graph), "two")) == (HALF, SINGLE)


def test_bf16_holds_them_all(quantized):
    graph = quantized(1e7, 1e-8)
    assert reasons_to_keep(graph, HalfOptions("bf16")) == {}


def test_an_input_beyond_fp16_keeps_its_type_where_inputs_become_half(graph_of):
    body = """(float[N,8] x, float[N,8] z) => (float[N,8] y) {
        [shrink] a = Mul(x, k) [sum] y = Add(a, z)
    }"""
    graph = prepare(graph_of(body, {"k": np.float32(1e-5)}, opset=19))
    halves = halved(graph, HalfOptions(keep={"shrink": "'x' reaches 1.3e+05"}, io="half"))
    assert [np.dtype(t.dtype).name for t in halves.inputs] == ["float32", "float16"]


ONE = "(float[N,8] x) => (float[N,8] y) { [one] y = MatMul(x, w) }"
GRIDS = {"int8": COLUMNS, "fp8": QuantSpec("fp8", "channel", 1),
         "int4": QuantSpec("int4", "block", 0, 4)}  # fmt: skip


@pytest.mark.parametrize(
    ("dtype", "weights_as"), [("int8", "int"), ("int8", "float"), ("fp8", "int"), ("int4", "int")]
)
def test_no_scale_falls_to_zero_in_fp16_and_weights_keep_their_values(
    graph_of, run_graph, dtype, weights_as
):
    """Q/DQ of FP32, with channels whose scales FP16 rounds to zero, to few bits, and not at all."""
    sizes = np.float32([1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1, 1])
    graph = prepare(graph_of(ONE, {"w": floats(8, 8, seed=1) * sizes}, opset=21))
    edges = {Edge("one", 1): GRIDS[dtype]}
    insert_qdq(graph, Plan("m", "tensorrt", edges), {}, InsertOptions(weights_as))
    half = halved(graph)
    (pair,) = [n for n in half.nodes if n.op == "DequantizeLinear"]
    scale = constant_of(pair.inputs[1])
    assert scale.dtype == np.float16
    assert scale.min() == 2.0**-24
    x = np.eye(8, dtype=np.float32)
    (before,), (after,) = (run_graph(g, {"x": x}) for g in (graph, half))
    step = spread_for(pair, scale.astype(np.float32), (8, 8))
    step = np.abs(before) * 2.0**-4 + step * 2.0**-9 if dtype == "fp8" else step / 2
    room = np.abs(before) * 2.0**-10 + 2.0**-24  # what FP16 makes of the sum
    np.testing.assert_array_less(np.abs(after - before), step + room)


def test_q_and_dq_of_a_tensor_have_one_scale_where_one_is_kept(quantized):
    graph = quantized(amax=127 * 3.3e-6)  # below the normal numbers of FP16, which holds it to 1%
    halved_graph = halved(graph, KEPT)
    scales = [constant_of(n.inputs[1]) for n in halved_graph.nodes
              if n.op.endswith("tizeLinear") and n.inputs[1].values.ndim == 0]  # fmt: skip
    assert len(scales) == 3
    assert {s.dtype.name for s in scales} == {"float16", "float32"}
    assert len({float(s) for s in scales}) == 1
