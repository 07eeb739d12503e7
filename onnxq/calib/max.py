"""The range that clips nothing: amax = max |x|."""

from __future__ import annotations

from dataclasses import dataclass

from onnxq.calib.histogram import Histogram
from onnxq.spec import QuantSpec


@dataclass(frozen=True)
class Max:
    """The exact largest magnitude."""

    def __call__(self, histogram: Histogram, spec: QuantSpec) -> float:
        """The range; 0 for all zeros. Raises OnnxqError where a value was not finite."""
        histogram.check_finite()
        return histogram.amax
