"""Round weights by what their ops read, not each to the nearest code.

For each weight with Gram matrix H of its inputs the codes are those of `feedback.rounded`. On
samples that they are not fitted to they must lower the error of the op, tr(E H E^T), or the weight
stays as it was. In the end the codes of the n, n/2, n/4 ... weights that gain most are kept, the
most that raise the SQNR on average over the outputs and lower it at none.

At 4 bits the range of a weight matters as much as its rounding: there, for each scale, one that
clips is tried beside the one that does not.

The inputs are those of the float model. Fitted to those of the quantized one, op by op, weights
make up for the shifts of the ops before them; bias correction does that too, and with both the
outputs of W4A8 networks came no closer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxq.arrays import Array
from onnxq.calib.weights import weight_mse
from onnxq.judge.verdict import CEILING, sqnr
from onnxq.numerics import amax_of, decibels, quantize
from onnxq.passes.insert_qdq import Codes, Weight, weight_scale
from onnxq.recover.draft import Bench, Draft, Outcome
from onnxq.recover.feedback import error, factors_of, rounded, rounder_of
from onnxq.recover.gram import Grams
from onnxq.recover.keeping import keep
from onnxq.recover.products import Product, groups_of, products_of, with_grams

NARROW = 4  # bits up to which clipping is tried
NO_GAIN = "rounds to nearest as well on other samples"
NO_JUDGE = "no weight was rounded: the model has no float32 output to judge by"


@dataclass(frozen=True)
class _Found:
    """New codes of a weight; gain: dB at its op on samples that judge."""

    codes: Codes
    gain: float


def round_weights(bench: Bench, draft: Draft) -> tuple[Draft, Outcome]:
    """The draft with the codes of weights that rounding helps, and what it brought.

    Raises ModelError for a model that cannot be run, DataError for samples that do not fit it.
    """
    products, undone = products_of(draft.graph, bench.plan)
    groups, too_large = groups_of(products, bench)
    undone |= too_large
    if not bench.judged:
        return draft, Outcome("rounding", undone=undone, notes=(NO_JUDGE,))
    if not groups:
        return draft, Outcome("rounding", undone=undone)
    found: dict[Weight, _Found] = {}
    for product, fit, held in with_grams(groups, bench, draft):
        better = _solve(product, fit, held, bench, draft)
        if better is not None:
            found[product.weight] = better
    return _settled(bench, draft, products, found, undone)


def _solve(product: Product, fit: Grams, held: Grams, bench: Bench, draft: Draft) -> _Found | None:
    """The codes that lower the error of the op on samples that judge; None where none do."""
    spec, form = product.spec, product.form
    w, h = form.matrices(product.values.astype(np.float64)), product.sum(fit)
    old, scales = _present(product, bench, draft)
    tried, factors = [], factors_of(h)
    for scale in scales:
        s = product.matrices(scale)
        codes = rounded(w, s, h, rounder_of(spec), factors)
        tried.append((scale, codes, error(codes * s - w, h)))
    scale, codes = _best(product, tried)
    kind = old.codes.dtype
    new = Codes(scale, form.tensor(codes).astype(kind))
    judge = product.sum(held)
    before, after = (
        float(error(product.matrices(c.scale) * form.matrices(c.codes) - w, judge).sum())
        for c in (old, new)
    )
    if not after < before:
        return None
    return _Found(new, min(decibels(before, after), CEILING))


def _present(product: Product, bench: Bench, draft: Draft) -> tuple[Codes, list[Array]]:
    """The codes of a weight as it stands, and the scales to try."""
    options, spec = bench.insert, product.spec
    given = draft.codes.get(product.weight) or options.codes.get(product.weight)
    if given is not None:
        return given, [given.scale]
    scale = weight_scale(product.values, spec, options)
    scales = [scale]
    if spec.row.bits <= NARROW and spec.row.fixed_scale is None:
        clipped = replace(options, weight_range=weight_mse)
        scales.append(weight_scale(product.values, spec, clipped))
    return Codes(scale, quantize(product.values, scale, spec)), scales


def _best(product: Product, tried: Sequence[tuple[Array, Array, Array]]) -> tuple[Array, Array]:
    """(scale, codes) with the least error of those tried; row by row where rows share no scale."""
    errors = np.stack([e for _, _, e in tried])
    if not _rows_apart(product):
        scale, codes, _ = tried[int(errors.sum(axis=(1, 2)).argmin())]
        return scale, codes
    choice = errors.argmin(axis=0)[..., None]
    codes = np.choose(choice, [c for _, c, _ in tried])
    wide = product.form.tensor(np.broadcast_to(choice, product.form.matrix))
    which = amax_of(wide, product.spec).astype(np.intp)
    return np.asarray(np.choose(which, [s for s, _, _ in tried]), np.float32), codes


def _rows_apart(product: Product) -> bool:
    """Whether each scale belongs to one row of the weight's matrices."""
    groups, rows, _ = product.form.matrix
    number = np.arange(1.0, groups * rows + 1).reshape(groups, rows, 1)
    wide = product.form.tensor(np.broadcast_to(number, product.form.matrix))
    greatest = amax_of(wide, product.spec)
    least = 1 / amax_of(1 / wide, product.spec)
    return bool(np.all(greatest - least < 0.5))


def _settled(
    bench: Bench,
    draft: Draft,
    products: Sequence[Product],
    found: Mapping[Weight, _Found],
    undone: dict[str, str],
) -> tuple[Draft, Outcome]:
    """The draft with the codes of the first n, n/2, n/4 ... weights that gain most: the most that
    no output argues against."""
    ranked = sorted(found, key=lambda weight: -found[weight].gain)

    def better(weights: Sequence[Weight]) -> Draft:
        codes = {weight: found[weight].codes for weight in weights}
        return replace(draft, codes={**draft.codes, **codes})

    kept = keep(
        [ranked],
        bench.errors(draft),
        lambda weights: bench.errors(better(weights)),
        bench.jury.worst_fall,
        lambda batch, _: [batch[: len(batch) // 2]],
    )
    nodes = {product.weight: product.nodes for product in products}
    gains = {node: found[w].gain for w in kept.items for node in nodes[w]}
    undone = {n: NO_GAIN for w, its in nodes.items() if w not in found for n in its} | undone
    undone |= kept.reasons(lambda weight: nodes[weight])
    outcome = Outcome("rounding", gains, undone, sqnr(kept.before), sqnr(kept.after))
    return (better(kept.items) if kept.items else draft), outcome
