"""What smoothing scales together: a tensor, the linear ops that read it, and what writes it.

    folded     x = f(...)  read by W1, W2      f' = f / s,          W' = s W
    explicit   x read by W1, W2 and an Add     x' = Mul(x, 1 / s),  W' = s W

An explicit Mul is an op more; it serves where x is read by others as well (the residual Add behind
a LayerNormalization), or where what writes x does not commute with a scale (GELU). Images get none:
Convs are smoothed only where that is free.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from onnxq.graph import Graph, Node, Tensor, constant_of, is_output, node_by_name
from onnxq.passes.affine import NotExact
from onnxq.passes.apply import sort
from onnxq.passes.name_nodes import unique_name
from onnxq.plan import Plan
from onnxq.recover.channel_sizes import Layout, Sizes
from onnxq.recover.rescale import (
    absorb,
    apply_edits,
    input_amax,
    input_channels,
    multiply,
    scale_before,
    value_readers,
)
from onnxq.spec import Edge

Array = npt.NDArray[Any]

WIDEST = 2.0**10  # a factor is at most so far from their geometric mean


@dataclass(frozen=True)
class Group:
    """A tensor that is smoothed for its readers.

    readers: names of the linear ops whose weights take the scale. folded: whether what writes the
    tensor takes it, else a Mul does. scaled: the tensors whose values change under their names.
    """

    tensor: str
    readers: tuple[str, ...]
    layout: Layout
    folded: bool
    scaled: tuple[str, ...] = ()


def find_groups(graph: Graph, plan: Plan) -> list[Group]:
    """The groups of a float32 graph, in its order: one for each activation that `plan` quantizes
    for a linear op with a constant weight."""
    mine = {id(node) for node in graph.nodes}
    read = {}
    for node in graph.nodes:
        if Edge(node.name, 0) in plan.edges and constant_of(node.inputs[0]) is None:
            read[node.inputs[0].name] = node.inputs[0]
    found = (_group(graph, plan, tensor, mine) for tensor in read.values())
    return [group for group in found if group is not None]


def _group(graph: Graph, plan: Plan, tensor: Tensor, mine: set[int]) -> Group | None:
    readers = list({id(n): n for n in value_readers(tensor)}.values())
    linear = {n.name: layout for n in readers if id(n) in mine and (layout := _layout(n, tensor))}
    if tensor.dtype != np.float32 or len(set(linear.values())) != 1:
        return None
    layout = next(iter(linear.values()))
    if layout.channels < 2:
        return None
    if len(linear) == len(readers) and not is_output(graph, tensor):
        ones = scale_before(readers[0], np.ones(layout.channels))
        try:
            absorbed = absorb(graph, tensor, ones)
        except NotExact:
            pass
        else:
            return Group(tensor.name, tuple(linear), layout, True, absorbed.tensors)
    quantized = tuple(name for name in linear if Edge(name, 0) in plan.edges)
    if layout.rank or not quantized:
        return None
    return Group(tensor.name, quantized, layout, False)


def _layout(node: Node, tensor: Tensor) -> Layout | None:
    """How a linear op reads the channels of `tensor`; None for a node that cannot take a scale."""
    if sum(t is tensor for t in node.inputs) != 1 or node.inputs[0] is not tensor:
        return None
    try:
        channels = input_channels(node)
    except NotExact:
        return None
    images = node.op in ("Conv", "ConvTranspose")
    return Layout(channels, len(node.inputs[1].shape) if images else 0)


def factors(sizes: Sizes, weights: Array, alpha: float) -> Array:
    """s = amax^alpha / weights^(1 - alpha), one value a channel, of geometric mean 1.

    weights: largest |weight| of each channel. 1 for a channel that is zero on either side.
    """
    live = (sizes.amax > 0) & (weights > 0)
    logs = alpha * np.log(sizes.amax[live]) - (1 - alpha) * np.log(weights[live])
    found = np.ones(live.shape)
    if live.any():
        found[live] = np.clip(np.exp(logs - logs.mean()), 1 / WIDEST, WIDEST)
    return found


def weight_sizes(graph: Graph, group: Group) -> Array:
    """Largest |weight| that meets each channel of the group, over all its readers."""
    nodes = node_by_name(graph)
    return np.asarray(np.max([input_amax(nodes[name]) for name in group.readers], axis=0))


def smoothed(graph: Graph, scales: Mapping[Group, Array]) -> Graph:
    """A copy of `graph` whose groups are divided by their scales; it computes the same."""
    copy = graph.copy()
    for group, scale in scales.items():
        nodes, tensor = node_by_name(copy), copy.tensors()[group.tensor]
        edits = [multiply(nodes[name], scale) for name in group.readers]
        if group.folded:
            wide = scale_before(nodes[group.readers[0]], scale)
            edits += absorb(copy, tensor, wide).edits
        apply_edits(copy, edits)
        if not group.folded:
            _insert(copy, tensor, [nodes[name] for name in group.readers], scale)
    copy.cleanup()
    sort(copy)
    return copy


def smoothed_name(graph: Graph, group: Group) -> str:
    """The tensor that the group's readers read."""
    return str(node_by_name(graph)[group.readers[0]].inputs[0].name)


def _insert(graph: Graph, tensor: Tensor, readers: list[Node], scale: Array) -> None:
    taken = {*graph.tensors(), *(node.name for node in graph.nodes)}
    name = unique_name(f"{tensor.name}_smoothed", taken)
    factor = gs.Constant(unique_name(f"{name}_factor", taken), (1 / scale).astype(np.float32))
    out = gs.Variable(name, tensor.dtype, tensor.shape)
    node = gs.Node("Mul", unique_name(f"{name}_Mul", taken), {}, [tensor, factor], [out])
    graph.nodes.append(node)
    for reader in readers:
        reader.inputs[0] = out
