"""The scale of a weight that its op's output is best with, its codes rounded to nearest.

Each scale s (of a tensor, a channel or a block) becomes c s with the c of `SHARES` that has the
least e H e^T: e is the error of the weights that share s, others taken as exact, H the Gram matrix
of what they multiply. With scales per channel this is the error of the channel itself.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnxq.arrays import Array
from onnxq.judge.verdict import CEILING
from onnxq.numerics import decibels, dequantize, quantize
from onnxq.passes.insert_qdq import Codes, InsertOptions, weight_scale
from onnxq.recover.descent import parts_of
from onnxq.recover.feedback import error
from onnxq.recover.gram import Grams
from onnxq.recover.products import Product

SHARES = np.linspace(1.0, 0.5, 11)  # of the range that the weight has; the first of equals


def refined(
    product: Product, fit: Grams, held: Grams, options: InsertOptions
) -> tuple[Codes, float]:
    """Codes of a weight with its best scales, and by how many dB they lower the error of its ops'
    outputs on samples that judge; less than 0 where they raise it."""
    scales = np.stack([narrowed(product, share, options) for share in SHARES])
    choice = _choice(product, scales, product.sum(fit))
    scale = np.asarray(np.take_along_axis(scales, choice[None], 0)[0])
    h = product.sum(held)
    before, after = (float(error(_gap(product, s), h).sum()) for s in (scales[0], scale))
    gain = 0.0 if before == after else min(decibels(before, after), CEILING)
    return Codes(scale, quantize(product.values, scale, product.spec)), gain


def narrowed(product: Product, share: float, options: InsertOptions) -> Array:
    """The scale of a weight for this share of its range."""
    plain = options.weight_range
    narrower = replace(options, weight_range=lambda w, spec: plain(w, spec) * share)
    return weight_scale(product.values, product.spec, narrower)


def _gap(product: Product, scale: Array) -> Array:
    """By how much the rounded weights are off, (groups, N, K) float64."""
    codes = quantize(product.values, scale, product.spec)
    rounded = dequantize(codes, scale, product.spec).astype(np.float64)
    return product.form.matrices(rounded - product.values.astype(np.float64))


def _choice(product: Product, scales: Array, h: Array) -> Array:
    """Which of the candidates each scale takes: integers of the shape of one of `scales`."""
    numbers = np.arange(scales[0].size).reshape(scales[0].shape)
    shared = owners_of(product, numbers.shape)
    parts = list(parts_of(shared, h))
    errors = np.empty((len(scales), numbers.size))
    for row, scale in zip(errors, scales, strict=True):
        gap = _gap(product, scale)
        sums = [error(gap[..., inputs], its_h).ravel() for inputs, its_h in parts]
        owners = [shared[..., inputs][..., 0].ravel() for inputs, _ in parts]
        row[:] = np.bincount(np.concatenate(owners), np.concatenate(sums), numbers.size)
    return np.asarray(errors.argmin(axis=0).reshape(numbers.shape))


def owners_of(product: Product, shape: tuple[int, ...]) -> Array:
    """Which scale each weight has, of scales of this shape: (groups, N, K) integers."""
    numbers = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    return product.matrices(numbers).astype(np.intp)
