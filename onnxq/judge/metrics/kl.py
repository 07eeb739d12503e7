"""KL = mean over rows of sum(p * log(p / q)),  p = softmax(ref), q = softmax(test)"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxq.arrays import Array
from onnxq.judge.metrics.metric import Sums


@dataclass(frozen=True)
class Kl:
    """KL divergence of the softmaxed reference from the softmaxed test, in nats a row.

    Classes lie along the last axis of outputs of rank 1 to 3, along axis 1 of larger ones.
    """

    name: str = "kl"
    higher_is_better: bool = False
    by_row: bool = True

    def sums(self, i: int, ref: Array, test: Array) -> Sums:
        """(sum of the rows' divergences, rows)."""
        axis = 1 if ref.ndim > 3 else -1
        p, q = (_log_softmax(x, axis) for x in (ref, test))
        gap = np.subtract(p, q, out=np.zeros_like(p), where=~(np.isneginf(p) & np.isneginf(q)))
        return float((np.exp(p) * gap).sum()), ref.size / max(p.shape[axis], 1)

    def score(self, sums: Array) -> Array:
        """Nats a row."""
        return np.asarray(sums[..., 0] / np.maximum(sums[..., 1], 1))

    def damage(self, sums: Array, float_sums: Array) -> Array:
        """The score, at least 0: rounding may leave a little less."""
        return np.maximum(self.score(sums), 0.0)

    def lost(self, score: float) -> float:
        """The score itself."""
        return score


def _log_softmax(x: Array, axis: int) -> Array:
    x = np.atleast_1d(np.asarray(x, np.float64))
    x = x - x.max(axis=axis, keepdims=True, initial=-np.inf)
    return np.asarray(x - np.log(np.exp(x).sum(axis=axis, keepdims=True)))
