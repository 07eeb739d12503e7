"""Correction brings a quantized network closer to its float model, or leaves it as it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onnxq.numerics import sqnr_db
from onnxq.recover import bias
from onnxq.recover.bias import corrections
from onnxq.recover.keeping import LOWERS
from onnxq.recover.shifts import LEAST_SLOPE, NO_EFFECT, confirmed, solve
from onnxq.recover.sites import shift_biases
from onnxq.run.replay import with_float_weights

LOST = 0.4 / 127  # rounds to zero beside a weight of 1


def lossy(taps, seed=0):
    """Depthwise weights with one large tap; rounding takes part of the others away."""
    w = np.full((16, 1, taps, taps), LOST, np.float32)
    w[:, :, taps // 2, taps // 2] = 1
    return w * np.random.default_rng(seed).uniform(0.5, 1.5, (16, 1, 1, 1)).astype(np.float32)


DEPTHWISE = """(float[N,16,12,12] x) => (float[N,16,12,12] y) {
  a = Conv<group = 16, pads = [2,2,2,2]>(x, w1)
  b = Relu(a)
  c = Conv<group = 16, pads = [2,2,2,2]>(b, w2, b2)
  d = Sigmoid(c)
  e = Mul(c, d)
  y = Conv<group = 16, pads = [2,2,2,2]>(e, w3)
}"""


@pytest.fixture
def depthwise(planned):
    return planned(
        DEPTHWISE,
        {
            "w1": lossy(5),
            "w2": lossy(5, seed=1),
            "w3": lossy(5, seed=2),
            "b2": np.random.default_rng(3).standard_normal(16).astype(np.float32),
        },
    )


def inputs(samples, seed=0):
    return np.random.default_rng(seed).uniform(0, 1, (samples, 16, 12, 12)).astype(np.float32)


def corrected(graph, shifts):
    copy = graph.copy()
    shift_biases(copy, shifts)
    return copy


@pytest.fixture
def correct_biases(bench_of):
    """The shifts of a Q/DQ graph's biases, and what they bring."""

    def make(graph, int8, plan, data, workers=2):
        bench = replace(bench_of(graph, plan, data), workers=workers)
        return corrections(bench, graph, with_float_weights(int8))

    return make


def nodes_of(shifts):
    return {site.node for site in shifts}


def test_a_depthwise_network_gains_on_samples_it_was_not_fitted_to(
    depthwise, dataset, quantized, run_graph, correct_biases
):
    graph, plan = depthwise
    data = dataset(inputs(16))
    int8 = quantized(graph, plan, data)
    shifts, found = correct_biases(graph, int8, plan, data)
    assert len(shifts) == 3
    assert not found.undone
    fresh = {"x": inputs(4, seed=9)}
    (ref,), (plain,) = run_graph(graph, fresh), run_graph(int8, fresh)
    (better,) = run_graph(corrected(int8, shifts), fresh)
    # rounding loses about 24 * 0.4 / 127 = 7.6 % of the sums, nearly all of it a constant shift
    assert sqnr_db(ref, better) > sqnr_db(ref, plain) + 6
    assert found.after["y"] > found.before["y"] + 6
    gap = (better - ref).mean(axis=(0, 2, 3))
    # what is left of the shift: within the scatter of the channel means of a few samples
    assert np.abs(gap).max() < 0.2 * np.abs((plain - ref).mean(axis=(0, 2, 3))).max()


def test_a_half_network_of_the_same_shifts_is_a_value(
    depthwise, dataset, quantized, correct_biases
):
    graph, plan = depthwise
    data = dataset(inputs(8))
    int8 = quantized(graph, plan, data)
    before = {name: t.values.copy() for name, t in int8.tensors().items() if hasattr(t, "values")}
    shifts, found = correct_biases(graph, int8, plan, data)
    after = {name: t.values for name, t in int8.tensors().items() if hasattr(t, "values")}
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert all(s.dtype == np.float32 and s.shape == (16,) for s in shifts.values())
    assert found.as_dict()["sqnr_db"]["y"]["after"] == round(found.after["y"], 3)


def test_nothing_is_shifted_where_quantization_is_exact(
    planned, dataset, quantized, correct_biases
):
    rng = np.random.default_rng(0)
    w = rng.integers(-127, 128, (16, 16, 3, 3)).astype(np.float32)
    w[:, 0, 0, 0] = 127
    x = rng.integers(-127, 128, (8, 16, 6, 6)).astype(np.float32)
    x[:, 0, 0, 0] = 127
    graph, plan = planned(
        "(float[N,16,6,6] x) => (float[N,16,4,4] y) {[op] t = Conv(x, w) y = Relu(t)}", {"w": w}
    )
    data = dataset(x)
    shifts, found = correct_biases(graph, quantized(graph, plan, data), plan, data)
    assert shifts == {}
    assert found.undone == {"op": NO_EFFECT}
    assert found.before == found.after


def test_a_shift_that_hurts_the_output_is_undone(planned, dataset, quantized, correct_biases):
    """The output reads one position, where the lost weights meet a sum near zero."""
    w = np.full((16, 16, 3, 3), LOST, np.float32)
    w[range(16), range(16), 1, 1] = 1
    graph, plan = planned(
        "(float[N,16,9,9] x) => (float[N,16,1,1] y) <int64[2] a = {0,0}, int64[2] e = {1,1}, "
        "int64[2] axes = {2,3}> {[op] t = Conv(x, w) y = Slice(t, a, e, axes)}",
        {"w": w},
    )
    x = np.random.default_rng(0).uniform(0, 1, (16, 16, 9, 9)).astype(np.float32)
    x[:, 1::2, :3, :3] = -x[:, ::2, :3, :3]
    data = dataset(x)
    shifts, found = correct_biases(graph, quantized(graph, plan, data), plan, data)
    assert shifts == {}
    assert found.gains == {}
    assert found.undone == {"op": f"{LOWERS}: 'y'"}
    assert found.notes == ("given up after 4 of 8 judging samples",)
    assert found.before == found.after


def test_a_head_whose_shift_hurts_does_not_cost_the_other_head_its_own(
    planned, dataset, quantized, correct_biases
):
    """The judged position of `c` is the one above; `b` reads all, and gains."""
    w = np.full((16, 16, 3, 3), LOST, np.float32)
    w[range(16), range(16), 1, 1] = 1
    graph, plan = planned(
        "(float[N,16,9,9] x) => (float[N,16,7,7] b, float[N,16,1,1] c) <int64[2] a = {0,0}, "
        "int64[2] e = {1,1}, int64[2] axes = {2,3}> {[boxes] b = Conv(x, w) "
        "[classes] t = Conv(x, v) c = Slice(t, a, e, axes)}",
        {"w": w, "v": w.copy()},
    )
    x = np.random.default_rng(0).uniform(0, 1, (16, 16, 9, 9)).astype(np.float32)
    x[:, 1::2, :3, :3] = -x[:, ::2, :3, :3]
    data = dataset(x)
    shifts, found = correct_biases(graph, quantized(graph, plan, data), plan, data)
    assert nodes_of(shifts) == {"boxes"}
    assert found.undone == {"classes": f"{LOWERS}: 'c'"}
    assert found.after["b"] > found.before["b"] + 3
    assert found.after["c"] == found.before["c"]


def test_the_shifts_do_not_depend_on_the_order_of_samples_or_on_workers(
    depthwise, dataset, quantized, correct_biases
):
    graph, plan = depthwise
    x = inputs(12)
    int8 = quantized(graph, plan, dataset(x))
    one, said = correct_biases(graph, int8, plan, dataset(x), workers=1)
    other, said_too = correct_biases(graph, int8, plan, dataset(x[::-1].copy()), workers=3)
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[n], other[n]) for n in one)
    assert said.as_dict() == said_too.as_dict()


def test_with_little_memory_fewer_samples_still_correct(
    depthwise, dataset, quantized, monkeypatch, correct_biases
):
    graph, plan = depthwise
    data = dataset(inputs(16))
    int8 = quantized(graph, plan, data)
    monkeypatch.setattr(bias, "KEPT_BYTES", 1)
    _, found = correct_biases(graph, int8, plan, data)
    assert found.after["y"] > found.before["y"] + 6


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_a_single_sample_is_enough_to_run(depthwise, dataset, quantized, samples, correct_biases):
    graph, plan = depthwise
    data = dataset(inputs(samples))
    _, found = correct_biases(graph, quantized(graph, plan, data), plan, data)
    assert found.after["y"] >= found.before["y"]


def test_a_model_without_anything_to_correct_has_no_corrections(planned, dataset, correct_biases):
    graph, plan = planned("(float[1,16] x) => (float[1,16] y) {y = Relu(x)}")
    shifts, found = correct_biases(graph, graph, plan, dataset(np.ones((4, 16), np.float32)))
    assert (found.undone, shifts) == ({}, {})


def test_solving_divides_by_the_share_of_active_positions():
    gap = np.full((4, 2), 0.5)
    moved = np.array([[0.25, 0.5]] * 4)  # half of channel 0 is active, all of channel 1
    np.testing.assert_array_equal(solve(gap, moved), [1.0, 0.5])


def test_a_dead_channel_is_not_shifted_beyond_bounds():
    gap = np.full((4, 1), 0.5)
    np.testing.assert_array_equal(solve(gap, np.zeros((4, 1))), [0.5 / LEAST_SLOPE])


def test_a_gap_that_scatters_over_the_samples_is_hardly_made_up_for():
    rng = np.random.default_rng(0)
    gaps = rng.standard_normal((24, 1000))
    shift = solve(gaps, None)
    # the factor power / (power + variance) leaves 0.46 of the power of gaps that are pure scatter
    assert (shift**2).mean() < 0.5 * (gaps.mean(axis=0) ** 2).mean()
    assert solve(np.full((1, 3), 0.5), None) == pytest.approx([0.5] * 3)


def test_of_a_shift_as_much_is_made_as_other_samples_confirm():
    gap, moved = np.array([[3.0, 0.0], [1.0, 0.0]]), np.array([[2.0, 2.0]] * 2)
    assert confirmed(gap, moved) == (0.5, pytest.approx(10 * np.log10(4 / 2)))
    assert confirmed(gap, -moved) == (0.0, 0.0)
    assert confirmed(gap, 0 * moved) == (0.0, 0.0)
    assert confirmed(gap, 0.1 * gap)[0] == 1.0  # no more than was fitted
    assert confirmed(gap, gap) == (1.0, 200.0)
