"""Where a bias can be corrected: the ops, the constants that hold their bias, what is compared.

    x -> Conv -> t -> Relu -> y -> ...           shift: the channels of t;  compared: y
    x -> Conv -> t -> Sigmoid -> Mul(t) -> y     the same for SiLU and other elementwise regions
    x -> MatMul -> Add(constant) -> t            the Add holds the bias

`t` is the biased output of a quantized op. `y` is the tensor that the next layer reads: the last
that depends on `t` through elementwise ops alone, their other operands being constants or computed
before `t` (the skip branch of a residual sum).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from onnxq.arrays import Array
from onnxq.model.flow import sole_consumer
from onnxq.model.geometry import CONVOLUTIONS, geometry_of
from onnxq.model.graph import Graph, Node, Tensor, constant_of, is_output, node_by_name, producer
from onnxq.passes.name_nodes import names_of, new_name
from onnxq.plan import Plan
from onnxq.spec import Edge
from onnxq.targets.options import weight_input

ACTIVATIONS = ("Relu", "Clip", "LeakyRelu", "PRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish",
               "Elu", "Selu", "Celu", "Softplus", "Softsign", "Mish", "Gelu", "Erf", "Swish",
               "ThresholdedRelu")  # fmt: skip
ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Min", "Max", "Neg", "Abs", "Identity")
LONGEST = 8  # nodes of an activation written out: HardSwish has 4, GELU by erf 5, by tanh 8


@dataclass(frozen=True)
class Site:
    """One bias that can be shifted.

    node: the quantized op. holder, slot: the node and the input that hold the bias. biased: the
    tensor whose channels shift. axis: its channel axis, 1 or -1 (the last). channels: how many.
    rank: of `biased` where axis is 1. region: names of the nodes from `biased` to `compared`.
    """

    node: str
    holder: str
    slot: int
    biased: str
    axis: int
    channels: int
    rank: int
    region: tuple[str, ...]
    compared: str


def find_sites(graph: Graph, plan: Plan, order: Sequence[str]) -> list[Site]:
    """The sites of the ops whose constant weight `plan` quantizes.

    `order` names the nodes in the order in which they will run; ops that it leaves out have no
    site.
    """
    nodes = node_by_name(graph)
    place = {name: i for i, name in enumerate(order)}
    found = []
    for node in (nodes[name] for name in order if name in nodes):
        weight = weight_input(node)
        if weight != 1 or Edge(node.name, weight) not in plan.edges:
            continue
        if node.op in plan.attribute_ops:  # where their channels are, only they know
            continue
        holder = _holder(graph, node)
        if holder is None or holder.outputs[0].dtype != np.float32 or holder.name not in place:
            continue
        axis = 1 if node.op in CONVOLUTIONS else -1
        values = constant_of(node.inputs[weight])
        assert values is not None
        region, end = _region(graph, holder, values.ndim if axis == 1 else 0, plan, place)
        found.append(
            Site(
                node.name,
                holder.name,
                _slot(holder),
                holder.outputs[0].name,
                axis,
                geometry_of(node).output_channels(values.shape),
                values.ndim if axis == 1 else 0,
                tuple(n.name for n in region),
                end.name,
            )
        )
    return found


def shift_biases(graph: Graph, shifts: Mapping[Site, Array]) -> int:
    """Add `shifts` (one value a channel) to the biases of `graph`, in place; how many.

    A bias that is missing is made. Constants are never written into: they may be shared.
    """
    nodes = node_by_name(graph)
    taken = names_of(graph)
    for site, shift in shifts.items():
        holder = nodes[site.holder]
        scale = holder.attrs.get("beta", 1.0) if holder.op == "Gemm" else 1.0
        old = constant_of(holder.inputs[site.slot]) if site.slot < len(holder.inputs) else None
        new = np.asarray(shift, np.float64) / scale + (0.0 if old is None else old)
        dtype = np.float32 if old is None else old.dtype
        constant = gs.Constant(new_name(f"{site.node}_bias", taken), np.asarray(new, dtype))
        if site.slot < len(holder.inputs):
            holder.inputs[site.slot] = constant
        else:
            holder.inputs.append(constant)
    return len(shifts)


def _holder(graph: Graph, node: Node) -> Node | None:
    """The node whose constant is the bias of `node`; None where there is no place for one."""
    if node.op == "MatMul":
        after = sole_consumer(graph, node.outputs[0])
        if after is None or after.op != "Add":
            return None
        bias = constant_of(after.inputs[1 - _index(after, node.outputs[0])])
        return after if bias is not None and bias.ndim == 1 else None
    slot = 2
    if slot < len(node.inputs) and not node.inputs[slot].is_empty():
        return node if constant_of(node.inputs[slot]) is not None and _scales(node) else None
    return node if _scales(node) else None


def _scales(node: Node) -> bool:
    """Whether what is added to the bias reaches the output."""
    return node.op != "Gemm" or float(node.attrs.get("beta", 1.0)) != 0.0


def _slot(holder: Node) -> int:
    if holder.op != "Add":
        return 2
    return next(i for i, t in enumerate(holder.inputs) if constant_of(t) is not None)


def _index(node: Node, tensor: Tensor) -> int:
    return next(i for i, t in enumerate(node.inputs) if t is tensor)


def _region(
    graph: Graph, holder: Node, rank: int, plan: Plan, place: Mapping[str, int]
) -> tuple[list[Node], Tensor]:
    """The longest run of elementwise nodes behind `holder` that comes together in one tensor."""
    start = holder.outputs[0]
    quantized = {e.node for e in plan.edges}
    inner, region, names = {start.name}, list[Node](), set[str]()
    best: tuple[list[Node], Tensor] = ([], start)
    tensors = [start]
    active = False
    while len(region) < LONGEST:
        reading = {n.name: n for t in tensors for n in t.outputs if n.name not in names}
        ready = [
            n
            for n in reading.values()
            if n.name in place
            and n.name not in quantized
            and _elementwise(n, inner, rank, active, place, holder)
        ]
        if not ready:
            break
        node = min(ready, key=lambda n: place[n.name])
        active = active or node.op in ACTIVATIONS
        region.append(node)
        names.add(node.name)
        inner.add(node.outputs[0].name)
        tensors.append(node.outputs[0])
        open_ends = [t for t in tensors if is_output(graph, t) or _read_outside(t, names)]
        if open_ends == [node.outputs[0]]:
            best = (list(region), node.outputs[0])
    return best


def _read_outside(tensor: Tensor, region: set[str]) -> bool:
    return not tensor.outputs or any(n.name not in region for n in tensor.outputs)


def _elementwise(
    node: Node, inner: set[str], rank: int, active: bool, place: Mapping[str, int], holder: Node
) -> bool:
    """Whether `node` works value by value on the tensors `inner` and on what is known by then."""
    if node.op not in ACTIVATIONS + ARITHMETIC or len(node.outputs) != 1:
        return False
    for tensor in node.inputs:
        if tensor.is_empty() or tensor.name in inner:
            continue
        values = constant_of(tensor)
        if values is not None:
            if values.ndim > max(rank, 1):
                return False
        elif active or node.op != "Add" or not _before(tensor, node, place, holder):
            return False
    return True


def _before(tensor: Tensor, node: Node, place: Mapping[str, int], holder: Node) -> bool:
    """Whether `tensor`, the other summand, is computed before `holder` and of the sum's shape."""
    made_by = producer(tensor)
    if made_by is None or place.get(made_by.name, len(place)) > place[holder.name]:
        return False
    shapes = [t.shape for t in node.inputs]
    return None not in shapes and len({len(s) for s in shapes}) == 1
