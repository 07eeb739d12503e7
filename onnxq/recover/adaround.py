"""Learn the codes and the scales of weights by what their ops read.

The objective is that of `rounding`, tr(E H E^T), and so are its judges. Learned are

    codes     those of `round` with several scales, the best of a row, then one by one, each with
              all others known, until none is better on its own (`descent`); of a layer of few
              inputs all scales are begun with, and the best end of a row is taken
    scales    in closed form for these codes, in turns with them
    H         from up to 256 samples, not 24: 4-bit codes fit what few samples show by chance
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnxq.arrays import Array
from onnxq.numerics import quantize
from onnxq.passes.insert_qdq import Codes, weight_scale
from onnxq.recover.descent import PAIRED, descended, rescaled
from onnxq.recover.draft import Bench, Draft, Outcome
from onnxq.recover.feedback import DAMPING, beside_of, error, rounder_of
from onnxq.recover.products import Product
from onnxq.recover.rounding import NARROW, best_of, given_codes, with_codes
from onnxq.recover.weight_scales import narrowed, owners_of

TITLE = "adaptive rounding"
SHARES = tuple(1 - k / 20 for k in range(11))  # of a range of `NARROW` bits, to begin with
TURNS = 3  # of scales and codes


def adaround(bench: Bench, draft: Draft) -> tuple[Draft, Outcome]:
    """The draft with learned codes and scales where they help, and what they brought.

    Raises ModelError for a model that cannot be run, DataError for samples that do not fit it.
    """
    return with_codes(bench, draft, TITLE, learned, bench.more)


def learned(product: Product, h: Array, bench: Bench, draft: Draft) -> tuple[Codes, Codes]:
    """The codes of a weight as they stand, and those that are learned.

    h: (groups, K, K), of what it multiplies.
    """
    h = _damped(h)
    row, given = product.spec.row, given_codes(product, bench, draft)
    narrow = row.bits <= NARROW and row.fixed_scale is None
    scales = [narrowed(product, share, bench.insert) for share in (SHARES if narrow else (1.0,))]
    old = given or Codes(scales[0], quantize(product.values, scales[0], product.spec))
    kind = old.codes.dtype
    if product.form.matrix[2] > PAIRED:
        return old, _in_turns(product, h, best_of(product, h, scales, kind, old), bench)
    ends = (best_of(product, h, [scale], kind) for scale in scales)
    known = [_in_turns(product, h, begun, bench) for begun in (old, *ends)]
    return old, best_of(product, h, [], kind, *known)


def _damped(h: Array) -> Array:
    """`h` with what samples that were not seen may hold, in each direction."""
    h, k = h.copy(), np.arange(h.shape[-1])
    h[:, k, k] += DAMPING * h[:, k, k].mean(axis=-1, keepdims=True)
    return h


def _in_turns(product: Product, h: Array, best: Codes, bench: Bench) -> Codes:
    """The best codes after turns of codes and scales that begin with `best`."""
    form, rounder, beside = product.form, rounder_of(product.spec), beside_of(product.spec)
    w, owner = (
        form.matrices(product.values.astype(np.float64)),
        owners_of(product, best.scale.shape),
    )
    scale, codes = best.scale, form.matrices(best.codes).astype(np.float64)
    least = np.inf
    for _ in range(TURNS):
        codes = descended(w, product.matrices(scale), codes, h, rounder, beside)
        off = float(error(codes * product.matrices(scale) - w, h).sum())
        if not off < least:  # a scale of FP16 may be off by more than it gains
            break
        least, best = off, Codes(scale, form.tensor(codes).astype(best.codes.dtype))
        if product.spec.row.fixed_scale is not None:
            break
        wide = rescaled(w, product.matrices(scale), codes, h, owner)
        scale = _typed(product, wide, owner, scale, bench)
    return best


def _typed(product: Product, wide: Array, owner: Array, old: Array, bench: Bench) -> Array:
    """The scales of a weight, of the type and the least size that the graph will hold."""
    scale = np.empty(old.size)
    scale[owner] = wide
    amax = scale.reshape(old.shape) * product.spec.row.qmax
    options = replace(bench.insert, weight_range=lambda w, spec: amax)
    return weight_scale(product.values, product.spec, options)
