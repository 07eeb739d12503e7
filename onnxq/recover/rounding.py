"""Round weights by what their ops read, not each to the nearest code.

For each weight with Gram matrix H of its inputs the codes are those of `feedback.rounded`. On
samples that they are not fitted to they must lower the error of the op, tr(E H E^T), or the weight
stays as it was. In the end the codes of the n, n/2, n/4 ... weights that gain most are kept, the
most that raise the SQNR on average over the outputs and lower it at none.

At 4 bits the range of a weight matters as much as its rounding: there, for each scale, one that
clips is tried beside the one that does not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxq.calib.weights import weight_mse
from onnxq.graph import Graph, constant_of, node_by_name
from onnxq.numerics import amax_of, decibels, quantize, spread
from onnxq.passes.insert_qdq import DATA_TYPES, Codes, Weight, weight_scale
from onnxq.plan import Plan
from onnxq.recover.draft import Bench, Draft, Outcome
from onnxq.recover.feedback import error, grid_of, rounded
from onnxq.recover.gram import Grams, collect_grams
from onnxq.recover.judge import CEILING
from onnxq.recover.unroll import Form, Reading, reading_of
from onnxq.spec import QuantSpec

Array = npt.NDArray[Any]

NARROW = 4  # bits up to which clipping is tried
SUMS, IN_FLIGHT, SOLVING = 16, 4, 40  # bytes an entry of H: two sums, each worker's, the factors
NO_GAIN = "rounds to nearest as well on other samples"
LOWERS = "lowers the SQNR of an output"
NO_ROOM = "its Gram matrix has no room in {room} MB; raise --max-memory"


@dataclass(frozen=True)
class _Product:
    """A weight to round: the nodes that hold it, how often each way of reading occurs, its form."""

    weight: Weight
    values: Array
    nodes: tuple[str, ...]
    readings: Mapping[Reading, int]
    form: Form

    @property
    def spec(self) -> QuantSpec:
        return self.weight[1]

    @property
    def entries(self) -> int:
        """Numbers in its Gram matrix."""
        groups, _, inputs = self.form.matrix
        return groups * inputs * inputs

    def sum(self, grams: Grams) -> Array:
        """Its Gram matrix over all nodes."""
        terms = [times * grams[reading] for reading, times in self.readings.items()]
        return terms[0] if len(terms) == 1 else np.asarray(sum(terms))

    def matrices(self, scale: Array) -> Array:
        """The scale of each weight."""
        wide = np.broadcast_to(spread(scale, self.values.shape, self.spec), self.values.shape)
        return self.form.matrices(wide.astype(np.float64))


@dataclass(frozen=True)
class _Found:
    """New codes of a weight; gain: dB at its op on held-out samples."""

    codes: Codes
    gain: float


def round_weights(bench: Bench, draft: Draft) -> tuple[Draft, Outcome]:
    """The draft with the codes of weights that rounding helps, and what it brought.

    Raises ModelError for a model that cannot be run, DataError for samples that do not fit it.
    """
    products, undone = _products(draft.graph, bench.plan)
    groups, too_large = _groups(products, bench)
    no_room = NO_ROOM.format(room=bench.max_memory >> 20)
    undone |= {node: no_room for product in too_large for node in product.nodes}
    if not groups or not bench.judged:
        return draft, Outcome("rounding", undone=undone)
    found: dict[Weight, _Found] = {}
    ticks = count(1)
    for group in groups:
        fit, held = collect_grams(
            draft.graph,
            {r: p.form.matrix[2] for p in group for r in p.readings},
            bench.chosen,
            [bench.fit, bench.held],
            runtime=bench.runtime,
            workers=bench.workers,
            done=lambda: bench.progress(next(ticks), len(groups) * len(bench.chosen)),
        )
        for product in group:
            better = _solve(product, fit, held, bench, draft)
            if better is not None:
                found[product.weight] = better
    return _settled(bench, draft, products, found, undone)


def _products(graph: Graph, plan: Plan) -> tuple[list[_Product], dict[str, str]]:
    """The weights that the plan quantizes, once each; node -> why it cannot be rounded here."""
    nodes = node_by_name(graph)
    readers: dict[Weight, dict[str, tuple[Reading, Form] | str]] = {}
    values: dict[str, Array] = {}
    for edge, spec in plan.edges.items():
        tensor = nodes[edge.node].inputs[edge.input]
        constant = constant_of(tensor)
        if constant is not None:
            values[tensor.name] = constant
            read = readers.setdefault((tensor.name, spec), {})
            read[edge.node] = reading_of(nodes[edge.node], edge.input)
    products = []
    undone: dict[str, str] = {}
    for weight, found in readers.items():
        known = [pair for pair in found.values() if not isinstance(pair, str)]
        unknown = {node: why for node, why in found.items() if isinstance(why, str)}
        forms = {form for _, form in known}
        if unknown or len(forms) > 1:
            others = ", ".join(f"'{node}'" for node in found)
            undone |= dict.fromkeys(found, f"its weight is read in different ways by {others}")
            undone |= unknown
            continue
        readings = Counter(reading for reading, _ in known)
        products.append(_Product(weight, values[weight[0]], tuple(found), readings, forms.pop()))
    return products, undone


def _groups(
    products: Sequence[_Product], bench: Bench
) -> tuple[list[list[_Product]], list[_Product]]:
    """Products whose Gram matrices are held at once; those whose own have no room."""
    each = SUMS + bench.workers * IN_FLIGHT
    groups: list[list[_Product]] = []
    too_large: list[_Product] = []
    held: set[Reading] = set()
    used = most = 0
    for product in products:
        solving = product.entries * SOLVING
        if product.entries * each * len(product.readings) + solving > bench.max_memory:
            too_large.append(product)
            continue
        needed = product.entries * each * len(product.readings.keys() - held)
        if not groups or used + needed + max(most, solving) > bench.max_memory:
            groups.append([])
            held, used, most = set(), 0, 0
            needed = product.entries * each * len(product.readings)
        groups[-1].append(product)
        held |= product.readings.keys()
        used, most = used + needed, max(most, solving)
    return groups, too_large


def _solve(product: _Product, fit: Grams, held: Grams, bench: Bench, draft: Draft) -> _Found | None:
    """The codes that lower the error of the op on held-out samples; None where none do."""
    spec, form = product.spec, product.form
    w, h = form.matrices(product.values.astype(np.float64)), product.sum(fit)
    old, scales = _present(product, bench, draft)
    tried = []
    for scale in scales:
        s = product.matrices(scale)
        codes = rounded(w, s, h, grid_of(spec))
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


def _present(product: _Product, bench: Bench, draft: Draft) -> tuple[Codes, list[Array]]:
    """The codes of a weight as it stands, and the scales to try."""
    options, spec = bench.insert, product.spec
    given = draft.codes.get(product.weight) or options.codes.get(product.weight)
    if given is not None:
        return given, [given.scale]
    dtype = product.values.dtype
    if dtype != np.float32:
        options = replace(options, scale_dtype=DATA_TYPES[dtype])
    scale = weight_scale(product.values, spec, options)
    scales = [scale]
    if spec.row.bits <= NARROW and spec.row.fixed_scale is None:
        clipped = replace(options, weight_range=weight_mse)
        scales.append(weight_scale(product.values, spec, clipped))
    return Codes(scale, quantize(product.values, scale, spec)), scales


def _best(product: _Product, tried: Sequence[tuple[Array, Array, Array]]) -> tuple[Array, Array]:
    """(scale, codes) with the least error of those tried; row by row where rows share no scale."""
    errors = np.stack([e for _, _, e in tried])
    if not _rows_apart(product):
        scale, codes, _ = tried[int(errors.sum(axis=(1, 2)).argmin())]
        return scale, codes
    choice = errors.argmin(axis=0)[..., None]
    codes = np.choose(choice, [c for _, c, _ in tried])
    wide = product.form.tensor(np.broadcast_to(choice, product.form.matrix))
    which = amax_of(wide, product.spec).astype(np.intp)
    return np.choose(which, [s for s, _, _ in tried]).astype(np.float32), codes


def _rows_apart(product: _Product) -> bool:
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
    products: Sequence[_Product],
    found: Mapping[Weight, _Found],
    undone: dict[str, str],
) -> tuple[Draft, Outcome]:
    """The draft with the codes of the first n, n/2, n/4 ... weights that gain most: the most that
    no output argues against."""
    before = bench.outputs(draft)
    ranked = sorted(found, key=lambda weight: -found[weight].gain)
    kept, after, worst = len(ranked), before, ""
    while kept:
        codes = {weight: found[weight].codes for weight in ranked[:kept]}
        tried = replace(draft, codes={**draft.codes, **codes})
        after = bench.outputs(tried)
        fall = bench.worst_fall(before, after)
        if fall is None:
            draft = tried
            break
        kept, after, worst = kept // 2, before, worst or fall
    chosen = set(ranked[:kept])
    gains: dict[str, float] = {}
    for product in products:
        if product.weight in chosen:
            gains |= dict.fromkeys(product.nodes, found[product.weight].gain)
        elif product.weight in found:
            undone |= dict.fromkeys(product.nodes, f"{LOWERS}: '{worst}'")
        else:
            undone = dict.fromkeys(product.nodes, NO_GAIN) | undone
    return draft, Outcome("rounding", gains, undone, bench.sqnr(before), bench.sqnr(after))
