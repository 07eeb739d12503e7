"""Every metric against NumPy and SciPy over all samples at once."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import rel_entr, softmax

from onnxq.errors import DataError, PlanError
from onnxq.judge.metrics import LABEL_FREE, Cosine, FunctionMetric, Kl, Mse, Sqnr, Top1, sums_of
from onnxq.numerics import sqnr_db


@pytest.fixture
def pairs(rng):
    """Three samples of an output [2, 5], float and quantized."""
    ref = rng.normal(size=(3, 2, 5)).astype(np.float32)
    return ref, ref + 0.1 * rng.normal(size=ref.shape).astype(np.float32)


def total(metric, ref, test):
    return np.sum([metric.sums(i, r, t) for i, (r, t) in enumerate(zip(ref, test, strict=True))], 0)


def read(metric, ref, test):
    return float(metric.score(total(metric, ref, test)))


def damage(metric, ref, test):
    return float(metric.damage(total(metric, ref, test), total(metric, ref, ref)))


def test_scores_are_those_of_all_samples_at_once(pairs):
    ref, test = pairs
    r, t = ref.astype(np.float64), test.astype(np.float64)
    # differences are rounded to float32 before they are squared: 1e-6
    assert read(Sqnr(), ref, test) == pytest.approx(sqnr_db(ref, test), rel=1e-6)
    assert read(Mse(), ref, test) == pytest.approx(((r - t) ** 2).mean(), rel=1e-6)
    cosine = (r * t).sum() / math.sqrt((r**2).sum() * (t**2).sum())
    assert read(Cosine(), ref, test) == pytest.approx(cosine, rel=1e-12)
    kl = rel_entr(softmax(r, -1), softmax(t, -1)).sum(-1).mean()
    assert read(Kl(), ref, test) == pytest.approx(kl, rel=1e-9)


def test_kl_takes_the_classes_of_a_map_along_its_channels(rng):
    ref, test = rng.normal(size=(2, 1, 1, 4, 3, 2)).astype(np.float32)
    p, q = (softmax(x.astype(np.float64), axis=2) for x in (ref, test))
    assert read(Kl(), ref, test) == pytest.approx(rel_entr(p, q).sum(axis=2).mean(), rel=1e-9)


@pytest.mark.parametrize("metric", [Sqnr(), Mse(), Cosine(), Kl()])
def test_equal_outputs_are_no_damage_and_noise_is_some(metric, pairs):
    ref, test = pairs
    assert damage(metric, ref, ref) == pytest.approx(0.0, abs=1e-15)
    assert damage(metric, ref, test) > damage(metric, ref, (ref + test) / 2) > 0


def test_outputs_of_zeros_have_scores():
    zero, one = np.zeros((1, 4), np.float32), np.ones((1, 4), np.float32)
    assert read(Sqnr(), zero, zero) == math.inf
    assert read(Sqnr(), zero, one) == -math.inf
    assert damage(Sqnr(), zero, one) == math.inf
    assert read(Cosine(), zero, zero) == 1.0
    assert read(Cosine(), zero, one) == 0.0


def test_top1_counts_rows_at_their_labels():
    logits = np.array([[[0, 1, 0]], [[2, 0, 1]], [[0, 0, 3]], [[1, 0, 0]]], np.float32)
    metric = Top1(tuple(np.array([[1], [0], [1], [0]])))
    assert read(metric, logits, logits) == 75.0
    assert damage(metric, logits, logits[[0, 0, 0, 0]]) == 75.0 - 50.0


def test_labels_that_do_not_fit_the_rows_are_refused():
    with pytest.raises(DataError, match=r"sample 0 has 1 labels and the output 2 rows"):
        Top1((np.array([1]),)).sums(0, np.zeros((2, 3)), np.zeros((2, 3)))


def test_a_function_gives_a_number_or_a_mapping_that_starts_with_one():
    assert FunctionMetric("m:f", lambda out: len(list(out))).evaluate([{}, {}])[0] == 2.0
    mapping = {"mAP": np.float32(5), "stderr": 0.5, "AP_car": 1}
    assert FunctionMetric("m:f", lambda out: mapping).evaluate([]) == (5.0, 0.5)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda out: math.nan, "returned nan; a ranking needs finite scores"),
        (lambda out: {}, "returned NoneType; return a number"),
        (lambda out: "good", "returned str; return a number"),
        (lambda out: 1 / 0, "failed: ZeroDivisionError: division by zero"),
    ],
)
def test_a_function_that_gives_no_number_is_named(function, message):
    with pytest.raises(PlanError, match=f"metric 'm:f' {message}"):
        FunctionMetric("m:f", function).evaluate([])


def test_where_lower_is_better_damage_is_above_the_float_score():
    metric = FunctionMetric("m:f", len, higher_is_better=False)
    assert metric.damage(np.array([3.0, 0]), np.array([1.0, 0])) == 2.0


@pytest.mark.parametrize("metric", [Sqnr(), Mse(), Cosine()])
def test_values_that_are_infinite_alike_are_left_out(pairs, metric):
    ref, test = (
        [np.insert(x, 2, value, -1) for x in side]
        for side, value in ((pairs[0], -np.inf), (pairs[1], -np.inf))
    )
    for r, t, plain in zip(ref, test, zip(*pairs, strict=True), strict=True):
        expected = metric.sums(0, *(x.reshape(-1) for x in plain))
        assert sums_of(metric, 0, r, t) == expected


def test_masked_classes_have_no_part_in_a_divergence(pairs):
    ref, test = ([np.insert(x, 2, -np.inf, -1) for x in side] for side in pairs)
    expected = read(Kl(), *pairs)
    # softmax over one class more, of probability 0: last bits of float64
    assert read(Kl(), ref, test) == pytest.approx(expected, rel=1e-12)


def test_a_value_that_one_side_alone_lacks_is_not_hidden(pairs):
    ref, test = pairs[0][0], pairs[1][0].copy()
    test[0, 0] = np.nan
    for metric in (Sqnr(), Mse(), Cosine(), Kl()):
        assert not np.isfinite(sums_of(metric, 0, ref, test)).all()


@pytest.mark.parametrize("metric", LABEL_FREE.values(), ids=LABEL_FREE)
def test_the_damage_of_a_label_free_metric_follows_from_its_score(metric, pairs):
    score = read(metric, *pairs)
    assert metric.lost(score) == pytest.approx(damage(metric, *pairs), rel=1e-12)  # log and back
