"""Where to cut a graph so that rerunning it from toggled nodes on costs least.

A toggle reruns its segment and what follows. So with segments that start at positions a < b < ...

    cost = sum over segments [a, b) of   toggles(a, b) * (time(a, end) + build(a, b) / samples)
         + sum over cuts a of            toggles(0, a) * (call + bytes crossing a / bandwidth)

which a shortest path over the possible cuts minimizes: the narrowest one between every two toggled
nodes. Times are rough, which moves cuts a little and scores not at all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import numpy as np

from onnxq.arrays import Array
from onnxq.model.graph import Graph, Node, Tensor
from onnxq.run import segments
from onnxq.run.segments import Segment, Shapes
from onnxq.sensitivity.cost import macs, parameters

MACS, BANDWIDTH = 1.5e10, 1e10  # a second, on one thread
CALL = 1e-4  # seconds to run a session at all
BUILD, WEIGHTS = 1e-3, 2e8  # seconds to build one, for each node; bytes of weights a second
HELD = 1e-9  # share of all time that a byte less to hold is worth
UNKNOWN = 1 << 20  # bytes of a tensor whose shape is not known


def cut(
    graph: Graph, toggled: Collection[str], scored: Collection[str], shapes: Shapes, samples: int
) -> list[Segment]:
    """The segments of `graph`; `toggled` names nodes, `scored` tensors that must be outputs.

    `shapes` are those of the tensors, as far as known. Expects a graph from `segments.restrict`.
    """
    nodes = graph.nodes
    places = [p for p, node in enumerate(nodes) if node.name in toggled]
    crossing = _crossing(graph, shapes)
    starts = np.array([0, *_candidates(places, crossing), len(nodes)])
    sizes = np.array([0, *(_bytes(crossing[a - 1]) for a in starts[1:-1]), 0])
    seconds = [_seconds(node, shapes) for node in nodes]
    costs = _Costs(
        starts,
        np.searchsorted(places, starts),
        _summed(seconds)[starts],
        _summed(_build_seconds(node) / max(samples, 1) for node in nodes)[starts],
        CALL + sizes / BANDWIDTH,
        HELD * sizes * sum(seconds) * len(places),
    )
    return segments.cut_at(graph, [*_path(costs), len(nodes)], scored)


@dataclass(frozen=True)
class _Costs:
    """What is known of every possible start of a segment, the end of the graph being the last.

    toggles, time, build: those of all nodes before it. call: what a toggle before it pays for it.
    held: the price of the memory that it takes.
    """

    starts: Array
    toggles: Array
    time: Array
    build: Array
    call: Array
    held: Array


def _summed(values: Iterable[float]) -> Array:
    return np.concatenate([[0.0], np.cumsum(list(values))])


def _path(costs: _Costs) -> list[int]:
    """Positions of the cuts of least cost."""
    least = np.zeros(len(costs.starts))
    came = np.zeros(len(costs.starts), np.int64)
    for k in range(1, len(least)):
        rerun = costs.time[-1] - costs.time[:k] + costs.build[k] - costs.build[:k]
        here = (costs.toggles[k] - costs.toggles[:k]) * rerun
        total = least[:k] + here + costs.toggles[:k] * costs.call[:k] + costs.held[:k]
        came[k] = int(total.argmin())
        least[k] = total[came[k]]
    cuts = []
    k = int(came[-1])
    while k > 0:
        cuts.append(int(costs.starts[k]))
        k = int(came[k])
    return cuts[::-1]


def _candidates(places: Sequence[int], crossing: Sequence[int | None]) -> list[int]:
    """Before each toggled node but the first, the narrowest start after the one before it.

    Of equally narrow ones the last: between an op and its activation function both are as narrow.
    """
    narrowest = []
    for last, place in pairwise(places):
        free = [a for a in range(last + 1, place + 1) if crossing[a - 1] is not None]
        if free:
            narrowest.append(min(reversed(free), key=lambda a: _bytes(crossing[a - 1])))
    return narrowest


def _crossing(graph: Graph, shapes: Shapes) -> list[int | None]:
    """Bytes of what is written up to each node and read after it; None where no cut can be."""
    tensors = graph.tensors()
    live: dict[str, int | None] = {}
    bytes_across: list[int | None] = []
    for segment in segments.cut_at(graph, range(1, len(graph.nodes) + 1), ()):
        live.update({name: _size(tensors[name], shapes) for name in segment.outputs})
        for name in segment.dead:
            live.pop(name, None)
        sizes = list(live.values())
        bytes_across.append(None if None in sizes else sum(map(_bytes, sizes)))
    return bytes_across


def _bytes(size: int | None) -> int:
    return size or 0


def _size(tensor: Tensor, shapes: Shapes) -> int | None:
    """Bytes of a tensor; None where NumPy cannot hold it between two runs."""
    if not segments.can_cross(tensor):
        return None
    shape = shapes.get(tensor.name)
    return UNKNOWN if shape is None else prod(shape) * int(np.dtype(tensor.dtype).itemsize)


def _seconds(node: Node, shapes: Shapes) -> float:
    moved = (*node.inputs[:1], *node.outputs)
    touched = sum(_bytes(_size(t, shapes)) for t in moved if t.name in shapes)
    return macs(node, shapes) / MACS + touched / BANDWIDTH


def _build_seconds(node: Node) -> float:
    return BUILD + 4 * parameters(node) / WEIGHTS
