"""What quantization with a given range costs, read off a histogram.

For symmetric quantization with step s = amax / qmax and levels v_0 = 0 < v_1 < ... < v_L (in
steps), x falls on the nearest level, or on v_L beyond it. With u = |x| / s and k the level of u,

    integral of (error / s)^2 from 0 to u  =  C_k + (u - v_k)^3 / 3,
    C_k = sum of (v_j - v_{j-1})^3 / 12 over j <= k         (k / 12 for integers)

so the mean squared error of a bin [low, high] is exact for values spread evenly in it, however
many levels it spans: no center is sampled. Zeros cost nothing. The grid of uint8 is the same with
zero_point levels below zero and 255 - zero_point above.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from onnxq.arrays import Array
from onnxq.calib.histogram import Float64, Histogram, Int64, Magnitude
from onnxq.numerics import Limit, grid_of, magnitude_of, scale_of
from onnxq.spec import QuantSpec


def limit_of(histogram: Histogram, amax: float, spec: QuantSpec) -> Limit:
    """`amax` as a range for `spec`: an asymmetric one reaches no further than the values do."""
    if not spec.asymmetric:
        return amax
    return max(min(histogram.min, 0.0), -amax), min(max(histogram.max, 0.0), amax)


def expected_error(histogram: Histogram, limit: Limit, spec: QuantSpec) -> float:
    """Mean squared error of quantizing the counted values with range `limit`; 0 for no values.

    Raises OnnxqError for a range or counts that are not finite.
    """
    if spec.asymmetric:
        return float(affine_errors(histogram, [limit], spec)[0])
    return float(expected_errors(histogram, np.array([magnitude_of(limit)]), spec)[0])


def affine_errors(histogram: Histogram, limits: Sequence[Limit], spec: QuantSpec) -> Float64:
    """`expected_error` for each of `limits`, for an asymmetric spec: float64, as many as they."""
    return Bins.of(histogram).affine_errors(limits, spec)


def expected_errors(histogram: Histogram, amax: Float64, spec: QuantSpec) -> Float64:
    """`expected_error` for each of several ranges: float64, as long as the 1-D `amax`."""
    return Bins.of(histogram).errors(amax, spec)


def clipping_error(histogram: Histogram, amax: float) -> float:
    """Mean squared distance by which |x| passes `amax`; 0 for no values."""
    return Bins.of(histogram).clipping_error(amax)


def sat_ratio(histogram: Histogram, limit: Limit) -> float:
    """Share of values with |x| > amax, or outside (low, high); linear inside a bin.

    0 for no values.
    """
    if not isinstance(limit, tuple):
        return _beyond(Bins.of(histogram).magnitude, limit) / max(histogram.count, 1)
    low, high = limit
    outside = _beyond(histogram.negative(), -low) + _beyond(histogram.nonnegative(), high)
    return outside / max(histogram.count, 1)


def _beyond(bins: Magnitude, amax: float) -> float:
    """How many values pass `amax`."""
    width = bins.high - bins.low
    share = np.where(
        width > 0,
        np.clip((bins.high - amax) / np.where(width > 0, width, 1), 0, 1),
        bins.high > amax,
    )
    return float(share @ bins.counts)


def mean_square(histogram: Histogram) -> float:
    """Mean of x^2, values spread evenly in their bins; 0 for no values."""
    bins = Bins.of(histogram).magnitude
    mean = (bins.low**2 + bins.low * bins.high + bins.high**2) / 3
    return float(mean @ bins.counts) / max(histogram.count, 1)


def expected_sqnr(histogram: Histogram, limit: Limit, spec: QuantSpec) -> float:
    """10 log10(mean square / expected error) in dB; inf where nothing is lost."""
    noise = expected_error(histogram, limit, spec)
    signal = mean_square(histogram)
    return 10 * float(np.log10(signal / noise)) if noise and signal else float("inf")


@lru_cache
def levels(dtype: str, limit: float) -> tuple[Float64, Float64] | int:
    """Magnitudes a dtype holds up to `limit`, in steps: the count for integers (0, 1, .. limit),
    for FP8 E4M3 the values and the sums C_k of the module's formula."""
    if dtype != "fp8":
        return int(limit)
    exponent, mantissa = np.divmod(np.arange(127), 8)
    values = np.ldexp(np.where(exponent, 8 + mantissa, mantissa), np.maximum(exponent, 1) - 10)
    return values, np.concatenate([[0.0], np.cumsum(np.diff(values) ** 3 / 12)])


@dataclass(frozen=True)
class _Ends:
    """Bins by their ends: `edges` has each once where two bins meet, `edges[low[i]]` is the low
    end of bin i and `edges[high[i]]` its high end. points: bins of no width."""

    edges: Float64
    low: Int64 | slice
    high: Int64 | slice
    width: Float64
    counts: Float64
    points: Int64
    ends_of_points: Int64

    @staticmethod
    def of(bins: Magnitude) -> _Ends:
        width, counts = bins.high - bins.low, bins.counts.astype(np.float64)
        (points,) = np.nonzero(width <= 0)
        if not counts.size:
            return _Ends(np.zeros(1), slice(0), slice(0), width, counts, points, points)
        apart = np.concatenate([[0], np.cumsum(bins.low[1:] != bins.high[:-1])])
        low = np.arange(counts.size) + apart
        edges = np.empty(int(low[-1]) + 2)
        edges[low], edges[low + 1] = bins.low, bins.high
        if not apart[-1]:  # no gaps: views in place of copies
            return _Ends(edges, slice(-1), slice(1, None), width, counts, points, low[points])
        return _Ends(edges, low, low + 1, width, counts, points, low[points])


def _squared_error(bins: _Ends, step: Float64, grid: tuple[Float64, Float64] | int) -> Float64:
    """Summed squared error of all values for each step (1-D)."""
    total = np.empty(step.shape)
    for i, s in enumerate(step.tolist()):  # a row at a time stays in cache
        error, integral = _integral(bins.edges / s, grid)
        width = bins.width / s
        width[bins.points] = 1.0
        mean = (integral[bins.high] - integral[bins.low]) / width
        mean[bins.points] = error[bins.ends_of_points]
        total[i] = mean @ bins.counts * s * s
    return total


def _integral(u: Float64, grid: tuple[Float64, Float64] | int) -> tuple[Array, Array]:
    """Squared error at u, and its integral from 0 to u, both in steps."""
    if isinstance(grid, int):
        level = np.minimum(np.rint(u), grid)
        before = level / 12
    else:
        values, sums = grid
        k = np.searchsorted((values[1:] + values[:-1]) / 2, u)
        level, before = values[k], sums[k]
    off = u - level
    square = off * off
    return square, before + square * off / 3


@dataclass(frozen=True)
class Bins:
    """A histogram's bins in the forms that errors are read off, for many ranges in turn."""

    histogram: Histogram
    magnitude: Magnitude
    above: _Ends
    below: _Ends

    @staticmethod
    @lru_cache(2)  # a method looks at a histogram many times, then its range is judged
    def of(histogram: Histogram) -> Bins:
        """The bins; raises OnnxqError where a value was not finite."""
        above, below = _Ends.of(histogram.nonnegative()), _Ends.of(histogram.negative())
        return Bins(histogram, histogram.magnitude(), above, below)

    def errors(self, amax: Float64, spec: QuantSpec) -> Float64:
        """As `expected_errors`."""
        if spec.asymmetric:
            limits = [limit_of(self.histogram, a, spec) for a in amax.tolist()]
            return self.affine_errors(limits, spec)
        step = scale_of(amax, spec).astype(np.float64)
        total = np.zeros(step.shape)
        for bins, limit in ((self.above, spec.row.qmax), (self.below, -spec.row.qmin)):
            if bins.counts.size:
                total += _squared_error(bins, step, levels(spec.row.name, limit))
        return total / max(self.histogram.count, 1)

    def affine_errors(self, limits: Sequence[Limit], spec: QuantSpec) -> Float64:
        """As `affine_errors`."""
        found = []
        for limit in limits:
            scale, zero_point = grid_of(limit, spec)
            step = np.array([float(scale)])
            total = _squared_error(self.above, step, int(spec.row.qmax) - zero_point)
            found.append(total[0] + _squared_error(self.below, step, zero_point)[0])
        return np.array(found) / max(self.histogram.count, 1)

    def clipping_error(self, amax: float) -> float:
        """As `clipping_error`."""
        bins = self.magnitude
        below, above = np.maximum(bins.low - amax, 0), np.maximum(bins.high - amax, 0)
        width = bins.high - bins.low
        spread = (above**3 - below**3) / np.where(width > 0, 3 * width, 1)
        mean = np.where(width > 0, spread, above**2)
        return float(mean @ bins.counts) / max(self.histogram.count, 1)
