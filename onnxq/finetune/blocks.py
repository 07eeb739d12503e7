"""Blocks of a graph that are learned one after the other.

A block ends where little crosses, behind an activation function and never within the elementwise
region that belongs to an op: so a residual sum and its Relu stay with the branch before them. It
holds `FEWEST` to `MOST` ops with weights to learn; of the places where it may end the first is
taken at which no more crosses than `NARROW` times the least.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from onnxq.model.graph import Graph, constant_of, node_by_name, producer
from onnxq.passes.insert_qdq import Weight
from onnxq.plan import Plan
from onnxq.recover.sites import ACTIVATIONS, Site
from onnxq.run import segments
from onnxq.run.segments import Segment
from onnxq.spec import Edge

FEWEST, MOST = 2, 8  # ops with weights in a block
NARROW = 1.5  # times the least that crosses


@dataclass(frozen=True)
class Block:
    """Consecutive nodes, and what of them is learned.

    weights: read by no other block. sites: of biases. groups: of tensors with one range, all of
    whose readers are here.
    """

    segment: Segment
    weights: tuple[Weight, ...]
    sites: tuple[Site, ...]
    groups: tuple[tuple[str, ...], ...]

    @property
    def name(self) -> str:
        """That of its first op with weights, and how many more there are."""
        nodes = [site.node for site in self.sites] or [self.segment.nodes[0].name]
        return nodes[0] + (f" to {nodes[-1]}" if len(nodes) > 1 else "")


def learnable(graph: Graph, plan: Plan) -> dict[Edge, Weight]:
    """The edges whose constants have whole numbers as codes, and so roundings to learn."""
    nodes = node_by_name(graph)
    found = {}
    for edge, spec in plan.edges.items():
        node = nodes.get(edge.node)
        if node is None or edge.input >= len(node.inputs):
            continue
        tensor = node.inputs[edge.input]
        values = constant_of(tensor)
        whole = spec.dtype.startswith(("int", "fixed")) and not spec.dtype.endswith("fp8")
        if values is not None and values.dtype == np.float32 and whole:
            found[edge] = (tensor.name, spec)
    return found


def group_of(plan: Plan, tensor: str) -> tuple[str, ...]:
    """The tensors that share the range of this one."""
    source = plan.source.get(tensor, tensor)
    return next((group for group in plan.tied if source in group), (source,))


def blocks_of(part: Graph, plan: Plan, sites: Sequence[Site], judged: Sequence[str]) -> list[Block]:
    """The blocks of a graph as `segments.restrict` gives it; those with nothing to learn too."""
    weights = learnable(part, plan)
    ends = _ends(part, sites, {edge.node for edge in weights})
    found = segments.cut_at(part, ends, set(judged))
    where = {node.name: k for k, segment in enumerate(found) for node in segment.nodes}
    homes = _homes(part, plan, where)
    owners: dict[Weight, set[int]] = {}
    for edge, weight in weights.items():
        owners.setdefault(weight, set()).add(where[edge.node])
    return [
        Block(
            segment,
            tuple(w for w, its in owners.items() if its == {k}),
            tuple(s for s in sites if where.get(s.node) == k == where.get(s.holder)),
            tuple(group for group, its in homes.items() if its == {k}),
        )
        for k, segment in enumerate(found)
    ]


def _homes(part: Graph, plan: Plan, where: Mapping[str, int]) -> dict[tuple[str, ...], set[int]]:
    """Tensors with one range -> the blocks that read them."""
    nodes = node_by_name(part)
    found: dict[tuple[str, ...], set[int]] = {}
    for edge, spec in plan.edges.items():
        if edge.node not in where:
            continue
        tensor = nodes[edge.node].inputs[edge.input]
        fixed = spec.row.fixed_scale is not None or spec.block_size is not None
        if not isinstance(tensor, gs.Constant) and not fixed:
            found.setdefault(group_of(plan, tensor.name), set()).add(where[edge.node])
    return found


def _ends(part: Graph, sites: Sequence[Site], weighted: set[str]) -> list[int]:
    """Where blocks end (exclusive), the end of the graph included."""
    place = {node.name: p for p, node in enumerate(part.nodes)}
    costs = segments.crossing_bytes(part)
    for site in sites:
        inner = [place[name] for name in (site.holder, *site.region) if name in place]
        for p in range(place[site.node], max(inner)):
            costs[p] = None
    for p, node in enumerate(part.nodes):
        before = producer(node.inputs[0]) if node.op in ACTIVATIONS else None
        if before is not None:  # a residual sum that is quantized is in no region
            costs[place[before.name] : p] = [None] * (p - place[before.name])
    heavy = [node.name in weighted for node in part.nodes]
    ends, start = list[int](), 0
    while (end := _next(costs, heavy, start)) is not None:
        ends.append(end)
        start = end
    return [*ends, len(part.nodes)]


def _next(costs: Sequence[int | None], heavy: Sequence[bool], start: int) -> int | None:
    """Where the block that begins at `start` ends; None for the last, behind which nothing is."""
    held, places = 0, list[tuple[int, int]]()
    last = max((p for p, its in enumerate(heavy) if its), default=0)
    for p in range(start, last):
        held += heavy[p]
        cost = costs[p]
        if held > MOST and places:
            break
        if held >= FEWEST and cost is not None:
            places.append((p, cost))
    if not places:
        return None
    least = min(cost for _, cost in places)
    return next(p for p, cost in places if cost <= NARROW * least) + 1


def whole_of(part: Graph, plan: Plan, sites: Sequence[Site], judged: Sequence[str]) -> Block:
    """The graph as one block, of which biases and ranges are learned and no roundings."""
    (segment,) = segments.cut_at(part, [len(part.nodes)], set(judged))
    where = {node.name: 0 for node in segment.nodes}
    inside = tuple(s for s in sites if s.node in where and s.holder in where)
    return Block(segment, (), inside, tuple(_homes(part, plan, where)))
