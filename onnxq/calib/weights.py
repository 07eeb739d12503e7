"""Ranges of weights, read off the weights themselves.

`max` is `numerics.amax_of`. `mse` clips where that lowers the squared error of the rounded
weights; at 8 bits per channel plain max is the better choice on every network measured.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from onnxq.numerics import amax_of, fake_quant
from onnxq.spec import QuantSpec

Array = npt.NDArray[Any]
SHARES = np.linspace(1.0, 0.3, 71)  # candidate ranges, as shares of the largest weight


def weight_mse(values: Array, spec: QuantSpec) -> Array:
    """Range with the least squared error per tensor or per channel, of the shape of `amax_of`."""
    full = amax_of(values, spec)
    axes = tuple(i for i in range(values.ndim) if spec.axis is None or i != spec.axis)
    best, least = full, np.full(full.shape, np.inf)
    for share in SHARES:
        amax = np.asarray(full * share, np.float32)
        gap = (values - fake_quant(values, amax, spec)).astype(np.float64)
        error = np.asarray((gap**2).sum(axis=axes))
        best = np.where(error < least, amax, best)
        least = np.minimum(error, least)
    return np.asarray(best, np.float32)
