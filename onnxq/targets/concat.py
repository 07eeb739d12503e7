"""Concats: Q/DQ on every branch, with one scale for all ("share") or one each ("requant").

A Concat of a tensor with its own max pools (SPPF) always shares: pooling selects among values, so
the range is the same, and without Q/DQ before them the pools run twice, in INT8 and in float.

Else a branch reads Q/DQ where that spares a float copy of it: of a tensor that other ops read
quantized, or that several Concats read.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

from onnxq.model.flow import data_input
from onnxq.model.graph import Graph, Node, Tensor, constant_of, producer
from onnxq.spec import Edge, QuantSpec

Groups = tuple[tuple[str, ...], ...]


def quantizable_concats(graph: Graph, quantized: set[str], asked: Mapping[str, str]) -> list[Node]:
    """Concats whose output is quantized, there or behind pass-through ops, last one first.

    A Concat that only feeds such a Concat counts: its output is quantized as a branch of that,
    unless the other is `asked` to stay float.
    """
    quantized = set(quantized)
    found = []
    for node in reversed(graph.nodes):
        if node.op == "Concat" and reached(node.outputs[0], quantized):
            found.append(node)
            if node.name not in asked:
                quantized |= {t.name for t in node.inputs}
    return found


def pooled_concats(graph: Graph, quantized: Container[str]) -> dict[str, list[Edge]]:
    """Concats of one tensor and max pools of it, each with every input on the way."""
    found = {}
    for node in graph.nodes:
        if node.op != "Concat" or not reached(node.outputs[0], quantized):
            continue
        pools = [p for t in node.inputs for p in _pools(t)]
        root = _unpooled(node.inputs[0])
        if pools and all(_unpooled(t) is root for t in node.inputs):
            edges = [*branches(node), *(Edge(p.name, 0) for p in pools)]
            found[node.name] = list(dict.fromkeys(edges))
    return found


def reused_branches(
    graph: Graph, quantized: Mapping[str, QuantSpec], edges: Container[Edge], left: Container[str]
) -> dict[Edge, QuantSpec]:
    """Branches of Concats whose float copy goes if they read Q/DQ, with how.

    edges: what is quantized already. left: names of Concats to leave as they are. Not the branch
    that is computed last: the kernel that computes it writes the Concat. Not one that an Add of
    another kernel reads quantized: TensorRT-RTX was seen to write it out in float for the two.
    """
    place = {node.name: i for i, node in enumerate(graph.nodes)}
    concats = {
        node.name: found[0]
        for node in graph.nodes
        if node.op == "Concat" and node.name not in left
        and (found := reached(node.outputs[0], quantized))
    }  # fmt: skip
    readers: dict[int, set[str]] = {}  # a tensor, before it is resized -> the Concats that read it
    reused: dict[Edge, QuantSpec] = {}
    for node in (n for n in graph.nodes if n.name in concats):
        last = max((_place(t, place) for t in node.inputs), default=-1)
        for edge in branches(node):
            tensor = node.inputs[edge.input]
            readers.setdefault(id(_unresized(tensor)), set()).add(node.name)
            spare = _place(tensor, place) < last and not _added(tensor, node, edges, last, place)
            if tensor.name in quantized and edge not in edges and spare:
                reused[edge] = quantized[tensor.name]
    for name, behind in concats.items():
        node = graph.nodes[place[name]]
        for edge in branches(node):
            tensor = node.inputs[edge.input]
            if tensor.name not in quantized and len(readers[id(_unresized(tensor))]) > 1:
                reused[edge] = quantized[behind]
    return reused


def _place(tensor: Tensor, place: Mapping[str, int]) -> int:
    """Where in the graph `tensor` is computed; -1 for an input or a constant."""
    node = producer(tensor)
    return -1 if node is None else place[node.name]


def _added(
    tensor: Tensor, concat: Node, edges: Container[Edge], last: int, place: Mapping[str, int]
) -> bool:
    """Whether an Add reads `tensor` quantized that does not write the last branch of `concat`."""
    return any(
        node.op == "Add" and place[node.name] != last
        and any(t is tensor and Edge(node.name, i) in edges for i, t in enumerate(node.inputs))
        for node in tensor.outputs
    )  # fmt: skip


def _unresized(tensor: Tensor) -> Tensor:
    """The tensor that `tensor` is resized from, with all its values; itself if by none."""
    while (node := producer(tensor)) is not None and node.op == "Resize":
        before = data_input(node)
        if before is None:
            break
        tensor = before
    return tensor


def _pools(tensor: Tensor) -> list[Node]:
    """The max pools that `tensor` comes through."""
    found = []
    while tensor.inputs and tensor.inputs[0].op == "MaxPool":
        found.append(tensor.inputs[0])
        tensor = tensor.inputs[0].inputs[0]
    return found


def _unpooled(tensor: Tensor) -> Tensor:
    """The tensor before the max pools that `tensor` comes from."""
    pools = _pools(tensor)
    return pools[-1].inputs[0] if pools else tensor


def branches(node: Node) -> list[Edge]:
    """The inputs of a Concat that are computed."""
    return [Edge(node.name, i) for i, t in enumerate(node.inputs) if constant_of(t) is None]


def reached(tensor: Tensor, quantized: Container[str]) -> list[str]:
    """Names of the quantized tensors at `tensor`, or behind it through pass-through ops."""
    found: dict[str, None] = {}
    waiting = [tensor]
    while waiting:
        here = waiting.pop()
        if here.name in quantized:
            found[here.name] = None
        for node in here.outputs:
            if data_input(node) is here:
                waiting += node.outputs
    return list(found)


def shared(graph: Graph, edges: Mapping[Edge, QuantSpec], source: Mapping[str, str]) -> Groups:
    """Groups of source tensors that share a range: the branches of each Concat and its output."""
    quantized = {t.name for node in graph.nodes for _, t in _planned(node, edges)}
    groups = []
    for node in graph.nodes:
        planned = [t.name for _, t in _planned(node, edges) if constant_of(t) is None]
        if node.op == "Concat" and planned:
            names = planned + reached(node.outputs[0], quantized)
            groups.append(tuple(dict.fromkeys(source.get(n, n) for n in names)))
    return joined(groups)


def _planned(node: Node, edges: Mapping[Edge, QuantSpec]) -> list[tuple[int, Tensor]]:
    return [(i, t) for i, t in enumerate(node.inputs) if Edge(node.name, i) in edges]


def joined(groups: Iterable[tuple[str, ...]]) -> Groups:
    """Groups that overlap become one; a group of one tensor goes."""
    sets: dict[int, dict[str, None]] = {}
    owner: dict[str, int] = {}
    for k, group in enumerate(groups):
        merged = dict.fromkeys(group)
        for other in sorted({owner[name] for name in group if name in owner}):
            merged = {**sets.pop(other), **merged}
        sets[k] = merged
        owner |= dict.fromkeys(merged, k)
    return tuple(tuple(s) for s in sets.values() if len(s) > 1)
