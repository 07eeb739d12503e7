"""Whether two ways of running a model compute the same, whatever the order of a tensor's values.

Two ways add up in another order, so values differ in the last bits and, behind a rounding, by a
step. So how many values a tensor has and the sum of their magnitudes are compared, and a few
percent are let pass: what is looked for are tensors that are taken for others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from onnxq.arrays import Array

SLACK = 0.05  # of the sum of magnitudes of a tensor
NOISE = 1e-6  # of the largest mean magnitude: what is smaller may be rounding alone


@dataclass
class Magnitudes:
    """Of each tensor that went by: how many values, and the sum of their magnitudes."""

    of: dict[str, tuple[int, float]] = field(default_factory=dict)

    def __call__(self, values: Mapping[str, Array]) -> None:
        for name, x in values.items():
            wide = np.promote_types(x.dtype, np.float32) if x.dtype.kind in "fiub" else None
            total = 0.0 if wide is None else float(np.abs(x).sum(dtype=wide))
            self.of[name] = x.size, total

    def alike(self, name: str, found: tuple[int, float]) -> bool:
        """Whether a tensor found elsewhere has as many values as `name` here, of about the size."""
        (size, a), (other_size, b) = self.of[name], found
        if size != other_size or math.isfinite(a) != math.isfinite(b):
            return False
        return not math.isfinite(a) or abs(a - b) <= SLACK * max(a, b) + self._noise() * size

    def _noise(self) -> float:
        """The mean magnitude below which values may be rounding alone."""
        means = [total / size for size, total in self.of.values() if size]
        return NOISE * max((m for m in means if math.isfinite(m)), default=0.0)
