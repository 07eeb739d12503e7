"""Folding into a weighted node: whether it may be changed, and its new weight and bias.

Whoever else reads the old constants goes on reading them. `taken` holds every name of the graph;
names that are made here are added to it.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from onnxq.arrays import Array
from onnxq.model.graph import Graph, Node, Tensor, is_output, producer
from onnxq.model.stored import noted
from onnxq.passes.affine import NotExact
from onnxq.passes.name_nodes import new_name


def sole_writer(graph: Graph, tensor: Tensor) -> Node:
    """The node that writes `tensor` for one consumer and nobody else; raises NotExact."""
    node = producer(tensor)
    if node is None:
        raise NotExact("an input or a constant is before it")
    if is_output(graph, tensor):
        raise NotExact(f"the output of {node.op} '{node.name}' before it is an output of the graph")
    if len(tensor.outputs) > 1:
        raise NotExact(f"{node.op} '{node.name}' before it has a second consumer")
    return node


def take_output(follower: Node, node: Node) -> None:
    """Let `node` write what `follower` wrote; the follower goes."""
    out = follower.outputs[0]
    follower.inputs.clear()
    follower.outputs.clear()
    node.outputs = [out]


def set_weight(node: Node, values: Array, taken: set[str]) -> None:
    """Give a weighted node a new weight."""
    node.inputs[1] = _successor(node.inputs[1], values, taken)


def set_bias(node: Node, values: Array, taken: set[str]) -> None:
    """Give a Conv, ConvTranspose or Gemm a new bias, whether it had one or not."""
    if len(node.inputs) < 3:
        node.inputs.append(gs.Constant(name_beside(node, "bias", taken), values))
    elif node.inputs[2].is_empty():
        node.inputs[2] = gs.Constant(name_beside(node, "bias", taken), values)
    else:
        node.inputs[2] = _successor(node.inputs[2], values, taken)


def _successor(tensor: Tensor, values: Array, taken: set[str]) -> Tensor:
    """A constant in the place of `tensor`; under its name if nobody else reads that."""
    if len(tensor.outputs) == 1:
        return noted(gs.Constant(tensor.name, values))
    return noted(gs.Constant(new_name(f"{tensor.name}.folded", taken), values))


def name_beside(node: Node, role: str, taken: set[str]) -> str:
    """`layer.bias` beside `layer.weight`, or else after the node's name."""
    weight = node.inputs[1].name
    stem = weight.removesuffix("weight") if weight.endswith(".weight") else f"{node.name}."
    return new_name(stem + role, taken)
