"""Which tensors hold the same values: the walk through ops that only move data.

Through SAME ops every value survives, so a tensor behind them is observed at its source. SUBSET
ops select among values: a tensor behind them takes its source's scale only where the source is
quantized anyway, so that one tensor is quantized once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from onnxq.model.graph import (
    WEIGHTED,
    Graph,
    Node,
    Tensor,
    behind,
    constant_of,
    is_output,
    producer,
    within,
)
from onnxq.spec import Edge, QuantSpec

SAME = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "DepthToSpace",
        "SpaceToDepth", "Expand", "Tile")  # fmt: skip
SUBSET = ("MaxPool", "Slice", "Split", "Resize", "Gather")


def data_input(node: Node) -> Tensor | None:
    """The tensor whose values a pass-through node moves; None for any other node."""
    if node.op not in SAME and node.op not in SUBSET:
        return None
    if node.op == "Resize" and node.attrs.get("mode", "nearest") != "nearest":
        return None
    return node.inputs[0]


def same_source(tensor: Tensor) -> Tensor:
    """The tensor that first held the values of `tensor`, walking back through SAME ops."""
    return behind(tensor, SAME)


def quantized_source(tensor: Tensor, quantized: set[str]) -> Tensor:
    """The source of `tensor` through SAME ops, and on through SUBSET ops to a quantized tensor."""
    found = walk = same_source(tensor)
    node = producer(walk)
    while node is not None and data_input(node) is not None:
        walk = same_source(node.inputs[0])
        if walk.name in quantized:
            found = walk
        node = producer(walk)
    return found


def sole_consumer(graph: Graph, tensor: Tensor) -> Node | None:
    """The only node that reads `tensor`; None if it is an output or read more than once."""
    if len(tensor.outputs) != 1 or is_output(graph, tensor):
        return None
    return tensor.outputs[0]


def is_first(node: Node) -> bool:
    """Whether no weighted op stands before `node`: what it reads are inputs of the model, however
    they are preprocessed in the graph."""
    waiting, seen = list(node.inputs), set[int]()
    while waiting:
        before = producer(waiting.pop())
        if before is None or id(before) in seen:
            continue
        if before.op in WEIGHTED:
            return False
        seen.add(id(before))
        waiting += before.inputs
    return True


def quantized_tensors(graph: Graph, edges: Mapping[Edge, QuantSpec]) -> dict[str, QuantSpec]:
    """Every activation that is quantized, with the spec of the first node that reads it so; not to
    FP4, whose blocks no other node can read."""
    found: dict[str, QuantSpec] = {}
    for name, spec in _quantized(graph, edges):
        if spec.block_size is None:
            found.setdefault(name, spec)
    return found


def _quantized(graph: Graph, edges: Mapping[Edge, QuantSpec]) -> Iterator[tuple[str, QuantSpec]]:
    """Every activation that a node reads quantized, and how."""
    for node in within(graph.nodes):
        for i, tensor in enumerate(node.inputs):
            spec = edges.get(Edge(node.name, i))
            if spec is not None and constant_of(tensor) is None:
                yield tensor.name, spec


def sources(graph: Graph, edges: Mapping[Edge, QuantSpec]) -> dict[str, str]:
    """Quantized tensor -> the tensor whose range it takes, where that is another one."""
    quantized = {name for name, _ in _quantized(graph, edges)}
    tensors = graph.tensors()
    found = {name: quantized_source(tensors[name], quantized).name for name in quantized}
    return {name: source for name, source in sorted(found.items()) if name != source}
