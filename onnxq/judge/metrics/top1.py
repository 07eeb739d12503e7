"""top1 = 100 * mean(argmax(test) == label)"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxq.arrays import Array
from onnxq.errors import DataError
from onnxq.judge.metrics.metric import Sums


@dataclass(frozen=True)
class Top1:
    """Share, 0 to 100, of rows whose largest value is at the label; `labels`: [samples][rows]."""

    labels: tuple[Array, ...]
    name: str = "top1"
    higher_is_better: bool = True
    by_row: bool = True

    def sums(self, i: int, ref: Array, test: Array) -> Sums:
        """(rows that are right, rows); raises DataError where labels do not fit the rows."""
        found = np.atleast_2d(test).reshape(-1, test.shape[-1] if test.ndim else 1).argmax(axis=1)
        if len(found) != len(self.labels[i]):
            raise DataError(
                f"sample {i} has {len(self.labels[i])} labels and the output {len(found)} rows of "
                f"classes, shape {test.shape}; name the output of the classes with --output"
            )
        return float((found == self.labels[i]).sum()), float(len(found))

    def score(self, sums: Array) -> Array:
        """Per cent."""
        return np.asarray(100.0 * sums[..., 0] / np.maximum(sums[..., 1], 1))

    def damage(self, sums: Array, float_sums: Array) -> Array:
        """Points below the float model."""
        return np.asarray(self.score(float_sums) - self.score(sums))
