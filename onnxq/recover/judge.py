"""Whether a change of a quantized model does harm: SQNR at its outputs and their parts.

An output that is a Concat is judged by its parts: one scale of error for boxes in pixels and scores
below one would see the boxes alone. Where a few detections make the
power, a handful of samples scatters by decibels: a fall counts if it exceeds its standard error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxq.graph import Graph, Tensor, constant_of, producer
from onnxq.numerics import decibels

Array = npt.NDArray[Any]
Values = Sequence[Mapping[str, Array]]

CEILING = 200.0  # dB, in place of infinity
NOISE_ERRORS = 1.0  # standard errors that a fall must exceed
NOISE_DB = 0.02  # and at least so much: the rounding of another order of sums


def judged_tensors(graph: Graph) -> list[str]:
    """Names of the float32 outputs, with the parts of a Concat in place of the whole."""
    names: dict[str, None] = {}
    for output in graph.outputs:
        names |= dict.fromkeys(t.name for t in _parts(output))
    return list(names)


def _parts(tensor: Tensor) -> list[Tensor]:
    node = producer(tensor)
    if node is None or tensor.dtype != np.float32:
        return []
    if node.op != "Concat":
        return [tensor]
    return [p for t in node.inputs if constant_of(t) is None for p in _parts(t)]


def sqnr(reference: Values, test: Values) -> dict[str, float]:
    """SQNR in dB of each tensor over all samples."""
    found = {}
    for name in reference[0]:
        sums = [_sums(r[name], t[name]) for r, t in zip(reference, test, strict=True)]
        power, noise = (math.fsum(part) for part in zip(*sums, strict=True))
        found[name] = _bounded(power, noise)
    return found


def falls(reference: Values, before: Values, after: Values) -> list[str]:
    """Names of the tensors whose SQNR falls from `before` to `after`."""
    return [
        n for n in reference[0] if _falls(*([v[n] for v in x] for x in (reference, before, after)))
    ]


def _falls(reference: Sequence[Array], before: Sequence[Array], after: Sequence[Array]) -> bool:
    gains = [
        _bounded(*_sums(r, b)) - _bounded(*_sums(r, a))
        for r, b, a in zip(reference, before, after, strict=True)
        if np.any(r)
    ]
    if not gains:
        return False
    fall = np.asarray(gains, np.float64)
    error = fall.std(ddof=1) / math.sqrt(len(fall)) if len(fall) > 1 else 0.0
    return bool(fall.mean() > max(NOISE_ERRORS * error, NOISE_DB))


def _sums(reference: Array, test: Array) -> tuple[float, float]:
    """Sums of squares of the reference and of the difference."""
    r = reference.astype(np.float64).ravel()
    gap = r - test.astype(np.float64).ravel()
    return float(r @ r), float(gap @ gap)


def _bounded(power: float, noise: float) -> float:
    return float(np.clip(decibels(power, noise), -CEILING, CEILING))
