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
    above, below = _ends(histogram.nonnegative()), _ends(histogram.negative())
    found = []
    for limit in limits:
        scale, zero_point = grid_of(limit, spec)
        step = np.array([float(scale)])
        total = _squared_error(above, step, int(spec.row.qmax) - zero_point)
        found.append(total[0] + _squared_error(below, step, zero_point)[0])
    return np.array(found) / max(histogram.count, 1)


def expected_errors(histogram: Histogram, amax: Float64, spec: QuantSpec) -> Float64:
    """`expected_error` for each of several ranges: float64, as long as the 1-D `amax`."""
    if spec.asymmetric:
        return affine_errors(histogram, [limit_of(histogram, a, spec) for a in amax.tolist()], spec)
    step = scale_of(amax, spec).astype(np.float64)
    total = np.zeros(step.shape)
    sides = (histogram.nonnegative(), spec.row.qmax), (histogram.negative(), -spec.row.qmin)
    for bins, limit in sides:
        if bins.counts.size:
            total += _squared_error(_ends(bins), step, levels(spec.row.name, limit))
    return total / max(histogram.count, 1)


def clipping_error(histogram: Histogram, amax: float) -> float:
    """Mean squared distance by which |x| passes `amax`; 0 for no values."""
    bins = histogram.magnitude()
    below, above = np.maximum(bins.low - amax, 0), np.maximum(bins.high - amax, 0)
    width = bins.high - bins.low
    spread = (above**3 - below**3) / np.where(width > 0, 3 * width, 1)
    mean = np.where(width > 0, spread, above**2)
    return float(mean @ bins.counts) / max(histogram.count, 1)


def sat_ratio(histogram: Histogram, limit: Limit) -> float:
    """Share of values with |x| > amax, or outside (low, high); linear inside a bin.

    0 for no values.
    """
    if not isinstance(limit, tuple):
        return _beyond(histogram.magnitude(), limit) / max(histogram.count, 1)
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
    bins = histogram.magnitude()
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
    end of bin i and the next one its high end."""

    edges: Float64
    low: Int64
    width: Float64
    counts: Float64


def _ends(bins: Magnitude) -> _Ends:
    width, counts = bins.high - bins.low, bins.counts.astype(np.float64)
    if not counts.size:
        return _Ends(np.zeros(1), np.zeros(0, np.int64), width, counts)
    apart = np.concatenate([[0], np.cumsum(bins.low[1:] != bins.high[:-1])])
    low = np.arange(counts.size) + apart
    edges = np.empty(int(low[-1]) + 2)
    edges[low], edges[low + 1] = bins.low, bins.high
    return _Ends(edges, low, width, counts)


def _squared_error(bins: _Ends, step: Float64, grid: tuple[Float64, Float64] | int) -> Float64:
    """Summed squared error of all values for each step (1-D)."""
    point, low = bins.width <= 0, bins.low
    total = np.empty(step.shape)
    for i, s in enumerate(step.tolist()):  # a row at a time stays in cache
        error, integral = _integral(bins.edges / s, grid)
        mean = (integral[low + 1] - integral[low]) / np.where(point, 1.0, bins.width / s)
        total[i] = np.where(point, error[low], mean) @ bins.counts * s * s
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
    return off * off, before + off * off * off / 3
