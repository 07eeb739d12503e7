"""The weights that a plan quantizes, as products with what their ops read.

An op's output is W x (see `unroll`), so the squared error of its output, if its weight is changed
by E, is tr(E H E^T) with the Gram matrix H of what it reads. All that refines weights goes through
products, as many at once as memory has room for their Gram matrices.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxq.arrays import Array
from onnxq.calib.data import Dataset
from onnxq.model.graph import Graph, constant_of, node_by_name
from onnxq.numerics import spread
from onnxq.passes.insert_qdq import Weight
from onnxq.plan import Plan
from onnxq.progress import counting
from onnxq.recover.draft import Bench, Draft
from onnxq.recover.gram import Grams, collect_grams
from onnxq.recover.unroll import Form, Operand, reading_of
from onnxq.spec import QuantSpec

SUMS, IN_FLIGHT, SOLVING = 16, 4, 40  # bytes an entry of H: two sums, each worker's, the factors
NO_ROOM = "its Gram matrix has no room in {room} MB; raise --max-memory"


@dataclass(frozen=True)
class Product:
    """A weight to round: the nodes that hold it, how often each way of reading occurs, its form."""

    weight: Weight
    values: Array
    nodes: tuple[str, ...]
    readings: Mapping[Operand, int]
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


def products_of(graph: Graph, plan: Plan) -> tuple[list[Product], dict[str, str]]:
    """The weights that the plan quantizes, once each; node -> why it cannot be rounded here."""
    nodes = node_by_name(graph)
    readers: dict[Weight, dict[str, tuple[Operand, Form] | str]] = {}
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
        products.append(Product(weight, values[weight[0]], tuple(found), readings, forms.pop()))
    return products, undone


def groups_of(
    products: Sequence[Product], bench: Bench
) -> tuple[list[list[Product]], dict[str, str]]:
    """Products whose Gram matrices are held at once; node -> why its own have no room."""
    each = SUMS + bench.workers * IN_FLIGHT
    groups: list[list[Product]] = []
    too_large: dict[str, str] = {}
    why = NO_ROOM.format(room=bench.max_memory >> 20)
    held: set[Operand] = set()
    used = most = 0
    for product in products:
        solving = product.entries * SOLVING
        if product.entries * each * len(product.readings) + solving > bench.max_memory:
            too_large |= dict.fromkeys(product.nodes, why)
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


def with_grams(
    groups: Sequence[Sequence[Product]], bench: Bench, draft: Draft, samples: Dataset
) -> Iterator[tuple[Product, Grams, Grams]]:
    """Each product, and the Gram matrices of what the draft's ops read in the samples to fit to
    and in those held out, for its whole group.

    samples: `bench.chosen`, or more of which those are the first.

    Raises ModelError for a model that cannot be run, DataError for samples that do not fit it.
    """
    tick = counting("inputs", len(groups) * len(samples))
    solved = counting("weights", sum(map(len, groups)))
    for group in groups:
        fit, held = collect_grams(
            draft.graph,
            {r: p.form.matrix[2] for p in group for r in p.readings},
            samples,
            [range(bench.fit.start, len(samples)), bench.held],
            runtime=bench.runtime,
            workers=bench.workers,
            done=tick,
        )
        for product in group:
            yield product, fit, held
            solved()
