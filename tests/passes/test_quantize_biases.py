"""Biases beside uint8 codes become INT32 in steps of the product of scales."""

from __future__ import annotations

import numpy as np
import pytest

from onnxq.model.graph import constant_of, producer, to_proto
from onnxq.passes.apply import apply
from onnxq.passes.insert_qdq import insert_qdq
from onnxq.passes.quantize_biases import quantize_biases
from onnxq.plan import Plan
from onnxq.spec import Edge, QuantSpec

CONV = "(float[N,4,6,6] x) => (float[N,8,4,4] y) {[op] y = Conv(x, w, b)}"
GEMM = "(float[N,6] x) => (float[N,8] y) {[op] y = Gemm(x, w, b)}"
MODELS = {
    "Conv": (CONV, (2, 4, 6, 6), (8, 4, 3, 3), QuantSpec("int8", "channel", 0)),
    "Conv per tensor": (CONV, (2, 4, 6, 6), (8, 4, 3, 3), QuantSpec()),
    "Gemm": (GEMM, (5, 6), (6, 8), QuantSpec("int8", "channel", 1)),
}


def floats(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture
def quantized(graph_of):
    """The Q/DQ graph of a model, its activation in `dtype` from -1 to 2."""

    def make(name, dtype="uint8", bias=None):
        body, _, weight, spec = MODELS[name]
        graph = graph_of(body, {"w": floats(*weight), "b": floats(8) if bias is None else bias})
        plan = Plan("m", "onnxruntime", {Edge("op", 0): QuantSpec(dtype), Edge("op", 1): spec})
        insert_qdq(graph, plan, {"x": (-1.0, 2.0)})
        return graph

    return make


def op_of(graph):
    return next(n for n in graph.nodes if n.name == "op")


@pytest.mark.parametrize("name", MODELS)
def test_a_bias_is_rounded_to_steps_of_the_product_of_scales(quantized, name):
    graph = apply(quantized(name), quantize_biases)
    op = op_of(graph)
    scales = [constant_of(producer(t).inputs[1]) for t in op.inputs[:2]]
    codes, step = (constant_of(t) for t in producer(op.inputs[2]).inputs[:2])
    np.testing.assert_array_equal(step, scales[0] * scales[1])
    assert codes.dtype == np.int32
    # half a step, and float32 rounding of the bias itself
    assert np.all(np.abs(codes * step.astype(np.float64) - floats(8)) <= 0.5001 * step)


@pytest.mark.parametrize("name", MODELS)
def test_numbers_are_preserved_and_the_pass_is_idempotent(quantized, run_graph, name):
    graph = quantized(name)
    before = to_proto(graph)
    once = apply(graph, quantize_biases)
    assert to_proto(graph) == before
    feeds = {"x": floats(*MODELS[name][1], seed=1)}
    step = constant_of(producer(op_of(once).inputs[2]).inputs[1])
    for a, b in zip(run_graph(graph, feeds), run_graph(once, feeds), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=float(step.max()))  # half a step, rounding
    assert to_proto(apply(once, quantize_biases)) == to_proto(once)


def test_a_bias_beside_int8_activations_stays_float(quantized):
    assert quantize_biases(quantized("Conv", "int8")) == 0


def test_a_bias_that_int32_cannot_hold_stays_float(quantized):
    bias = np.full(8, 1e9, np.float32)  # scales per channel leave room for it
    assert quantize_biases(quantized("Conv per tensor", bias=bias)) == 0


def test_a_float_op_is_left_alone(graph_of):
    graph = graph_of(CONV, {"w": floats(8, 4, 3, 3), "b": floats(8)})
    assert quantize_biases(graph) == 0
