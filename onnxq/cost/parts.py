"""What an engine's kernels run of a graph, part by part, and how long each took.

    layers, profile, graph --> parts: a product with what is fused to it, or a kernel without one

A part is a product (Conv, Gemm, MatMul) with the nodes behind it in its kernel. Products of one
kernel share its time by their times by the fitted roofline. Where a kernel's nodes are not in the
graph, it is counted and belongs to no part. A node that no kernel names, and that multiplies
nothing, belongs to the part that writes its input, without any time of its own.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from onnxq.cost.counted import STORED
from onnxq.layers.info import FLOATS, LOW, Layer
from onnxq.layers.names import COPY
from onnxq.layers.reading import EngineReading
from onnxq.model.flow import data_input
from onnxq.model.graph import WEIGHTED, Graph, Node, Tensor, constant_of, producer
from onnxq.run.macs import macs
from onnxq.run.segments import Shapes, reads
from onnxq.spec import Edge

TURNS = ("quantize", "dequantize", "requantize")  # conversions that a plan makes or spares


@dataclass(frozen=True)
class Port:
    """A tensor at the edge of a part. origin: the tensor that first held its values; edges: where
    the part reads it, none where it writes it. type: what it was stored in; "" as all floats."""

    origin: str
    values: float
    type: str
    edges: tuple[Edge, ...] = ()


@dataclass(frozen=True)
class Part:
    """A product with what is fused to it, or a kernel without a product.

    head: the product, else the first node. type: what it multiplied in; "" as all floats. layer:
    the kernel that it is in. weights: its constants and how many values each has.
    """

    head: str
    nodes: tuple[str, ...]
    op: str
    layer: str
    type: str
    macs: float
    inputs: tuple[Port, ...]
    weights: tuple[tuple[Edge, int], ...]
    outputs: tuple[Port, ...]

    @property
    def multiplies(self) -> bool:
        """Whether its head is a product."""
        return self.op in WEIGHTED


@dataclass(frozen=True)
class Kernel:
    """A layer of the profile and the nodes of the graph in it."""

    layer: Layer
    nodes: tuple[str, ...]
    ms: float


@dataclass(frozen=True)
class Mapped:
    """A profile on a graph.

    kept_ms: of kernels that change a layout or a float's type, which no plan changes. lost_ms:
    of the `lost` kernels whose nodes are not told or are none of the graph's. turns: (bytes, ms) of
    kernels that quantize or dequantize. high: the float type that most time was spent in; "" where
    the files tell none.
    """

    kernels: tuple[Kernel, ...]
    parts: tuple[Part, ...]
    kept_ms: float
    lost_ms: float
    lost: int
    turns: tuple[tuple[str, float, float], ...]
    high: str

    @cached_property
    def of_node(self) -> Mapping[str, Part]:
        """Node -> its part."""
        return {node: part for part in self.parts for node in part.nodes}


def mapped(graph: Graph, reading: EngineReading, shapes: Shapes) -> Mapped:
    """The parts of a graph in an engine with times."""
    copies = {copy.layer: copy for copy in reading.copies}
    kernels: dict[str, Kernel] = {}
    taken: dict[str, str] = {}
    turns, kept, lost = [], 0.0, [0.0] * 0
    for t in reading.timed:
        ms = t.ms or 0.0
        copy = copies.get(t.layer.name)
        if copy is not None and copy.kind in TURNS:
            turns.append((t.layer.name, float(copy.bytes), ms))
        elif copy is not None or COPY.fullmatch(t.layer.name) or t.layer.kind == "NoOp":
            kept += ms
        elif not t.said.nodes:
            lost += [ms] if ms else []
        elif mine := tuple(n for n in t.said.nodes if n not in taken):
            taken |= dict.fromkeys(mine, t.layer.name)
            kernels[mine[0]] = Kernel(t.layer, mine, ms)
            taken |= dict.fromkeys(mine, mine[0])
        else:  # what ran elsewhere too
            first = taken[t.said.nodes[0]]
            kernels[first] = replace(kernels[first], ms=kernels[first].ms + ms)
    walk = _Walk(graph, shapes, taken, kernels)
    parts = walk.parts()
    scale = _batch(kernels.values(), parts)
    return Mapped(
        tuple(kernels.values()), tuple(_scaled(part, scale) for part in parts),
        kept, math.fsum(lost) + reading.lost_ms, len(lost), tuple(turns), float_type(reading),
    )  # fmt: skip


def origin(tensor: Tensor) -> Tensor:
    """The tensor that first held these values, or some among which they were picked."""
    while (before := producer(tensor)) is not None:
        moved = data_input(before)
        if moved is None:
            break
        tensor = moved
    return tensor


@dataclass
class _Walk:
    """From the nodes of kernels to parts."""

    graph: Graph
    shapes: Shapes
    taken: Mapping[str, str]
    kernels: Mapping[str, Kernel]
    owner: dict[str, str] = field(default_factory=dict)

    def parts(self) -> list[Part]:
        members: dict[str, list[Node]] = defaultdict(list)
        for node in self.graph.nodes:
            head = self._head(node)
            if head is not None:
                self.owner[node.name] = head
                members[head].append(node)
        return [self._part(head, nodes) for head, nodes in members.items()]

    def _head(self, node: Node) -> str | None:
        """Which part a node belongs to; parts go by their product, or by their first node."""
        kernel = self.taken.get(node.name)
        if kernel is None and node.op in WEIGHTED:
            return None
        if kernel is not None and node.op in WEIGHTED:
            return str(node.name)
        before = [producer(t) for t in node.inputs if constant_of(t) is None]
        behind = [
            self.owner[n.name]
            for n in before
            if n is not None and n.name in self.owner
            and (kernel is None or self.taken.get(n.name) == kernel)
        ]  # fmt: skip
        if kernel is None:
            return behind[0] if behind and before[0] is not None else None
        heads = self._heads(kernel)
        return behind[-1] if behind and behind[-1] in heads else heads[0]

    def _heads(self, kernel: str) -> list[str]:
        nodes = self.kernels[kernel].nodes
        return [n for n in nodes if self._op[n] in WEIGHTED] or [nodes[0]]

    @cached_property
    def _op(self) -> Mapping[str, str]:
        return {node.name: node.op for node in self.graph.nodes}

    @cached_property
    def _ends(self) -> set[str]:
        return {t.name for t in self.graph.outputs}

    def _part(self, head: str, nodes: Sequence[Node]) -> Part:
        layer = self.kernels[self.taken[head]].layer
        inside = {node.name for node in nodes}
        kind = layer.precision if layer.precision in (*FLOATS, *LOW) else ""
        seen: dict[str, list[Edge]] = defaultdict(list)
        tensors: dict[str, Tensor] = {}
        weights = []
        for node in nodes:
            for i, t in enumerate(node.inputs):
                values = constant_of(t)
                if values is not None:
                    weights.append((Edge(node.name, i), int(values.size)))
                elif t.name and not any(n.name in inside for n in t.inputs):
                    seen[t.name].append(Edge(node.name, i))
                    tensors[t.name] = t
        inputs = tuple(
            Port(origin(tensors[name]).name, self._size(name), _type(layer, "in", name, i, kind),
                 tuple(edges))
            for i, (name, edges) in enumerate(seen.items())
        )  # fmt: skip
        written = [t for node in nodes for t in node.outputs if self._leaves(t, inside)]
        outputs = tuple(
            Port(origin(t).name, self._size(t.name), _type(layer, "out", t.name, i, kind))
            for i, t in enumerate(written)
        )
        node = next((n for n in nodes if n.name == head), nodes[0])
        return Part(
            head, tuple(n.name for n in nodes), node.op, self.taken[head], kind,
            float(macs(node, self.shapes)), inputs, tuple(weights), outputs,
        )  # fmt: skip

    def _leaves(self, tensor: Tensor, inside: set[str]) -> bool:
        return bool(tensor.name) and (
            tensor.name in self._ends or any(n.name not in inside for n in tensor.outputs)
        )

    def _size(self, name: str) -> float:
        return float(math.prod(self.shapes.get(name, (0,))))


def _type(layer: Layer, side: str, name: str, i: int, kind: str) -> str:
    """The type of a tensor in the kernel: of the port of its name, else of the one in its place."""
    ports = layer.inputs if side == "in" else layer.outputs
    found = next((p for p in ports if p.name == name), None)
    if found is None and ports:
        found = ports[min(i, len(ports) - 1)]
    return found.type if found is not None and found.type in STORED else kind


def _batch(kernels: Iterable[Kernel], parts: Sequence[Part]) -> float:
    """How many times as many values the engine has at once as the shapes of the graph: it was built
    for a larger batch."""
    first = {kernel.nodes[0]: kernel.layer for kernel in kernels}
    found = [
        math.prod(layer.outputs[0].shape) / part.outputs[0].values
        for part in parts
        if part.outputs and part.outputs[0].values
        and (layer := first[part.layer]).outputs and layer.outputs[0].shape
    ]  # fmt: skip
    return statistics.median_low(found) if found else 1.0


def _scaled(part: Part, scale: float) -> Part:
    inputs, outputs = (
        tuple(replace(p, values=scale * p.values) for p in ports)
        for ports in (part.inputs, part.outputs)
    )
    return replace(part, inputs=inputs, outputs=outputs, macs=scale * part.macs)


def float_type(reading: EngineReading) -> str:
    """The float type that most of the time was spent in: of products, else of any layer; "" where
    the layers tell none."""
    for layers in (reading.weighted, list(reading.timed)):
        times: dict[str, float] = defaultdict(float)
        for t in layers:
            if t.layer.precision in FLOATS:
                times[t.layer.precision] += t.ms or 0.0
        if times:
            return max(times, key=lambda kind: (times[kind], kind))
    return ""


def readers_of(graph: Graph, of_node: Mapping[str, Part]) -> dict[str, tuple[Edge, ...]]:
    """Tensor that first held values -> where they are read, but for ops that only move them and for
    the part that writes them. An edge with input -1 is a reader that is always float."""
    found: dict[str, list[Edge]] = defaultdict(list)
    for node in graph.nodes:
        if data_input(node) is not None:
            continue
        for i, t in enumerate(node.inputs):
            if constant_of(t) is not None or not t.name:
                continue
            before = producer(t)
            own = before is not None and of_node.get(before.name)
            if not own or own is not of_node.get(node.name):
                found[origin(t).name].append(Edge(node.name, i))
        inner = {t.name for t in reads(node)} - {t.name for t in node.inputs}
        for name in inner:
            found[name].append(Edge(node.name, -1))
    for t in graph.outputs:
        found[origin(t).name].append(Edge("", -1))
    return {name: tuple(edges) for name, edges in found.items()}
