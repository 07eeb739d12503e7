"""Float weights between codes stay float in a plain session: their node has a computed bias."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from onnxq.model.graph import constant_of, producer, to_proto
from onnxq.passes.apply import apply
from onnxq.passes.insert_qdq import insert_qdq
from onnxq.passes.pin_weights import pin_weights
from onnxq.plan import Plan
from onnxq.spec import Edge, QuantSpec

IMAGE = """(float[N,4,6,6] x) => (float[N,8,M,K] y) {
    [op] h = OP(x, w BIAS) r = Relu(h) [out] y = Relu(r)}"""
ROW = "(float[N,4] x) => (float[N,8] y) {[op] h = Gemm(x, w BIAS) [out] y = Relu(h)}"
MODELS = {
    "Conv": (IMAGE.replace("OP", "Conv"), (3, 4, 6, 6), (8, 4, 3, 3)),
    "grouped Conv": (IMAGE.replace("OP", "Conv<group = 2>"), (3, 4, 6, 6), (8, 2, 3, 3)),
    "ConvTranspose": (IMAGE.replace("OP", "ConvTranspose"), (3, 4, 6, 6), (4, 8, 3, 3)),
    "grouped": (IMAGE.replace("OP", "ConvTranspose<group = 2>"), (3, 4, 6, 6), (4, 4, 3, 3)),
    "Gemm": (ROW, (5, 4), (4, 8)),
}
BIAS = np.array([0, 1e-20, -1e-7, 3e-3, 1 / 3, -1, 20 / 3, -1e6 / 7], np.float32)


def floats(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture
def between_codes(graph_of):
    """A float op with Q/DQ before and behind it."""

    def make(name, biased):
        body, _, weight = MODELS[name]
        w = floats(*weight) * np.geomspace(1e-3, 1, weight[1])[:, *[None] * (len(weight) - 2)]
        values = {"w": w.astype(np.float32)} | ({"b": BIAS[:8] / 1e5} if biased else {})
        graph = graph_of(body.replace("BIAS", ", b" if biased else ""), values)
        edges = {Edge("op", 0): QuantSpec(), Edge("out", 0): QuantSpec("uint8")}
        source = "h" if name == "Gemm" else "r"
        insert_qdq(graph, Plan("m", "onnxruntime", edges), {"x": 3.0, source: 8.0})
        return graph

    return make


def run(graph, x, **options):
    session = ort.InferenceSession(to_proto(graph).SerializeToString(), **options)
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_a_plain_session_then_computes_with_the_float_weight(between_codes, name, biased):
    graph = between_codes(name, biased)
    x = floats(*MODELS[name][1], seed=1)
    expected = run(graph, x, disabled_optimizers=["WeightBiasQuantization"])
    before = to_proto(graph)
    pinned = apply(graph, pin_weights)
    assert to_proto(graph) == before
    assert to_proto(apply(pinned, pin_weights)) == to_proto(pinned)
    step = 8 / 255  # of the last Q: another order of sums may end at the next code
    np.testing.assert_allclose(run(pinned, x), expected, rtol=0, atol=1.01 * step)
    assert (run(pinned, x) != expected).mean() < 0.01
    assert (run(graph, x) != expected).mean() > 0.03  # what it would do of itself


def test_the_bias_is_the_same_to_the_last_bit(between_codes):
    graph = apply(between_codes("Conv", True), pin_weights)
    (op,) = (n for n in graph.nodes if n.op == "Conv")
    codes, scale = (constant_of(t) for t in producer(op.inputs[2]).inputs)
    np.testing.assert_array_equal(codes.astype(np.float32) * scale, BIAS / np.float32(1e5))


def test_a_weight_of_codes_and_a_bias_that_is_computed_are_left_alone(graph_of):
    body = """(float[N,4] x, float[8] b) => (float[N,8] y) {
        [op] h = Gemm(x, w, b) [out] y = Relu(h)}"""
    graph = graph_of(body, {"w": floats(4, 8)})
    edges = {Edge("op", 0): QuantSpec(), Edge("out", 0): QuantSpec("uint8")}
    insert_qdq(graph, Plan("m", "onnxruntime", edges), {"x": 3.0, "h": 8.0})
    assert pin_weights(graph) == 0
    both = {**edges, Edge("op", 1): QuantSpec()}
    graph = graph_of(body, {"w": floats(4, 8)})
    insert_qdq(graph, Plan("m", "onnxruntime", both), {"x": 3.0, "h": 8.0})
    assert pin_weights(graph) == 0
