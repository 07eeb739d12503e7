"""The expected error: an integral, checked against the error of the raw values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxq.calib.histogram import EMPTY, Histogram, histogram_of
from onnxq.calib.quant_error import (
    clipping_error,
    expected_error,
    expected_sqnr,
    levels,
    mean_square,
    sat_ratio,
)
from onnxq.errors import OnnxqError
from onnxq.numerics import fake_quant, sqnr_db
from onnxq.spec import QuantSpec

INT8 = QuantSpec()
X = np.random.default_rng(1).normal(size=200_000).astype(np.float32)


@pytest.mark.parametrize("dtype", ["int8", "int4", "int16"])
@pytest.mark.parametrize("amax", [5.0, 3.0, 1.0, 0.1])
def test_the_expected_error_is_that_of_the_raw_values(amax, dtype):
    spec = QuantSpec(dtype)
    true = float(((X.astype(np.float64) - fake_quant(X, amax, spec)) ** 2).mean())
    # 200,000 values sample the error to about 1 / sqrt(200,000) = 0.2%
    assert expected_error(histogram_of(X), amax, spec) == pytest.approx(true, rel=0.01)


def test_the_expected_error_of_fp8_is_that_of_casting_the_raw_values():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    spec, amax = QuantSpec("fp8"), 4.0
    scale = np.float32(amax / 448)
    cast = np.clip(X / scale, -448, 448).astype(ml_dtypes.float8_e4m3fn).astype(np.float32) * scale
    true = float(((X.astype(np.float64) - cast) ** 2).mean())
    assert expected_error(histogram_of(X), amax, spec) == pytest.approx(true, rel=0.01)  # sampling


def test_the_levels_of_fp8_are_all_its_finite_magnitudes():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    codes = np.arange(127, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn)
    np.testing.assert_array_equal(levels("fp8", 448)[0], codes.astype(np.float64))


@given(st.floats(0.01, 10), st.integers(0, 0x7F7F >> 1))
def test_one_bin_costs_the_mean_over_its_extent(amax, number):
    number = 0x3F80 - 1200 + number % 2000
    low, high = ((np.uint32([number, number + 1]) << 16).view(np.float32)).astype(np.float64)
    one = Histogram(np.uint16([number]), np.int64([7]), float(low), float(high))
    values = low + (high - low) * (np.arange(20_000) + 0.5) / 20_000
    scale = float(np.float32(amax / 127))
    error = values - np.clip(np.rint(values / scale), -128, 127) * scale
    # the midpoint rule over 20,000 points, and float64 cancellation of size 1e-16 x value^2
    assert expected_error(one, amax, INT8) == pytest.approx(
        float((error**2).mean()), rel=1e-3, abs=1e-13 * max(high, scale) ** 2
    )


def test_the_negative_side_has_one_step_more():
    one_step_over = np.float32([128.0] * 10)
    assert expected_error(histogram_of(one_step_over), 127.0, INT8) == pytest.approx(1)
    assert expected_error(histogram_of(-one_step_over), 127.0, INT8) == pytest.approx(0)


def test_zeros_cost_nothing_and_nothing_costs_nothing():
    assert expected_error(histogram_of(np.zeros(5)), 1.0, INT8) == 0
    assert expected_error(EMPTY, 1.0, INT8) == sat_ratio(EMPTY, 1.0) == mean_square(EMPTY) == 0


@pytest.mark.parametrize("amax", [0.0, 0.5, 2.0, 3.3, 10.0])
def test_clipping_error_and_ratio_are_those_of_the_raw_values_to_a_bin(amax):
    over = np.abs(X.astype(np.float64)) - amax
    h = histogram_of(X)
    # values of one bin, 1/128 octave wide, are taken as evenly spread
    true = float((np.maximum(over, 0) ** 2).mean())
    assert clipping_error(h, amax) == pytest.approx(true, rel=5e-3)
    assert sat_ratio(h, amax) == pytest.approx(float((over > 0).mean()), abs=1e-4)
    assert clipping_error(h, amax * 128 / 127) <= expected_error(h, amax, INT8) or amax == 0


def test_nothing_is_over_the_exact_maximum():
    h = histogram_of(X)
    assert sat_ratio(h, h.amax) == clipping_error(h, h.amax) == 0
    assert sat_ratio(histogram_of([3.0, 3.0, 1.0, 0.0]), 2.0) == 0.5


def test_the_expected_sqnr_is_that_of_the_raw_values():
    expected = sqnr_db(X, fake_quant(X, 3.9, INT8))
    assert expected_sqnr(histogram_of(X), 3.9, INT8) == pytest.approx(expected, abs=0.05)  # 1%
    assert expected_sqnr(histogram_of(np.zeros(3)), 1.0, INT8) == float("inf")


@pytest.mark.parametrize("amax", [-1.0, float("nan"), float("inf")])
def test_a_range_that_is_none_is_refused(amax):
    with pytest.raises(OnnxqError, match="finite and not negative"):
        expected_error(histogram_of(X), amax, INT8)
