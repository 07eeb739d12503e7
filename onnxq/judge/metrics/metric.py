"""What a score is: sums over samples, and what is read off them.

A metric adds up over samples: `sums` gives a sample's part, `score` reads any total of parts, so
that the spread over samples can be had from totals with one sample left out. `damage` is what a
ranking sorts by: 0 where nothing is lost, larger is worse.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from onnxq.arrays import Array

Sums = tuple[float, ...]


class Metric(Protocol):
    """A score that adds up over samples.

    by_row: whether it looks at rows of classes, and not at single values.
    """

    @property
    def name(self) -> str: ...

    @property
    def higher_is_better(self) -> bool: ...

    @property
    def by_row(self) -> bool: ...

    def sums(self, i: int, ref: Array, test: Array) -> Sums:
        """The part of sample `i`: one output of the float model and of the toggled one."""
        ...

    def score(self, sums: Array) -> Array:
        """Scores [...] of totals [..., K] of parts."""
        ...

    def damage(self, sums: Array, float_sums: Array) -> Array:
        """Damage [...] of totals [..., K], given those of the float model with itself."""
        ...


class LabelFree(Metric, Protocol):
    """A metric that holds a model against the float one, so that damage follows from the score."""

    def lost(self, score: float) -> float:
        """The damage that a score stands for."""
        ...


def sums_of(metric: Metric, i: int, ref: Array, test: Array) -> Sums:
    """The metric's part of a sample. Values that are infinite or NaN alike in both, as masked
    logits are, are left out, or count as 0 in rows of classes; of values that are so in one alone
    the sums are not finite."""
    with np.errstate(invalid="ignore"):  # infinity less infinity
        sums = metric.sums(i, ref, test)
    if all(map(math.isfinite, sums)):
        return sums
    alike = ~np.isfinite(ref) & ((ref == test) | (np.isnan(ref) & np.isnan(test)))
    if not metric.by_row:
        return metric.sums(i, ref[~alike], test[~alike])
    if alike.all():
        return 0.0, 0.0  # no rows
    return metric.sums(i, *(np.where(alike, 0, x).astype(x.dtype) for x in (ref, test)))


def is_told(sums: Array) -> bool:
    """Whether there was anything to score in sums [..., K]: what follows the first sum, which is of
    what went wrong or right, is how much there was."""
    return bool(sums[..., 1:].any())


def gap_sums(ref: Array, test: Array) -> Sums:
    """(noise, signal, count) of a sample.

    The difference of near values is exact in float32; squares are added in float64.
    """
    gap, signal = np.subtract(test, ref).reshape(-1), ref.reshape(-1)
    return dot(gap, gap), dot(signal, signal), float(ref.size)


def dot(a: Array, b: Array) -> float:
    """The dot product in float64, on one thread, where BLAS would start more; converted piece by
    piece, in the cache."""
    return float(np.einsum("i,i->", a, b, dtype=np.float64, casting="unsafe"))
