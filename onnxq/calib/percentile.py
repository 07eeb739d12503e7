"""The range that holds p percent of the magnitudes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxq.calib.histogram import Histogram
from onnxq.errors import PlanError
from onnxq.spec import QuantSpec


@dataclass(frozen=True)
class Percentile:
    """The `p`-th percentile of |x|, zeros included; linear inside a bin."""

    p: float = 99.99

    def __post_init__(self) -> None:
        if not 0 < self.p <= 100:
            raise PlanError(f"percentile {self.p} is out of range; choose one over 0 up to 100")

    def __call__(self, histogram: Histogram, spec: QuantSpec) -> float:
        """The range; 0 for all zeros. Raises OnnxqError where a value was not finite."""
        bins = histogram.magnitude()
        if not bins.counts.size:
            return 0.0
        after = np.cumsum(bins.counts)
        wanted = self.p / 100 * float(after[-1])
        i = min(int(np.searchsorted(after, wanted)), after.size - 1)
        share = 1 - (float(after[i]) - wanted) / float(bins.counts[i])
        amax = bins.low[i] + share * (bins.high[i] - bins.low[i])
        return float(min(amax, histogram.amax))
