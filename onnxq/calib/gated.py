"""The range of what f(x) = x gate(x) reads: that of least squared error behind it.

    silu: gate = sigmoid(x)          hardswish: gate = clip(x + 3, 0, 6) / 6

Values far below zero come out of it as nearly zero wherever they are clipped, so codes spent on
them are wasted. With a step s over [low, high], values in bins of centers x cost

    inside     f'(x)^2 s^2 / 12                 rounding, seen through the slope
    outside    (f(x) - f(low))^2                clipping

Sums over the bins below each candidate give all of them at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from onnxq.calib.histogram import Float64, Histogram
from onnxq.calib.mse import Mse
from onnxq.model.graph import Graph, Node, Tensor, constant_of
from onnxq.numerics import Limit
from onnxq.spec import QuantSpec

Gate = Literal["silu", "hardswish"]
ENDS = 2.0 ** (-np.arange(65) / 8)  # candidates, as shares of the least value


@dataclass(frozen=True)
class GatedMse:
    """The low end of least mean squared error behind `gate`, and the exact maximum; for symmetric
    specs as `Mse`. Large values pass the gate whole, and what clips them harms all that follows."""

    gate: Gate = "silu"

    def __call__(self, histogram: Histogram, spec: QuantSpec) -> Limit:
        """The range; 0 for all zeros. Raises OnnxqError where a value was not finite."""
        histogram.check_finite()
        if not spec.asymmetric or not histogram.min < 0 < histogram.max:
            return Mse()(histogram, spec)
        lows = histogram.min * ENDS
        x, count = _centers(histogram)
        slope = _running(count * slope_of(self.gate, x) ** 2)
        start = np.searchsorted(x, lows)
        step = (histogram.max - lows) / spec.row.qmax
        inside = (slope[-1] - slope[start]) * step**2 / 12
        outside = self._clipped(x, count, lows)[start, np.arange(lows.size)]
        return float(lows[np.argmin(inside + outside)]), histogram.max

    def _clipped(self, x: Float64, count: Float64, ends: Float64) -> Float64:
        """Squared error of the first k values, set to `ends`: shape (values + 1, ends)."""
        y, e = gated(self.gate, x), gated(self.gate, ends)
        squares, sums, counts = _running(count * y * y), _running(count * y), _running(count)
        return (
            squares[:, None] - 2 * sums[:, None] * e[None, :] + counts[:, None] * (e * e)[None, :]
        )


def _centers(histogram: Histogram) -> tuple[Float64, Float64]:
    """Centers of the bins, ascending, and their counts."""
    below, above = histogram.negative(), histogram.nonnegative()
    centers = [-(below.low + below.high)[::-1] / 2, (above.low + above.high) / 2]
    return np.concatenate(centers), np.concatenate([below.counts[::-1], above.counts]).astype(float)


def _running(values: Float64) -> Float64:
    return np.concatenate([[0.0], np.cumsum(values)])


def gated(gate: Gate, x: Float64) -> Float64:
    """x gate(x), same shape."""
    return np.asarray(x * _gate(gate, x))


def slope_of(gate: Gate, x: Float64) -> Float64:
    """The derivative of `gated`, same shape."""
    open_ = _gate(gate, x)
    if gate == "silu":
        return np.asarray(open_ * (1 + x * (1 - open_)))
    return np.asarray(open_ + np.where(np.abs(x) < 3, x / 6, 0))


def _gate(gate: Gate, x: Float64) -> Float64:
    if gate == "silu":
        return np.asarray(1 / (1 + np.exp(np.clip(-x, None, 80))))
    return np.asarray(np.clip(x + 3, 0, 6) / 6)


def read_by_gates(graph: Graph) -> dict[str, Gate]:
    """Tensors that nothing but a gate, and the Mul with what it writes, reads: name -> its kind."""
    found: dict[str, Gate] = {}
    for node in graph.nodes:
        gate = _opened(node)
        if gate is None:
            continue
        (tensor, out), kind = gate
        others = [r for r in tensor.outputs if r is not node]
        if node.op == "HardSwish" and not others:
            found[tensor.name] = kind
        read = {id(t) for r in others for t in r.inputs}
        if [r.op for r in others] == ["Mul"] and read == {id(tensor), id(out)}:
            found[tensor.name] = kind
    return found


def _opened(node: Node) -> tuple[tuple[Tensor, Tensor], Gate] | None:
    """(what a gate reads, what it writes) and its kind, by its first node."""
    if node.op == "Sigmoid":
        return (node.inputs[0], node.outputs[0]), "silu"
    if node.op == "HardSwish":
        return (node.inputs[0], node.outputs[0]), "hardswish"
    if node.op == "HardSigmoid":
        alpha, beta = (float(node.attrs.get(k, d)) for k, d in (("alpha", 0.2), ("beta", 0.5)))
        same = np.allclose((alpha, beta), (1 / 6, 0.5))
        return ((node.inputs[0], node.outputs[0]), "hardswish") if same else None
    if node.op != "Add" or _value(node.inputs[1]) != 3 or len(node.outputs[0].outputs) != 1:
        return None
    clip = node.outputs[0].outputs[0]
    if clip.op != "Clip" or [_value(t) for t in clip.inputs[1:]] != [0, 6]:
        return None
    return (node.inputs[0], clip.outputs[0]), "hardswish"


def _value(tensor: Tensor) -> float | None:
    """The value of a constant that holds only one."""
    values = constant_of(tensor)
    return float(values.reshape(-1)[0]) if values is not None and values.size == 1 else None
