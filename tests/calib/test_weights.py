"""Ranges of weights: each scale clips where that lowers the error of its own values."""

from __future__ import annotations

import numpy as np
import pytest

from onnxq.calib.weights import SHARES, weight_mse
from onnxq.numerics import amax_of, fake_quant
from onnxq.spec import QuantSpec

SPECS = [
    QuantSpec("int4"),
    QuantSpec("int4", "channel", 0),
    QuantSpec("int4", "channel", 1),
    QuantSpec("int4", "block", 0, 16),
    QuantSpec("int4", "block", 1, 16),
]


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_each_range_is_the_best_of_its_candidates(spec):
    w = np.random.default_rng(0).standard_t(3, (48, 40)).astype(np.float32)  # 40: a short block
    full, found = amax_of(w, spec), weight_mse(w, spec)
    assert found.shape == full.shape

    def errors(amax):
        """The squared error of the values that share a scale."""
        gap = (w - fake_quant(w, amax, spec)).astype(np.float64) ** 2
        if spec.axis is None:
            return gap.sum()
        if spec.block_size is None:
            return gap.sum(axis=1 - spec.axis)
        cuts = range(spec.block_size, gap.shape[spec.axis], spec.block_size)
        parts = np.split(gap, list(cuts), axis=spec.axis)
        return np.stack([p.sum(axis=spec.axis) for p in parts], axis=spec.axis)

    least = errors(found)
    for share in SHARES:
        # both sums of the same float32 squares, in another order
        assert np.all(least <= errors((full * share).astype(np.float32)) * (1 + 1e-9))
    assert np.all(least <= errors(full))
    assert np.any(found < full)
