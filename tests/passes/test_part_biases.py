"""Biases that a plain session would lose are added behind their nodes."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from onnxq.model.graph import to_proto
from onnxq.passes.apply import apply
from onnxq.passes.infer_shapes import infer_shapes
from onnxq.passes.insert_qdq import InsertOptions, insert_qdq
from onnxq.passes.part_biases import part_biases
from onnxq.passes.rounded import largest_sum
from onnxq.passes.to_half import to_half
from onnxq.plan import Plan
from onnxq.spec import Edge, QuantSpec

CONV = """(float[N,4,6,6] x) => (float[N,8,4,4] y) {
    h = Conv(x, w, b) [relu] r = Relu(h) [out] y = Relu(r) }"""
GEMM = "(float[N,6] x) => (float[N,8] y) { h = Gemm(x, w, b) [relu] r = Relu(h) [out] y = Relu(r) }"
DECONV = CONV.replace("Conv(", "ConvTranspose(").replace("8,4,4]", "8,8,8]")
MODELS = {
    "Conv": (CONV, (3, 4, 6, 6), (8, 4, 3, 3), 0),
    "ConvTranspose": (DECONV, (3, 4, 6, 6), (4, 8, 3, 3), None),
    "Gemm": (GEMM, (5, 6), (6, 8), 1),
}


def floats(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture
def quantized(graph_of):
    """The Q/DQ graph of a model with a bias of a given size, its output quantized too."""

    def make(name, size, dtype="int8", behind=True, half=False):
        body, _, weight, axis = MODELS[name]
        op = body[body.index("h = ") + 4 : body.index("(x, w, b)")]
        body = body.replace(f"h = {op}", f"[op] h = {op}")
        values = {"w": floats(*weight), "b": size * np.abs(floats(8, seed=1))}
        graph = apply(graph_of(body, values, 19), infer_shapes)
        # one scale for all channels: scales of a channel each make room for the bias
        spec = QuantSpec("int8", "channel", axis) if half and axis is not None else QuantSpec()
        edges = {Edge("op", 0): QuantSpec(dtype), Edge("op", 1): spec}
        edges |= {Edge("out", 0): QuantSpec(dtype)} if behind else {}
        ranges = {"x": 3.0, "r": 30 * size + 30}
        options = InsertOptions(scale_dtype="float16" if half else "float32")
        insert_qdq(graph, Plan("m", "tensorrt", edges), ranges, options)
        if half:
            to_half(graph)
        return graph

    return make


def plain(graph, x):
    model = to_proto(graph).SerializeToString()
    return ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def lossy(quantized, name, half, behind=True):
    """A graph whose bias FP16, or INT32 in steps of its scales, cannot hold."""
    return quantized(name, 40.0 if half else 1e7, behind=behind, half=half)


@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
@pytest.mark.parametrize("name", MODELS)
def test_a_plain_session_then_computes_what_the_graph_says(quantized, run_graph, name, half):
    graph = lossy(quantized, name, half)
    x = floats(*MODELS[name][1], seed=2)
    (expected,) = run_graph(graph, {"x": x})
    parted = apply(graph, part_biases)
    assert (len(parted.nodes) > len(graph.nodes)) == (name != "Gemm")
    step = np.abs(expected).max() / 100  # of the last Q: a value may lie between two codes
    np.testing.assert_allclose(plain(parted, x), expected, rtol=0, atol=step)
    assert np.abs(plain(graph, x) - expected).max() > 5 * step


@pytest.mark.parametrize("name", MODELS)
def test_the_pass_is_idempotent_and_leaves_its_input_alone(quantized, name):
    graph = lossy(quantized, name, half=False)
    before = to_proto(graph)
    once = apply(graph, part_biases)
    assert to_proto(graph) == before
    assert to_proto(apply(once, part_biases)) == to_proto(once)


@pytest.mark.parametrize("name", MODELS)
def test_a_bias_that_the_codes_hold_stays_in_its_node(quantized, name):
    for half in (False, True):
        assert part_biases(quantized(name, 0.5, half=half)) == 0


@pytest.mark.parametrize("name", MODELS)
def test_a_bias_whose_node_does_not_write_codes_stays(quantized, name):
    assert part_biases(lossy(quantized, name, half=False, behind=False)) == 0


HALVES = {  # codes of the bias, size of the weights, whether a Relu is behind, whether it is lost
    "what FP16 holds": (60_000, 1, True, False),
    "more than FP16 holds": (70_000, 1, True, True),
    "a step that FP16 does not hold": (30_000, 1e-5, True, False),
    "far below zero": (-1e6, 1, True, False),
    "far below zero without Relu": (-1e6, 1, False, True),
    "below zero and the products may lift it": (-90_000, 1, True, True),
}


@pytest.mark.parametrize(("codes", "size", "relu", "lost"), HALVES.values(), ids=HALVES)
def test_a_bias_counts_as_lost_in_fp16_where_a_plain_session_shows_it(
    graph_of, run_graph, codes, size, relu, lost
):
    weight = size * floats(8, 4, 3, 3)
    step = np.float16(3 / 127).astype(np.float32) * np.float16(np.abs(weight).max() / 127)
    bias = np.full(8, codes * step, np.float32)
    body = CONV.replace("h = Conv", "[op] h = Conv").replace("y = Relu", "y = Neg")
    body = body if relu else body.replace("h = Conv", "r = Conv").replace("[relu] r = Relu(h)", "")
    graph = apply(graph_of(body, {"w": weight, "b": bias}, 19), infer_shapes)
    edges = {Edge("op", 0): QuantSpec(), Edge("op", 1): QuantSpec(), Edge("out", 0): QuantSpec()}
    most = 2 * float(np.abs(bias).max())
    options = InsertOptions(scale_dtype="float16")
    insert_qdq(graph, Plan("m", "tensorrt", edges), {"x": 3.0, "r": most}, options)
    to_half(graph)
    x = floats(3, 4, 6, 6, seed=2)
    x[0, :, :3, :3] = 3 * np.sign(weight[0])  # the largest sum of products that there is
    off = np.abs(plain(graph, x) - run_graph(graph, {"x": x})[0]).max()
    assert (off > 5 * most / 127) == lost  # a value may lie between two codes
    assert part_biases(graph) == lost


def test_the_sum_of_products_is_bounded_by_the_codes_of_the_worst_channel(graph_of):
    w = np.zeros((200_000, 2), np.float32)
    w[:, 0], w[0, 1] = 1, 1
    body = "(float[N,200000] x) => (float[N,2] y) { [op] y = Gemm(x, w) }"
    for dtype, most in (("int8", 128), ("uint8", 170)):
        graph = graph_of(body, {"w": w})
        spec = QuantSpec("int8", "channel", 1)
        plan = Plan("m", "tensorrt", {Edge("op", 0): QuantSpec(dtype), Edge("op", 1): spec})
        insert_qdq(graph, plan, {"x": (-1.0, 2.0)})
        (op,) = (n for n in graph.nodes if n.op == "Gemm")
        assert largest_sum(op) == 200_000 * 127 * most
