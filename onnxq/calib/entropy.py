"""The range that loses the least information: TensorRT's entropy (KL divergence) calibration.

For each candidate, P is the distribution of |x| up to it, with all beyond it in its last bin; Q is
what `levels` equal groups of bins keep of it: each group's count without the outliers, spread
evenly over those of its bins that P fills. The candidate of least KL(P || Q) wins.

Source: S. Migacz, "8-bit inference with TensorRT", GTC 2017.

- Zeros are left out: they are exact under every range, and after a Relu their spike would outweigh
  all else.
- |x| is counted again in 2,048 bins of equal width, the counts of one of our narrower-to-wider
  bins spread evenly over its extent.
- A candidate that would clip over half of the nonzero values is out: a lone value would be its own
  perfect copy.
- With running sums of c, of c log c and of the filled bins, a divergence costs one difference per
  group, so a thousand candidates take milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxq.calib.histogram import Float64, Histogram, Int64
from onnxq.errors import PlanError
from onnxq.spec import QuantSpec

LINEAR_BINS = 2048


@dataclass(frozen=True)
class Entropy:
    """The amax of least KL divergence; the greatest of equals. For integer types only."""

    def __call__(self, histogram: Histogram, spec: QuantSpec) -> float:
        """The range; 0 for all zeros. Raises OnnxqError where a value was not finite."""
        if spec.row.name == "fp8":
            raise PlanError("entropy calibration is for integer types, not fp8; choose mse or max")
        histogram.check_finite()
        top, levels = histogram.amax, int(spec.row.qmax) + 1
        if spec.asymmetric and top:  # the codes that the larger side of zero gets
            span = max(histogram.max, 0.0) - min(histogram.min, 0.0)
            levels = round(levels * top / span)
        if levels >= LINEAR_BINS or not histogram.magnitude().high.any():
            return top  # a level per bin loses nothing; all zero, or too small to tell from it
        ends = np.arange(levels, LINEAR_BINS + 1, max(levels // 32, 1))
        divergence = divergences(linear_counts(histogram), ends, levels)
        # the running sums leave rounding behind: take for equal what differs by no more
        best = int(ends[divergence <= divergence.min() + 1e-12][-1])
        return top * best / LINEAR_BINS


def linear_counts(histogram: Histogram) -> Float64:
    """Counts of nonzero |x| in LINEAR_BINS bins of equal width from 0 to the exact maximum."""
    bins = histogram.magnitude()
    some = bins.high > 0
    after = np.cumsum(bins.counts[some], dtype=np.float64)
    before = np.concatenate([[0.0], after[:-1]])
    values = np.stack([bins.low[some], bins.high[some]], 1).reshape(-1)
    below = np.stack([before, after], 1).reshape(-1)
    edges = np.linspace(0, histogram.amax, LINEAR_BINS + 1)
    cumulative = np.interp(edges, values, below, left=0.0)
    cumulative[-1] = after[-1]
    return np.diff(cumulative)


def divergences(counts: Float64, ends: Int64, levels: int) -> Float64:
    """KL(P || Q) in nats of the candidates that hold the first `ends` bins, as long as `ends`.

    Infinite where more is outside than inside, or outliers fall into an otherwise empty group.
    """
    count = _running(counts)
    information = _running(_xlogx(counts))
    filled = _running((counts > 0).astype(np.float64))
    total, inside = count[-1], count[ends]
    outside = total - inside
    last = counts[ends - 1]
    bounds = ends[:, None] * np.arange(levels + 1) // levels
    group = np.diff(count[bounds], axis=1)
    bins = np.diff(filled[bounds], axis=1)
    bins[:, -1] += (last == 0) & (outside > 0)
    held = group.copy()
    held[:, -1] += outside
    with np.errstate(divide="ignore", invalid="ignore"):
        log_q = np.log(group / np.maximum(bins, 1))
        kept = np.where(held > 0, held * log_q, 0.0).sum(axis=1)
        p_log_p = information[ends] - _xlogx(last) + _xlogx(last + outside)
        divergence = (p_log_p - kept) / total - np.log(total) + np.log(inside)
    return np.where(inside >= outside, divergence, np.inf)


def _running(values: Float64) -> Float64:
    return np.concatenate([[0.0], np.cumsum(values)])


def _xlogx(values: Float64) -> Float64:
    return values * np.log(np.where(values > 0, values, 1.0))
