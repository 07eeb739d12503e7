"""Equalization gives neighbouring layers equal ranges, exactly, and keeps them where that helps."""

from __future__ import annotations

import numpy as np
import pytest

from onnxq.model.graph import node_by_name, to_proto
from onnxq.numerics import sqnr_db
from onnxq.recover.draft import Draft
from onnxq.recover.equalize import equalize, equalizing_scales, find_pairs
from onnxq.recover.groups import scaled
from onnxq.recover.linear import input_amax, output_amax

BODY = """(float[N,16,8,8] x) => (y) {
    [c1] a = Conv<pads = [1,1,1,1]>(x, w1, b1)  b = ACT(a)
    [dw] c = Conv<pads = [1,1,1,1], group = 32>(b, w2, b2)  d = ACT(c)
    [c2] e = Conv(d, w3, b3)  f = MaxPool<kernel_shape = [2, 2]>(e)  g = Relu(f)
    [c3] h = Conv(g, w4)  i = GlobalAveragePool(h)  y = Flatten(i)
}"""
RELU, LEAKY = BODY.replace("ACT", "Relu"), BODY.replace("ACT", "LeakyRelu<alpha = 0.1>")
CLIP = (
    BODY.replace("ACT(a)", "Clip(a, lo, hi)")
    .replace("ACT(c)", "Clip(c, lo, hi)")
    .replace("Relu(f)", "Clip(f, lo, hi)")
)


def weights(spread=3.0, seed=0):
    """Layers whose channels differ by up to e^(2 spread), as if badly trained."""
    rng = np.random.default_rng(seed)

    def uneven(*shape):
        return rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))

    s1, s2, s3 = (np.exp(rng.uniform(-spread, spread, (n, 1, 1, 1))) for n in (32, 32, 24))
    made = {
        "w1": uneven(32, 16, 3, 3) * s1,
        "b1": rng.standard_normal(32) * s1.ravel(),
        "w2": uneven(32, 1, 3, 3) * s2 / s1,
        "b2": rng.standard_normal(32) * s2.ravel(),
        "w3": uneven(24, 32, 1, 1) * s3 / s2.reshape(1, -1, 1, 1),
        "b3": rng.standard_normal(24) * s3.ravel(),
        "w4": uneven(16, 24, 3, 3) / s3.reshape(1, -1, 1, 1),
        "lo": np.array(0.0),
        "hi": np.array(6.0),
    }
    return {name: values.astype(np.float32) for name, values in made.items()}


def images(samples, seed=0):
    return np.random.default_rng(seed).standard_normal((samples, 16, 8, 8)).astype(np.float32)


def without_bounds(made):
    return {name: values for name, values in made.items() if name not in ("lo", "hi")}


@pytest.fixture
def uneven(planned):
    return planned(RELU, without_bounds(weights()))


@pytest.mark.parametrize("body", [RELU, LEAKY], ids=["Relu", "LeakyRelu"])
def test_uneven_channels_gain_and_the_float_graph_stays(
    body, planned, dataset, bench_of, run_graph
):
    graph, plan = planned(body, without_bounds(weights()))
    bench = bench_of(graph, plan, dataset(images(16)))
    draft, outcome = equalize(bench, Draft(graph))
    x = {"x": images(8, seed=5)}
    (ref,), (same,) = (run_graph(g, x) for g in (graph, draft.graph))
    assert np.abs(ref - same).max() < 1e-5 * np.abs(ref).max()  # float32 rounding
    found = []
    for g in (graph, draft.graph):
        (y,) = run_graph(bench.quantized(Draft(g, bench.ranges(g))), x)
        found.append(sqnr_db(ref, y))
    assert found[1] > found[0] + 10  # dB: small channels had 1 or 2 bits of 8
    assert outcome.after["y"] > outcome.before["y"] + 10
    assert any("c1 -> dw" in note for note in outcome.notes)


def test_both_sides_of_every_pair_get_the_same_ranges(uneven):
    graph, plan = uneven
    pairs = find_pairs(graph, plan)
    assert [str(p) for p in pairs] == ["c1 -> dw", "dw -> c2", "c2 -> c3"]
    scales = equalizing_scales(graph, pairs)
    after = scaled(graph, {p.group: s for p, s in zip(pairs, scales, strict=True)})
    nodes = node_by_name(after)
    for p in pairs:
        written, read = output_amax(nodes[p.writer]), input_amax(nodes[p.group.readers[0]])
        np.testing.assert_allclose(written[np.argsort(p.channels)], read, rtol=5e-3)  # 2 x STILL


def test_one_pair_takes_the_formula_of_the_paper(planned, rng):
    body = """(float[N,8,16] x) => (float[N,8,16] y) {
        [m1] a = MatMul(x, w1)  b = Relu(a)  [m2] y = MatMul(b, w2)}"""
    w1, w2 = (rng.standard_normal((16, 16)).astype(np.float32) for _ in range(2))
    graph, plan = planned(body, {"w1": w1, "w2": w2})
    (scale,) = equalizing_scales(graph, find_pairs(graph, plan))
    r1, r2 = np.abs(w1).max(axis=0), np.abs(w2).max(axis=1)
    np.testing.assert_allclose(scale, np.sqrt(r1 * r2) / r2, rtol=1e-6)


def test_a_dead_channel_is_left_as_it_is(planned, rng):
    body = """(float[N,8,16] x) => (float[N,8,16] y) {
        [m1] a = MatMul(x, w1)  b = Relu(a)  [m2] y = MatMul(b, w2)}"""
    w1, w2 = (rng.standard_normal((16, 16)).astype(np.float32) for _ in range(2))
    w1[:, 3] = 0
    w2[5] = 0
    graph, plan = planned(body, {"w1": w1, "w2": w2})
    (scale,) = equalizing_scales(graph, find_pairs(graph, plan))
    assert list(scale[[3, 5]]) == [1, 1]
    assert np.isfinite(scale).all()


def test_channels_that_change_places_are_followed(planned, rng, run_graph):
    body = """(float[N,16,4,4] x) => (y) {
        cut = Constant<value = int64[5] {0, 2, 8, 4, 4}>()
        join = Constant<value = int64[4] {0, 16, 4, 4}>()
        [c1] a = Conv(x, w1)  b = Reshape(a, cut)  c = Transpose<perm = [0, 2, 1, 3, 4]>(b)
        d = Reshape(c, join)  [c2] y = Conv(d, w2)}"""
    s = np.exp(rng.uniform(-3, 3, 16))
    w1 = (rng.standard_normal((16, 16, 1, 1)) * s[:, None, None, None]).astype(np.float32)
    w2 = rng.standard_normal((16, 16, 1, 1)).astype(np.float32)
    graph, plan = planned(body, {"w1": w1, "w2": w2})
    (pair,) = find_pairs(graph, plan)
    (scale,) = equalizing_scales(graph, [pair])
    nodes = node_by_name(scaled(graph, {pair.group: scale}))
    shuffled = output_amax(nodes["c1"]).reshape(2, 8).T.ravel()
    np.testing.assert_allclose(shuffled, input_amax(nodes["c2"]), rtol=1e-5)


def test_a_clip_is_left_alone(planned, dataset, bench_of):
    graph, plan = planned(CLIP, weights())
    before = Draft(graph)
    after, outcome = equalize(bench_of(graph, plan, dataset(images(8))), before)
    assert after is before
    assert outcome.notes


def test_a_layer_with_two_readers_is_left_alone(planned, rng):
    body = """(float[N,8,16] x) => (float[N,8,16] y, float[N,8,16] z) {
        [m1] a = MatMul(x, w1)  b = Relu(a)  [m2] y = MatMul(b, w2)  [m3] z = MatMul(b, w3)}"""
    made = {f"w{i}": rng.standard_normal((16, 16)).astype(np.float32) for i in (1, 2, 3)}
    assert find_pairs(*planned(body, made)) == []


def test_where_it_hurts_the_draft_comes_back(planned, activations_alone, dataset, bench_of, rng):
    # Activations of one size, and weights that are not quantized: nothing is to be gained, and the
    # larger the weights of one channel the more it takes from the others.
    body = """(float[N,8,16] x) => (float[N,8,16] y) {
        [m1] a = MatMul(x, w1)  b = Relu(a)  [m2] y = MatMul(b, w2)}"""
    w1, w2 = (rng.standard_normal((16, 16)).astype(np.float32) for _ in range(2))
    w2[4] *= 30
    graph, _ = planned(body, {"w1": w1, "w2": w2})
    before = Draft(graph)
    x = rng.standard_normal((16, 8, 16)).astype(np.float32)
    after, outcome = equalize(bench_of(graph, activations_alone(graph), dataset(x)), before)
    assert after is before
    assert list(outcome.undone) == ["m1 -> m2"]
    assert outcome.before == outcome.after


def test_the_pair_that_hurts_goes_and_the_one_that_helps_stays(
    planned, activations_alone, dataset, bench_of, rng
):
    body = """(float[N,8,16] x) => (float[N,8,16] y) {
        [m1] a = MatMul(x, w1)  b = Relu(a)  [m2] c = MatMul(b, w2)  d = Tanh(c)
        [m3] e = MatMul(d, w3)  f = Relu(e)  [m4] y = MatMul(f, w4)}"""
    made = {f"w{i}": np.sign(rng.standard_normal((16, 16))) for i in (1, 2, 3, 4)}
    uneven = np.exp(rng.uniform(-3, 3, 16))
    made["w1"] = made["w1"] * uneven
    made["w2"] = made["w2"] / uneven[:, None]
    made["w4"][4] *= 4
    graph, _ = planned(body, {name: values.astype(np.float32) for name, values in made.items()})
    x = rng.standard_normal((16, 8, 16)).astype(np.float32)
    bench = bench_of(graph, activations_alone(graph), dataset(x))
    draft, outcome = equalize(bench, Draft(graph))
    assert list(outcome.undone) == ["m3 -> m4"]
    assert outcome.notes == ("m1 -> m2 are equalized",)
    nodes = node_by_name(draft.graph)
    np.testing.assert_array_equal(nodes["m4"].inputs[1].values, made["w4"].astype(np.float32))


def test_the_order_of_the_samples_does_not_matter(uneven, drafts_by_order):
    one, other = drafts_by_order(equalize, *uneven, images(16))
    assert one == other


def test_the_graph_of_the_draft_is_not_changed(uneven, dataset, bench_of):
    graph, plan = uneven
    before = to_proto(graph).SerializeToString(deterministic=True)
    equalize(bench_of(graph, plan, dataset(images(8))), Draft(graph))
    assert to_proto(graph).SerializeToString(deterministic=True) == before
