"""Samples that wait at a stop, are shifted or catch up end where the shifted graph takes them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from onnxq import segments
from onnxq.recover.replay import Replay, with_float_weights
from onnxq.runtime import Runtime

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
