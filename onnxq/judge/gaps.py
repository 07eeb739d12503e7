"""Sums of squares of a reference and of the difference from it, in float64: what an SQNR is of.

Rankings add up piece by piece on one thread instead (`metrics.metric.gap_sums`): they look at
thousands of toggles, and the last bits differ.
"""

from __future__ import annotations

import math

import numpy as np

from onnxq.arrays import Array


def signal_and_noise(ref: Array, test: Array) -> tuple[float, float]:
    """Sums of squares of a reference and of the difference.

    Places that are infinite or NaN alike in both are left out. The difference is NaN for two
    shapes, infinite where one of the two alone is not finite.
    """
    if ref.shape != test.shape:
        return math.nan, math.nan
    r = ref.astype(np.float64).ravel()
    signal = float(r @ r)
    with np.errstate(invalid="ignore"):
        r -= test.ravel()
        noise = float(r @ r)
    if math.isfinite(signal) and math.isfinite(noise):
        return signal, noise
    r, t, _, apart = finite_pairs(ref, test)
    signal, noise = powers(r, r - t)
    return signal, math.inf if apart else noise


def powers(ref: Array, gap: Array) -> tuple[float, float]:
    """Sums of squares of both, which are 1-D and in float64."""
    return float(ref @ ref), float(gap @ gap)


def finite_pairs(ref: Array, test: Array) -> tuple[Array, Array, int, int]:
    """(reference, test) in float64 where both are finite, 1-D; how many of the other places are
    alike, and how many are not."""
    r, t = ref.astype(np.float64).ravel(), test.astype(np.float64).ravel()
    finite = np.isfinite(r) & np.isfinite(t)
    if finite.all():
        return r, t, 0, 0
    x, y = r[~finite], t[~finite]
    alike = int(np.count_nonzero((x == y) | (np.isnan(x) & np.isnan(y))))
    return r[finite], t[finite], alike, x.size - alike
