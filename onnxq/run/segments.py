"""Cut a graph into consecutive segments that run one after the other.

Running the segments in order over a dict of live tensors equals running the whole graph, with only
the tensors of one segment and its boundaries in memory. Nodes are in topological order, so every
position between two nodes is a valid cut; what crosses it (residuals included) becomes a boundary:

    boundaries(p) = tensors written at or before node p and read after it

A cut is taken where the boundaries that nobody asked for are smallest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeVar

import numpy as np
import onnx_graphsurgeon as gs

from onnxq.errors import ModelError
from onnxq.model import graph as graphs
from onnxq.model.graph import Graph, Node, Tensor
from onnxq.passes.floats_for_fp4 import floats_for_fp4
from onnxq.passes.infer_shapes import infer_shapes

Shapes = Mapping[str, tuple[int, ...]]
T = TypeVar("T")  # a tensor that is live: an array, or one on a device

SEGMENT_BYTES = 1 << 20  # observed output a segment: fits the cache of a core
USUAL_AXIS = 512  # most image sizes and sequence lengths are near, and strides divide it


@dataclass(frozen=True)
class Segment:
    """Consecutive nodes of a graph.

    inputs: tensors it reads that other segments or the caller provide.
    outputs: tensors it writes that are observed or that later segments read.
    dead: tensors among inputs and outputs that no later segment reads.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dead: tuple[str, ...]

    def advance(
        self, live: dict[str, T], run: Callable[[dict[str, T]], dict[str, T]]
    ) -> dict[str, T]:
        """Run the segment on live tensors, which gain what it writes and lose what is dead then;
        returns what `run` wrote from its inputs."""
        values = run({name: live[name] for name in self.inputs})
        live.update(values)
        for name in self.dead:
            del live[name]
        return values


@graphs.uncollected()
def restrict(graph: Graph, outputs: Sequence[str]) -> Graph:
    """A copy of `graph` that computes `outputs` alone, with every type that can be inferred.

    FP4 is computed in float. Constants are shared with `graph`, Constant nodes become constants
    unless they write one of the outputs, nodes are in topological order. Raises ModelError for an
    output that the main graph does not write.
    """
    copy = graph.copy()
    floats_for_fp4(copy)
    reduced(copy, outputs)
    infer_shapes(copy)
    return copy


@graphs.uncollected()
def reduced(graph: Graph, outputs: Sequence[str]) -> Graph:
    """`graph` itself, changed to compute `outputs` alone: enough to run it in one session. Else as
    `restrict`."""
    tensors = graph.tensors()
    missing = [name for name in outputs if name not in tensors]
    if missing:
        raise ModelError(f"the graph '{graph.name}' has no tensor '{missing[0]}'; check the name")
    graph.outputs = [tensors[name] for name in outputs]
    graph.cleanup(remove_unused_node_outputs=False).toposort()
    for node in [n for n in graph.nodes if n.op == "Constant"]:
        out = node.outputs[0]
        if graphs.is_output(graph, out):
            continue  # a session writes it
        value = graphs.constant_of(out)
        if value is not None:
            node.outputs.clear()
            out.to_constant(value)
    graph.nodes[:] = [n for n in graph.nodes if n.outputs]
    _forget_outputs(graph)
    return graph


def _forget_outputs(graph: Graph) -> None:
    """Inference believes what an output declares; this is what it need not."""
    for tensor in graph.outputs:
        if tensor.inputs and graphs.is_standard(tensor.inputs[0]):
            tensor.shape = None


def shapes_at(graph: Graph, inputs: Shapes) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of `graph` where its inputs have the shapes `inputs`, as far as they
    can be known.
    """
    known = ((name, static_shape(t)) for name, t in _at(graph, inputs).tensors().items())
    return {name: shape for name, shape in known if shape is not None}


def _at(graph: Graph, inputs: Shapes) -> Graph:
    """`graph`, or a copy of it with the shapes that follow from those of the inputs."""
    if all(static_shape(t) == inputs.get(t.name) for t in graph.inputs):
        return graph
    copy = graph.copy()
    for tensor in copy.inputs:
        if tensor.name in inputs:
            tensor.shape = list(inputs[tensor.name])
    _forget_outputs(copy)
    infer_shapes(copy)
    return copy


def usual_inputs(graph: Graph) -> dict[str, tuple[int, ...]]:
    """Shapes of the inputs of a graph, with a usual length for every axis of unknown length."""
    return {t.name: _usual(t.shape) for t in graph.inputs if t.shape is not None}


def _usual(shape: Sequence[int | str | None]) -> tuple[int, ...]:
    """A shape with a usual length for every axis of unknown length: 1 for the first."""
    return tuple(
        d if isinstance(d, int) else USUAL_AXIS if axis else 1 for axis, d in enumerate(shape)
    )


def static_shape(tensor: Tensor) -> tuple[int, ...] | None:
    """Shape of a tensor where every dimension is known, else None."""
    if tensor.shape is None or not all(isinstance(d, int) for d in tensor.shape):
        return None
    return tuple(tensor.shape)


def cut(
    graph: Graph,
    observed: Collection[str],
    segment_bytes: int = 0,
    sizes: Mapping[str, int] | None = None,
) -> list[Segment]:
    """The segments of `graph`, in order, each with about `segment_bytes` of observed output.

    Every name in `observed` that the graph writes is an output of one segment. A cut is never
    made where a tensor of unknown type would cross it: with no types at all there is one segment.
    An axis of unknown length counts as USUAL_AXIS, the first as 1; 0 stands for SEGMENT_BYTES.
    `sizes` gives the bytes of the tensors of a graph whose shapes onnx cannot infer; one that it
    lacks counts as the largest. Expects a graph from `restrict`.
    """
    last_read = _last_read(_all_reads(graph))
    unknown = 0 if sizes is None else max(sizes.values(), default=0)
    sizes = usual_sizes(graph) if sizes is None else sizes
    costs = list(_cut_costs(graph, observed, last_read, sizes, unknown))
    filling = [
        sum(sizes.get(t.name, 0) for t in node.outputs if t.name in observed)
        for node in graph.nodes
    ]
    return cut_at(graph, _choose(costs, filling, segment_bytes or SEGMENT_BYTES), observed)


def crossing_bytes(graph: Graph) -> list[int | None]:
    """For the position after each node the bytes that cross it at usual lengths; None where it
    cannot be cut. Expects a graph from `restrict`."""
    last_read = _last_read(_all_reads(graph))
    return list(_cut_costs(graph, (), last_read, usual_sizes(graph), 0))


def cut_at(graph: Graph, ends: Sequence[int], observed: Collection[str]) -> list[Segment]:
    """The segments of `graph` that end before the positions `ends`, which rise to its length."""
    reads = _all_reads(graph)
    last_read = _last_read(reads)
    return [
        _segment(graph, range(start, end), reads, last_read, observed)
        for start, end in zip([0, *ends], ends, strict=False)
    ]


def _all_reads(graph: Graph) -> list[list[Tensor]]:
    return [[t for t in reads(node) if not isinstance(t, gs.Constant)] for node in graph.nodes]


def _last_read(reads: Sequence[Sequence[Tensor]]) -> dict[str, int]:
    return {t.name: p for p, tensors in enumerate(reads) for t in tensors}


def usual_sizes(graph: Graph) -> dict[str, int]:
    """About how many bytes the tensors of `graph` have. The data is left out of it, or its first
    sample would decide where the graph is cut and thereby how ONNX Runtime fuses it and rounds.
    """
    inputs = usual_inputs(graph)
    return {
        name: prod(_usual(t.shape)) * np.dtype(t.dtype).itemsize
        for name, t in _at(graph, inputs).tensors().items()
        if t.shape is not None and can_cross(t)
    }


def reads(node: Node) -> Iterator[Tensor]:
    """Tensors that `node` reads, those its subgraphs capture from outside included."""
    yield from (t for t in node.inputs if t.name)
    for body in node.subgraphs():
        inner = {t.name for t in body.inputs} | {t.name for n in body.nodes for t in n.outputs}
        captured = [t for n in body.nodes for t in reads(n)] + list(body.outputs)
        yield from (t for t in captured if t.name and t.name not in inner)


def _cut_costs(
    graph: Graph,
    observed: Collection[str],
    last_read: Mapping[str, int],
    sizes: Mapping[str, int],
    unknown: int,
) -> Iterator[int | None]:
    """For the position after each node: bytes that cross it unobserved; None: cannot cut here."""
    live: dict[str, int | None] = {}
    ending: dict[int, list[str]] = {}
    for p, node in enumerate(graph.nodes):
        for t in node.outputs:
            if t.name and last_read.get(t.name, p) > p:
                size = 0 if t.name in observed else sizes.get(t.name, unknown)
                live[t.name] = size if can_cross(t) else None
                ending.setdefault(last_read[t.name], []).append(t.name)
        for name in ending.pop(p, ()):
            del live[name]
        crossing = list(live.values())
        yield None if None in crossing else sum(size or 0 for size in crossing)


def can_cross(tensor: Tensor) -> bool:
    """Whether NumPy can hold the tensor between two runs."""
    if tensor.dtype is None or getattr(tensor, "type", "tensor_type") != "tensor_type":
        return False
    try:
        return np.dtype(tensor.dtype).kind in "fiub"
    except TypeError:
        return False  # an ONNX type that NumPy has no equal of


def _choose(costs: Sequence[int | None], sizes: Sequence[int], target: int) -> list[int]:
    """End positions (exclusive) of the segments: once half of `target` is observed, the cheapest
    cut before the next observed tensor would exceed it.
    """
    ends: list[int] = []
    p, filled = 0, 0
    best: int | None = None
    while p < len(sizes) - 1:
        filled += sizes[p]
        cost = costs[p]
        if 2 * filled >= target and cost is not None:
            least = costs[best] if best is not None else None
            if least is None or cost < least:
                best = p
        if best is not None and filled + sizes[p + 1] > target:
            ends.append(best + 1)
            p, filled, best = best, 0, None
        p += 1
    return [*ends, len(sizes)] if sizes else []


def _segment(
    graph: Graph,
    span: range,
    reads: Sequence[Iterable[Tensor]],
    last_read: Mapping[str, int],
    observed: Collection[str],
) -> Segment:
    nodes = tuple(graph.nodes[p] for p in span)
    written = [t.name for node in nodes for t in node.outputs if t.name]
    inner = set(written)
    inputs = tuple(dict.fromkeys(t.name for p in span for t in reads[p] if t.name not in inner))
    outputs = tuple(n for n in written if n in observed or last_read.get(n, -1) >= span.stop)
    dead = tuple(n for n in (*inputs, *outputs) if last_read.get(n, -1) < span.stop)
    return Segment(nodes, inputs, outputs, dead)


def subgraph(graph: Graph, segment: Segment) -> Graph:
    """The graph of one segment of `graph`; it shares nodes and constants with `graph`."""
    tensors = {t.name: t for node in segment.nodes for t in (*reads(node), *node.outputs)}
    return gs.Graph(
        nodes=list(segment.nodes),
        inputs=[tensors[name] for name in segment.inputs],
        outputs=[tensors[name] for name in segment.outputs],
        name=graph.name,
        opset=graph.opset,
        import_domains=list(graph.import_domains or ()) or None,
        functions=graph.functions,
        ir_version=graph.ir_version,
    )
