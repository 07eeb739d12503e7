"""The range of an activation that the ops which read it are best with.

A range r becomes c r with the c of `SHARES` that has the least

    sum over the ops that read it of |W (Q_c(x) - x)|^2 / |W x|^2

over some positions of some samples. Tensors that share a range are one. A range that other ops
read as well, or two activations that are multiplied, is left as it is: what its error does there
is not known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from onnxq.arrays import Array, Sample
from onnxq.calib.ranges import Ranges
from onnxq.judge.verdict import CEILING
from onnxq.model.graph import Graph, constant_of, node_by_name
from onnxq.numerics import Limit, decibels, dequantize, grid_of, quantize
from onnxq.plan import Plan
from onnxq.progress import steps
from onnxq.recover.draft import Bench
from onnxq.recover.gram import passing
from onnxq.recover.unroll import Operand, columns, reading_of
from onnxq.run.program import Program, compile_program
from onnxq.spec import QuantSpec

SHARES = 2.0 ** (np.arange(-8, 5) / 8)  # half to one and a half; 1 is among them
AS_IT_IS = int(np.argmin(np.abs(np.log(SHARES))))
POSITIONS = 1024  # of all samples together, that errors are summed over


@dataclass(frozen=True)
class RangeReader:
    """An op that multiplies a quantized activation by a weight: (groups, N, K)."""

    node: str
    reading: Operand
    spec: QuantSpec
    limit: Limit
    matrices: Array


@dataclass(frozen=True)
class Refined:
    """The share of its range that a group of tensors does best with; gain: dB at the ops that read
    them, on samples that judge."""

    tensors: tuple[str, ...]
    nodes: tuple[str, ...]
    share: float
    gain: float


def refined(bench: Bench, graph: Graph, ranges: Ranges) -> list[Refined]:
    """The best share for each group of tensors whose readers are all known."""
    readers = _readers(graph, bench.plan, ranges)
    if not readers:
        return []
    every = [reader for group in readers.values() for reader in group]
    names = list(dict.fromkeys(reader.reading.tensor for reader in every))
    program = compile_program(graph, names, bench.runtime)
    most = -(-POSITIONS // max(1, len(bench.fit)))

    def measure(i: int) -> dict[str, Array]:
        return _errors(program, every, bench.chosen.sample(i), most)

    with ThreadPoolExecutor(bench.workers, "ranges") as pool:
        samples = len(bench.fit) + len(bench.held)
        errors = list(steps("ranges", pool.map(measure, [*bench.fit, *bench.held]), samples))
    fit, held = _summed(errors[: len(bench.fit)]), _summed(errors[len(bench.fit) :])
    found = []
    for tensors, group in readers.items():
        fitted, judged = (_relative(group, sums) for sums in (fit, held))
        best = int(fitted.argmin()) if fitted.min() < fitted[AS_IT_IS] else AS_IT_IS
        gain = decibels(judged[AS_IT_IS], judged[best]) if best != AS_IT_IS else 0.0
        nodes = tuple(dict.fromkeys(reader.node for reader in group))
        found.append(Refined(tensors, nodes, float(SHARES[best]), min(gain, CEILING)))
    return found


def _readers(graph: Graph, plan: Plan, ranges: Ranges) -> dict[tuple[str, ...], list[RangeReader]]:
    """Tensors with one range -> the ops that read them, where all of these are products."""
    nodes = node_by_name(graph)
    tied = {name: group for group in plan.tied for name in group}
    found: dict[tuple[str, ...], list[RangeReader]] = {}
    unknown: set[tuple[str, ...]] = set()
    for edge, spec in plan.edges.items():
        node = nodes[edge.node]
        tensor = node.inputs[edge.input]
        if constant_of(tensor) is not None:
            continue
        source = plan.source.get(tensor.name, tensor.name)
        group = tied.get(source, (source,))
        other = 1 - edge.input
        weight = constant_of(node.inputs[other]) if 0 <= other < len(node.inputs) else None
        known = "no weight" if weight is None else reading_of(node, other)
        fixed = spec.row.fixed_scale is not None or spec.block_size is not None
        if weight is None or isinstance(known, str) or fixed:
            unknown.add(group)
            continue
        reading, form = known
        matrices = form.matrices(weight.astype(np.float32))
        reader = RangeReader(edge.node, reading, spec, ranges[source].limit, matrices)
        found.setdefault(group, []).append(reader)
    return {group: its for group, its in found.items() if group not in unknown}


def _errors(
    program: Program, readers: Sequence[RangeReader], sample: Sample, most: int
) -> dict[str, Array]:
    """Node -> the squared error of its output with each share of its range, then its power."""
    return {
        reader.node: _error(reader, columns(reader.reading, values[reader.reading.tensor], most))
        for values in passing(program, sample)
        for reader in readers
        if reader.reading.tensor in values
    }


def _error(reader: RangeReader, x: Array) -> Array:
    every = np.concatenate([*(_rounded(x, reader, share) - x for share in SHARES), x], axis=-1)
    y = (reader.matrices @ every).reshape(*reader.matrices.shape[:2], len(SHARES) + 1, -1)
    return np.asarray(np.square(y).sum(axis=(0, 1, 3), dtype=np.float64))


def _rounded(x: Array, reader: RangeReader, share: float) -> Array:
    scale, zero = grid_of(scaled(reader.limit, share), reader.spec)
    return dequantize(quantize(x, scale, reader.spec, zero), scale, reader.spec, zero)


def scaled(limit: Limit, share: float) -> Limit:
    """`share` times a range."""
    return (limit[0] * share, limit[1] * share) if isinstance(limit, tuple) else limit * share


def _summed(samples: Iterable[dict[str, Array]]) -> dict[str, Array]:
    """Sums over samples, in their order."""
    sums: dict[str, Array] = {}
    for errors in samples:
        for node, error in errors.items():
            sums[node] = sums[node] + error if node in sums else error
    return sums


def _relative(group: Sequence[RangeReader], sums: Mapping[str, Array]) -> Array:
    """For each share the error of the outputs, as parts of their power, of all ops together."""
    every = [sums[reader.node] for reader in group]
    return np.asarray(sum(e[:-1] / e[-1] if e[-1] > 0 else e[:-1] for e in every))
