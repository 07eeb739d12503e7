"""Where the operands of weighted ops have their channels.

    Conv             weight [outputs, inputs / groups, window]
    ConvTranspose    weight [inputs, outputs / groups, window]
    Gemm             weight [inputs, outputs], with transB [outputs, inputs]
    MatMul           weight [..., inputs, outputs]

Axis 0 of a grouped convolution's weight is in blocks, one group after the other; its axis 1 has the
channels of one group. The first operand of a product is [outputs, inputs], or with transA turned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxq.arrays import Array
from onnxq.model.graph import Node

CONVOLUTIONS = ("Conv", "ConvTranspose")


@dataclass(frozen=True)
class Geometry:
    """Of one operand: the axis that is left in the output, the axis that is summed over, and in how
    many groups. Axes of a MatMul count from the end, as there may be a batch before them."""

    outputs: int
    inputs: int
    groups: int = 1

    def output_channels(self, shape: Sequence[int]) -> int:
        """How many channels an operand of this shape gives."""
        return self._channels(shape, self.outputs)

    def input_channels(self, shape: Sequence[int]) -> int:
        """How many channels of the other operand meet one of this shape."""
        return self._channels(shape, self.inputs)

    def _channels(self, shape: Sequence[int], axis: int) -> int:
        return int(shape[axis]) * (self.groups if axis == 1 else 1)

    def spread(self, values: Array, axis: int, shape: Sequence[int]) -> Array:
        """One value a channel along `axis`, as it broadcasts to an operand of this shape."""
        if axis == 1 and self.groups > 1:
            rows = values.reshape(self.groups, 1, -1).repeat(shape[0] // self.groups, axis=1)
            return np.asarray(rows.reshape(*shape[:2], *(1,) * (len(shape) - 2)))
        wide = [1] * len(shape)
        wide[axis] = -1
        return values.reshape(wide)


def geometry_of(node: Node, operand: int = 1) -> Geometry:
    """The geometry of an operand of a Conv, ConvTranspose, Gemm or MatMul; of a convolution that of
    its weight."""
    if node.op in CONVOLUTIONS:
        groups = int(node.attrs.get("group", 1))
        return Geometry(1, 0, groups) if node.op == "ConvTranspose" else Geometry(0, 1, groups)
    turned = node.op == "Gemm" and bool(node.attrs.get("transB" if operand else "transA", 0))
    last = 1 if node.op == "Gemm" else -1
    first = last - 1
    return Geometry(last, first) if (operand == 1) != turned else Geometry(first, last)
