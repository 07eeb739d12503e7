"""cosine = sum(ref * test) / sqrt(sum(ref^2) * sum(test^2))"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxq.arrays import Array
from onnxq.judge.metrics.metric import Sums, dot


@dataclass(frozen=True)
class Cosine:
    """Cosine similarity of all values of all samples."""

    name: str = "cosine"
    higher_is_better: bool = True
    by_row: bool = False

    def sums(self, i: int, ref: Array, test: Array) -> Sums:
        """(dot product, power of the test, power of the reference)."""
        r, t = ref.reshape(-1), test.reshape(-1)
        return dot(r, t), dot(t, t), dot(r, r)

    def score(self, sums: Array) -> Array:
        """-1 to 1; 1 where both are all zero, 0 where one is."""
        product, test, ref = sums[..., 0], sums[..., 1], sums[..., 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            both = np.where(test == ref, 1.0, 0.0)
            return np.where((test == 0) | (ref == 0), both, product / np.sqrt(test) / np.sqrt(ref))

    def damage(self, sums: Array, float_sums: Array) -> Array:
        """1 - cosine, at least 0."""
        return np.maximum(1.0 - self.score(sums), 0.0)

    def lost(self, score: float) -> float:
        """What the cosine lacks of 1."""
        return 1 - score
