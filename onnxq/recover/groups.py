"""What is scaled together: a tensor, the linear ops that read it, and what writes it.

    folded     x = f(...)  read by W1, W2      f' = f / s,          W' = s W
    explicit   x read by W1, W2 and an Add     x' = Mul(x, 1 / s),  W' = s W

An explicit Mul is an op more; it serves where x is read by others as well (the residual Add behind
a LayerNormalization), or where what writes x does not commute with a scale (GELU). It costs an
engine nothing behind an activation function that is a kernel of its own, with the quantization
behind it (`JOINED`): the Mul is one factor more there. Images get no other.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from onnxq.arrays import Array
from onnxq.model.geometry import CONVOLUTIONS
from onnxq.model.graph import (
    Graph,
    Node,
    Tensor,
    constant_of,
    is_output,
    is_standard,
    node_by_name,
    producer,
)
from onnxq.passes.affine import NotExact
from onnxq.passes.apply import tidy
from onnxq.passes.name_nodes import names_of, new_name
from onnxq.plan import Plan
from onnxq.recover.channel_sizes import Channels
from onnxq.recover.linear import input_amax, input_channels, multiply, scale_before
from onnxq.recover.rescale import absorb, apply_edits, value_readers
from onnxq.spec import Edge

log = logging.getLogger(__name__)

JOINED = ("HardSwish", "Gelu", "Mish")  # and products: SiLU, HardSigmoid and gates
WIDEST = 2.0**10  # a factor is at most so far from their geometric mean


@dataclass(frozen=True)
class Group:
    """A tensor that is scaled for its readers.

    readers: names of the linear ops whose weights take the scale. read: the tensor that they read
    then, another than `tensor` if a Mul makes it. scaled: the tensors whose values change.
    joined: whether an engine has the same kernels with the scale as without.
    """

    tensor: str
    readers: tuple[str, ...]
    layout: Channels
    read: str
    scaled: tuple[str, ...]
    joined: bool = True

    @property
    def folded(self) -> bool:
        """Whether what writes the tensor takes the scale."""
        return self.read == self.tensor


def find_groups(graph: Graph, plan: Plan) -> list[Group]:
    """The groups of a float32 graph, in its order: one for each activation that `plan` quantizes
    for a linear op with a constant weight."""
    mine = {id(node) for node in graph.nodes}
    taken = names_of(graph)
    read = {}
    for node in graph.nodes:
        if Edge(node.name, 0) in plan.edges and constant_of(node.inputs[0]) is None:
            read[node.inputs[0].name] = node.inputs[0]
    found = []
    for tensor in read.values():
        linear = _linear_readers(tensor, mine)
        layouts = set(linear.values())
        if tensor.dtype != np.float32 or len(layouts) != 1:
            continue
        layout = layouts.pop()
        if layout.channels > 1:
            group = _folded(graph, tensor, linear, layout) or _explicit(
                plan, tensor, linear, layout, taken
            )
            found += [group] if group is not None else []
    return found


def _linear_readers(tensor: Tensor, mine: set[int]) -> dict[str, Channels]:
    """The nodes of the main graph that read a tensor and could take a scale of it, and how."""
    readers = {n.name: _layout(n, tensor) for n in value_readers(tensor) if id(n) in mine}
    return {name: layout for name, layout in readers.items() if layout is not None}


def _folded(
    graph: Graph, tensor: Tensor, linear: Mapping[str, Channels], layout: Channels
) -> Group | None:
    readers = value_readers(tensor)
    if len(linear) != len(readers) or is_output(graph, tensor):
        return None
    try:
        absorbed = absorb(graph, tensor, scale_before(readers[0], np.ones(layout.channels)))
    except NotExact as reason:
        log.info("'%s' cannot take a scale: %s", tensor.name, reason)
        return None
    returned = {t.name for body in graph.subgraphs(recursive=True) for t in body.outputs}
    if returned & set(absorbed.tensors):  # a branch of an If may hand it on as it is
        return None
    return Group(tensor.name, tuple(linear), layout, tensor.name, absorbed.tensors)


def _explicit(
    plan: Plan, tensor: Tensor, linear: Mapping[str, Channels], layout: Channels, taken: set[str]
) -> Group | None:
    quantized = tuple(name for name in linear if Edge(name, 0) in plan.edges)
    joined = _joins(tensor) and len(quantized) == len(value_readers(tensor))
    if not quantized or (layout.rank and not joined):
        return None
    name = new_name(f"{tensor.name}_smoothed", taken)
    return Group(tensor.name, quantized, layout, name, (name,), joined)


def _joins(tensor: Tensor) -> bool:
    """Whether a Mul behind a tensor goes into the kernel that writes it: an activation function
    that no Conv takes in, or a product of two tensors."""
    node = producer(tensor)
    if node is None or not is_standard(node):
        return False
    product = node.op == "Mul" and all(constant_of(t) is None for t in node.inputs)
    return product or node.op in JOINED


def _layout(node: Node, tensor: Tensor) -> Channels | None:
    """How a linear op reads the channels of `tensor`; None for a node that cannot take a scale."""
    if sum(t is tensor for t in node.inputs) != 1 or node.inputs[0] is not tensor:
        return None
    try:
        channels = input_channels(node)
    except NotExact:
        return None
    images = node.op in CONVOLUTIONS
    return Channels(channels, len(node.inputs[1].shape) if images else 0)


def factors(amax: Array, weights: Array, alpha: float) -> Array:
    """s = amax^alpha / weights^(1 - alpha), one value a channel, of geometric mean 1.

    amax, weights: largest |x| and |weight| of each channel. Where either is zero, s is 1.
    """
    live = (amax > 0) & (weights > 0)
    logs = alpha * np.log(amax[live]) - (1 - alpha) * np.log(weights[live])
    found = np.ones(live.shape)
    if live.any():
        found[live] = np.clip(np.exp(logs - logs.mean()), 1 / WIDEST, WIDEST)
    return found


def weight_sizes(graph: Graph, group: Group) -> Array:
    """Largest |weight| that meets each channel of the group, over all its readers."""
    nodes = node_by_name(graph)
    return np.asarray(np.max([input_amax(nodes[name]) for name in group.readers], axis=0))


def scaled(graph: Graph, scales: Mapping[Group, Array]) -> Graph:
    """A copy of `graph` whose groups are divided by their scales; it computes the same."""
    copy = graph.copy()
    for group, scale in scales.items():
        scale_group(copy, group, scale)
    tidy(copy)
    return copy


def scale_group(graph: Graph, group: Group, scale: Array) -> None:
    """Divide a group by a positive scale, one value a channel, in place."""
    nodes, tensor = node_by_name(graph), graph.tensors()[group.tensor]
    edits = [multiply(nodes[name], scale) for name in group.readers]
    if group.folded:
        edits += absorb(graph, tensor, scale_before(nodes[group.readers[0]], scale)).edits
    apply_edits(graph, edits)
    if not group.folded:
        _insert(graph, tensor, group, scale)


def _insert(graph: Graph, tensor: Tensor, group: Group, scale: Array) -> None:
    """A Mul in front of the readers of an explicit group."""
    nodes = node_by_name(graph)
    taken = names_of(graph)
    wide = (1 / scale_before(nodes[group.readers[0]], scale)).astype(np.float32)
    factor = gs.Constant(new_name(f"{group.read}_factor", taken), wide)
    out = gs.Variable(group.read, tensor.dtype, tensor.shape)
    name = new_name(f"{group.read}_Mul", taken)
    first = min(graph.nodes.index(nodes[reader]) for reader in group.readers)
    graph.nodes.insert(first, gs.Node("Mul", name, {}, [tensor, factor], [out]))
    for reader in group.readers:
        nodes[reader].inputs[0] = out
