"""MSE = mean((ref - test)^2)"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxq.arrays import Array
from onnxq.judge.metrics.metric import Sums, gap_sums


@dataclass(frozen=True)
class Mse:
    """Mean squared error."""

    name: str = "mse"
    higher_is_better: bool = False
    by_row: bool = False

    def sums(self, i: int, ref: Array, test: Array) -> Sums:
        """(noise, signal, count)."""
        return gap_sums(ref, test)

    def score(self, sums: Array) -> Array:
        """The mean over all values; 0 for an output without values."""
        return np.asarray(sums[..., 0] / np.maximum(sums[..., 2], 1))

    def damage(self, sums: Array, float_sums: Array) -> Array:
        """The score itself."""
        return self.score(sums)

    def lost(self, score: float) -> float:
        """The score itself."""
        return score
