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

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from onnxq.arrays import Array
from onnxq.calib.data import Dataset
from onnxq.calib.weights import weight_mse
from onnxq.judge.verdict import CEILING, sqnr
from onnxq.numerics import amax_of, decibels, quantize
from onnxq.passes.insert_qdq import Codes, Weight, weight_scale
from onnxq.recover.draft import Bench, Draft, Outcome
from onnxq.recover.feedback import error, factors_of, rounded, rounder_of
from onnxq.recover.keeping import fewer, keep
from onnxq.recover.products import Product, groups_of, products_of, with_grams

NARROW = 4  # bits up to which clipping is tried
NO_GAIN = "other codes are no better on other samples"
NO_JUDGE = "no weight was rounded: the model has no float32 output to judge by"


# (product, its H, bench, draft) -> its codes as they stand, and better ones
Solver = Callable[[Product, Array, Bench, Draft], tuple[Codes, Codes]]


@dataclass(frozen=True)
class _Found:
    """New codes of a weight; gain: dB at its op on samples that judge."""

    codes: Codes
    gain: float


def round_weights(bench: Bench, draft: Draft) -> tuple[Draft, Outcome]:
    """The draft with the codes of weights that rounding helps, and what it brought.

    Raises ModelError for a model that cannot be run, DataError for samples that do not fit it.
    """
    return with_codes(bench, draft, "rounding", fed_back, bench.chosen)


def with_codes(
    bench: Bench, draft: Draft, title: str, solver: Solver, samples: Dataset
) -> tuple[Draft, Outcome]:
    """The draft with those of the solver's codes that help, and what they brought.

    samples: `bench.chosen`, or more of which those are the first. Raises as `round_weights`.
    """
    products, undone = products_of(draft.graph, bench.plan)
    groups, too_large = groups_of(products, bench)
    undone |= too_large
    if not bench.judged:
        return draft, Outcome(title, undone=undone, notes=(NO_JUDGE,))
    if not groups:
        return draft, Outcome(title, undone=undone)
    found: dict[Weight, _Found] = {}
    for product, fit, held in with_grams(groups, bench, draft, samples):
        old, new = solver(product, product.sum(fit), bench, draft)
        before, after = (_off(product, codes, product.sum(held)) for codes in (old, new))
        if after < before:
            found[product.weight] = _Found(new, min(decibels(before, after), CEILING))
    return _settled(bench, draft, title, products, found, undone)


def _off(product: Product, codes: Codes, h: Array) -> float:
    """The error of the op with these codes."""
    w = product.form.matrices(product.values.astype(np.float64))
    e = product.matrices(codes.scale) * product.form.matrices(codes.codes) - w
    return float(error(e, h).sum())


def fed_back(product: Product, h: Array, bench: Bench, draft: Draft) -> tuple[Codes, Codes]:
    """The codes of a weight as they stand, and those of `feedback.rounded`."""
    old, scales = _present(product, bench, draft)
    return old, best_of(product, h, scales, old.codes.dtype)


def best_of(
    product: Product, h: Array, scales: Iterable[Array], kind: npt.DTypeLike, *known: Codes
) -> Codes:
    """The codes of a weight with the least error, of those fed back with each of the scales and
    those that are known; of type `kind`."""
    spec, form = product.spec, product.form
    w, factors = form.matrices(product.values.astype(np.float64)), factors_of(h)
    tried = [(c.scale, form.matrices(c.codes).astype(np.float64)) for c in known]
    tried += [
        (scale, rounded(w, product.matrices(scale), h, rounder_of(spec), factors))
        for scale in scales
    ]
    errors = [error(codes * product.matrices(scale) - w, h) for scale, codes in tried]
    scale, codes = _best(product, [(*pair, e) for pair, e in zip(tried, errors, strict=True)])
    return Codes(scale, form.tensor(codes).astype(kind))


def given_codes(product: Product, bench: Bench, draft: Draft) -> Codes | None:
    """Codes that a weight has already."""
    return draft.codes.get(product.weight) or bench.insert.codes.get(product.weight)


def _present(product: Product, bench: Bench, draft: Draft) -> tuple[Codes, list[Array]]:
    """The codes of a weight as it stands, and the scales to try."""
    options, spec = bench.insert, product.spec
    given = given_codes(product, bench, draft)
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
    title: str,
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

    nodes = {product.weight: product.nodes for product in products}
    kept = keep(
        [ranked],
        bench.errors(draft),
        lambda weights: bench.errors(better(weights)),
        bench.jury.worst_fall,
        fewer(lambda weight, output: bench.reaches(nodes[weight], output)),
    )
    gains = {node: found[w].gain for w in kept.items for node in nodes[w]}
    undone = {n: NO_GAIN for w, its in nodes.items() if w not in found for n in its} | undone
    undone |= kept.reasons(lambda weight: nodes[weight])
    outcome = Outcome(title, gains, undone, sqnr(kept.before), sqnr(kept.after))
    return (better(kept.items) if kept.items else draft), outcome
