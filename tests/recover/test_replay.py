"""Samples that wait at a stop, are shifted or catch up end where the shifted graph takes them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from onnxq.numerics import amax_of, fake_quant
from onnxq.passes.insert_qdq import insert_qdq
from onnxq.plan import Plan
from onnxq.run import segments
from onnxq.run.replay import Replay, with_float_weights
from onnxq.run.runtime import Runtime
from onnxq.spec import Edge, QuantSpec

BODY = """(float[N,16,6,6] x) => (float[N,16,4,4] y, float[N,16,6,6] b) {
  a = Conv<pads = [1,1,1,1]>(x, w)  b = Relu(a)  c = Conv(b, w)
  d = MaxPool<kernel_shape = [3,3]>(b)  e = Add(c, d)  y = Relu(e)
}"""
SHIFTED = BODY.replace("b = Relu(a)", "as = Add(a, s) b = Relu(as)")


@pytest.fixture
def weights():
    rng = np.random.default_rng(0)
    return {
        "w": rng.standard_normal((16, 16, 3, 3)).astype(np.float32),
        "s": rng.standard_normal((16, 1, 1)).astype(np.float32),
    }


def test_a_shift_reaches_samples_that_wait_and_samples_that_catch_up(
    graph_of, run_graph, dataset, weights
):
    x = np.random.default_rng(1).standard_normal((5, 16, 6, 6)).astype(np.float32)
    graph = segments.restrict(graph_of(BODY, {"w": weights["w"]}), ["y", "b"])
    replay = Replay(graph, ["a", "c"], ["y", "b"], Runtime())
    replay.start(dataset(x))
    with ThreadPoolExecutor(2) as pool:
        replay.bring(0, [0, 2], pool)
        replay.shift(0, weights["s"])
        replay.bring(1, [2, 4], pool)
        replay.bring(2, range(5), pool)
    shifted = graph_of(SHIFTED, weights)
    for i in range(5):
        y, b = run_graph(shifted, {"x": x[i : i + 1]})
        # two layers of sums of 145 float32 terms in another order, the result near 100
        np.testing.assert_allclose(replay.final[i]["y"], y, rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(replay.final[i]["b"], b, rtol=1e-5, atol=1e-4)
        assert not replay.live[i]


def test_the_bytes_kept_at_a_stop_are_those_of_what_later_nodes_read(graph_of, dataset, weights):
    graph = segments.restrict(graph_of(BODY, {"w": weights["w"]}), ["y", "b"])
    replay = Replay(graph, ["a", "c"], ["y"], Runtime())
    sample = {"x": np.zeros((1, 16, 6, 6), np.float32)}
    a, c, d = 4 * 16 * 36, 4 * 16 * 16, 4 * 16 * 16
    at_a, at_c, _ = replay.kept_bytes(sample)
    assert at_a == a
    assert at_c in (c + a, c + d)  # b, or what the pool made of it


def test_float_weights_give_the_same_numbers(planned, dataset, quantized, run_graph, weights):
    graph, plan = planned(BODY, {"w": weights["w"]})
    x = np.random.default_rng(1).standard_normal((2, 16, 6, 6)).astype(np.float32)
    int8 = quantized(graph, plan, dataset(x))
    rounded = with_float_weights(int8)
    assert len(rounded.nodes) < len(int8.nodes)
    for one, other in zip(run_graph(int8, {"x": x}), run_graph(rounded, {"x": x}), strict=True):
        np.testing.assert_array_equal(one, other)


SPECS = ("int8 per-channel axis 0", "int8 per-tensor", "int16 per-channel axis 1", "fp8 per-tensor",
         "fp8 per-channel axis 0", "int4 per-channel axis 0", "int4 per-block 8 axis 1",
         "int4-in-int8 per-channel axis 0", "int4-in-fp8 per-channel axis 0",
         "fixed88 per-tensor")  # fmt: skip


@pytest.mark.parametrize("text", SPECS)
def test_a_weight_of_any_type_becomes_the_floats_that_numerics_has_for_it(graph_of, text):
    w = np.random.default_rng(0).standard_normal((6, 20)).astype(np.float32)
    graph = graph_of(
        "(float[1,20] x) => (float[1,6] y) {[op] y = Gemm<transB = 1>(x, w)}", {"w": w}
    )
    graph.opset = 21
    spec = QuantSpec.parse(text)
    insert_qdq(graph, Plan("m", "t", {Edge("op", 1): spec}), {})
    assert len(graph.nodes) == 2
    (node,) = with_float_weights(graph).nodes
    np.testing.assert_array_equal(node.inputs[1].values, fake_quant(w, amax_of(w, spec), spec))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_a_zero_point_is_taken_from_the_codes(run_graph, graph_of, axis):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (3, 4)).astype(np.uint8)
    count = codes.shape[axis]
    graph = graph_of(
        f"(float[3,4] x) => (float[3,4] y) {{d = DequantizeLinear<axis = {axis}>(c, s, z) "
        "y = Add(x, d)}",
        {
            "c": codes,
            "s": rng.uniform(0.5, 1, count).astype(np.float32),
            "z": rng.integers(0, 256, count).astype(np.uint8),
        },
    )
    x = np.zeros((3, 4), np.float32)
    (expected,), (found,) = (run_graph(g, {"x": x}) for g in (graph, with_float_weights(graph)))
    np.testing.assert_array_equal(found, expected)
