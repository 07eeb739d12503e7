"""Ranges of weights, read off the weights themselves.

`max` is `numerics.amax_of`. `mse` clips where that lowers the squared error of the rounded
weights; at 8 bits per channel plain max is the better choice on every network measured.
"""

from __future__ import annotations

import numpy as np

from onnxq.arrays import Array
from onnxq.numerics import amax_of, fake_quant
from onnxq.spec import QuantSpec

SHARES = np.linspace(1.0, 0.3, 71)  # candidate ranges, as shares of the largest weight


def weight_mse(values: Array, spec: QuantSpec) -> Array:
    """Range with the least squared error for each scale of the spec, of the shape of `amax_of`."""
    full = amax_of(values, spec)
    best, least = full, np.full(full.shape, np.inf)
    for share in SHARES:
        amax = np.asarray(full * share, np.float32)
        gap = (values - fake_quant(values, amax, spec)).astype(np.float64)
        error = _sum_of(gap**2, spec)
        best = np.where(error < least, amax, best)
        least = np.minimum(error, least)
    return np.asarray(best, np.float32)


def _sum_of(x: Array, spec: QuantSpec) -> Array:
    """Sum over the values that share a scale, of the shape of `amax_of`."""
    if spec.block_size is not None and spec.axis is not None:
        starts = np.arange(0, x.shape[spec.axis], spec.block_size)
        return np.asarray(np.add.reduceat(x, starts, axis=spec.axis))
    return np.asarray(x.sum(axis=tuple(i for i in range(x.ndim) if i != spec.axis)))
