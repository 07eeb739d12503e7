"""What a Softmax cannot see sets no range: scores that a mask hides, and the mask itself.

    Softmax(s + m),  |s| <= A,  m = 0 where a score counts, else -10000, -3.4e38 or -inf

A row has a score that counts, of -A at least; exp(-24) of it is nothing to 16 bits. So s + m need
not reach below -A - 24, nor m below -2A - 24: what lies below is counted there, and saturates.
With a scale of c between them and the Softmax, as in Softmax(c (s + m)), 24 is 24 / c.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from onnxq.calib.histogram import BINS, Histogram, from_counts
from onnxq.calib.masks import ADD, MOVE, SCALE
from onnxq.calib.stats import Stats
from onnxq.model.graph import WEIGHTED, Graph, Node, Tensor, constant_of, is_output, producer

UNSEEN = 24.0  # exp(-24) is 4e-11
PRODUCTS = (*WEIGHTED, "Einsum")


@dataclass
class _Path:
    """What leads to one Softmax: tensors with the factor from each to the Softmax, and nodes."""

    factors: dict[str, tuple[Tensor, float]] = field(default_factory=dict)
    nodes: set[int] = field(default_factory=set)


def without_hidden(graph: Graph, stats: Stats) -> Stats:
    """`stats` with what masks hide counted where it may saturate; the same where nothing is hidden
    that is not in reach of the scores."""
    paths = [_path_to(node) for node in graph.nodes if node.op == "Softmax"]
    inside = {id(n) for n in graph.nodes if n.op == "Softmax"}.union(*(p.nodes for p in paths))
    lowest: dict[str, float] = {}
    for path in paths:
        for name, low in _lowest(path, stats):
            lowest[name] = min(low, lowest.get(name, 0.0))
    tensors = {n: t for path in paths for n, (t, _) in path.factors.items()}
    free = {n for n, t in tensors.items()
            if not is_output(graph, t) and all(id(r) in inside for r in t.outputs)}  # fmt: skip
    cut = {
        name: raised(stats[name], low)
        for name, low in lowest.items()
        if name in free and stats[name].min < low
    }
    return replace(stats, histograms={**stats.histograms, **cut}) if cut else stats


def raised(histogram: Histogram, low: float) -> Histogram:
    """The histogram with every value below `low`, which is negative, counted as `low`."""
    bottom = int(np.float32(low).view(np.uint32)) >> 16
    below = (histogram.bins >= bottom) & (histogram.bins <= 0xFF80)  # up to -inf, without NaN
    counts = np.zeros(BINS, np.int64)
    counts[histogram.bins[~below]] = histogram.counts[~below]
    counts[bottom] += histogram.counts[below].sum()
    return from_counts(counts, max(histogram.min, float(np.float32(low))), histogram.max)


def _path_to(softmax: Node) -> _Path:
    """What is added, chosen and moved to become the input of a Softmax."""
    path, waiting = _Path(), [(softmax.inputs[0], 1.0)]
    while waiting:
        tensor, factor = waiting.pop()
        if tensor.name in path.factors or constant_of(tensor) is not None:
            continue
        path.factors[tensor.name] = tensor, factor
        node = producer(tensor)
        scale = None if node is None else _scale(node)
        if node is None or scale is None:
            continue
        path.nodes.add(id(node))
        waiting += [(t, factor * scale) for t in _data(node)]
    return path


def _data(node: Node) -> list[Tensor]:
    """The inputs of a node on the way to a Softmax that hold scores or a mask."""
    if node.op == "Where":
        return list(node.inputs[1:])
    return list(node.inputs[:1] if node.op in MOVE else node.inputs)


def _scale(node: Node) -> float | None:
    """What a node multiplies by; None for one that does not lead on."""
    if node.op in ADD or node.op in MOVE:
        return 1.0
    if node.op not in SCALE:
        return None
    values = next((v for t in node.inputs if (v := constant_of(t)) is not None), None)
    if values is None or values.size != 1 or (node.op == "Div" and constant_of(node.inputs[0])):
        return None
    by = float(values.reshape(-1)[0])
    return None if by <= 0 else by if node.op == "Mul" else 1 / by


def _lowest(path: _Path, stats: Stats) -> Iterator[tuple[str, float]]:
    """Each counted tensor that holds or has met a mask, with the lowest value that can be seen."""
    kinds = {name: _kind(tensor, path) for name, (tensor, _) in path.factors.items()}
    scores = [stats.histograms[n].amax * path.factors[n][1] for n, k in kinds.items()
              if k == "scores" and n in stats.histograms]  # fmt: skip
    if not scores or not np.isfinite(reach := max(scores)):
        return
    for name, kind in kinds.items():
        if kind != "scores" and name in stats.histograms:
            times = 1 if kind == "both" else 2
            yield name, -(times * reach + UNSEEN) / path.factors[name][1]


def _kind(tensor: Tensor, path: _Path) -> str:
    """ "scores" of a product alone, a "mask" without them, or "both"."""
    node = producer(tensor)
    if node is None or id(node) not in path.nodes:
        return "scores" if node is not None and node.op in PRODUCTS else "mask"
    if node.op in SCALE:
        return _kind(next(t for t in node.inputs if constant_of(t) is None), path)
    kinds = {"mask" if constant_of(t) is not None else _kind(t, path) for t in _data(node)}
    return kinds.pop() if len(kinds) == 1 else "both"
