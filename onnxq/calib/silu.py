"""The range of what a SiLU reads, x sigmoid(x): that of least squared error behind it.

Values far below zero come out of a SiLU as nearly zero wherever they are clipped, so codes spent
on them are wasted. With a step s over [low, high] and f the SiLU, values in bins of centers x cost

    inside     f'(x)^2 s^2 / 12                 rounding, seen through the slope
    outside    (f(x) - f(low or high))^2        clipping

Sums over the bins below each candidate end give every pair of ends at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxq.calib.histogram import Float64, Histogram
from onnxq.calib.mse import Mse
from onnxq.graph import Graph
from onnxq.numerics import Limit
from onnxq.spec import QuantSpec

ENDS = 2.0 ** (-np.arange(65) / 8)  # candidates, as shares of the least or greatest value


@dataclass(frozen=True)
class SiluMse:
    """(low, high) of least mean squared error behind a SiLU; for symmetric specs as `Mse`."""

    def __call__(self, histogram: Histogram, spec: QuantSpec) -> Limit:
        """The range; 0 for all zeros. Raises OnnxqError where a value was not finite."""
        histogram.check_finite()
        if not spec.asymmetric or not histogram.min < 0 < histogram.max:
            return Mse()(histogram, spec)
        lows, highs = histogram.min * ENDS, histogram.max * ENDS
        x, count = _centers(histogram)
        slope = _running(count * _slope(x) ** 2)
        start, end = np.searchsorted(x, lows), np.searchsorted(x, highs, "right")
        step = (highs[None, :] - lows[:, None]) / spec.row.qmax
        inside = (slope[end][None, :] - slope[start][:, None]) * step**2 / 12
        below = _clipped(x, count, lows)[start, np.arange(lows.size)]
        above = _clipped(-x[::-1], count[::-1], -highs, -1)[x.size - end, np.arange(highs.size)]
        i, j = np.unravel_index(np.argmin(inside + below[:, None] + above[None, :]), inside.shape)
        return float(lows[i]), float(highs[j])


def _centers(histogram: Histogram) -> tuple[Float64, Float64]:
    """Centers of the bins, ascending, and their counts."""
    below, above = histogram.negative(), histogram.nonnegative()
    centers = [-(below.low + below.high)[::-1] / 2, (above.low + above.high) / 2]
    return np.concatenate(centers), np.concatenate([below.counts[::-1], above.counts]).astype(float)


def _clipped(x: Float64, count: Float64, ends: Float64, sign: int = 1) -> Float64:
    """Squared error of the first k values, set to `ends`: shape (values + 1, ends)."""
    y, e = silu(sign * x), silu(sign * ends)
    squares, sums, counts = _running(count * y * y), _running(count * y), _running(count)
    return squares[:, None] - 2 * sums[:, None] * e[None, :] + counts[:, None] * (e * e)[None, :]


def _running(values: Float64) -> Float64:
    return np.concatenate([[0.0], np.cumsum(values)])


def silu(x: Float64) -> Float64:
    """x sigmoid(x), same shape."""
    return np.asarray(x / (1 + np.exp(np.clip(-x, None, 700))))


def _slope(x: Float64) -> Float64:
    sigmoid = 1 / (1 + np.exp(np.clip(-x, None, 700)))
    return np.asarray(sigmoid * (1 + x * (1 - sigmoid)))


def read_by_silu(graph: Graph) -> list[str]:
    """Names of the tensors that only a Sigmoid, and the Mul with what it writes, read."""
    found = []
    for node in graph.nodes:
        if node.op != "Sigmoid":
            continue
        tensor, readers = node.inputs[0], node.inputs[0].outputs
        others = [r for r in readers if r is not node]
        if len(others) == 1 and others[0].op == "Mul":
            pair = {id(t) for t in others[0].inputs}
            if pair == {id(tensor), id(node.outputs[0])}:
                found.append(tensor.name)
    return found
