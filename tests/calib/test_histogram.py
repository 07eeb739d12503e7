"""Histograms by the upper half of the float: exact, mergeable, the same compiled or not."""

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnxq.calib import histogram as hist
from onnxq.calib.histogram import Accumulator, count_numpy, histogram_of, merge
from onnxq.errors import DataError, OnnxqError

ANY_FLOATS = hnp.arrays(np.float32, st.integers(0, 60), elements=st.floats(width=32))
FLOATS = hnp.arrays(np.float32, st.integers(0, 60), elements=st.floats(width=32, allow_nan=False))
needs_compiled = pytest.mark.skipif(not hist.HAVE_COMPILED, reason="_binning is not built")


def count_in_numpy(x):
    counts, minmax = np.zeros(hist.BINS, np.int64), np.float32([np.inf, -np.inf])
    count_numpy(counts, minmax, x)
    return counts, minmax


def count_compiled(x):
    tables, minmax = hist._zero_pages(), np.float32([np.inf, -np.inf])
    hist._binning.count(tables, minmax, x)
    return hist._table_counts(tables), minmax


@needs_compiled
@given(ANY_FLOATS)
def test_the_compiled_loop_and_numpy_agree_on_every_bit_pattern(x):
    compiled, numpy = count_compiled(x), count_in_numpy(x)
    np.testing.assert_array_equal(compiled[0], numpy[0])
    np.testing.assert_array_equal(compiled[1] + 0.0, numpy[1] + 0.0)  # -0.0 and 0.0 are equal


@needs_compiled
@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 100_003])
def test_the_compiled_loop_and_numpy_agree_on_rectified_noise_of_any_length(size):
    x = np.maximum(np.random.default_rng(size).normal(size=size), 0).astype(np.float32)
    compiled, numpy = count_compiled(x), count_in_numpy(x)
    np.testing.assert_array_equal(compiled[0], numpy[0])
    np.testing.assert_array_equal(compiled[1], numpy[1])
    assert compiled[0].sum() == size


@needs_compiled
def test_the_compiled_loop_refuses_buffers_of_the_wrong_size():
    bounds = np.zeros(2, np.float32)
    with pytest.raises(ValueError, match="65552"):
        hist._binning.count(np.zeros(4, np.int64), bounds, np.zeros(8, np.float32))


@given(FLOATS)
def test_counts_and_bounds_are_exact(x):
    h = histogram_of(x)
    assert h.count == x.size
    assert (h.min, h.max) == (x.min(initial=np.inf), x.max(initial=-np.inf))
    assert h.nonfinite == np.isinf(x).sum()


@given(FLOATS)
def test_bins_run_in_the_order_of_the_values(x):
    h = histogram_of(x)
    start = (h.bins.astype(np.uint32) << 16).view(np.float32)
    assert (np.diff(start) > 0).all()
    assert (h.counts > 0).all()


@given(FLOATS, FLOATS, FLOATS)
def test_merging_is_exact_associative_and_commutative(x, y, z):
    a, b, c = (histogram_of(v) for v in (x, y, z))
    whole = histogram_of(np.concatenate([x, y, z]))
    assert merge(merge(a, b), c) == merge(a, merge(b, c)) == merge(c, b, a) == whole
    assert merge(a, hist.EMPTY) == a


@given(FLOATS, st.randoms(use_true_random=False), st.integers(0, 60))
def test_order_and_split_make_no_difference(x, random, at):
    shuffled = x.copy()
    random.shuffle(shuffled)
    assert histogram_of(shuffled[:at], shuffled[at:]) == histogram_of(x)


@given(FLOATS)
def test_values_lie_in_their_bins_by_magnitude(x):
    x = x[np.isfinite(x)]
    bins = histogram_of(x).magnitude()
    magnitude = np.sort(np.abs(x)).astype(np.float64)
    magnitude[magnitude < 2.0**-133] = 0  # these count as zero
    low = np.repeat(bins.low, bins.counts)
    high = np.repeat(bins.high, bins.counts)
    assert ((low <= magnitude) & (magnitude <= high)).all()
    assert (bins.high - bins.low <= np.maximum(bins.low / 128, 2.0**-133)).all()


@given(FLOATS)
def test_the_signed_halves_add_up_to_the_magnitude(x):
    h = histogram_of(x[np.isfinite(x)])
    halves = h.negative().counts.sum() + h.nonnegative().counts.sum()
    assert halves == h.magnitude().counts.sum() == h.count


def test_negative_zero_is_zero():
    assert histogram_of(np.float32([-0.0, 0.0])) == histogram_of(np.float32([0.0, 0.0]))
    assert histogram_of(np.float32([-0.0])).zeros == 1
    assert str(histogram_of(np.float32([-0.0])).min) == "0.0"


@pytest.mark.parametrize(
    "dtype", [np.float16, ml_dtypes.bfloat16, np.float64, np.int8, np.int64, np.bool_]
)
def test_other_dtypes_count_as_float32(dtype):
    x = np.array([0, 1, 1, 0, 1]).astype(dtype)
    assert histogram_of(x) == histogram_of(x.astype(np.float32))


def test_a_float64_beyond_float32_counts_as_infinite():
    assert histogram_of(np.array([1e300, 1.0])).nonfinite == 1


def test_strided_views_are_counted_like_their_copies():
    x = np.random.default_rng(0).normal(size=(6, 8, 10)).astype(np.float32)
    view = x.transpose(2, 0, 1)[:, ::2]
    assert histogram_of(view) == histogram_of(view.copy())


def test_infinities_and_nan_are_counted_apart_and_refused_when_read():
    h = histogram_of(np.float32([1, np.nan, np.inf, -np.inf, 2]))
    assert h.nonfinite == 3
    with pytest.raises(OnnxqError, match="3 of 5 values are infinite or NaN"):
        h.magnitude()


def test_an_accumulator_goes_on_after_it_was_read():
    a = Accumulator()
    a.observe(np.float32([1, 2]))
    first = a.histogram()
    a.observe(np.float32([-3, 0]))
    assert first == histogram_of(np.float32([1, 2]))
    assert a.histogram() == histogram_of(np.float32([1, 2, -3, 0]))
    assert (a.histogram().amax, a.histogram().zeros) == (3.0, 1)


@needs_compiled
def test_more_values_than_the_compiled_counters_hold_are_counted_all(monkeypatch):
    monkeypatch.setattr(hist, "ROOM", 1000)  # in place of 2**32 - 1
    x = np.random.default_rng(0).normal(size=(3, 1700)).astype(np.float32)
    a = Accumulator()
    for part in (x[0, :800], x[0, 800:], x[1], x[2]):
        a.observe(part)
    assert a.histogram() == histogram_of(*x)
    assert a.histogram().count == x.size


def test_nothing_counted_is_empty():
    h = histogram_of(np.zeros((0, 3), np.float32))
    assert (h.count, h.amax, h.nonfinite) == (0, 0.0, 0)
    assert h == hist.EMPTY
    assert h.magnitude().counts.size == 0


def test_more_values_than_can_be_counted_are_refused_not_wrapped():
    one = histogram_of(np.ones(1, np.float32))
    most = replace(one, counts=np.array([2**62], np.int64))
    with pytest.raises(DataError, match=r"2\^62 values of a tensor or more"):
        merge(most, one)
