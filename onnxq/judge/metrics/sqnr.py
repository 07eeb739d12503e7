"""SQNR = 10 log10(sum(ref^2) / sum((ref - test)^2))   in dB"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxq.arrays import Array
from onnxq.judge.metrics.metric import Sums, gap_sums


@dataclass(frozen=True)
class Sqnr:
    """SQNR in dB; the damage is noise over signal, which is what adds up over nodes."""

    name: str = "sqnr"
    higher_is_better: bool = True
    by_row: bool = False

    def sums(self, i: int, ref: Array, test: Array) -> Sums:
        """(noise, signal, count)."""
        return gap_sums(ref, test)

    def score(self, sums: Array) -> Array:
        """dB; inf without noise, -inf without signal."""
        with np.errstate(divide="ignore"):
            return np.asarray(-10 * np.log10(self.damage(sums, sums)))

    def damage(self, sums: Array, float_sums: Array) -> Array:
        """noise / signal; 0 where there is neither."""
        noise, signal = sums[..., 0], sums[..., 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(noise == 0, 0.0, noise / signal)

    def lost(self, score: float) -> float:
        """Noise over signal of a score in dB."""
        return 10 ** (-score / 10)
