"""The first layer behind an input: what a model says of the data that it was trained on.

A BatchNormalization behind it was trained to write a mean `bias` and a deviation `|scale|` a
channel. Folded, it is no longer seen; so this is read off the graph before it is prepared.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxq.arrays import Array
from onnxq.model.graph import WEIGHTED, Graph, Node, Tensor, constant_of, producer

MOVES = ("Cast", "Flatten", "Identity", "Pad", "Reshape", "Slice", "Squeeze", "Transpose",
         "Unsqueeze")  # fmt: skip
SCALES = ("Add", "Div", "Mul", "Sub")
FAR = 16  # nodes between an input and its first layer


@dataclass(frozen=True)
class FirstLayer:
    """What stands behind a float input.

    scaled: whether constants are added or multiplied before. tensor: what the layer writes, behind
    its BatchNormalization if it has one; mean, deviation: those that it was trained to have there,
    a value a channel.
    """

    input: str
    scaled: bool
    tensor: str
    mean: Array | None = None
    deviation: Array | None = None


def first_layers(graph: Graph) -> tuple[FirstLayer, ...]:
    """The first layer of each float input that has one."""
    floats = (t for t in graph.inputs if t.dtype in (np.float32, np.float16))
    found = (_behind(t) for t in floats)
    return tuple(layer for layer in found if layer is not None)


def _behind(tensor: Tensor) -> FirstLayer | None:
    start, scaled = tensor, False
    for _ in range(FAR):
        if len(tensor.outputs) != 1:
            return None
        node = tensor.outputs[0]
        if node.op == "BatchNormalization":
            return _normalized(start, True, node)
        if node.op in WEIGHTED and node.inputs[0] is tensor:
            after = node.outputs[0].outputs
            if len(after) == 1 and after[0].op == "BatchNormalization":
                return _normalized(start, scaled, after[0])
            return FirstLayer(start.name, scaled, node.outputs[0].name)
        if node.op in SCALES and any(constant_of(t) is not None for t in node.inputs):
            scaled = True
        elif node.op not in MOVES:
            return None
        tensor = node.outputs[0]
    return None


def _normalized(start: Tensor, scaled: bool, bn: Node) -> FirstLayer:
    scale, bias = (_values(t) for t in bn.inputs[1:3])
    deviation = None if scale is None else np.abs(scale.astype(np.float64))
    mean = None if bias is None else bias.astype(np.float64)
    return FirstLayer(start.name, scaled, bn.outputs[0].name, mean, deviation)


def _values(tensor: Tensor) -> Array | None:
    """The values of a constant, behind an Identity too; None of what is computed."""
    node = producer(tensor)
    if node is not None and node.op == "Identity":
        return _values(node.inputs[0])
    return constant_of(tensor)
