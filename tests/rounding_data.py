"""Weights, inputs and Gram matrices that tests of rounding draw."""

from __future__ import annotations

import numpy as np

from onnxq.numerics import amax_of, scale_of
from onnxq.recover.feedback import rounder_of
from onnxq.spec import QuantSpec

WEIGHTS = ("int8", "int4", "int4-in-int8", "int16", "fp8")


def problem(groups=2, rows=6, inputs=20, positions=60, seed=0, dtype="int4"):
    """(weights, scale of each, Gram matrices of correlated inputs, rounder)."""
    rng = np.random.default_rng(seed)
    spec = QuantSpec(dtype)
    w = rng.standard_normal((groups, rows, inputs))
    s = np.full_like(w, float(scale_of(amax_of(w, spec), spec)))
    x = rng.standard_normal((groups, inputs, inputs)) @ rng.standard_normal(
        (groups, inputs, positions)
    )
    return w, s, x @ x.swapaxes(1, 2), rounder_of(spec)


def drawn(shapes, seed=0):
    """Float weights by name."""
    rng = np.random.default_rng(seed)
    return {k: rng.standard_normal(s).astype(np.float32) for k, s in shapes.items()}


def images(samples, size, channels, seed=0):
    """Images of neighbours and channels that resemble each other, as those of the world do: of
    `size` sources and places a side, each place three pixels wide."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((samples, size, size, size)).repeat(3, axis=2).repeat(3, axis=3)
    mixed = np.einsum(
        "oc,nchw->nohw", np.random.default_rng(99).standard_normal((channels, size)), x
    )
    return (mixed + 0.2 * rng.standard_normal(mixed.shape)).astype(np.float32)
