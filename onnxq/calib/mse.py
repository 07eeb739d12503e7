"""The range with the least expected squared error: the default.

The error is `quant_error.expected_error`. The error of clipping alone grows as amax falls and is a
lower bound of the whole, so the search goes down from the exact maximum, octave by octave, and ends
where clipping alone costs more than the best range found: nothing below can win. Then it looks
closer around the best. An asymmetric range ends at amax or where the values do: to draw in the
nearer end too would save little, and clip the few scores over zero among many far below it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxq.calib.histogram import Float64, Histogram
from onnxq.calib.quant_error import Bins, limit_of
from onnxq.numerics import Limit
from onnxq.spec import QuantSpec

PER_OCTAVE = 16
OCTAVES = 24  # an end for tensors whose every value rounds to zero
REFINEMENT = 33


@dataclass(frozen=True)
class Mse:
    """The range of least mean squared quantization error; the greatest of equals."""

    def __call__(self, histogram: Histogram, spec: QuantSpec) -> Limit:
        """The range; 0 for all zeros. Raises OnnxqError where a value was not finite."""
        return limit_of(histogram, self._amax(histogram, spec), spec)

    def _amax(self, histogram: Histogram, spec: QuantSpec) -> float:
        histogram.check_finite()
        top = histogram.amax
        if top == 0:
            return 0.0
        bins = Bins.of(histogram)
        best, error = _least(bins, np.array([top]), spec)
        fractions = 2.0 ** (-np.arange(1, PER_OCTAVE + 1) / PER_OCTAVE)
        reach = max(-spec.row.qmin / spec.row.qmax, 1.0)  # -128 steps on the negative side
        if spec.asymmetric:
            reach += 1 / spec.row.qmax  # zero is moved by up to half a step
        for octave in range(OCTAVES):
            start = top * 2.0**-octave
            if bins.clipping_error(start * reach) >= error:
                break
            here, error_here = _least(bins, start * fractions, spec)
            if error_here < error:
                best, error = here, error_here
        one = 2.0 ** (1 / PER_OCTAVE)
        around = np.linspace(min(best * one, top), best / one, REFINEMENT)
        closer, error_closer = _least(bins, around, spec)
        return closer if error_closer < error else best


def _least(bins: Bins, candidates: Float64, spec: QuantSpec) -> tuple[float, float]:
    errors = bins.errors(candidates, spec)
    i = int(np.argmin(errors))
    return float(candidates[i]), float(errors[i])
