"""Smoothing takes outliers out of activations where the outputs gain, and nothing where not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxq.calib.observed import observed
from onnxq.model.graph import to_proto
from onnxq.numerics import sqnr_db
from onnxq.passes.prepare import prepare
from onnxq.pipeline import recoveries as stages
from onnxq.pipeline import steps
from onnxq.pipeline.config import Config
from onnxq.recover.draft import Draft
from onnxq.recover.groups import factors
from onnxq.recover.smooth import smooth

FIXTURE = Path(__file__).parents[2] / "fixtures" / "transformer"
WIDTH = 32

PRE_NORM = """(float[N,6,32] x) => (float[N,6,32] y) {
    [norm] a = LayerNormalization<axis = -1>(x, gamma, beta)
    [q] q = MatMul(a, wq)  [k] k = MatMul(a, wk)
    s = Sigmoid(k)  m = Mul(q, s)  [out] o = MatMul(m, wo)  y = Add(o, x)
}"""
POST_NORM = """(float[N,6,32] x) => (float[N,6,32] y) {
    [norm] a = LayerNormalization<axis = -1>(x, gamma, beta)
    [q] q = MatMul(a, wq)  t = Tanh(q)  [k] k = MatMul(t, wk)
    h = Add(k, a)  [norm2] y = LayerNormalization<axis = -1>(h, gamma2, beta)
}"""


def weights(outlier=60.0):
    """Of a block whose LayerNormalization has two channels far larger than the others."""
    rng = np.random.default_rng(1)
    made = {n: rng.standard_normal((WIDTH, WIDTH)) / WIDTH**0.5 for n in ("wq", "wk", "wo")}
    gamma = np.ones(WIDTH)
    gamma[[3, 20]] = outlier
    for name in ("wq", "wk"):  # as in trained nets, their weights are small in return
        made[name][[3, 20]] /= outlier
    made |= {"gamma": gamma, "beta": np.zeros(WIDTH), "gamma2": np.ones(WIDTH)}
    return {name: values.astype(np.float32) for name, values in made.items()}


def tokens(samples, seed):
    return np.random.default_rng(seed).standard_normal((samples, 6, WIDTH)).astype(np.float32)


def fresh_sqnr(bench, draft, run_graph, samples=8):
    """SQNR in dB at the first output, over samples that the bench has not seen."""
    quantized = bench.quantized(Draft(draft.graph, bench.ranges(draft.graph)))
    x = tokens(samples, seed=77)
    (ref,), (test,) = (run_graph(g, {"x": x}) for g in (bench.graph, quantized))
    return sqnr_db(ref, test)


@pytest.mark.parametrize("body", [PRE_NORM, POST_NORM], ids=["pre-norm", "post-norm"])
def test_outliers_cost_nothing_after_smoothing(body, planned, dataset, bench_of, run_graph):
    graph, plan = planned(body, weights())
    bench = bench_of(graph, plan, dataset(tokens(16, seed=0)))
    draft, outcome = smooth(bench, Draft(graph))
    gained = fresh_sqnr(bench, draft, run_graph) - fresh_sqnr(bench, Draft(graph), run_graph)
    assert gained > 6  # dB; the outliers take 6 of 8 bits, and the other ops' rounding remains
    assert outcome.gains["q"] > 10
    assert outcome.after["y"] > outcome.before["y"] + 6


@pytest.mark.parametrize("body", [PRE_NORM, POST_NORM], ids=["pre-norm", "post-norm"])
def test_the_float_graph_computes_the_same(body, planned, dataset, bench_of, run_graph):
    graph, plan = planned(body, weights())
    draft, _ = smooth(bench_of(graph, plan, dataset(tokens(16, seed=0))), Draft(graph))
    x = tokens(4, seed=5)
    (a,), (b,) = (run_graph(g, {"x": x}) for g in (graph, draft.graph))
    assert draft.graph is not graph
    assert np.abs(a - b).max() < 1e-5 * np.abs(a).max()  # float32 rounding of 32 products


def test_a_norm_that_nobody_else_reads_takes_the_scale(planned, dataset, bench_of):
    graph, plan = planned(PRE_NORM, weights())
    draft, outcome = smooth(bench_of(graph, plan, dataset(tokens(16, seed=0))), Draft(graph))
    assert [n.name for n in draft.graph.nodes] == [n.name for n in graph.nodes]
    assert any("'a' is smoothed" in note and "folded" in note for note in outcome.notes)


def test_a_norm_with_a_residual_reader_gets_a_mul(planned, dataset, bench_of):
    graph, plan = planned(POST_NORM, weights())
    bench = bench_of(graph, plan, dataset(tokens(16, seed=0)))
    draft, outcome = smooth(bench, Draft(graph))
    added = [n for n in draft.graph.nodes if n.name not in {m.name for m in graph.nodes}]
    assert ("Mul", "a") in [(n.op, n.inputs[0].name) for n in added]
    assert any("by a Mul" in note for note in outcome.notes)
    assert {n.outputs[0].name for n in added} <= set(observed(draft.graph, plan))
    assert set(plan.nodes) <= {n.name for n in draft.graph.nodes}


def test_where_it_hurts_the_draft_comes_back(planned, activations_alone, dataset, bench_of, rng):
    # Of activations alone, all of one size, the noise is the sum of (w s)^2 over (min s)^2: with
    # one row of weights larger than the rest, every alpha below 1 makes it larger.
    wq = np.where(rng.random((WIDTH, WIDTH)) < 0.5, -1, 1).astype(np.float32)
    wq[7] *= 4
    body = """(float[N,6,32] x) => (y) {
        a = LayerNormalization<axis = -1>(x, gamma, beta)  [q] y = MatMul(a, wq)}"""
    norm = {k: v for k, v in weights(outlier=1.0).items() if k in ("gamma", "beta")}
    graph, _ = planned(body, {**norm, "wq": wq})
    before = Draft(graph)
    bench = bench_of(graph, activations_alone(graph), dataset(tokens(16, seed=0)))
    after, outcome = smooth(bench, before)
    assert after is before
    assert list(outcome.undone) == ["q"]
    assert outcome.before == outcome.after


def test_a_network_of_relu6_is_left_alone(planned, dataset, bench_of, rng):
    body = """(float[N,16,8,8] x) => (y) {
        zero = Constant<value = float {0.0}>()  six = Constant<value = float {6.0}>()
        a = Conv(x, k)  b = Clip(a, zero, six)  y = Conv(b, k)}"""
    graph, plan = planned(body, {"k": rng.standard_normal((16, 16, 3, 3)).astype(np.float32)})
    x = rng.standard_normal((4, 16, 8, 8)).astype(np.float32)
    before = Draft(graph)
    after, outcome = smooth(bench_of(graph, plan, dataset(x)), before)
    assert after is before
    assert outcome.notes


def test_the_order_of_the_samples_does_not_matter(planned, drafts_by_order):
    one, other = drafts_by_order(smooth, *planned(POST_NORM, weights()), tokens(16, seed=0))
    assert one == other


def test_the_graph_of_the_draft_is_not_changed(planned, dataset, bench_of):
    graph, plan = planned(POST_NORM, weights())
    before = to_proto(graph).SerializeToString(deterministic=True)
    smooth(bench_of(graph, plan, dataset(tokens(8, seed=0))), Draft(graph))
    assert to_proto(graph).SerializeToString(deterministic=True) == before


def test_a_tensor_that_is_always_zero_is_no_obstacle(graph_of, planned, dataset, bench_of):
    body = """(float[N,6,32] x) => (float[N,6,32] y) {
        a = LayerNormalization<axis = -1>(x, gamma, beta)  [q] q = MatMul(a, wq)
        zero = Sub(x, x)  [k] k = MatMul(zero, wk)  y = Add(q, k)}"""
    made = weights()
    graph, plan = planned(body, {n: made[n] for n in ("gamma", "beta", "wq", "wk")})
    assert "k" in plan.nodes
    _, outcome = smooth(bench_of(graph, plan, dataset(tokens(8, seed=0))), Draft(graph))
    assert outcome.gains["q"] > 10
    assert outcome.after["y"] > outcome.before["y"]


def test_factors_have_the_formula_and_dead_channels_none():
    amax, weight = np.array([8.0, 2.0, 0.0, 1.0]), np.array([1.0, 2.0, 3.0, 0.0])
    s = factors(amax, weight, 0.75)
    assert s[0] / s[1] == pytest.approx((8 / 2) ** 0.75 / (1 / 2) ** 0.25)
    assert s[0] * s[1] == pytest.approx(1)
    assert list(s[2:]) == [1, 1]


@pytest.mark.slow
def test_the_transformer_fixture_loses_nothing():  # it has no outliers
    source = steps.prepare(FIXTURE / "transformer.onnx")
    plan = steps.plan(source)
    data = steps.data(source, [str(FIXTURE / "calib.npz")])
    bench = stages._bench(source, plan, data, Config())
    draft, outcome = smooth(bench, Draft(source.graph))
    assert outcome.after["logits"] >= outcome.before["logits"]
    assert set(outcome.gains) | set(outcome.undone) <= set(plan.nodes)
    bench.quantized(Draft(draft.graph, bench.ranges(draft.graph)))  # the plan fits the new graph


def test_prepared_again_a_smoothed_graph_is_the_same(planned, dataset, bench_of, run_graph):
    graph, plan = planned(PRE_NORM, weights())
    draft, _ = smooth(bench_of(graph, plan, dataset(tokens(8, seed=0))), Draft(graph))
    x = tokens(2, seed=3)
    (a,), (b,) = (run_graph(g, {"x": x}) for g in (draft.graph, prepare(draft.graph)))
    np.testing.assert_array_equal(a, b)
